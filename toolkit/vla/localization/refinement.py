"""Refinement of moments by contrast: their ends move to where the similarities change."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

MIN_IOU = 0.7
"""IoU of a refined moment with the original one, at least."""
_MAX_CANDIDATES = 17
"""Candidates for each end; evenly spaced, by at most 5 % of the moment's length, if there are more."""
_EPSILON = 1e-9


def refine_spans(
    similarities: ArrayLike, edges: ArrayLike, spans: ArrayLike, min_iou: float = MIN_IOU
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each span the range of frames nearby of the highest contrast, and its contrast.

    The contrast of a range is the integral of the similarities over their mean, by the root of its
    duration: how surely the similarities are higher inside than outside if they are noisy.

    Args:
        similarities: `(T,)` of a query and each frame.
        edges: `(T + 1,)` seconds, start of each frame and end of the last, non-decreasing.
        spans: `(N, 2)` seconds within the edges.
        min_iou: of a range with its span, in (0, 1).

    Returns:
        `(N, 2)` seconds; a span without such a range, as one within a frame, is unchanged.
        `(N,)` contrasts.
    """
    bounds, original = np.asarray(edges, np.float64), np.asarray(spans, np.float64).reshape(-1, 2)
    seconds, values = np.diff(bounds), np.asarray(similarities, np.float64)
    mean = float(np.average(values, weights=np.maximum(seconds, _EPSILON)))
    integral = np.append(0.0, np.cumsum(seconds * (values - mean)))
    length = original[:, 1] - original[:, 0]
    # A range with this IoU begins, and ends, within these shares of the span's length.
    outside, inside = (1 / min_iou - 1) * length, (1 - min_iou) * length
    starts = _near(bounds, original[:, 0] - outside, original[:, 0] + inside)[:, :, None]
    ends = _near(bounds, original[:, 1] - inside, original[:, 1] + outside)[:, None, :]
    duration = bounds[ends] - bounds[starts]
    overlap = np.minimum(bounds[ends], original[:, 1, None, None]) - np.maximum(
        bounds[starts], original[:, 0, None, None]
    )
    is_near = overlap >= min_iou * (duration + length[:, None, None] - overlap)
    is_near &= duration > 0
    contrasts = np.where(
        is_near, (integral[ends] - integral[starts]) / np.sqrt(np.maximum(duration, _EPSILON)), -np.inf
    ).reshape(len(original), starts.shape[1] * ends.shape[2])  # fmt: skip
    best = contrasts.argmax(1)
    rows, has_range = np.arange(len(original)), is_near.any((1, 2))
    start, end = np.divmod(best, ends.shape[2])
    ranges = np.column_stack([bounds[starts[rows, start, 0]], bounds[ends[rows, 0, end]]])
    low, high = np.interp(original, bounds, integral).T
    own = (high - low) / np.sqrt(np.maximum(length, _EPSILON))
    return (
        np.where(has_range[:, None], ranges, original),
        np.where(has_range, contrasts[rows, best], own),
    )


def _near(edges: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return `(N, M)` rows of edges from `low` to `high`; the next one where there is none."""
    first = np.minimum(np.searchsorted(edges, low), len(edges) - 1)
    last = np.maximum(np.searchsorted(edges, high, side="right") - 1, first)
    count = int(min(_MAX_CANDIDATES, (last - first).max(initial=0) + 1))
    shares = np.linspace(0, 1, count)
    rows: np.ndarray = np.rint(first[:, None] + (last - first)[:, None] * shares).astype(np.int64)
    return rows
