"""The videos of an index as one query meets them: nearest rows, scored segments, frames."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla.cache.store import FeatureCache
from vla.errors import CacheError
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.indexing.store import SearchIndex
from vla.model import AlignmentModel
from vla.retrieval.duration_prior import ANY_DURATION
from vla.retrieval.frame_cache import FrameCache
from vla.retrieval.hubness import HubnessCorrection
from vla.retrieval.moments import MomentLocalizer, SegmentScores
from vla.retrieval.query import EncodedQuery


@dataclass(frozen=True)
class NearestRows:
    """Rows of an index, best first.

    Attributes:
        ids: `(n,)`.
        scores: `(n,)` float64 cosines less hubness.
        bound: no other row has a higher cosine.
    """

    ids: np.ndarray
    scores: np.ndarray
    bound: float


@dataclass(frozen=True)
class IndexedVideos:
    """The videos of an index, by number. Threads may share it.

    Attributes:
        index: the segments.
        model: as the index was made with; its head for moments localizes, if it has one.
        cache: the frames.
        background: hubness and confidence; None where it was not fitted.
    """

    index: SearchIndex
    model: AlignmentModel
    cache: FeatureCache
    background: HubnessCorrection | None = None

    def background_of(self, query: EncodedQuery) -> HubnessCorrection | None:
        """The background that `query` is compared with; None for pictures: it was fitted with texts."""
        return self.background if query.is_text else None

    def nearest(self, query: EncodedQuery, count: int, allowed: np.ndarray | None = None) -> NearestRows:
        """Return the `count` rows with the highest cosines, of videos that are `allowed` `(V,)`; None allows all.

        Raises:
            CacheError: the index holds ids or values that no extraction made.
        """
        may = None if allowed is None else (self.index.video_of_row >= 0) & allowed[self.index.video_of_row]
        values, ids = self.index.vectors.search(query.vector[None], count, may)
        there = ids[0] >= 0
        ids, cosines = ids[0][there], values[0][there].astype(np.float64)
        # The index may be somebody else's, with numbers in it that no extraction made.
        if (ids >= len(self.index.spans)).any() or not np.isfinite(cosines).all():
            raise CacheError("the index holds rows or values that fit nothing", hint=Hint("index"))
        # Where an index gives fewer rows than it was asked for, it has no more to give.
        is_all = len(ids) < count or count >= len(self.index.vectors)
        bound = -np.inf if is_all else float(cosines.min())
        background = self.background_of(query)
        scores = cosines if background is None else background.corrected(cosines, ids)
        order = np.lexsort((ids, -scores))
        return NearestRows(ids[order], scores[order], bound)

    def segments(self, query: EncodedQuery, video: int) -> SegmentScores:
        """Return all segments of a video, scored.

        Raises:
            CacheError: the index holds values that are no numbers.
        """
        order, begins = self._by_video
        rows = order[begins[video] : begins[video + 1]]
        lasting = query.lasting
        scores = cosines = (self.index.vectors_of(rows) @ query.vector).astype(np.float64)
        if not np.isfinite(cosines).all():
            raise CacheError("the index holds values that are no numbers", hint=Hint("index"))
        background = self.background_of(query)
        if background is not None:
            scores = background.corrected(cosines, rows)
            lasting = lasting or background.lasting
        return SegmentScores(self.index.spans[rows], scores, float(cosines.max()), lasting or ANY_DURATION)

    def frames_of(self, video: int) -> tuple[FrameFeatures, np.ndarray] | None:
        """Raw features and unit frames `(T, E)`; None of a video that left the cache."""
        return self._frames.of(self.index.videos[video])

    def frames_for_head(self, video: int) -> tuple[FrameFeatures, np.ndarray] | None:
        """The same, with the frames as the head for moments was trained on them."""
        return self._frames_of_head.of(self.index.videos[video])

    @cached_property
    def copies(self) -> dict[int, list[int]]:
        """The videos with the same content, by the first of them."""
        groups: dict[str, list[int]] = defaultdict(list)
        for video, name in enumerate(self.index.videos):
            receipt = self.cache.receipts.get(name)
            groups[receipt.sha256 if receipt and receipt.sha256 else name].append(video)
        return {videos[0]: videos for videos in groups.values()}

    @cached_property
    def first_copy(self) -> np.ndarray:
        """`(V,)` of each video the first with the same content."""
        first = np.arange(len(self.index.videos))
        for video, videos in self.copies.items():
            first[videos] = video
        return first

    @cached_property
    def localizer(self) -> MomentLocalizer:
        """Finds moments within a video, with the model's head for moments, if it has one."""
        return MomentLocalizer.of(self.model)

    @cached_property
    def _frames(self) -> FrameCache:
        return FrameCache(self.cache, self.model)

    @cached_property
    def _frames_of_head(self) -> FrameCache:
        trained = self.localizer.trained
        if trained is None or bool(self.model.projector.alpha == trained.projector.alpha):
            return self._frames
        return FrameCache(self.cache, trained)

    @cached_property
    def _by_video(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the index by video; where those of each begin, and where the last ones end."""
        order = np.argsort(self.index.video_of_row, kind="stable")
        return order, np.searchsorted(self.index.video_of_row[order], np.arange(len(self.index.videos) + 1))
