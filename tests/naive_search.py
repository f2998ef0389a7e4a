"""Search as loops over plain numbers, in float64: what the library's is compared with."""

import math

import numpy as np


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    both = a[1] - a[0] + b[1] - b[0] - shared
    return shared / both if shared > 0 else 0.0


def apart(found, most, threshold=0.3):
    """Of `(score, start, end, ...)` rows, in order, the best that no better one overlaps by more."""
    kept = []
    for row in sorted(found, key=lambda f: -f[0]):
        if len(kept) < most and all(overlap(k[1:3], row[1:3]) <= threshold for k in kept):
            kept.append(row)
    return kept


def smoothed(curve, times):
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
    if not steps or len(curve) < 2:
        return list(curve)
    middle = len(steps) // 2
    step = steps[middle] if len(steps) % 2 else (steps[middle - 1] + steps[middle]) / 2
    reach = min(math.ceil(3 * 0.5 / step), len(curve))
    found = []
    for i in range(len(curve)):
        total = weight = 0.0
        for j in range(-reach, reach + 1):
            w = math.exp(-0.5 * (j * step / 0.5) ** 2)
            total += w * curve[min(max(i + j, 0), len(curve) - 1)]
            weight += w
        found.append(total / weight)
    return found


def localised(curve, times, duration, others=(), most=10):
    """Rows of score, start, end, peak."""
    real = [i for i, (a, b) in enumerate(zip(times, [*times[1:], duration], strict=True)) if b > a] or [len(times) - 1]
    curve, times = [curve[i] for i in real], [times[i] for i in real]
    edges = [*times, duration]
    values = smoothed(curve, times)
    lowest, peak = min(values), max(values)
    background = float(np.median([v for v in values if v <= (lowest + peak) / 2]))
    level = background + 0.7 * (peak - background)
    candidates, given = set(), []
    for above in [*np.quantile(values, np.linspace(0.3, 0.98, 18)), level]:
        stretches, start = [], None
        for i, value in enumerate([*values, -math.inf]):
            if value >= above and start is None:
                start = i
            elif value < above and start is not None:
                stretches.append((start, i))
                start = None
        candidates.update(stretches)
        joined = [stretches[0]]
        for first, last in stretches[1:]:
            if edges[first] - edges[joined[-1][1]] <= 1.0:
                joined[-1] = (joined[-1][0], last)
            else:
                joined.append((first, last))
        candidates.update(joined)
    for start, end in others:
        shown = [i for i in range(len(times)) if max(edges[i], start) < min(edges[i + 1], end)]
        if shown:
            given.append((shown[0], shown[-1] + 1))
    found = []
    for first, last in sorted(candidates | set(given)):
        score = sum((values[i] - level) * (edges[i + 1] - edges[i]) for i in range(first, last))
        best = max(range(first, last), key=lambda i: curve[i])
        found.append((score, edges[first], edges[last], times[best]))
    if not any(f[0] > 0 for f in found) or peak == lowest:
        best = max(range(len(curve)), key=lambda i: curve[i])
        return [(0.0, edges[0], edges[-1], times[best])]
    found = [f for f in found if f[0] > 0]
    for first, last in given:
        mean = sum(curve[i] * (edges[i + 1] - edges[i]) for i in range(first, last)) / (edges[last] - edges[first])
        best = max(range(first, last), key=lambda i: curve[i])
        found.append((mean - max(curve), edges[first], edges[last], times[best]))
    return [(max(f[0], 0.0), *f[1:]) for f in apart(found, most)]


def popularity(row, beta=40.0):
    """Log-mean-exp of one segment's cosines with a bank."""
    return math.log(sum(math.exp(beta * c) for c in row) / len(row)) / beta
