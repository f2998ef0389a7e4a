"""What `vla search` lists for captions among the videos that are evaluated, and no others: figures of what a user gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from glob import escape

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.cache.store import FeatureCache
from vla.datasets.base import Annotation
from vla.encoders.base import TextEncoder
from vla.errors import UsageError
from vla.features import TextFeatures
from vla.indexing.store import SearchIndex
from vla.indexing.sync import build_index
from vla.model import AlignmentModel
from vla.progress import Progress, ProgressCallback
from vla.retrieval.duration_prior import DurationRange, estimate_duration_range
from vla.retrieval.filters import VideoFilter
from vla.retrieval.hits import Hit
from vla.retrieval.hubness import HubnessCorrection, fit_hubness
from vla.retrieval.query import Query as Asked
from vla.retrieval.query_bank import MIN_SIZE, QueryBank, content_words, default_queries, from_captions
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.workflows.encoder_choice import encoder_of
from vla.workflows.text_features import has_encoder

_VIDEOS, _MOMENTS = 100, 10
"""So many videos, and moments of a query's own video, are listed: no figure asks for more."""


@dataclass(frozen=True)
class EvalQueryBank:
    """The bank of an evaluation, with an encoder of its texts, for a person what it is, and how long moments last.

    It knows nothing of what is asked: no text of the evaluation is in it, whatever video it tells of.
    """

    bank: QueryBank
    encoder: TextEncoder
    told: str
    lasting: DurationRange | None = None


def compared_with(cache: FeatureCache, corpus: Corpus, taught: Sequence[Annotation], device: str) -> EvalQueryBank:
    """The bank for the videos of `corpus`: the captions in `taught` (cached) where there are enough, else everyday queries.

    Of imported features without an encoder it is what captions there are.
    """
    asked = {content_words(q.text) for q in corpus.queries}
    every = {video.video_id for video in corpus.videos}
    bank = from_captions([a for a in taught if content_words(a.query) not in asked]).apart_from(every)
    told = f"{len(bank.texts)} captions that were trained on"
    if len(bank.texts) < MIN_SIZE and (not cache.spec.is_imported or has_encoder(cache)):
        bank = default_queries()
        told = f"{len(bank.texts)} everyday queries of ours"
    if len(bank.texts) < 2:
        told = "nothing: no captions that were trained on are known, and no encoder for other queries"
    lasting = estimate_duration_range(taught, cache.receipts)
    is_cached = not cache.missing_texts(bank.texts)
    return EvalQueryBank(bank, CachedTexts(cache) if is_cached else encoder_of(cache, device, "auto"), told, lasting)


class CachedTexts:
    """Texts as they are cached, in the parts in which they were encoded."""

    scale = 1.0

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Features of all parts of `texts`, in order; raises MissingError for what is not cached."""
        return self._cache.texts([part for text in texts for part in self._cache.pieces(text) or [text]])

    def fits(self, text: str) -> bool:
        """True: a text is split as it was when it was cached, and not anew."""
        return True


class SearchRetriever:
    """Searches the videos of a corpus as `vla search` does where a workspace holds just these, compared with every segment.

    Args:
        cache: with the features of the videos and the texts of all queries.
        corpus: the videos.
        model: what `vla index` would index with.
        compared: the bank.
        place: the workspace.
        progress: called for each query.
    """

    def __init__(
        self,
        cache: FeatureCache,
        corpus: Corpus,
        model: AlignmentModel,
        compared: EvalQueryBank,
        place: Workspace,
        progress: ProgressCallback,
    ) -> None:
        self._names = [video.video_id for video in corpus.videos]
        self._rows = {name: row for row, name in enumerate(self._names)}
        self._progress = progress
        some = cache.with_frames(corpus.videos)
        index = build_index(some, model)
        background = _background(index, cache, model, compared)
        self._searcher = Searcher(index, CachedTexts(cache), model, some, place, background)

    def everywhere(self, queries: Sequence[Query], per_video: int) -> list[np.ndarray]:
        """For each query `(N, 4)`: row of the video, start, end (seconds), score; best first, so many of a video at most.

        Of videos with the same content, or that show the same there, the query's own counts as found. A text that no search takes
        finds nothing.
        """
        found = []
        for query in self._each(queries):
            own = self._names[query.video]
            hits = self._search(query, _VIDEOS * per_video, per_video, None)
            found.append(
                np.array([(self._rows[v], start, end, s) for v, start, end, s in (_as_own(h, own) for h in hits)])
            )
        return [rows.reshape(-1, 4) for rows in found]

    def in_own(self, queries: Sequence[Query]) -> list[np.ndarray]:
        """For each query `(N, 3)` of its own video: start, end (seconds), score; best first."""
        found = []
        for query in self._each(queries):
            own = VideoFilter(include=(escape(self._names[query.video]),))
            hits = self._search(query, _MOMENTS, _MOMENTS, own)
            found.append(np.array([(h.start, h.end, h.score) for h in hits]).reshape(-1, 3))
        return found

    def _search(self, query: Query, k: int, per_video: int, limits: VideoFilter | None) -> list[Hit]:
        try:
            # As it is written: that is what is cached, and what the other figures are of.
            return self._searcher.search(Asked(query.text, is_literal=True), k, per_video, limits=limits)
        except UsageError:
            return []

    def _each(self, queries: Sequence[Query]) -> Iterator[Query]:
        for number, query in enumerate(queries, 1):
            yield query
            self._progress(Progress("search", number, len(queries)))


def _as_own(hit: Hit, own: str) -> tuple[str, float, float, float]:
    """Video, start, end and score: those of the video `own`, where it is one of those that the hit stands for."""
    for video, start, end in hit.similar:
        if video == own:
            return video, start, end, hit.score
    return own if own in hit.copies else hit.video_id, hit.start, hit.end, hit.score


def _background(
    index: SearchIndex, cache: FeatureCache, model: AlignmentModel, compared: EvalQueryBank
) -> HubnessCorrection | None:
    if len(compared.bank.texts) < 2:
        return None
    vectors = compared.bank.encode(cache, model, compared.encoder)
    return replace(fit_hubness(index, compared.bank, vectors), lasting=compared.lasting)
