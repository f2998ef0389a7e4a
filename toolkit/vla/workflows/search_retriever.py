"""Retriever of an evaluation.

Results of `vla search` for captions, among the videos that are evaluated.
"""

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
from vla.indexing.search_index import SearchIndex
from vla.indexing.sync import build_index
from vla.localization.duration_range import DurationRange
from vla.model import AlignmentModel
from vla.progress import Progress, ProgressCallback
from vla.retrieval.calibration import Calibration
from vla.retrieval.calibration_estimate import calibrate_index
from vla.retrieval.duration_prior import estimate_duration_range
from vla.retrieval.filters import VideoFilter
from vla.retrieval.hits import Hit
from vla.retrieval.query import Query as SearchQuery
from vla.retrieval.query_bank import (
    MIN_SIZE,
    QueryBank,
    content_words,
    default_queries,
    from_captions,
)
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.workflows.encoder_choice import encoder_of
from vla.workflows.text_features import has_encoder

_NUM_HITS, _NUM_MOMENTS = 100, 10
"""Number of hits, and of moments of the query's own video, in a result: no metric needs more."""


@dataclass(frozen=True)
class EvalQueryBank:
    """Query bank of an evaluation; no text of the evaluation is part of it.

    Attributes:
        bank: the queries.
        encoder: encoder of their texts.
        description: description for the user.
        duration_range: duration range of moments, estimated from training captions; None with too
            few.
    """

    bank: QueryBank
    encoder: TextEncoder
    description: str
    duration_range: DurationRange | None = None


def eval_query_bank(
    cache: FeatureCache, corpus: Corpus, training: Sequence[Annotation], device: str
) -> EvalQueryBank:
    """Return the bank for the videos of `corpus`.

    The cached training captions if there are enough, else default queries.

    For imported features without an encoder, it is always the captions.
    """
    queries = {content_words(q.text) for q in corpus.queries}
    names = {video.video_id for video in corpus.videos}
    bank = from_captions(
        [a for a in training if content_words(a.query) not in queries]
    ).without_universal(names)
    description = f"{len(bank.texts)} captions that were trained on"
    if len(bank.texts) < MIN_SIZE and (not cache.spec.is_imported or has_encoder(cache)):
        bank = default_queries()
        description = f"{len(bank.texts)} everyday queries of ours"
    if len(bank.texts) < 2:
        description = (
            "nothing: no captions that were trained on are known, and no encoder for other queries"
        )
    duration_range = estimate_duration_range(training, cache.receipts)
    is_cached = not cache.missing_texts(bank.texts)
    encoder = CachedTexts(cache) if is_cached else encoder_of(cache, device, "auto")
    return EvalQueryBank(bank, encoder, description, duration_range)


class CachedTexts:
    """Text encoder that reads cached texts, in the chunks that they were encoded in."""

    scale = 1.0

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return the features of all chunks of `texts`, in order.

        Raises MissingError for a text that is not cached.
        """
        return self._cache.texts(
            [part for text in texts for part in self._cache.pieces(text) or [text]]
        )

    def fits(self, text: str) -> bool:
        """Return True: the cache determines the chunks of a text."""
        return True


class SearchRetriever:
    """Retriever with the results of `vla search` in a workspace of the videos of a corpus alone, by
    exhaustive search.

    Args:
        cache: features of the videos and texts of all queries.
        corpus: the videos.
        model: model that `vla index` would use.
        bank: the query bank.
        workspace: the workspace.
        progress: called for each query.
    """

    def __init__(
        self,
        cache: FeatureCache,
        corpus: Corpus,
        model: AlignmentModel,
        bank: EvalQueryBank,
        workspace: Workspace,
        progress: ProgressCallback,
    ) -> None:
        self._names = [video.video_id for video in corpus.videos]
        self._rows = {name: row for row, name in enumerate(self._names)}
        self._progress = progress
        corpus_cache = cache.with_frames(corpus.videos)
        index = build_index(corpus_cache, model)
        calibration = _calibrate(index, cache, model, bank)
        self._searcher = Searcher(
            index, CachedTexts(cache), model, corpus_cache, workspace, calibration
        )

    def everywhere(self, queries: Sequence[Query], per_video: int | None) -> list[np.ndarray]:
        """Return, for each query, the best moments of all videos.

        Among duplicates and near-duplicates, the query's own video counts as found. A text that is
        not a valid query has an empty result.

        Args:
            queries: the captions.
            per_video: maximum number of moments of one video; None as for a search.

        Returns:
            For each query `(N, 4)`: row of the video, start and end in seconds, score; best first.
        """
        results = []
        for query in self._with_progress(queries):
            own = self._names[query.video]
            hits = self._search(query, _NUM_HITS, per_video, None)
            rows = [
                (self._rows[v], start, end, s)
                for v, start, end, s in (_as_own(h, own) for h in hits)
            ]
            results.append(np.array(rows).reshape(-1, 4))
        return results

    def in_own(self, queries: Sequence[Query]) -> list[np.ndarray]:
        """Return, for each query, `(N, 3)` moments of its own video.

        Start and end in seconds, score; best first.
        """
        results = []
        for query in self._with_progress(queries):
            own = VideoFilter(include=(escape(self._names[query.video]),))
            hits = self._search(query, _NUM_MOMENTS, _NUM_MOMENTS, own)
            results.append(np.array([(h.start, h.end, h.score) for h in hits]).reshape(-1, 3))
        return results

    def _search(
        self, query: Query, k: int, per_video: int | None, filters: VideoFilter | None
    ) -> list[Hit]:
        try:
            # Without rewriting: the caption itself is cached, and used by the other metrics.
            return self._searcher.search(
                SearchQuery(query.text, rewrite=False), k, per_video, filters=filters
            )
        except UsageError:
            return []

    def _with_progress(self, queries: Sequence[Query]) -> Iterator[Query]:
        for number, query in enumerate(queries, 1):
            yield query
            self._progress(Progress("search", number, len(queries)))


def _as_own(hit: Hit, own: str) -> tuple[str, float, float, float]:
    """Return video, start, end and score of a hit.

    Those of the video `own` if it is a duplicate or near-duplicate.
    """
    for video, start, end in hit.near_duplicates:
        if video == own:
            return video, start, end, hit.score
    return own if own in hit.duplicates else hit.video_id, hit.start, hit.end, hit.score


def _calibrate(
    index: SearchIndex, cache: FeatureCache, model: AlignmentModel, bank: EvalQueryBank
) -> Calibration | None:
    if len(bank.bank.texts) < 2:
        return None
    vectors = bank.bank.encode(cache, model, bank.encoder)
    return replace(calibrate_index(index, bank.bank, vectors), duration_range=bank.duration_range)
