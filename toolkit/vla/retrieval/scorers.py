"""Scores of the moments or sequences of each video for one query, with upper bounds for
`top_k_with_bounds`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla.localization.duration_range import ANY_DURATION
from vla.retrieval.candidates import Candidate
from vla.retrieval.indexed_videos import IndexedVideos
from vla.retrieval.moments import HeadPredictions, Moments
from vla.retrieval.query import EncodedQuery
from vla.retrieval.sequences import EventSequence, find_sequences

_ROUNDING = 1e-9


@dataclass(frozen=True)
class RankingConfig:
    """Sizes of the intermediate results of a ranking.

    Attributes:
        min_rows: minimum number of index rows to start with; many belong to the same few videos.
            Rows are added until no other video can be better. Rows are listed by inner product, so
            in a larger index a video may be missed whose rows are all near the center.
        rows_per_hit: number of index rows to start with for each requested hit.
        head_batch_size: number of videos in a batch of the head; results do not depend on it.
        max_head_videos: number of videos that the head is run on, best first, unless more hits are
            requested. XML (Lei et al., ECCV 2020) takes 100.
    """

    min_rows: int = 1_000
    rows_per_hit: int = 20
    head_batch_size: int = 16
    max_head_videos: int = 16


DEFAULT_CONFIG = RankingConfig()


@dataclass(frozen=True)
class Candidates:
    """Videos that may contain the best candidates.

    Attributes:
        upper_bounds: videos, each with an upper bound of the scores of its candidates; bounds
            descend.
        unlisted_bound: upper bound for all other videos.
        max_videos: maximum number of videos to score; None for no limit.
    """

    upper_bounds: list[tuple[int, float]]
    unlisted_bound: float
    max_videos: int | None = None


class VideoScorer(Protocol):
    """Scorer of videos for one query; scores each video once."""

    def candidates(self, rows: int, k: int) -> Candidates:
        """Return the videos of the best `rows` of the index, for a list of `k` candidates."""

    def score(self, video: int, candidates: Candidates) -> list[Candidate]:
        """Return the moments or sequences of one video of `candidates`."""


class MomentScorer:
    """Scorer of the moments of videos.

    The best moment of a video has the score of the video.

    Args:
        videos: videos to search.
        query: a text or image query.
        per_video: maximum number of moments of one video.
        video_mask: `(V,)` bool, the videos to search; None for all.
        config: sizes of intermediate results.
    """

    def __init__(
        self,
        videos: IndexedVideos,
        query: EncodedQuery,
        per_video: int,
        video_mask: np.ndarray | None,
        config: RankingConfig = DEFAULT_CONFIG,
    ) -> None:
        self._videos, self._query, self._per_video = videos, query, per_video
        self._centered = videos.center(query)
        self._video_mask, self._config = video_mask, config
        self._raw = None if videos.localizer.head_model is None else query.raw
        self._moments: dict[int, Moments] = {}
        self._predictions: dict[int, HeadPredictions | None] = {}

    def candidates(self, rows: int, k: int) -> Candidates:
        """Return the videos of the best `rows`.

        With a head, at most `max_head_videos` or `k` of them are scored.
        """
        nearest = self._videos.nearest(self._centered, rows, self._video_mask)
        # The whole video is a row, too, so that of an unlisted video is below the bound as well.
        return Candidates(
            self._videos.scores_of(self._centered, nearest),
            self._centered.bound_score(nearest.bound),
            None if self._raw is None else max(self._config.max_head_videos, k),
        )

    def score(self, video: int, candidates: Candidates) -> list[Candidate]:
        """Return the moments of a video in the duration range of the query."""
        if video not in self._moments:
            if self._raw is not None and video not in self._predictions:
                videos = [
                    v
                    for v, _ in candidates.upper_bounds[: candidates.max_videos]
                    if v not in self._predictions
                ]
                self._run_head(self._raw, videos[: self._config.head_batch_size])
            self._moments[video] = self._localize(video)
        m, (shortest, longest) = self._moments[video], self._query.duration or ANY_DURATION
        return [
            Candidate(video, float(score), span, float(peak))
            for score, span, peak in zip(m.scores, m.spans, m.peaks, strict=True)
            if shortest - _ROUNDING <= span[1] - span[0] <= longest + _ROUNDING
        ]

    def _run_head(self, raw: np.ndarray, videos: list[int]) -> None:
        """Predict the moments of `videos` in one batch; None for a video that left the cache."""
        frames = {v: self._videos.frames_for_head(v) for v in videos}
        inputs = {v: pair for v, pair in frames.items() if pair is not None}
        self._predictions.update(dict.fromkeys(videos))
        duration = self._query.duration or ANY_DURATION
        predictions = self._videos.localizer.predict(list(inputs.values()), raw, duration)
        self._predictions.update(zip(inputs, predictions, strict=True))

    def _localize(self, video: int) -> Moments:
        videos = self._videos
        features, frames = videos.frames_of(video) or (
            None,
            np.zeros((0, videos.index.dim), np.float32),
        )
        segments = videos.segments(self._centered, video, videos.duration_range(self._query))
        return videos.localizer.localize(
            features,
            frames,
            self._centered,
            segments,
            self._per_video,
            self._predictions.get(video),
        )


class SequenceScorer:
    """Scorer of the event sequences of videos.

    The score of a sequence is the mean over its steps of the score of the video for the step, minus
    the gap between the chosen frame and the best frame of the video. So the mean score of the video
    is an upper bound.

    Args:
        videos: videos to search.
        steps: a query for each step.
        within: maximum number of seconds from one step to the next.
        per_video: maximum number of sequences of one video.
        video_mask: `(V,)` bool, the videos to search; None for all.
    """

    def __init__(
        self,
        videos: IndexedVideos,
        steps: list[EncodedQuery],
        within: float,
        per_video: int,
        video_mask: np.ndarray | None,
    ) -> None:
        self._videos, self._within = videos, within
        self._steps = [videos.center(step) for step in steps]
        self._per_video, self._video_mask = per_video, video_mask
        self._bounds: dict[int, float] = {}
        self._sequences: dict[int, list[EventSequence]] = {}

    def candidates(self, rows: int, k: int) -> Candidates:
        """Return the videos of the best `rows` of each step."""
        nearest = [self._videos.nearest(step, rows, self._video_mask) for step in self._steps]
        owner, first = self._videos.index.video_of_row, self._videos.first_duplicate
        videos = np.unique(np.concatenate([first[owner[n.ids]] for n in nearest])).tolist()
        bounds = [(video, self._bound(video)) for video in videos]
        bounds.sort(key=lambda bound: (-bound[1], bound[0]))
        unlisted_bounds = [
            step.bound_score(n.bound) for step, n in zip(self._steps, nearest, strict=True)
        ]
        return Candidates(bounds, float(np.mean(unlisted_bounds)))

    def score(self, video: int, candidates: Candidates) -> list[Candidate]:
        """Return the best sequences of a video; an empty list if it left the cache."""
        if video not in self._sequences:
            self._sequences[video] = self._find_sequences(video)
        bound = self._bound(video)
        return [
            Candidate.from_sequence(video, bound, sequence) for sequence in self._sequences[video]
        ]

    def _bound(self, video: int) -> float:
        if video not in self._bounds:
            scores = [
                self._videos.segments(step, video, ANY_DURATION).score for step in self._steps
            ]
            self._bounds[video] = float(np.mean(scores))
        return self._bounds[video]

    def _find_sequences(self, video: int) -> list[EventSequence]:
        pair = self._videos.frames_of(video)
        if pair is None:
            return []
        features, frames = pair
        curves = [step.score_frames(frames) for step in self._steps]
        times, duration = features.timestamps_seconds, features.duration_seconds
        return find_sequences(curves, times, duration, self._within, self._per_video)
