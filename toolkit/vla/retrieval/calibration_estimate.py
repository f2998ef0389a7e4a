"""Estimate of a calibration from the rows of an index and a query bank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from vla.errors import CacheError, ShapeError
from vla.hints import Hint
from vla.indexing.search_index import SearchIndex
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.calibration import EPSILON, Calibration, center_queries, distances
from vla.retrieval.query_bank import QueryBank

COHERENCE_WEIGHT = 1.1
"""Weight of the mean frame of a video beside its best segment, for videos that are each about one
thing. It is multiplied by the square of their coherence: in long videos over one background the mean
frame says little. At half and at twice the weight, two fewer of 54 real captions have their video in
the list at any of 1, 5 and 10 (`tests/benchmarks/real_search.py --parts constants`)."""


def calibrate_index(
    index: SearchIndex, bank: QueryBank, vectors: np.ndarray, progress: ProgressCallback = silent
) -> Calibration:
    """Estimate the statistics of `index` from the texts of `bank`, whose unit vectors are `vectors`
    `(B, E)`.

    Queries are not compared with the videos that they describe.

    Raises:
        ShapeError: the bank has fewer than 2 queries, or one that describes every video.
        CacheError: a vector of the index is not finite.
    """
    # Both passes over the videos count as one.
    numbers = count(1)
    by_video = calibrate(
        lambda: _videos(index, numbers, progress), vectors, bank.queries_of(index.videos)
    )
    # Rows of deleted videos, of number -1, come first in this order; no search returns them.
    norms = np.ones(len(index.video_of_row), np.float32)
    order = np.argsort(index.video_of_row, kind="stable")
    norms[order[len(norms) - len(by_video.row_norms) :]] = by_video.row_norms
    return replace(by_video, row_norms=norms)


@dataclass(frozen=True)
class VideoRows:
    """Rows of one video in an index.

    Attributes:
        vectors: `(n, E)` float32 unit vectors in the order of the rows, the whole video first.
        is_frame: `(n,)` bool, whether a row is a frame.
    """

    vectors: np.ndarray
    is_frame: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, spans: np.ndarray) -> VideoRows:
        """Return the rows with vectors `(n, E)` and spans `(n, 2)`.

        A frame is a row that contains no other: every window contains at least two frames.
        """
        order = np.lexsort((-spans[:, 1], spans[:, 0]))
        ends = spans[order, 1]
        # A row contains another if one that starts no earlier ends no later.
        earliest_ends = np.append(np.minimum.accumulate(ends[::-1])[::-1][1:], np.inf)
        is_frame = np.empty(len(spans), bool)
        is_frame[order] = earliest_ends > ends
        return cls(vectors, is_frame)

    def mean(self) -> np.ndarray:
        """Return `(E,)` float64, the mean of the frames."""
        mean: np.ndarray = self.vectors[self.is_frame].mean(axis=0, dtype=np.float64)
        return mean


def _videos(
    index: SearchIndex, numbers: Iterator[int], progress: ProgressCallback
) -> Iterator[VideoRows]:
    """Yield the rows of each video in order.

    Raises CacheError if they are not finite.
    """
    for part in index.parts:
        order = np.argsort(part.video_of_row, kind="stable")
        starts = np.searchsorted(part.video_of_row[order], np.arange(len(part.videos) + 1))
        for position, name, _ in part.live_videos():
            rows = order[starts[position] : starts[position + 1]]
            vectors = np.asarray(part.vectors[rows], np.float32)
            if not np.isfinite(vectors).all():
                raise CacheError(f"the index holds no numbers for {name!r}", hint=Hint("index"))
            progress(Progress("search", next(numbers), 2 * len(index.videos)))
            yield VideoRows.of(vectors, part.spans[rows])


def calibrate(
    read_videos: Callable[[], Iterable[VideoRows]],
    bank: np.ndarray,
    exclude: Sequence[Sequence[int]] | None = None,
    coherence_weight: float = COHERENCE_WEIGHT,
) -> Calibration:
    """Estimate the statistics of an index from the rows of its videos and from a query bank.

    The score of a video is the similarity of its best row, plus the centered similarity of its mean
    frame, times `coherence_weight`, times the square of the coherence of the videos: the share of
    the variance of all frames around the center that lies between videos, not within them. It is
    near 1 for clips that show one thing each, and near 0 for long videos that each show many.

    Args:
        read_videos: returns the rows of each video. It is called twice.
        bank: `(B, E)` unit vectors of the queries.
        exclude: for each video, numbers of the queries that describe it; they are not compared with
            it.
        coherence_weight: weight of the mean frame where the coherence is 1.

    Raises:
        ShapeError: the bank has fewer than 2 queries, or one that describes every video.
    """
    if len(bank) < 2:
        raise ShapeError(f"a calibration needs at least 2 queries, not {len(bank)}")
    query_mean = bank.mean(axis=0, dtype=np.float64)
    common = min(1.0, float(query_mean @ query_mean))
    query_center = (query_mean * (1 - (1 - common) ** 2)).astype(np.float32)
    queries = center_queries(bank, query_center)
    means = [video.mean() for video in read_videos()]
    mean_norms = np.array([np.linalg.norm(mean) for mean in means])
    num_videos = max(1, len(means))
    mean = np.sum(means, axis=0) / num_videos if means else np.zeros(bank.shape[1])
    center = mean * (num_videos - 1) / num_videos
    # Frames are unit vectors, so their distances follow from their means.
    shift = float(center @ center - 2 * mean @ center)
    between = float((mean_norms**2).sum()) / num_videos + shift
    variance = max(1 + shift, EPSILON)
    weight = coherence_weight * (between / variance) ** 2 / np.sqrt(variance)
    null_scores = np.full(len(bank), -np.inf)
    norms = []
    for number, video in enumerate(read_videos()):
        norms.append(distances(video.vectors, center))
        centered = (video.vectors - center) / np.maximum(norms[-1], EPSILON)[:, None]
        best = (centered.astype(np.float32) @ queries.T).max(axis=0)
        scores = best + weight * (queries @ (means[number] - center))
        if exclude is not None:
            scores[list(exclude[number])] = -np.inf
        null_scores = np.maximum(null_scores, scores)
    if not np.isfinite(null_scores).all():
        num_unusable = int((~np.isfinite(null_scores)).sum())
        raise ShapeError(f"{num_unusable} queries of the bank describe every video of the index")
    return Calibration(
        center.astype(np.float32),
        query_center,
        np.concatenate(norms),
        mean_norms.astype(np.float32),
        np.sort(null_scores).astype(np.float32),
        float(weight),
    )
