"""Reference implementation of the search with loops over plain numbers, in float64.

Written from the definitions in the documentation, and independent of the code of the library, but
for a weight that a benchmark chose.
"""

import math
from types import SimpleNamespace

from vla.retrieval.calibration_estimate import COHERENCE_WEIGHT

SHARES = (0.25, 0.5)
"""Lowest and highest threshold of a curve, as shares of the way from its mean to its peak."""
SHARE_OF_VARIANCE = 0.75
ANY_DURATION = (0.0, math.inf)


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    both = a[1] - a[0] + b[1] - b[0] - shared
    return shared / both if shared > 0 else 0.0


def shared_part(a, b):
    """Return the overlap of two spans as a share of the shorter."""
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0])) / min(a[1] - a[0], b[1] - b[0])


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
    """Similarity curve whose moments are found by trying every range of frames."""

    def __init__(self, curve, times, duration):
        shown = [
            i for i, (a, b) in enumerate(zip(times, [*times[1:], duration], strict=True)) if b > a
        ]
        shown = shown or [len(times) - 1]
        curve, times = [float(curve[i]) for i in shown], [float(times[i]) for i in shown]
        self.edges = [*times, float(duration)]
        self.seconds = [max(b - a, 1e-9) for a, b in zip(times, self.edges[1:], strict=True)]
        self.values = smooth(curve, times)
        self.mean = self.level(0, len(curve))
        self.rise = max(self.values) - self.mean

    def level(self, first, last):
        """Return the mean of the curve over the time of some frames."""
        pairs = list(zip(self.values[first:last], self.seconds[first:last], strict=True))
        return sum(v * s for v, s in pairs) / sum(s for _, s in pairs)

    def ranges(self, threshold, duration_range=ANY_DURATION, within=None):
        """Return excess, first and last frame of each range of an allowed duration, largest first."""
        start, end = within or (0, len(self.values))
        rows = []
        for first in range(start, end):
            excess = 0.0
            for last in range(first + 1, end + 1):
                excess += (self.values[last - 1] - threshold) * self.seconds[last - 1]
                seconds = self.edges[last] - self.edges[first]
                if duration_range[0] - 1e-9 <= seconds <= duration_range[1] + 1e-9:
                    rows.append((excess, first, last))
        return sorted(rows, key=lambda r: (-r[0], r[2], r[1]))

    def explained(self, first, last):
        """Return the share of the variance that two levels explain, inside and outside a range."""
        levels = [0.0] * len(self.values)
        for numbers in (range(first, last), [*range(first), *range(last, len(levels))]):
            total = sum(self.seconds[i] for i in numbers)
            for i in numbers:
                levels[i] = sum(self.values[k] * self.seconds[k] for k in numbers) / total
        residual, variance = (
            sum(s * (v - m) ** 2 for s, v, m in zip(self.seconds, self.values, of, strict=True))
            for of in (levels, [self.mean] * len(levels))
        )
        return 1 - residual / variance

    def threshold(self):
        _, first, last = self.ranges(self.mean + SHARES[0] * self.rise)[0]
        share = SHARE_OF_VARIANCE * self.explained(first, last)
        return self.mean + min(max(share, SHARES[0]), SHARES[1]) * self.rise

    def share_of(self, start, end, duration_range):
        """Return the excess of any span over the lowest threshold, as a share of the largest."""
        if self.rise <= 1e-9:
            return 1.0
        threshold = self.mean + SHARES[0] * self.rise
        excess = 0.0
        for value, a, b in zip(self.values, self.edges, self.edges[1:], strict=False):
            inside = max(0.0, min(end, b) - max(start, a))
            excess += inside * (value - threshold)
        rows = self.ranges(threshold, duration_range) or self.ranges(threshold)
        return excess / max(1e-9, rows[0][0])

    def moments(self, count, duration_range=ANY_DURATION):
        """Return `(start, end, share of the largest excess)` of disjoint ranges, largest first."""
        if self.rise <= 1e-9:
            return [(self.edges[0], self.edges[-1], 1.0)]
        rows = self.ranges(self.threshold(), duration_range)
        if not rows:
            return self.moments(count)
        chosen = []
        for row in rows:
            is_free = all(row[2] <= c[1] or c[2] <= row[1] for c in chosen)
            if len(chosen) < count and is_free and (not chosen or row[0] > 1e-9):
                chosen.append(row)
        moments = []
        for number, (excess, first, last) in enumerate(chosen):
            share = 1.0 if number == 0 else excess / chosen[0][0]
            if tuple(duration_range) == ANY_DURATION:
                middle = (self.mean + self.level(first, last)) / 2
                best = self.ranges(middle, within=(first, last))[0]
                if best[0] > 0:
                    _, first, last = best
            moments.append((self.edges[first], self.edges[last], share))
        return moments


def unit(vector):
    length = math.sqrt(sum(float(x) ** 2 for x in vector))
    return [float(x) / length for x in vector] if length > 0 else [0.0] * len(vector)


def dot(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def minus(a, b, weight=1.0):
    return [float(x) - weight * float(y) for x, y in zip(a, b, strict=True)]


def mean_of(vectors):
    return [sum(float(v[i]) for v in vectors) / len(vectors) for i in range(len(vectors[0]))]


def squared_distance(a, b):
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def average(numbers):
    numbers = list(numbers)
    return sum(numbers) / len(numbers)


def calibrate(videos, bank, exclude=None):
    """Return the centers, the weight of mean frames, and the highest score of each query.

    Args:
        videos: unit `frames` of each, and its `rows`, the whole video first.
        bank: unit vectors of the queries.
        exclude: for each video, the queries that describe it; they are not compared with it.
    """
    count = len(videos)
    means = [mean_of(video.frames) for video in videos]
    center = [(count - 1) / count * x for x in mean_of(means)]
    # Around the center, a part of the variance of the frames lies between the videos.
    variance = average(average(squared_distance(f, center) for f in v.frames) for v in videos)
    between = average(squared_distance(mean, center) for mean in means)
    common = squared_distance(mean_of(bank), [0.0] * len(center))
    calibration = SimpleNamespace(
        video_center=center,
        query_center=[(2 * common - common**2) * x for x in mean_of(bank)],
        row_norms=[math.sqrt(squared_distance(r, center)) for v in videos for r in v.rows],
        mean_norms=[math.sqrt(dot(mean, mean)) for mean in means],
        video_weight=COHERENCE_WEIGHT * (between / variance) ** 2 / math.sqrt(variance),
    )
    calibration.null_scores = sorted(
        max(
            video_score(query, video, calibration)
            for number_of_video, video in enumerate(videos)
            if exclude is None or number not in exclude[number_of_video]
        )
        for number, query in enumerate(bank)
    )
    return calibration


def similarities_to(query, vectors, calibration=None, total_weight=1.0):
    """Return the cosine of each vector with the query, both centered if there is a calibration."""
    if calibration is None:
        return [dot(query, vector) for vector in vectors]
    query = unit(minus(query, calibration.query_center, total_weight))
    return [dot(query, unit(minus(v, calibration.video_center))) for v in vectors]


def mean_similarity(query, video, calibration, total_weight=1.0):
    """Return the product of the centered query and the centered mean frame."""
    query = unit(minus(query, calibration.query_center, total_weight))
    return dot(query, minus(mean_of(video.frames), calibration.video_center))


def video_score(query, video, calibration=None, total_weight=1.0):
    """Return the similarity of the best row, plus a share of that of the mean frame."""
    best = max(similarities_to(query, video.rows, calibration, total_weight))
    if calibration is None:
        return best
    share = calibration.video_weight
    return best + share * mean_similarity(query, video, calibration, total_weight)


def span_score(query, video, span, calibration):
    """Return the score of a video if the frames of a span were its best row."""
    similarities = similarities_to(query, video.frames, calibration)
    inside = [s for s, t in zip(similarities, video.times, strict=True) if span[0] <= t < span[1]]
    return average(inside) + calibration.video_weight * mean_similarity(query, video, calibration)


def confidence(score, null_scores):
    """Return 1 minus the share of null scores, and the score itself, that are as high."""
    return 1 - (1 + sum(n >= score for n in null_scores)) / (1 + len(null_scores))


def rows_of_head(curve, predictions, duration_range):
    """Return `(share, start, end)` of the predictions of about the allowed duration, and of the
    moments of the curve, weighted by both.
    """
    low, high = duration_range[0] / 1.5, duration_range[1] * 1.5
    spans = [(start, end) for start, end, _ in predictions if low <= end - start <= high]
    spans += [(start, end) for start, end, _ in curve.moments(50, duration_range)]
    rows = []
    for start, end in spans:
        seen = max(overlap((start, end), (a, b)) * p for a, b, p in predictions)
        share = min(1.0, max(0.02, curve.share_of(start, end, duration_range)))
        rows.append((max(seen, 1e-3) * math.sqrt(share), start, end))
    return rows


def moments_of_video(
    query, video, calibration=None, count=1, duration_range=ANY_DURATION, predictions=None, total_weight=1.0
):  # fmt: skip
    """Return `(score, start, end, peak)` of the moments of one video, best first.

    Args:
        query: the vector of the query, before it is centered.
        video: its `rows` (the whole video first), unit `frames`, `times` and `duration`.
        calibration: of `calibrate`; None to center nothing, as for an image.
        count: maximum number of moments.
        duration_range: range of their durations.
        predictions: `(start, end, probability)` of a head.
        total_weight: sum of the weights of the texts of the query.
    """
    similarities = similarities_to(query, video.frames, calibration, total_weight)
    score = video_score(query, video, calibration, total_weight)
    curve = Curve(similarities, video.times, video.duration)
    if predictions:
        rows = nms(rows_of_head(curve, predictions, duration_range), count)
        spans = [(start, end, share / rows[0][0]) for share, start, end in rows]
    else:
        spans = curve.moments(count, duration_range)
    moments = []
    for start, end, share in spans:
        inside = [i for i, t in enumerate(video.times) if start <= t < end]
        peak = max(inside, key=lambda i: similarities[i], default=None)
        peak = start if peak is None else float(video.times[peak])
        moments.append((score - curve.rise * (1 - share), start, end, peak))
    return moments
