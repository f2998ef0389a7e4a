"""From words to moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla.cache.store import FeatureCache
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, UsageError
from vla.model import AlignmentModel
from vla.search.hits import Hit
from vla.search.store import SearchIndex
from vla.sentences import split_to_fit
from vla.spans import nms
from vla.workspace import Workspace

_OVERLAP = 0.3
"""Moments of one video that overlap more than this (IoU) are one moment found twice."""
_MAX_QUERY = 2_000


@dataclass(frozen=True)
class Searcher:
    """Everything a search needs, loaded once. Reads only, so it may be shared between threads."""

    index: SearchIndex
    encoder: TextEncoder
    model: AlignmentModel
    cache: FeatureCache
    workspace: Workspace

    def search(self, query: str, k: int = 10, per_video: int = 3) -> list[Hit]:
        """The `k` moments that match `query` best, at most `per_video` of one video.

        Raises:
            UsageError: the query is blank or longer than 2,000 characters, or `k` is not positive.
        """
        query = query.replace("\0", " ").strip()
        if not query or len(query) > _MAX_QUERY:
            raise UsageError(f"a query has 1 to {_MAX_QUERY} characters, not {len(query)}")
        if k < 1 or per_video < 1:
            raise UsageError(f"k and per_video must be at least 1, not {k} and {per_video}")
        vector = self._embed(query)
        # Overlapping windows and per_video thin the list out, so more rows are asked for until there are enough.
        rows = min(len(self.index.vectors), max(200, 20 * k))
        while True:
            scores, ids = self.index.vectors.search(vector[None], rows)
            found = self._moments(scores[0], ids[0], per_video)
            if len(found) >= k or rows >= len(self.index.vectors):
                break
            rows = min(len(self.index.vectors), 4 * rows)
        return [self._hit(rank, row, score, vector, query) for rank, (row, score) in enumerate(found[:k], 1)]

    def _embed(self, query: str) -> np.ndarray:
        """`(E,)` unit vector; of a query longer than the encoder's context, the mean direction of its parts."""
        told = self.encoder.encode_text(split_to_fit(query, self.encoder.fits))
        tokens = [rows[real] for rows, real in zip(told.tokens, told.mask, strict=True)]
        vectors = self.model.align_texts(told.pooled, tokens).mean(0)
        return (vectors / max(1e-12, float(np.linalg.norm(vectors)))).astype(np.float32)

    def _moments(self, scores: np.ndarray, ids: np.ndarray, per_video: int) -> list[tuple[int, float]]:
        """Rows with their scores, best first, without those that repeat a better one of their video."""
        ids, scores = ids[ids >= 0], scores[: int((ids >= 0).sum())]
        # The index may be somebody else's, with numbers in it that no extraction made.
        if (ids >= len(self.index.spans)).any() or not np.isfinite(scores).all():
            raise CacheError("the index holds rows or values that fit nothing: run 'vla index' again")
        owners = self.index.video_of_row[ids]
        kept: list[int] = []
        for video in np.unique(owners):
            mine = np.flatnonzero(owners == video)
            chosen = nms(self.index.spans[ids[mine]], scores[mine], _OVERLAP)[:per_video]
            kept.extend(int(i) for i in mine[chosen])
        return [(int(ids[i]), float(scores[i])) for i in sorted(kept)]

    def _hit(self, rank: int, row: int, score: float, vector: np.ndarray, query: str) -> Hit:
        video_id = self.index.videos[int(self.index.video_of_row[row])]
        start, end = (float(t) for t in self.index.spans[row])
        path = self.workspace.video_path(video_id)
        peak = self._peak(video_id, start, end, vector)
        is_there = path.exists()
        # Of imported features the videos need never have been here.
        if not is_there and self.index.spec.is_imported:
            return Hit(rank, score, video_id, "", start, end, peak, query)
        return Hit(rank, score, video_id, str(path), start, end, peak, query, not is_there)

    def _peak(self, video_id: str, start: float, end: float, vector: np.ndarray) -> float:
        receipt = self.cache.receipts.get(video_id)
        if receipt is None or not receipt.has_features:
            return start
        features = self.cache.frames(video_id)
        times = features.timestamps_seconds
        inside = np.flatnonzero((times >= start) & (times < end))
        if not len(inside):
            return start
        return float(times[inside[np.argmax(self.model.align_frames(features)[inside] @ vector)]])
