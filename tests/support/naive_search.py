"""Reference implementation of the search with loops over plain numbers, in float64.

Written from the definitions in the documentation, and independent of the code of the library.
"""

import math
from types import SimpleNamespace

SHARES = (0.25, 0.5)
"""Lowest and highest threshold of a curve, as shares of the way from its mean to its peak."""
SHARE_OF_VARIANCE = 0.75
WEIGHT_OF_WHOLE_VIDEO = 0.15
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


def calibrate(videos, bank, exclude=None):
    """Return the centers, and the highest score of each query with a video it does not describe.

    `videos`: rows of each, the whole video first. `exclude`: for each video, the queries that
    describe it.
    """
    count = len(videos)
    video_center = [(count - 1) / count * x for x in mean_of([rows[0] for rows in videos])]
    query_center = mean_of(bank)
    queries = [unit(minus(q, query_center)) for q in bank]
    null_scores = []
    for number, query in enumerate(queries):
        scores = [
            video_score(query, rows, video_center)
            for video, rows in enumerate(videos)
            if exclude is None or number not in exclude[video]
        ]
        null_scores.append(max(scores))
    norms = [math.sqrt(sum(x**2 for x in minus(r, video_center))) for rows in videos for r in rows]
    return SimpleNamespace(
        video_center=video_center,
        query_center=query_center,
        null_scores=sorted(null_scores),
        row_norms=norms,
    )


def video_score(query, rows, center=None, weight=WEIGHT_OF_WHOLE_VIDEO):
    """Return the similarity of the best row, plus a share of that of the first: the whole video."""
    center = [0.0] * len(query) if center is None else center
    uncentered = not any(center)
    shifted = [[float(x) for x in r] if uncentered else unit(minus(r, center)) for r in rows]
    similarities = [dot(query, row) for row in shifted]
    return max(similarities) + weight * similarities[0]


def confidence(score, null_scores):
    """Return 1 minus the share of null scores, and the score itself, that are as high."""
    return 1 - (1 + sum(n >= score for n in null_scores)) / (1 + len(null_scores))


def moments_of_video(query, video, calibration=None, count=1, duration_range=ANY_DURATION,
                     predictions=None, total_weight=1.0, is_text=True):  # fmt: skip
    """Return `(score, start, end, peak)` of the moments of one video, best first.

    Args:
        query: the vector of the query, before it is centered.
        video: its `rows` (the whole video first), unit `frames`, `times` and `duration`.
        calibration: with `video_center` and `query_center`; None to center nothing.
        count: maximum number of moments.
        duration_range: range of their durations.
        predictions: `(start, end, probability)` of a head.
        total_weight: sum of the weights of the texts of the query.
        is_text: whether the query is a text; an image is not centered.
    """
    center = [0.0] * len(query)
    weight = WEIGHT_OF_WHOLE_VIDEO if is_text else 0.0
    if calibration is not None and is_text:
        query = unit(minus(query, calibration.query_center, total_weight))
        center = [float(x) for x in calibration.video_center]
    is_centered = any(center) or (calibration is not None and is_text)
    similarities = [
        dot(query, unit(minus(frame, center)) if is_centered else frame) for frame in video.frames
    ]
    score = video_score(query, video.rows, center, weight)
    curve = Curve(similarities, video.times, video.duration)
    if predictions:
        rows = nms([(p, start, end) for start, end, p in predictions], count)
        spans = [(start, end, p / rows[0][0]) for p, start, end in rows]
    else:
        spans = curve.moments(count, duration_range)
    moments = []
    for start, end, share in spans:
        inside = [i for i, t in enumerate(video.times) if start <= t < end]
        peak = max(inside, key=lambda i: similarities[i], default=None)
        peak = start if peak is None else float(video.times[peak])
        moments.append((score - curve.rise * (1 - share), start, end, peak))
    return moments
