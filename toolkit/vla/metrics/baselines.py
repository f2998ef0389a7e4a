"""Vision-blind baselines: scores by chance in closed form, and of the most frequent answer.

A metric is compared with these to show how much of it the videos account for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from vla.errors import UsageError
from vla.metrics.corpus_moments import RECALLS as CORPUS_RECALLS
from vla.metrics.highlights import highlight_hits
from vla.metrics.question_answering import COUNTS
from vla.metrics.retrieval import RECALLS

Answer = TypeVar("Answer", bound=Hashable)


def retrieval_chance(
    num_items: int, relevant: ArrayLike = 1, recalls: Sequence[int] = RECALLS
) -> dict[str, float]:
    """Compute the expected retrieval metrics of a random order of the items.

    With r of V items relevant, the first k contain none of them with probability
    `C(V - r, k) / C(V, k)`, and the expected rank of the first relevant item is
    `(V + 1) / (r + 1)`. `MedR` is the median rank over queries and orders.

    Args:
        num_items: V, the number of candidates.
        relevant: number of relevant items, either one number or `(Q,)`, one for each query: 1 for
            text to video, the number of captions of each video for `video to texts`.
        recalls: the k of R@k.

    Returns:
        `R@k` in percent, `MedR` and `MnR`.

    Raises:
        UsageError: no queries, a number of relevant items that is not from 1 to V, or k < 1.
    """
    num_relevant, counts = np.unique(np.atleast_1d(np.asarray(relevant)), return_counts=True)
    if (
        not len(num_relevant)
        or num_relevant[0] < 1
        or num_relevant[-1] > num_items
        or min(recalls, default=1) < 1
    ):
        raise UsageError(
            f"invalid number of relevant items {np.asarray(relevant).tolist()} or recall depth "
            f"{list(recalls)}: of {num_items} items 1 to {num_items} can be relevant, and k is "
            f"at least 1"
        )
    weights = counts / counts.sum()
    ranks = np.arange(num_items)
    # Row r, column k: probability that the first k items contain none of the r.
    factors = np.clip((num_items - num_relevant[:, None] - ranks) / (num_items - ranks), 0, 1)
    miss_rate = weights @ np.concatenate(
        [np.ones((len(num_relevant), 1)), factors.cumprod(axis=1)], axis=1
    )
    recall = {f"R@{k}": 100 * float(1 - miss_rate[min(k, num_items)]) for k in recalls}
    median_ranks = [
        int(np.argmax(miss_rate <= 0.5 + 1e-12)),
        int(np.argmax(miss_rate < 0.5 - 1e-12)),
    ]
    return {
        **recall,
        "MedR": sum(median_ranks) / 2,
        "MnR": float(weights @ ((num_items + 1) / (num_relevant + 1))),
    }


def corpus_chance(num_videos: int, in_video: Mapping[str, float]) -> dict[str, float]:
    """Compute the expected corpus moment metrics of one window per video, videos in random order.

    Args:
        num_videos: number of videos in the corpus.
        in_video: by IoU threshold, e.g. `0.5`, the percentage of queries whose own video has a
            correct window, see `vla.metrics.moment_baselines`.

    Returns:
        Percent by `{threshold}-r{k}`.

    Raises:
        UsageError: no videos.
    """
    if num_videos < 1:
        raise UsageError(f"invalid number of videos {num_videos}: a corpus has at least 1")
    return {
        f"{x}-r{k}": min(k / num_videos, 1.0) * percent
        for x, percent in in_video.items()
        for k in CORPUS_RECALLS
    }


def hit_chance(ratings: Sequence[np.ndarray], min_rating: float) -> float:
    """Compute `HL-Hit1` in percent for a random clip: the mean share of clips that are highlights.

    Args:
        ratings: for each query `(clips, annotators)`.
        min_rating: lowest rating of a highlight; the rating of one annotator suffices.

    Raises:
        ShapeError: ratings of another shape.
        UsageError: no queries, or a query without clips.
    """
    highlight_hits([np.zeros(1)] * len(ratings), ratings, min_rating)  # for its validation
    return 100 * float(
        np.mean([(np.asarray(of_query) >= min_rating).any(axis=1).mean() for of_query in ratings])
    )


def most_frequent(answers: Sequence[Answer]) -> Answer:
    """Return the most frequent answer; among equally frequent answers, the first.

    Pass training answers.

    Raises:
        UsageError: no answers.
    """
    if not len(answers):
        raise UsageError("no answers to fit the baseline to")
    return Counter(answers).most_common(1)[0][0]


def best_count(answers: ArrayLike) -> int:
    """Return the integer from 1 to 10 with the smallest squared error: the baseline of TGIF-QA.

    Pass training answers.

    Raises:
        UsageError: no answers.
    """
    numbers = np.asarray(answers, dtype=np.float64)
    if not numbers.size:
        raise UsageError("no answers to fit the baseline to")
    return int(np.clip(np.rint(numbers.mean()), *COUNTS))
