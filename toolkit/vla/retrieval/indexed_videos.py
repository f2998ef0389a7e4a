"""Per-query access to the videos of an index: nearest rows, scored segments, frames."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla.cache.store import FeatureCache
from vla.errors import CacheError
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.indexing.search_index import SearchIndex
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
        ids: `(n,)` row numbers.
        scores: `(n,)` float64, cosines minus hubness.
        bound: upper bound of the cosines of all other rows.
    """

    ids: np.ndarray
    scores: np.ndarray
    bound: float


@dataclass(frozen=True)
class IndexedVideos:
    """The videos of an index, by number. Thread-safe.

    Attributes:
        index: the segments.
        model: the model that the index was made with; its head for moments is used if it has one.
        cache: the frames.
        hubness_correction: hubness and null scores; None if they were not fitted.
    """

    index: SearchIndex
    model: AlignmentModel
    cache: FeatureCache
    hubness_correction: HubnessCorrection | None = None

    def correction_for(self, query: EncodedQuery) -> HubnessCorrection | None:
        """Return the hubness correction.

        None for image queries, because it was fitted with texts.
        """
        return self.hubness_correction if query.is_text else None

    def nearest(
        self, query: EncodedQuery, count: int, video_mask: np.ndarray | None = None
    ) -> NearestRows:
        """Return the `count` rows with the highest cosines, of videos in `video_mask` `(V,)`.

        None for all videos.

        Raises:
            CacheError: the index holds invalid row numbers or values that are not finite.
        """
        mask = None
        if video_mask is not None:
            mask = (self.index.video_of_row >= 0) & video_mask[self.index.video_of_row]
        values, ids = self.index.vectors.search(query.vector[None], count, mask)
        is_row = ids[0] >= 0
        ids, cosines = ids[0][is_row], values[0][is_row].astype(np.float64)
        # An index may come from elsewhere, with values that no extraction made.
        if (ids >= len(self.index.spans)).any() or not np.isfinite(cosines).all():
            raise CacheError("the index holds rows or values that fit nothing", hint=Hint("index"))
        # An index that returns fewer rows than requested has no more.
        is_all = len(ids) < count or count >= len(self.index.vectors)
        bound = -np.inf if is_all else float(cosines.min())
        correction = self.correction_for(query)
        scores = cosines if correction is None else correction.correct(cosines, ids)
        order = np.lexsort((ids, -scores))
        return NearestRows(ids[order], scores[order], bound)

    def segments(self, query: EncodedQuery, video: int) -> SegmentScores:
        """Return all segments of a video with their scores.

        Raises:
            CacheError: the index holds values that are not finite.
        """
        order, starts = self._rows_by_video
        rows = order[starts[video] : starts[video + 1]]
        duration = query.duration
        scores = cosines = (self.index.vectors_of(rows) @ query.vector).astype(np.float64)
        if not np.isfinite(cosines).all():
            raise CacheError("the index holds values that are no numbers", hint=Hint("index"))
        correction = self.correction_for(query)
        if correction is not None:
            scores = correction.correct(cosines, rows)
            duration = duration or correction.duration_range
        return SegmentScores(
            self.index.spans[rows], scores, float(cosines.max()), duration or ANY_DURATION
        )

    def frames_of(self, video: int) -> tuple[FrameFeatures, np.ndarray] | None:
        """Return raw features and unit frames `(T, E)`; None for a video that left the cache."""
        return self._frames.of(self.index.videos[video])

    def frames_for_head(self, video: int) -> tuple[FrameFeatures, np.ndarray] | None:
        """Return raw features and unit frames as the head for moments was trained on them.

        None as in `frames_of`.
        """
        return self._head_frames.of(self.index.videos[video])

    @cached_property
    def duplicates(self) -> dict[int, list[int]]:
        """Groups of videos with the same content, by the first video of each."""
        groups: dict[str, list[int]] = defaultdict(list)
        for video, name in enumerate(self.index.videos):
            receipt = self.cache.receipts.get(name)
            groups[receipt.sha256 if receipt and receipt.sha256 else name].append(video)
        return {videos[0]: videos for videos in groups.values()}

    @cached_property
    def first_duplicate(self) -> np.ndarray:
        """`(V,)` for each video, the first video with the same content."""
        first = np.arange(len(self.index.videos))
        for video, videos in self.duplicates.items():
            first[videos] = video
        return first

    @cached_property
    def localizer(self) -> MomentLocalizer:
        """Localizer of moments within a video, with the model's head for moments if it has one."""
        return MomentLocalizer.of(self.model)

    @cached_property
    def _frames(self) -> FrameCache:
        return FrameCache(self.cache, self.model)

    @cached_property
    def _head_frames(self) -> FrameCache:
        head_model = self.localizer.head_model
        if head_model is None or bool(self.model.projector.alpha == head_model.projector.alpha):
            return self._frames
        return FrameCache(self.cache, head_model)

    @cached_property
    def _rows_by_video(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the index sorted by video, and `(V + 1,)` bounds of the rows of each video."""
        order = np.argsort(self.index.video_of_row, kind="stable")
        return order, np.searchsorted(
            self.index.video_of_row[order], np.arange(len(self.index.videos) + 1)
        )
