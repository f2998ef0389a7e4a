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
from vla.localization.duration_range import ANY_DURATION, DurationRange
from vla.model import AlignmentModel
from vla.retrieval.calibration import Calibration, CenteredQuery
from vla.retrieval.frame_cache import FrameCache
from vla.retrieval.moments import MomentLocalizer, SegmentScores
from vla.retrieval.query import EncodedQuery


@dataclass(frozen=True)
class NearestRows:
    """Rows of an index, best first.

    Attributes:
        ids: `(n,)` row numbers.
        similarities: `(n,)` float64, centered cosines.
        bound: estimate of the highest similarity of all other rows: that of a row with the lowest
            inner product listed, at the mean distance from the center.
    """

    ids: np.ndarray
    similarities: np.ndarray
    bound: float


@dataclass(frozen=True)
class IndexedVideos:
    """The videos of an index, by number. Thread-safe.

    Attributes:
        index: the segments.
        model: the model that the index was made with; its head for moments is used if it has one.
        cache: the frames.
        calibration: centers and null scores; None if they were not estimated.
    """

    index: SearchIndex
    model: AlignmentModel
    cache: FeatureCache
    calibration: Calibration | None = None

    def calibration_for(self, query: EncodedQuery) -> Calibration | None:
        """Return the calibration.

        None for image queries, because it is one of texts.
        """
        return self.calibration if query.is_text else None

    def center(self, query: EncodedQuery) -> CenteredQuery:
        """Return `query` as it is compared with rows and frames."""
        return CenteredQuery.of(query.vector, self.calibration_for(query), query.total_weight)

    def nearest(
        self, query: CenteredQuery, count: int, video_mask: np.ndarray | None = None
    ) -> NearestRows:
        """Return the `count` rows with the highest inner products, of videos in `video_mask` `(V,)`.

        None for all videos.

        Raises:
            CacheError: the index holds invalid row numbers or values that are not finite.
        """
        mask = None
        if video_mask is not None:
            mask = (self.index.video_of_row >= 0) & video_mask[self.index.video_of_row]
        values, ids = self.index.vectors.search(query.vector[None], count, mask)
        is_row = ids[0] >= 0
        ids, products = ids[0][is_row], values[0][is_row].astype(np.float64)
        # An index may come from elsewhere, with values that no extraction made.
        if (ids >= len(self.index.spans)).any() or not np.isfinite(products).all():
            raise CacheError("the index holds rows or values that fit nothing", hint=Hint("index"))
        # An index that returns fewer rows than requested has no more.
        is_all = len(ids) < count or count >= len(self.index.vectors)
        bound = -np.inf if is_all else query.score_at_mean_distance(float(products.min()))
        similarities = query.score_rows(products, ids)
        order = np.lexsort((ids, -similarities))
        return NearestRows(ids[order], similarities[order], bound)

    def scores_of(self, query: CenteredQuery, nearest: NearestRows) -> list[tuple[int, float]]:
        """Return the videos of `nearest` and their scores, best first; of duplicates, the first."""
        owners = self.first_duplicate[self.index.video_of_row[nearest.ids]]
        firsts = np.sort(np.unique(owners, return_index=True)[1])
        videos, best = owners[firsts], nearest.similarities[firsts]
        scores = query.score_videos(best, self._whole_products(query, videos), videos)
        order = np.lexsort((videos, -scores))
        return list(zip(videos[order].tolist(), scores[order].tolist(), strict=True))

    def segments(self, query: CenteredQuery, video: int, duration: DurationRange) -> SegmentScores:
        """Return all segments of a video with their similarities.

        Raises:
            CacheError: the index holds values that are not finite.
        """
        order, starts = self._rows_by_video
        rows = order[starts[video] : starts[video + 1]]
        products = self.index.vectors_of(rows) @ query.vector
        similarities = query.score_rows(products, rows)
        if not np.isfinite(similarities).all():
            raise CacheError("the index holds values that are no numbers", hint=Hint("index"))
        # The whole video is the first segment of each.
        best = similarities[[similarities.argmax()]]
        score = float(query.score_videos(best, products[:1], np.array([video]))[0])
        return SegmentScores(self.index.spans[rows], similarities, score, duration)

    def duration_range(self, query: EncodedQuery) -> DurationRange:
        """Return the duration range of the moments of `query`: its own, or else that of captions."""
        calibration = self.calibration_for(query)
        prior = None if calibration is None else calibration.duration_range
        return query.duration or prior or ANY_DURATION

    def _whole_products(self, query: CenteredQuery, videos: np.ndarray) -> np.ndarray:
        """Return the inner products `(n,)` of the vectors of whole videos."""
        if query.calibration is None:
            return np.zeros(len(videos))
        order, starts = self._rows_by_video
        products: np.ndarray = self.index.vectors_of(order[starts[videos]]) @ query.vector
        return products

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
