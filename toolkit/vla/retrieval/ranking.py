"""Ranking across videos: score videos by the best segments of the index, and merge near-duplicate
moments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from vla.retrieval.calibration import CenteredQuery
from vla.retrieval.candidates import Candidate
from vla.retrieval.indexed_videos import IndexedVideos
from vla.retrieval.near_duplicates import PREFILTER_THRESHOLD, is_near_duplicate, mean_of
from vla.retrieval.query import EncodedQuery
from vla.retrieval.scorers import (
    DEFAULT_CONFIG,
    MomentScorer,
    RankingConfig,
    SequenceScorer,
    VideoScorer,
)
from vla.retrieval.top_k import top_k_with_bounds
from vla.spans import frames_in

MAX_PER_VIDEO = 3
"""Number of moments of one video that are listed before those of other videos. Without a limit, ten
hits contain as many correct moments on real videos, and fewer among look-alike scenes
(`tests/benchmarks/real_search.py --parts stages`)."""


def per_video_limits(k: int, per_video: int | None) -> tuple[int, ...]:
    """Return the maximum numbers of hits of one video to try until there are `k` hits.

    Args:
        k: number of hits.
        per_video: the maximum; None for 3, or for more where the videos have fewer than `k` hits.
    """
    return (min(k, MAX_PER_VIDEO), k) if per_video is None else (per_video,)


@dataclass(frozen=True)
class Ranking:
    """Ranks moments and sequences of `videos`. Thread-safe."""

    videos: IndexedVideos
    config: RankingConfig = DEFAULT_CONFIG

    def moments(
        self,
        query: EncodedQuery,
        k: int,
        per_video: int | None,
        video_mask: np.ndarray | None,
        *,
        merge: bool = True,
    ) -> list[list[Candidate]]:
        """Return the `k` best moments, each followed by its near-duplicates in other videos.

        Args:
            query: the query.
            k: number of moments.
            per_video: maximum number of moments of one video; None as in `per_video_limits`.
            video_mask: `(V,)` bool, the videos to search; None for all.
            merge: whether to merge near-duplicates.
        """
        groups: list[list[Candidate]] = []
        for most in per_video_limits(k, per_video):
            scorer = MomentScorer(self.videos, query, most, video_mask, self.config)
            groups = self._rank(scorer, k, merge)
            if len(groups) == k:
                break
        return groups

    def sequences(
        self,
        steps: list[EncodedQuery],
        within: float,
        k: int,
        per_video: int | None,
        video_mask: np.ndarray | None,
    ) -> list[list[Candidate]]:
        """Return the `k` best sequences of `steps`, at most `within` seconds from one step to the
        next; else as `moments`.
        """
        groups: list[list[Candidate]] = []
        for most in per_video_limits(k, per_video):
            scorer = SequenceScorer(self.videos, steps, within, most, video_mask)
            groups = self._rank(scorer, k, merge=True)
            if len(groups) == k:
                break
        return groups

    def confidence(
        self, query: EncodedQuery, candidate: Candidate, span: np.ndarray | None = None
    ) -> float | None:
        """Return the confidence of a candidate; None without a calibration.

        That of a single text follows the score, so both order the hits alike. For several texts it
        is the lowest of the texts, each compared with the mean frame of the span.

        Args:
            query: the query, or the step of a sequence.
            candidate: the moment or sequence.
            span: `(2,)` seconds of the step, of a sequence. Its mean frame is then compared with a
                single text, too, which scores no better than the best segment that null scores are
                based on.
        """
        calibration = self.videos.calibration_for(query)
        if calibration is None:
            return None
        if query.is_single_text and candidate.sequence is None:
            return float(calibration.confidence(np.array([candidate.score]))[0])
        video = self.videos.frames_of(candidate.video)
        if video is None:
            return None
        features, frames = video
        bounds = (candidate.span if span is None else span).tolist()
        first, last = frames_in(features.timestamps_seconds, features.duration_seconds, bounds)
        scores = [
            CenteredQuery.of(vector, calibration).score_span(frames, first, last)
            for vector in query.positives
        ]
        return float(calibration.confidence(np.array(scores)).min())

    def _rank(self, scorer: VideoScorer, k: int, merge: bool) -> list[list[Candidate]]:
        """Request more rows, and more candidates, until the `k` best groups are exact."""
        size = len(self.videos.index.vectors)
        count = k
        rows = min(size, max(self.config.min_rows, self.config.rows_per_hit * k, 1))
        while True:
            candidates = scorer.candidates(rows, count)
            top = top_k_with_bounds(
                candidates.upper_bounds,
                partial(scorer.score, candidates=candidates),
                count,
                unlisted_bound=candidates.unlisted_bound,
                max_groups=candidates.max_videos,
            )
            if not top.is_exact and rows < size:
                rows = min(size, 4 * rows)
                continue
            groups = self._merge(top.items) if merge else [[candidate] for candidate in top.items]
            if len(groups) >= k or len(top.items) < count:
                return groups[:k]
            count += k

    def _merge(self, candidates: list[Candidate]) -> list[list[Candidate]]:
        """Group `candidates`, best first.

        Each group is a candidate and its near-duplicates in other videos.
        """
        videos = [self.videos.frames_of(candidate.video) for candidate in candidates]
        means = [
            mean_of(v[0], c.span) if v else np.zeros(0)
            for c, v in zip(candidates, videos, strict=True)
        ]
        groups: list[list[Candidate]] = []
        heads: list[int] = []
        for number, candidate in enumerate(candidates):
            for group, head in zip(groups, heads, strict=True):
                video, head_video, best = videos[number], videos[head], candidates[head]
                if video is None or head_video is None or best.video == candidate.video:
                    continue
                if means[number] @ means[head] < PREFILTER_THRESHOLD:
                    continue
                moment = video[0], candidate.span, candidate.peak
                if is_near_duplicate(*moment, head_video[0], best.span, best.peak):
                    group.append(candidate)
                    break
            else:
                groups.append([candidate])
                heads.append(number)
        return groups
