"""What not looking scores: chance in closed form, and the most frequent answer. A figure means little without its floor."""

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


def retrieval_chance(items: int, relevant: ArrayLike = 1, recalls: Sequence[int] = RECALLS) -> dict[str, float]:
    """What `searching.measures` is on average over all orders of the items.

    With r of V items relevant, the first k hold none of them with probability `C(V - r, k) / C(V, k)`, and the first
    relevant one stands at `(V + 1) / (r + 1)` on average. `MedR` is the median rank over queries and orders.

    Args:
        items: V, how many are searched among.
        relevant: how many of them are right, one number or `(Q,)`, one for each query: 1 for text to video, the number
            of captions of each video for `video to texts`.
        recalls: the k of R@k.

    Raises:
        UsageError: no queries, a number of relevant items that is not from 1 to V, or k < 1.
    """
    right, counts = np.unique(np.atleast_1d(np.asarray(relevant)), return_counts=True)
    if not len(right) or right[0] < 1 or right[-1] > items or min(recalls, default=1) < 1:
        raise UsageError(
            f"of {items} items 1 to {items} can be relevant, not {np.asarray(relevant).tolist()}, and k be from 1"
        )
    weights = counts / counts.sum()
    drawn = np.arange(items)
    # Row r, column k: the chance that the first k items hold none of the r.
    steps = np.clip((items - right[:, None] - drawn) / (items - drawn), 0, 1)
    missed = weights @ np.concatenate([np.ones((len(right), 1)), steps.cumprod(axis=1)], axis=1)
    found = {f"R@{k}": 100 * float(1 - missed[min(k, items)]) for k in recalls}
    middle = [int(np.argmax(missed <= 0.5 + 1e-12)), int(np.argmax(missed < 0.5 - 1e-12))]
    return {**found, "MedR": sum(middle) / 2, "MnR": float(weights @ ((items + 1) / (right + 1)))}


def corpus_chance(videos: int, located: Mapping[str, float]) -> dict[str, float]:
    """What `locating.in_corpus` is on average for one window in each video, the videos in any order.

    Args:
        videos: how many are searched among.
        located: by IoU threshold, e.g. `0.5`, the percentage of queries for which that window is right in their own
            video: of `locating.moment_scores` for a window of `trivial_moments.py`.

    Raises:
        UsageError: no videos.
    """
    if videos < 1:
        raise UsageError(f"a corpus has 1 or more videos, not {videos}")
    return {f"{x}-r{k}": min(k / videos, 1.0) * share for x, share in located.items() for k in CORPUS_RECALLS}


def hit_chance(ratings: Sequence[np.ndarray], least: float) -> float:
    """Percent of `HL-Hit1` for a clip drawn without looking: the mean share of clips that some annotator finds so good.

    Args:
        ratings: for every query `(clips, annotators)`.
        least: a highlight is rated so or better.

    Raises:
        ShapeError: ratings of another shape.
        UsageError: no queries, or one without clips.
    """
    highlight_hits([np.zeros(1)] * len(ratings), ratings, least)  # refuses what the metric refuses
    return 100 * float(np.mean([(np.asarray(rated) >= least).any(axis=1).mean() for rated in ratings]))


def most_frequent(answers: Sequence[Answer]) -> Answer:
    """The answer given most often; of equally frequent ones, the first. Take it from the training answers.

    Raises:
        UsageError: no answers.
    """
    if not len(answers):
        raise UsageError("there are no answers to count")
    return Counter(answers).most_common(1)[0][0]


def best_count(answers: ArrayLike) -> int:
    """The whole number from 1 to 10 with the least squared error: TGIF-QA's floor. Take it from the training answers.

    Raises:
        UsageError: no answers.
    """
    numbers = np.asarray(answers, dtype=np.float64)
    if not numbers.size:
        raise UsageError("there are no answers to count")
    return int(np.clip(np.rint(numbers.mean()), *COUNTS))
