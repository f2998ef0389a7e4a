"""What a bank of other queries finds in the same index: which segments are hubs, and how well a query fares by chance.

A bank query tells nothing of the videos it is compared with. So what is high for many of them is a hub, and the best score
that such a query reaches somewhere is what a query reaches that nothing here matches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla.errors import CacheError, ShapeError, UsageError
from vla.hints import Hint
from vla.indexing.store import SearchIndex
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.duration_prior import DurationRange
from vla.retrieval.query_bank import QueryBank

BETA = 40.0
"""Inverse temperature of the popularity of a segment; the higher, the more only the best of the bank count."""


@dataclass(frozen=True)
class HubnessCorrection:
    """What is known of an index before anybody asks.

    Attributes:
        bias: `(N,)` float32, of mean 0: how popular each row of the index is among the bank. It is taken from cosines.
        chance: `(B,)` float32, ascending: the best cosine of each bank query among what it does not tell of. Without the
            bias: that lowers what is like the bank, so it would make the most of queries that are unlike it.
        mean: `(E,)` float32, the mean of the bank's unit vectors. It is taken from a query before its curve is drawn: what a
            frame shares with any text makes no moment stand out.
        lasting: how long moments last, as captions tell of them; None where they tell of too few.
    """

    bias: np.ndarray
    chance: np.ndarray
    mean: np.ndarray
    lasting: DurationRange | None = None

    def corrected(self, cosines: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the cosines `(n,)` of a query with `rows` `(n,)` of the index, less what any query scores there."""
        scores: np.ndarray = cosines - self.bias[rows]
        return scores

    def confidence(self, cosines: np.ndarray) -> np.ndarray:
        """How sure it is that such cosines are no chance, in [0, 1]: 1 less the rate at which a bank query finds as high a one.

        Of queries like those of the bank that nothing matches, at most a share `p` has a result of confidence `1 - p` or more,
        in the mean over banks (conformal p-values: Vovk et al. 2005). Of other queries nothing is promised.
        """
        reached = len(self.chance) - np.searchsorted(self.chance, np.asarray(cosines, np.float32), side="left")
        found: np.ndarray = 1 - (1 + reached) / (1 + len(self.chance))
        return found

    def check_rate(self, rate: float) -> None:
        """Nothing, if results can be told from chance at this false-positive rate; else UsageError with the lowest rate."""
        lowest = 1 / (1 + len(self.chance))
        if not 0 < rate <= 1 or rate < lowest:
            raise UsageError(
                f"a false-positive rate lies between 0 and 1, and {len(self.chance)} queries to compare with can tell no "
                f"rate below {lowest:.4f} from none: {rate} was asked for"
            )


def fit_hubness(
    index: SearchIndex, bank: QueryBank, vectors: np.ndarray, progress: ProgressCallback = silent
) -> HubnessCorrection:
    """Compare every segment of `index` with the texts of `bank`, `vectors` `(B, E)`, but for those that tell of its video.

    Raises:
        ShapeError: fewer than 2 bank queries, or one that tells of every video.
        CacheError: a vector of the index is not finite.
    """
    by_video = estimate_hubness(_segments(index, progress), vectors, bank.left_out(index.videos))
    # Rows of deleted videos, of number -1, come first in this order; no search returns them.
    bias = np.zeros(len(index.video_of_row), by_video.bias.dtype)
    bias[np.argsort(index.video_of_row, kind="stable")[len(bias) - len(by_video.bias) :]] = by_video.bias
    return replace(by_video, bias=bias)


def _segments(index: SearchIndex, progress: ProgressCallback) -> Iterator[np.ndarray]:
    """`(n, E)` of each video in turn, as the index has them; raises CacheError where these are no numbers."""
    done = 0
    for part in index.parts:
        order = np.argsort(part.video_of_row, kind="stable")
        begins = np.searchsorted(part.video_of_row[order], np.arange(len(part.videos) + 1))
        for position, name, _ in part.held():
            vectors = np.asarray(part.vectors[order[begins[position] : begins[position + 1]]], np.float32)
            if not np.isfinite(vectors).all():
                raise CacheError(f"the index holds no numbers for {name!r}", hint=Hint("index"))
            done += 1
            progress(Progress("search", done, len(index.videos)))
            yield vectors


def estimate_hubness(
    videos: Iterable[np.ndarray], bank: np.ndarray, left_out: Sequence[Sequence[int]] | None = None
) -> HubnessCorrection:
    """The background of an index.

    The bias is the bank's log-mean-exp at `BETA`: the denominator of the inverted softmax of QB-Norm (Bogolin et al., CVPR
    2022), as one number that can be stored and taken from any query's scores.

    Args:
        videos: for each video `(n, E)`, unit vectors of its segments in the order of the index's rows.
        bank: `(B, E)` unit vectors of queries.
        left_out: for each video, the bank queries that tell of it; they are not compared with it.

    Raises:
        ShapeError: fewer than 2 bank queries, or one that tells of every video.
    """
    if len(bank) < 2:
        raise ShapeError(f"a background needs 2 queries or more, not {len(bank)}")
    chance = np.full(len(bank), -np.inf)
    biases = []
    for number, segments in enumerate(videos):
        scores = segments.astype(np.float32) @ bank.T.astype(np.float32)
        if left_out is not None:
            scores[:, list(left_out[number])] = -np.inf
        biases.append(hubness(scores))
        chance = np.maximum(chance, scores.max(axis=0, initial=-np.inf))
    bias = np.concatenate(biases) if biases else np.zeros(0)
    if not np.isfinite(chance).all():
        raise ShapeError(f"{int((~np.isfinite(chance)).sum())} queries of the bank tell of every video of the index")
    mean = bank.mean(axis=0, dtype=np.float64)
    return HubnessCorrection(
        (bias - bias.mean()).astype(np.float32), np.sort(chance).astype(np.float32), mean.astype(np.float32)
    )


def hubness(scores: np.ndarray) -> np.ndarray:
    """`(n,)` float64, log-mean-exp at `BETA` of what is not -inf of each row of `scores` `(n, B)`; 0 where nothing is."""
    there = np.isfinite(scores)
    highest = np.where(there, scores, -np.inf).max(axis=1, initial=-np.inf)
    base = np.where(np.isfinite(highest), highest, 0.0).astype(np.float64)
    shares = np.where(there, np.exp(BETA * (np.where(there, scores, base[:, None]) - base[:, None])), 0.0)
    sums, counts = shares.sum(axis=1), there.sum(axis=1)
    found: np.ndarray = np.where(counts > 0, base + np.log(np.maximum(sums, 1.0) / np.maximum(counts, 1)) / BETA, 0.0)
    return found
