"""Hubness and false-positive rates of an index, estimated from a bank of unrelated queries.

No query of the bank describes the videos that it is compared with. Segments with a high similarity
to many of them are hubs. The highest similarity that such a query reaches anywhere is a sample of
the null distribution of search scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla.errors import CacheError, ShapeError, UsageError
from vla.hints import Hint
from vla.indexing.search_index import SearchIndex
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.duration_prior import DurationRange
from vla.retrieval.query_bank import QueryBank

BETA = 40.0
"""Inverse temperature of the hubness of a segment; at higher values, fewer of its most similar
queries count."""


@dataclass(frozen=True)
class HubnessCorrection:
    """Query-independent statistics of an index, estimated from a query bank.

    Attributes:
        hubness: `(N,)` float32, mean 0. Log-mean-exp of the similarity of each segment to the bank
            (QB-Norm, Bogolin et al., CVPR 2022). Subtracted from the cosines of a query.
        null_scores: `(B,)` float32, ascending. Highest cosine of each bank query with a video that
            it does not describe. Hubness is not subtracted: that would lower the scores of segments
            that are similar to the bank, and so overrate queries that are not.
        query_mean: `(E,)` float32. Mean of the bank's unit vectors, subtracted from a query before
            its similarity curve is computed: similarity to texts in general does not set a moment
            apart.
        duration_range: duration range of moments, estimated from captions; None if there are too
            few.
    """

    hubness: np.ndarray
    null_scores: np.ndarray
    query_mean: np.ndarray
    duration_range: DurationRange | None = None

    def correct(self, cosines: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the cosines `(n,)` of a query and `rows` `(n,)` of the index, minus the hubness of
        the rows.
        """
        scores: np.ndarray = cosines - self.hubness[rows]
        return scores

    def confidence(self, cosines: np.ndarray) -> np.ndarray:
        """Return 1 minus the estimated false-positive rate of each cosine, in [0, 1].

        Of unrelated queries similar to those of the bank, at most a share `p` reaches a confidence
        of `1 - p` or more, on average over banks (conformal p-values: Vovk et al. 2005). There is
        no guarantee for other queries.
        """
        counts = len(self.null_scores) - np.searchsorted(
            self.null_scores, np.asarray(cosines, np.float32), side="left"
        )
        confidence: np.ndarray = 1 - (1 + counts) / (1 + len(self.null_scores))
        return confidence

    def check_max_fpr(self, max_fpr: float) -> None:
        """Raise UsageError if the bank is too small to estimate a false-positive rate as low as
        `max_fpr`.
        """
        lowest = 1 / (1 + len(self.null_scores))
        if not 0 < max_fpr <= 1 or max_fpr < lowest:
            raise UsageError(
                f"invalid maximum false-positive rate {max_fpr}: {len(self.null_scores)} "
                f"reference queries can estimate "
                f"rates from {lowest:.4f} to 1"
            )


def fit_hubness(
    index: SearchIndex, bank: QueryBank, vectors: np.ndarray, progress: ProgressCallback = silent
) -> HubnessCorrection:
    """Estimate the statistics of `index` from the texts of `bank`, whose unit vectors are `vectors`
    `(B, E)`.

    Queries are not compared with the videos that they describe.

    Raises:
        ShapeError: the bank has fewer than 2 queries, or one that describes every video.
        CacheError: a vector of the index is not finite.
    """
    by_video = estimate_hubness(_segments(index, progress), vectors, bank.queries_of(index.videos))
    # Rows of deleted videos, of number -1, come first in this order; no search returns them.
    values = np.zeros(len(index.video_of_row), by_video.hubness.dtype)
    values[np.argsort(index.video_of_row, kind="stable")[len(values) - len(by_video.hubness) :]] = (
        by_video.hubness
    )
    return replace(by_video, hubness=values)


def _segments(index: SearchIndex, progress: ProgressCallback) -> Iterator[np.ndarray]:
    """Yield the vectors `(n, E)` of each video in order.

    Raises CacheError if they are not finite.
    """
    count = 0
    for part in index.parts:
        order = np.argsort(part.video_of_row, kind="stable")
        starts = np.searchsorted(part.video_of_row[order], np.arange(len(part.videos) + 1))
        for position, name, _ in part.live_videos():
            vectors = np.asarray(
                part.vectors[order[starts[position] : starts[position + 1]]], np.float32
            )
            if not np.isfinite(vectors).all():
                raise CacheError(f"the index holds no numbers for {name!r}", hint=Hint("index"))
            count += 1
            progress(Progress("search", count, len(index.videos)))
            yield vectors


def estimate_hubness(
    videos: Iterable[np.ndarray], bank: np.ndarray, exclude: Sequence[Sequence[int]] | None = None
) -> HubnessCorrection:
    """Estimate the statistics of an index from the vectors of its segments and of a query bank.

    Hubness is the log-mean-exp of the similarities at `BETA`: the denominator of the inverted
    softmax of QB-Norm (Bogolin et al., CVPR 2022), as one number for each segment that can be
    stored and subtracted from the scores of any query.

    Args:
        videos: for each video `(n, E)`, unit vectors of its segments in the order of the rows of
            the index.
        bank: `(B, E)` unit vectors of the queries.
        exclude: for each video, numbers of the queries that describe it; they are not compared with
            it.

    Raises:
        ShapeError: the bank has fewer than 2 queries, or one that describes every video.
    """
    if len(bank) < 2:
        raise ShapeError(f"hubness needs at least 2 queries, not {len(bank)}")
    null_scores = np.full(len(bank), -np.inf)
    by_video = []
    for number, segments in enumerate(videos):
        scores = segments.astype(np.float32) @ bank.T.astype(np.float32)
        if exclude is not None:
            scores[:, list(exclude[number])] = -np.inf
        by_video.append(hubness(scores))
        null_scores = np.maximum(null_scores, scores.max(axis=0, initial=-np.inf))
    values = np.concatenate(by_video) if by_video else np.zeros(0)
    if not np.isfinite(null_scores).all():
        count = int((~np.isfinite(null_scores)).sum())
        raise ShapeError(f"{count} queries of the bank describe every video of the index")
    query_mean = bank.mean(axis=0, dtype=np.float64)
    return HubnessCorrection(
        (values - values.mean()).astype(np.float32),
        np.sort(null_scores).astype(np.float32),
        query_mean.astype(np.float32),
    )


def hubness(scores: np.ndarray) -> np.ndarray:
    """Return `(n,)` float64, the log-mean-exp at `BETA` of each row of `scores` `(n, B)`.

    Entries of minus infinity are ignored; a row without any other entry gives 0.
    """
    is_valid = np.isfinite(scores)
    highest = np.where(is_valid, scores, -np.inf).max(axis=1, initial=-np.inf)
    base = np.where(np.isfinite(highest), highest, 0.0).astype(np.float64)
    terms = np.where(
        is_valid, np.exp(BETA * (np.where(is_valid, scores, base[:, None]) - base[:, None])), 0.0
    )
    sums, counts = terms.sum(axis=1), is_valid.sum(axis=1)
    values: np.ndarray = np.where(
        counts > 0, base + np.log(np.maximum(sums, 1.0) / np.maximum(counts, 1)) / BETA, 0.0
    )
    return values
