"""QVHighlights' table: exactly the figures that its official evaluator prints.

Source: Lei et al., arXiv 2107.09609; jayleicn/moment_detr, `standalone_eval`. What a submission lists is judged as listed:
R1 reads the first window and mAP the first ten, whatever their scores, so sort before writing (`submission.py` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vla.errors import ShapeError, UsageError
from vla.metrics.average_precision import THRESHOLDS, average_precisions
from vla.metrics.highlights import LEVELS, highlight_hits, highlight_precisions
from vla.metrics.moments import check_pairs, check_predictions, overlaps, padded, padded_predictions

LENGTHS = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0)}
"""Seconds of a true window: longer than the first, up to and including the second."""

_BRIEF = ("mAP", "mAP@0.5", "mAP@0.75", "R1@0.5", "R1@0.7")


def qvhighlights_metrics(
    predictions: Sequence[np.ndarray],
    truths: Sequence[np.ndarray],
    scores: Sequence[np.ndarray] | None = None,
    ratings: Sequence[np.ndarray] | None = None,
) -> dict[str, Any]:
    """The official output: `brief`, `full`, `long`, `middle`, `short`, and `HL-min-...`; percent with two digits.

    Within a range of lengths only true windows of such a length count, and only queries that have one; predictions of
    any other length stay, and count as wrong. A query without predictions counts 0 everywhere; the evaluator fails on it.

    Args:
        predictions: for every query `(N, 3)`, rows of start, end (seconds) and score, best first.
        truths: for every query `(M, 2)` seconds, M at least 1.
        scores: for every query `(clips,)` predicted saliency; None leaves the highlights out.
        ratings: for every query `(clips, 3)`, as of `clip_ratings`.

    Returns:
        A range without any true window is left out, and `brief` then lacks its figure.

    Raises:
        ShapeError: not as many of one as of the other, or an array of another shape.
        UsageError: no queries, a query without a true window, or a number that makes no sense.
    """
    check_pairs(predictions, truths)
    if (scores is None) != (ratings is None):
        raise UsageError("highlights need both scores and ratings of clips, or neither to leave them out")
    padded(truths)  # refuses what is not rows of start and end
    table: dict[str, Any] = {}
    for name, subset in subsets(truths).items():
        chosen = [predictions[query] for query in subset]
        table[name] = {
            "MR-mAP": _precisions(chosen, list(subset.values())),
            "MR-R1": _recalls(chosen, list(subset.values())),
        }
    brief = {f"MR-full-{name}": _brief(table["full"], name) for name in _BRIEF}
    brief |= {f"MR-{name}-mAP": table[name]["MR-mAP"]["average"] for name in LENGTHS if name in table}
    if scores is not None and ratings is not None:
        if len(scores) != len(truths):
            raise ShapeError(f"{len(truths)} queries have true windows but {len(scores)} have scores of clips")
        for name, least in LEVELS.items():
            found = {
                "HL-mAP": _printed(highlight_precisions(scores, ratings, least)),
                "HL-Hit1": _printed(highlight_hits(scores, ratings, least)),
            }
            table[f"HL-min-{name}"] = found
            brief |= {f"HL-min-{name}-{figure.removeprefix('HL-')}": value for figure, value in found.items()}
    return {"brief": brief, **table}


def first_ious(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> np.ndarray:
    """`(Q,)`: IoU of the first listed prediction with the true window it overlaps most; 0 where there is none.

    Errors as `qvhighlights_metrics`.
    """
    check_pairs(predictions, truths)
    first = padded_predictions([check_predictions(rows)[:1] for rows in predictions])
    true = padded(truths)
    if not first.shape[1]:
        return np.zeros(len(true))
    best = overlaps(first[:, :, :2], true)[:, 0].argmax(axis=1)
    (start, end), (low, high) = first[:, 0, :2].T, true[np.arange(len(true)), best].T
    # The evaluator divides by the time from first to last here, which for spans that overlap is what either covers,
    # but may differ from the usual sum in the last bit, and so at a threshold.
    shared, across = np.minimum(end, high) - np.maximum(start, low), np.maximum(end, high) - np.minimum(start, low)
    return np.divide(np.maximum(shared, 0), across, out=np.zeros(len(true)), where=across > 0)


def subsets(truths: Sequence[np.ndarray]) -> dict[str, dict[int, np.ndarray]]:
    """By range of lengths, `full` the first: the queries that count, with the windows that count; ranges without any left out."""
    found = {"full": {query: np.asarray(windows, dtype=np.float64) for query, windows in enumerate(truths)}}
    for name, (above, upto) in LENGTHS.items():
        kept = {}
        for query, windows in found["full"].items():
            length = windows[:, 1] - windows[:, 0]
            kept[query] = windows[(above < length) & (length <= upto)]
        found[name] = {query: windows for query, windows in kept.items() if len(windows)}
    return {name: subset for name, subset in found.items() if subset}


def _precisions(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, float]:
    by_threshold = average_precisions(predictions, truths).mean(axis=0)
    figures = {str(x): _printed(value) for x, value in zip(THRESHOLDS, by_threshold, strict=True)}
    return {**figures, "average": _printed(by_threshold)}


def _recalls(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, float]:
    found = first_ious(predictions, truths)
    return {str(x): _printed(found >= x) for x in THRESHOLDS}


def _brief(table: dict[str, dict[str, float]], name: str) -> float:
    figure, _, threshold = name.partition("@")
    return table[f"MR-{figure}"][threshold or "average"]


def _printed(values: np.ndarray) -> float:
    return float(f"{100 * float(np.mean(values)):.2f}")
