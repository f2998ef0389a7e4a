"""One query's items in each video of an index, and upper bounds of their scores, as `top_k_with_bounds` wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vla.retrieval.candidates import Candidate
from vla.retrieval.duration_prior import ANY_DURATION
from vla.retrieval.indexed_videos import IndexedVideos
from vla.retrieval.moments import HEAD_BATCH_SIZE, MAX_HEAD_VIDEOS, HeadPredictions, Moments
from vla.retrieval.query import EncodedQuery
from vla.retrieval.sequences import EventSequence, find_sequences

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Candidates:
    """Videos that may hold the best items.

    Attributes:
        upper_bounds: videos, each with a score that none of its items exceeds; bounds descend.
        unlisted_bound: upper bound of all other videos.
        max_videos: score no more than these; None for no limit.
    """

    upper_bounds: list[tuple[int, float]]
    unlisted_bound: float
    max_videos: int | None = None


class VideoScorer(Protocol):
    """Scores videos for one query, each once, however often it is asked."""

    def candidates(self, rows: int, k: int) -> Candidates:
        """Return the videos of the best `rows` of the index, for a list of `k` items."""

    def score(self, video: int, candidates: Candidates) -> list[Candidate]:
        """Return the items of one of `candidates`."""


class MomentScorer:
    """Scores the moments of videos.

    The score of a video's best segment bounds those of its moments.

    Args:
        videos: to search.
        query: one text or picture.
        per_video: moments of a video.
        allowed: `(V,)` bool, videos to look at; None for all.
    """

    def __init__(self, videos: IndexedVideos, query: EncodedQuery, per_video: int, allowed: np.ndarray | None) -> None:
        self._videos, self._query, self._per_video, self._allowed = videos, query, per_video, allowed
        self._raw = None if videos.localizer.trained is None else query.raw
        self._moments: dict[int, Moments] = {}
        self._predictions: dict[int, HeadPredictions | None] = {}

    def candidates(self, rows: int, k: int) -> Candidates:
        """Return the videos of the best `rows`; no more than `MAX_HEAD_VIDEOS` or `k` where a head has to look into them."""
        nearest = self._videos.nearest(self._query, rows, self._allowed)
        owners = self._videos.first_copy[self._videos.index.video_of_row[nearest.ids]]
        firsts = np.sort(np.unique(owners, return_index=True)[1])
        bounds = [(int(owners[i]), float(nearest.scores[i])) for i in firsts]
        return Candidates(bounds, nearest.bound, None if self._raw is None else max(MAX_HEAD_VIDEOS, k))

    def score(self, video: int, candidates: Candidates) -> list[Candidate]:
        """Return the moments of a video that last as long as the query says."""
        if video not in self._moments:
            if self._raw is not None and video not in self._predictions:
                listed = candidates.upper_bounds[: candidates.max_videos]
                self._run_head(self._raw, [v for v, _ in listed if v not in self._predictions][:HEAD_BATCH_SIZE])
            self._moments[video] = self._localized(video)
        m, (least, longest) = self._moments[video], self._query.lasting or ANY_DURATION
        return [
            Candidate(video, float(score), span, float(peak), float(certain))
            for score, span, peak, certain in zip(m.scores, m.spans, m.peaks, m.certain, strict=True)
            if least - _ROUNDING <= span[1] - span[0] <= longest + _ROUNDING
        ]

    def _run_head(self, raw: np.ndarray, videos: list[int]) -> None:
        """Predict the moments of `videos` together; None of one that left the cache."""
        frames = {v: self._videos.frames_for_head(v) for v in videos}
        there = {v: held for v, held in frames.items() if held is not None}
        self._predictions.update(dict.fromkeys(videos))
        predictions = self._videos.localizer.told(list(there.values()), raw, self._query.lasting or ANY_DURATION)
        self._predictions.update(zip(there, predictions, strict=True))

    def _localized(self, video: int) -> Moments:
        videos, query = self._videos, self._query
        features, frames = videos.frames_of(video) or (None, np.zeros((0, videos.index.dim), np.float32))
        background = videos.background_of(query)
        mean = None if background is None else background.mean
        segments, prediction = videos.segments(query, video), self._predictions.get(video)
        return videos.localizer.find(features, frames, query.vector, segments, self._per_video, prediction, mean)


class SequenceScorer:
    """Scores the ways in which steps follow each other in a video.

    A way scores the mean, over its steps, of the score of the video's best segment for the step less what the way's frame is
    below the video's best one; so the mean of the video's best segments bounds all of its ways.

    Args:
        videos: to search.
        steps: each a query.
        within: seconds from one step to the next.
        per_video: ways of a video.
        allowed: `(V,)` bool, videos to look at; None for all.
    """

    def __init__(
        self,
        videos: IndexedVideos,
        steps: list[EncodedQuery],
        within: float,
        per_video: int,
        allowed: np.ndarray | None,
    ) -> None:
        self._videos, self._steps, self._within = videos, steps, within
        self._per_video, self._allowed = per_video, allowed
        self._bounds: dict[int, float] = {}
        self._chains: dict[int, list[EventSequence]] = {}

    def candidates(self, rows: int, k: int) -> Candidates:
        """Return the videos of the best `rows` of each step."""
        nearest = [self._videos.nearest(step, rows, self._allowed) for step in self._steps]
        owner, first = self._videos.index.video_of_row, self._videos.first_copy
        videos = np.unique(np.concatenate([first[owner[n.ids]] for n in nearest])).tolist()
        bounds = [(video, self._bound(video)) for video in videos]
        bounds.sort(key=lambda bound: (-bound[1], bound[0]))
        return Candidates(bounds, float(np.mean([n.bound for n in nearest])))

    def score(self, video: int, candidates: Candidates) -> list[Candidate]:
        """Return the best ways through a video; none of one that left the cache."""
        if video not in self._chains:
            self._chains[video] = self._ways(video)
        return [Candidate.of_chain(video, self._bound(video), chain) for chain in self._chains[video]]

    def _bound(self, video: int) -> float:
        if video not in self._bounds:
            best = [self._videos.segments(step, video).scores.max() for step in self._steps]
            self._bounds[video] = float(np.mean(best))
        return self._bounds[video]

    def _ways(self, video: int) -> list[EventSequence]:
        held = self._videos.frames_of(video)
        if held is None:
            return []
        features, frames = held
        curves = [frames @ step.vector for step in self._steps]
        times, duration = features.timestamps_seconds, features.duration_seconds
        return find_sequences(curves, times, duration, self._within, self._per_video)
