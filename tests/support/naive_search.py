"""Reference implementation of the search with loops over plain numbers, in float64."""

import math

import numpy as np


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    both = a[1] - a[0] + b[1] - b[0] - shared
    return shared / both if shared > 0 else 0.0


def nms(rows, max_rows, threshold=0.3, nested=0.5):
    """Return the best of `(score, start, end, ...)` rows after non-maximum suppression."""
    result = []
    for row in sorted(rows, key=lambda r: -r[0]):
        if len(result) < max_rows and all(
            overlap(k[1:3], row[1:3]) <= threshold and shared_part(k[1:3], row[1:3]) <= nested
            for k in result
        ):
            result.append(row)
    return result


def shared_part(a, b):
    """Return the overlap of two spans as a share of the shorter."""
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) / min(a[1] - a[0], b[1] - b[0])


def smooth(curve, times):
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
    if not steps or len(curve) < 2:
        return list(curve)
    middle = len(steps) // 2
    step = steps[middle] if len(steps) % 2 else (steps[middle - 1] + steps[middle]) / 2
    reach = min(math.ceil(3 * 0.25 / step), len(curve))
    result = []
    for i in range(len(curve)):
        total = weight = 0.0
        for j in range(-reach, reach + 1):
            w = math.exp(-0.5 * (j * step / 0.25) ** 2)
            total += w * curve[min(max(i + j, 0), len(curve) - 1)]
            weight += w
        result.append(total / weight)
    return result


class Curve:
    """Similarity curve with the contrast of spans, by loops."""

    def __init__(self, curve, times, duration):
        visible = [
            i for i, (a, b) in enumerate(zip(times, [*times[1:], duration], strict=True)) if b > a
        ]
        visible = visible or [len(times) - 1]
        curve, times = [curve[i] for i in visible], [times[i] for i in visible]
        self.edges = [*times, duration]
        values = smooth(curve, times)
        lowest, peak = min(values), max(values)
        baseline = float(np.median([v for v in values if v <= (lowest + peak) / 2]))
        self.excess = [v - (baseline + peak) / 2 for v in values]

    def frame_bounds(self, span):
        edges = self.edges
        frames = [
            i for i in range(len(edges) - 1) if max(edges[i], span[0]) < min(edges[i + 1], span[1])
        ]
        return edges[frames[0]], edges[frames[-1] + 1]

    def contrast(self, span):
        start, end = self.frame_bounds(span)
        edges = self.edges
        total = sum(
            a * (edges[i + 1] - edges[i])
            for i, a in enumerate(self.excess)
            if start <= edges[i] < end
        )
        return total / math.sqrt(end - start)

    def refine_bounds(self, span, gain, duration_range=(0.0, math.inf)):
        start, end = span = self.frame_bounds(span)
        reach = (end - start) / 2 + 1e-9
        candidates = [
            (a, b)
            for a in self.edges
            for b in self.edges
            if a < b
            and abs(a - start) <= reach
            and abs(b - end) <= reach
            and duration_range[0] - 1e-9 <= b - a <= duration_range[1] + 1e-9
        ]
        best = max(candidates, key=self.contrast, default=span)
        if not duration_range[0] - 1e-9 <= end - start <= duration_range[1] + 1e-9:
            return best
        return best if self.contrast(best) - self.contrast(span) >= gain else span


def hubness(row, beta=40.0):
    """Return the log-mean-exp of the cosines of one segment with a bank."""
    return math.log(sum(math.exp(beta * c) for c in row) / len(row)) / beta
