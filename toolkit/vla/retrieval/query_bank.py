"""Which queries an index is compared with before anybody asks: captions of the workspace, or everyday ones that we wrote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from vla.batches.corpus import text_vectors
from vla.cache.store import FeatureCache
from vla.datasets.base import Annotation
from vla.encoders.base import TextEncoder
from vla.model import AlignmentModel

MAX_SIZE = 1000
"""Queries of a bank: rates can be told apart to a thousandth, and more would only take longer."""
MIN_SIZE = 100
"""So many different captions are a bank of their own; they sound as this workspace's queries do."""

_TOGETHER = 64
"""Texts encoded at a time."""


@dataclass(frozen=True)
class QueryBank:
    """Texts, each once.

    Attributes:
        texts: the queries.
        told_of: for each, names of the videos it tells of: with these it is not compared.
    """

    texts: tuple[str, ...]
    told_of: tuple[frozenset[str], ...]

    def apart_from(self, videos: Iterable[str]) -> QueryBank:
        """Return the texts that tell of some of `videos` only: one that tells of all has none that it could be compared with."""
        every = set(videos)
        rows = [i for i, names in enumerate(self.told_of) if not every <= names]
        return QueryBank(tuple(self.texts[i] for i in rows), tuple(self.told_of[i] for i in rows))

    def encode(self, cache: FeatureCache, model: AlignmentModel, encoder: TextEncoder) -> np.ndarray:
        """Return `(B, E)` unit vectors of the texts; `encoder` is given those that are not cached."""
        missing = cache.missing_texts(self.texts)
        cached = sorted({*self.texts} - {*missing})
        vectors = dict(zip(cached, model.align_texts(text_vectors(cache, cached)), strict=True)) if cached else {}
        for start in range(0, len(missing), _TOGETHER):
            some = missing[start : start + _TOGETHER]
            vectors.update(zip(some, model.align_texts(encoder.encode_text(some).pooled), strict=True))
        return np.stack([vectors[text] for text in self.texts])

    def left_out(self, videos: Sequence[str]) -> list[list[int]]:
        """For each of `videos` the texts, by number, that tell of it."""
        of_video: dict[str, list[int]] = defaultdict(list)
        for number, names in enumerate(self.told_of):
            for name in names:
                of_video[name].append(number)
        return [of_video.get(video, []) for video in videos]


def choose_query_bank(captions: Sequence[Annotation], videos: Sequence[str], cache: FeatureCache) -> QueryBank:
    """Return the queries that an index of `videos` is compared with.

    The captions that are cached, if there are `MIN_SIZE`, else everyday queries. Of imported features it is whatever captions
    there are: the encoder that may be named for them is loaded for a query that needs it, and for nothing else.
    """
    bank = from_captions([a for a in captions if cache.pieces(a.query)]).apart_from(videos)
    return bank if len(bank.texts) >= MIN_SIZE or cache.spec.is_imported else default_queries()


def from_captions(annotations: Sequence[Annotation], most: int = MAX_SIZE) -> QueryBank:
    """Up to `most` captions, drawn in one way for good; the same words, however written, are one text of all their videos."""
    videos: dict[str, set[str]] = defaultdict(set)
    first: dict[str, str] = {}
    for a in annotations:
        words = content_words(a.query)
        if a.question is None and words:
            videos[words].add(a.video)
            first.setdefault(words, a.query)
    every = sorted(first)
    if len(every) > most:
        every = [every[i] for i in np.sort(np.random.default_rng(0).permutation(len(every))[:most])]
    return QueryBank(tuple(first[w] for w in every), tuple(frozenset(videos[w]) for w in every))


def content_words(text: str) -> str:
    """What two captions share that say the same, however it is written."""
    return " ".join(text.lower().split()).rstrip(".!? ")


def default_queries() -> QueryBank:
    """Queries of `default_queries.txt`: short, of all sorts of things, so that any one collection of videos shows few of them."""
    text = resources.files("vla.retrieval").joinpath("default_queries.txt").read_text("utf-8")
    lines = tuple(text.splitlines())
    return QueryBank(lines, (frozenset(),) * len(lines))
