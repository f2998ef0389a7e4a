"""Query bank: unrelated queries that an index is compared with (Bogolin et al., CVPR 2022).

The bank consists of the captions of the workspace, or else of the default queries of this package.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from vla.batches.corpus_reader import text_vectors
from vla.cache.store import FeatureCache
from vla.datasets.base import Annotation
from vla.encoders.base import TextEncoder

if TYPE_CHECKING:
    from vla.model import AlignmentModel

MAX_SIZE = 1000
"""Maximum number of queries: enough to estimate rates to 0.001; more would only take longer."""
MIN_SIZE = 100
"""Minimum number of captions for a bank of captions, which resemble the queries of the workspace
best."""

_BATCH_SIZE = 64
"""Texts encoded at a time."""


@dataclass(frozen=True)
class QueryBank:
    """Distinct queries, with the videos that each describes.

    Attributes:
        texts: the queries.
        described_videos: for each query, names of the videos that it describes; it is not compared
            with these.
    """

    texts: tuple[str, ...]
    described_videos: tuple[frozenset[str], ...]

    def without_universal(self, videos: Iterable[str]) -> QueryBank:
        """Return the bank without queries that describe all of `videos`.

        They could not be compared with any.
        """
        names = set(videos)
        rows = [i for i, own in enumerate(self.described_videos) if not names <= own]
        return QueryBank(
            tuple(self.texts[i] for i in rows), tuple(self.described_videos[i] for i in rows)
        )

    def encode(
        self, cache: FeatureCache, model: AlignmentModel, encoder: TextEncoder
    ) -> np.ndarray:
        """Return `(B, E)` unit vectors of the texts.

        Only texts that are not cached are passed to `encoder`.
        """
        missing = cache.missing_texts(self.texts)
        cached = sorted({*self.texts} - {*missing})
        vectors = (
            dict(zip(cached, model.align_texts(text_vectors(cache, cached)), strict=True))
            if cached
            else {}
        )
        for start in range(0, len(missing), _BATCH_SIZE):
            batch = missing[start : start + _BATCH_SIZE]
            vectors.update(
                zip(batch, model.align_texts(encoder.encode_text(batch).pooled), strict=True)
            )
        return np.stack([vectors[text] for text in self.texts])

    def queries_of(self, videos: Sequence[str]) -> list[list[int]]:
        """Return, for each of `videos`, the numbers of the queries that describe it."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for number, names in enumerate(self.described_videos):
            for name in names:
                numbers[name].append(number)
        return [numbers.get(video, []) for video in videos]


def choose_query_bank(
    captions: Sequence[Annotation], videos: Sequence[str], cache: FeatureCache
) -> QueryBank:
    """Return the bank for an index of `videos`.

    The cached captions if there are `MIN_SIZE`, else the default queries.

    For imported features, it is always the captions: the encoder declared for them is loaded only
    when a search needs it.
    """
    bank = from_captions([a for a in captions if cache.pieces(a.query)]).without_universal(videos)
    return bank if len(bank.texts) >= MIN_SIZE or cache.spec.is_imported else default_queries()


def from_captions(annotations: Sequence[Annotation], max_size: int = MAX_SIZE) -> QueryBank:
    """Return a bank of at most `max_size` captions, sampled with a fixed seed.

    Captions that differ only in case, spaces or final punctuation become one query that describes
    all of their videos.
    """
    videos: dict[str, set[str]] = defaultdict(set)
    first: dict[str, str] = {}
    for a in annotations:
        words = content_words(a.query)
        if a.question is None and words:
            videos[words].add(a.video)
            first.setdefault(words, a.query)
    texts = sorted(first)
    if len(texts) > max_size:
        texts = [
            texts[i] for i in np.sort(np.random.default_rng(0).permutation(len(texts))[:max_size])
        ]
    return QueryBank(tuple(first[w] for w in texts), tuple(frozenset(videos[w]) for w in texts))


def content_words(text: str) -> str:
    """Return `text` in lower case, with single spaces and without final punctuation.

    The key of equal captions.
    """
    return " ".join(text.lower().split()).rstrip(".!? ")


def default_queries() -> QueryBank:
    """Return the queries of `default_queries.txt`.

    Short, and so diverse that a video collection matches few of them.
    """
    text = resources.files("vla.retrieval").joinpath("default_queries.txt").read_text("utf-8")
    lines = tuple(text.splitlines())
    return QueryBank(lines, (frozenset(),) * len(lines))
