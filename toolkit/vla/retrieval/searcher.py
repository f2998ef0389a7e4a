"""Searcher of an index: hits for texts, images and moments of videos."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.encoders.base import TextEncoder
from vla.errors import MissingError, UsageError
from vla.hints import Hint
from vla.indexing.search_index import SearchIndex
from vla.model import AlignmentModel
from vla.naming.matching import NameMatcher
from vla.retrieval.calibration import Calibration
from vla.retrieval.filters import Metadata, VideoFilter, check_columns, metadata_of
from vla.retrieval.hit_converter import HitConverter
from vla.retrieval.hits import Hit, Hits, most_confident
from vla.retrieval.image_query import encode_image
from vla.retrieval.indexed_videos import IndexedVideos
from vla.retrieval.query import EncodedQuery, Query, Weighted, encode_query, from_image, subtract
from vla.retrieval.ranking import Ranking, per_video_limits
from vla.retrieval.scorers import DEFAULT_CONFIG, RankingConfig
from vla.storage.workspace import Workspace

_ROUNDING = 1e-9
_MAX_CONTAINING = 8
"""Maximum number of moments of a video that contain the same time. Those of a curve are disjoint;
those of a head overlap by an IoU of at most 0.3, so each is three times as long as the next."""


@dataclass(frozen=True)
class Searcher:
    """Searcher of an index, with everything that a search needs loaded once.

    Immutable, so threads may share it.

    Attributes:
        index: the index.
        encoder: encoder of the queries.
        model: the model that the index was made with.
        cache: features of the videos.
        workspace: the workspace of the videos.
        calibration: centers and null scores of the index; None if they were not estimated.
        lists_missing: whether to return moments of videos whose files are missing; else these
            videos are left out and counted in `Hits.omissions`.
        unsupported: videos whose content the encoder cannot represent; their hits have no
            confidence.
        config: sizes of intermediate results.
    """

    index: SearchIndex
    encoder: TextEncoder
    model: AlignmentModel
    cache: FeatureCache
    workspace: Workspace
    calibration: Calibration | None = None
    lists_missing: bool = True
    unsupported: frozenset[str] = frozenset()
    config: RankingConfig = DEFAULT_CONFIG

    def search(
        self,
        query: str | Query,
        k: int = 10,
        per_video: int | None = None,
        max_fpr: float | None = None,
        filters: VideoFilter | None = None,
    ) -> Hits:
        """Return the `k` moments that match `query` best; near-duplicates count as one.

        Videos are scored in order until no other can have a better moment. All videos are compared
        where the index has at most a thousand rows, or 20 for each hit; of a larger index, those
        with a row among the best.

        Args:
            query: a text, or a `Query` of several texts.
            k: number of hits.
            per_video: maximum number of hits of one video; None for 3, or for more where there are
                fewer than `k` hits.
            max_fpr: drop hits with a higher estimated false-positive rate; None keeps all.
            filters: conditions on the videos; they do not change the scores of the videos that
                pass. None for all videos.

        Raises:
            UsageError: a text is blank or longer than 2,000 characters, a number is not positive,
                or the query bank is too small to estimate `max_fpr`.
            MissingError: `max_fpr` is given and there is no calibration.
        """
        query = Query(query) if isinstance(query, str) else query
        self._check_counts(k, per_video)
        self._check_max_fpr(max_fpr)
        steps = encode_query(query, self.encoder, self.model)
        if query.duration is not None:
            # A moment cannot be longer than its video.
            base = filters or VideoFilter()
            filters = replace(base, min_duration=max(base.min_duration, query.duration[0]))

        def find(video_mask: np.ndarray | None) -> Hits:
            if len(steps) == 1:
                groups = self._ranking.moments(steps[0], k, per_video, video_mask)
            else:
                groups = self._ranking.sequences(steps, query.within, k, per_video, video_mask)
            return self._converter.hits(groups, steps, query.title, video_mask)

        hits = self._omit_missing(find, self.video_mask(filters))
        if max_fpr is None:
            return hits
        passing = [h for h in hits if (h.confidence or 0.0) >= 1 - max_fpr - _ROUNDING]
        return Hits(passing, hits.omissions, most_confident(h for h in hits if h not in passing))

    def search_image(
        self,
        pixels: np.ndarray,
        name: str,
        k: int = 10,
        per_video: int | None = None,
        filters: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """Return the `k` moments most similar to an image; hits have no confidence.

        Args:
            pixels: `(1, H, W, 3)` uint8.
            name: name of the image, the query of the hits.
            k: number of hits.
            per_video: maximum number of hits of one video; None for 3, or for more where there are
                fewer than `k` hits.
            filters: conditions on the videos.
            negative: texts to subtract, with weights.

        Raises:
            UsageError: a number is not positive.
            MissingError: the features were imported.
        """
        self._check_counts(k, per_video)
        query = from_image(encode_image(pixels, self.encoder, self.model), name)
        return self._search_vector(self._subtract(query, negative), k, per_video, filters)

    def search_like(
        self,
        video_id: str,
        seconds: float,
        k: int = 10,
        per_video: int | None = None,
        filters: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """Return the `k` moments most similar to a frame of a video, without the moments of the
        frame and its duplicates.

        Args:
            video_id: name of a video in the cache.
            seconds: time of the frame, from 0 to the end of the video.
            k: number of hits.
            per_video: maximum number of hits of one video; None for 3, or for more where there are
                fewer than `k` hits.
            filters: conditions on the videos.
            negative: texts to subtract, with weights.

        Raises:
            MissingError: the cache has no features of the video.
            UsageError: the time is outside of the video, or a number is not positive.
        """
        self._check_counts(k, per_video)
        features = self.cache.frames(video_id)
        if not 0 <= seconds <= features.duration_seconds:
            raise UsageError(
                f"invalid time {seconds:g} s: video {video_id} has a duration of "
                f"{features.duration_seconds:.1f} s"
            )
        times = features.timestamps_seconds
        frame = max(0, int(np.searchsorted(times, seconds, side="right")) - 1)
        vector = self.model.align_frames(features)[frame]
        digest = self.cache.receipts[video_id].sha256
        query = self._subtract(from_image(vector, f"{video_id}@{seconds:g}"), negative)

        def contains_frame(hit: Hit) -> bool:
            same = video_id == hit.video_id or bool(
                digest and digest == self.cache.receipts[hit.video_id].sha256
            )
            return same and hit.start <= times[frame] < hit.end

        hits = Hits()
        for most in per_video_limits(k, per_video):
            # Near-duplicates are wanted here, so they stay hits of their own.
            candidates = self._search_vector(
                query, k + _MAX_CONTAINING, most + _MAX_CONTAINING, filters, merge=False
            )
            hits = Hits((), candidates.omissions)
            counts: dict[str, int] = defaultdict(int)
            for hit in candidates:
                if contains_frame(hit):
                    continue
                counts[hit.video_id] += 1
                if counts[hit.video_id] <= most and len(hits) < k:
                    hits.append(replace(hit, rank=len(hits) + 1))
            if len(hits) == k:
                break
        return hits

    def _check_counts(self, k: int, per_video: int | None) -> None:
        if k < 1 or (per_video is not None and per_video < 1):
            raise UsageError(f"k and per_video must be at least 1, not {k} and {per_video}")

    def _subtract(self, query: EncodedQuery, negative: Sequence[Weighted]) -> EncodedQuery:
        """Return `query` minus the texts of `negative`."""
        weighted = Query(query.text, negative=tuple(negative)).negative
        others = [encode_query(Query(text), self.encoder, self.model)[0] for text, _ in weighted]
        return subtract(query, others, [weight for _, weight in weighted])

    def _search_vector(
        self,
        query: EncodedQuery,
        k: int,
        per_video: int | None,
        filters: VideoFilter | None,
        merge: bool = True,
    ) -> Hits:
        def find(video_mask: np.ndarray | None) -> Hits:
            groups = self._ranking.moments(query, k, per_video, video_mask, merge=merge)
            return self._converter.hits(groups, [query], query.text, video_mask)

        return self._omit_missing(find, self.video_mask(filters))

    def _omit_missing(
        self, find: Callable[[np.ndarray | None], Hits], video_mask: np.ndarray | None
    ) -> Hits:
        """Return the hits of `find` in the videos of `video_mask` `(V,)` whose files exist, and
        count the other videos.

        Files are checked only if the file of a hit is missing. Videos with imported features need
        not have files.
        """
        hits = find(video_mask)
        if self.lists_missing or not any(hit.is_missing for hit in hits):
            return hits
        mask = np.ones(len(self.index.videos), bool) if video_mask is None else video_mask
        exists = np.array(
            [self.workspace.video_path(name).exists() for name in self.index.videos], bool
        )
        # A duplicate stands in for a missing file.
        for videos in self._videos.duplicates.values():
            exists[videos] = exists[videos].any()
        # If all are missing, a disk is not mounted, or the workspace was copied without its videos:
        # each hit is marked.
        if not exists.any():
            return hits
        hits = find(mask & exists)
        for number in np.flatnonzero(mask & ~exists):
            hits.omissions.add("missing-file", self.index.videos[number])
        return hits

    def video_mask(self, filters: VideoFilter | None) -> np.ndarray | None:
        """Return `(V,)` bool, the videos of the index that pass `filters`; None for all."""
        if filters is None or filters.is_empty:
            return None
        if filters.where:
            check_columns(filters.where, self._metadata)
        metadata = self._metadata if filters.where else {}
        folders = self.workspace.root, Path.cwd()
        return np.array(filters.mask(self.names, folders, self.cache.receipts, metadata), bool)

    def _check_max_fpr(self, max_fpr: float | None) -> None:
        if max_fpr is None:
            return
        if self.unsupported.issuperset(self.index.videos):
            raise MissingError(
                "no false-positive rate is known here: the demo encoder knows nothing of these "
                "videos. Leave the rate out, or extract with another model"
            )
        if self.calibration is None:
            raise MissingError(
                "no false-positive rate is known here: either the index is out of date, or there "
                "are neither captions to compare with nor an encoder for queries of ours",
                hint=Hint("index_or_caption"),
            )
        self.calibration.check_max_fpr(max_fpr)

    @cached_property
    def _videos(self) -> IndexedVideos:
        return IndexedVideos(self.index, self.model, self.cache, self.calibration)

    @cached_property
    def _ranking(self) -> Ranking:
        return Ranking(self._videos, self.config)

    @cached_property
    def _converter(self) -> HitConverter:
        return HitConverter(self._ranking, self.workspace, self.unsupported)

    @cached_property
    def names(self) -> NameMatcher:
        """Names of the videos of the index, with lookup by bare name or path."""
        return NameMatcher(self.index.videos, self.workspace.root)

    @cached_property
    def _metadata(self) -> dict[str, list[Metadata]]:
        """Rows of the captions tables by video."""
        return metadata_of(caption_store.load(self.workspace, lambda damage: None))
