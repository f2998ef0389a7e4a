"""Search as loops over plain numbers, in float64: what the library's is compared with."""

import math

import numpy as np


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    both = a[1] - a[0] + b[1] - b[0] - shared
    return shared / both if shared > 0 else 0.0


def apart(found, most, threshold=0.3, nested=0.5):
    """Of `(score, start, end, ...)` rows, in order, the best that no better one overlaps by more, or by more of the shorter."""
    kept = []
    for row in sorted(found, key=lambda f: -f[0]):
        if len(kept) < most and all(
            overlap(k[1:3], row[1:3]) <= threshold and shared(k[1:3], row[1:3]) <= nested for k in kept
        ):
            kept.append(row)
    return kept


def shared(a, b):
    """Part of the shorter of two spans."""
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) / min(a[1] - a[0], b[1] - b[0])


def smoothed(curve, times):
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
    if not steps or len(curve) < 2:
        return list(curve)
    middle = len(steps) // 2
    step = steps[middle] if len(steps) % 2 else (steps[middle - 1] + steps[middle]) / 2
    reach = min(math.ceil(3 * 0.25 / step), len(curve))
    found = []
    for i in range(len(curve)):
        total = weight = 0.0
        for j in range(-reach, reach + 1):
            w = math.exp(-0.5 * (j * step / 0.25) ** 2)
            total += w * curve[min(max(i + j, 0), len(curve) - 1)]
            weight += w
        found.append(total / weight)
    return found


class Curve:
    """How well spans stand out, by loops."""

    def __init__(self, curve, times, duration):
        real = [i for i, (a, b) in enumerate(zip(times, [*times[1:], duration], strict=True)) if b > a]
        real = real or [len(times) - 1]
        curve, times = [curve[i] for i in real], [times[i] for i in real]
        self.edges = [*times, duration]
        values = smoothed(curve, times)
        lowest, peak = min(values), max(values)
        background = float(np.median([v for v in values if v <= (lowest + peak) / 2]))
        self.above = [v - (background + peak) / 2 for v in values]

    def shown(self, span):
        edges = self.edges
        some = [i for i in range(len(edges) - 1) if max(edges[i], span[0]) < min(edges[i + 1], span[1])]
        return edges[some[0]], edges[some[-1] + 1]

    def contrast(self, span):
        start, end = self.shown(span)
        edges = self.edges
        total = sum(a * (edges[i + 1] - edges[i]) for i, a in enumerate(self.above) if start <= edges[i] < end)
        return total / math.sqrt(end - start)

    def refine_bounds(self, span, gain, lasting=(0.0, math.inf)):
        start, end = span = self.shown(span)
        reach = (end - start) / 2 + 1e-9
        others = [
            (a, b)
            for a in self.edges
            for b in self.edges
            if a < b
            and abs(a - start) <= reach
            and abs(b - end) <= reach
            and lasting[0] - 1e-9 <= b - a <= lasting[1] + 1e-9
        ]
        best = max(others, key=self.contrast, default=span)
        if not lasting[0] - 1e-9 <= end - start <= lasting[1] + 1e-9:
            return best
        return best if self.contrast(best) - self.contrast(span) >= gain else span


def popularity(row, beta=40.0):
    """Log-mean-exp of one segment's cosines with a bank."""
    return math.log(sum(math.exp(beta * c) for c in row) / len(row)) / beta
