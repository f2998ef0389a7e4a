"""Ways to find videos and moments by a text, for real_search.py: simple ones, and `vla search` with and without its stages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from _search_sets import IndexedSet

from vla.localization import similarity_curve
from vla.model import AlignmentModel
from vla.retrieval.calibration import Calibration
from vla.retrieval.filters import VideoFilter
from vla.retrieval.searcher import Searcher
from vla.spans import iou, nms, windows

NUM_HITS = 10
WINDOW_SECONDS = (4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True)
class Found:
    """What a method finds for a query.

    Attributes:
        videos: numbers of the videos, best first; the first occurrence of each counts.
        moments: `(N, 3)` number of the video, start, end; best first.
        own: best moment `(2,)` in the first right video.
    """

    videos: list[int]
    moments: np.ndarray
    own: np.ndarray


Method = Callable[[IndexedSet, list[str]], Iterator[Found]]


def _found(scores: np.ndarray, spans: list[tuple[np.ndarray, np.ndarray]], own: int) -> Found:
    """From video scores `(V,)`, and of each video spans `(N, 2)` with their scores, at most ten."""
    rows = [
        (score, video, *span)
        for video, (of_video, values) in enumerate(spans)
        for span, score in zip(of_video, values, strict=True)
    ]
    rows.sort(key=lambda row: -row[0])
    best = np.array([row[1:] for row in rows[:NUM_HITS]]).reshape(-1, 3)
    return Found(np.argsort(-scores, kind="stable").tolist(), best, spans[own][0][0])


def _without_moments(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Method:
    """Videos by `score` of frames `(T, E)` and queries `(Q, E)`; their moment is the whole video."""

    def find(place: IndexedSet, texts: list[str]) -> Iterator[Found]:
        queries = place.encode(texts)
        scores = np.stack([score(frames, queries) for frames in place.frames], 1)
        wholes = [np.array([[0.0, video.duration_seconds]]) for video in place.set.videos]
        for text, row in zip(texts, scores, strict=True):
            spans = [(whole, row[[v]]) for v, whole in enumerate(wholes)]
            yield _found(row, spans, place.set.queries[text][0][0])

    return find


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)


def _mean_vector(frames: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return queries @ _unit(frames.mean(0))


def _best_frame(frames: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return (queries @ frames.T).max(1)


def _best_frames(frames: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return np.sort(queries @ frames.T, 1)[:, -3:].mean(1)


def _mean_and_best(frames: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return _mean_vector(frames, queries) + _best_frame(frames, queries)


def _by_windows(place: IndexedSet, texts: list[str]) -> Iterator[Found]:
    """Windows of 4 to 32 s, by the cosine of their mean frame; listed are those that overlap a better
    one by an IoU of at most .3, and by at most half of the shorter one.
    """
    cut = []
    for video, frames in zip(place.set.videos, place.frames, strict=True):
        grid = windows(video.timestamps_seconds, video.duration_seconds, WINDOW_SECONDS)
        sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, 0)])
        vectors = _unit(np.stack([sums[last] - sums[first] for first, last, *_ in grid]))
        cut.append((np.array([span for _, _, *span in grid]), vectors))
    for text, query in zip(texts, place.encode(texts), strict=True):
        scores, spans = [], []
        for bounds, vectors in cut:
            values = vectors @ query
            kept = nms(bounds, values, 0.3, most=NUM_HITS, nested=0.5)
            scores.append(values.max())
            spans.append((bounds[kept], values[kept]))
        yield _found(np.array(scores), spans, place.set.queries[text][0][0])


def _by_watershed(place: IndexedSet, texts: list[str]) -> Iterator[Found]:
    """Stretches above each of ten quantiles of the curve, by their mean (Diwan et al. 2023)."""
    for text, query in zip(texts, place.encode(texts), strict=True):
        scores, spans = [], []
        for video, frames in zip(place.set.videos, place.frames, strict=True):
            curve = frames @ query
            edges = np.append(video.timestamps_seconds, video.duration_seconds)
            found = {}
            for level in np.quantile(curve, np.arange(10) / 10):
                above = np.flatnonzero(np.diff(np.concatenate([[0], curve >= level, [0]])))
                for first, last in above.reshape(-1, 2):
                    found[edges[first], edges[last]] = curve[first:last].mean()
            bounds, values = np.array(list(found)), np.array(list(found.values()))
            kept = nms(bounds, values, 0.3, most=NUM_HITS, nested=0.5)
            scores.append(curve.max())
            spans.append((bounds[kept], values[kept]))
        yield _found(np.array(scores), spans, place.set.queries[text][0][0])


def _by_excess(place: IndexedSet, texts: list[str]) -> Iterator[Found]:
    """Centered best frame plus half the centered mean; in each video the range of frames with the
    largest sum over mean + .5 standard deviations: ten lines of numpy.
    """
    center = np.mean([frames.mean(0) for frames in place.frames], 0)
    bank = place.encode(place.set.bank).mean(0)
    centered = [_unit(frames - center) for frames in place.frames]
    for text, query in zip(texts, _unit(place.encode(texts) - bank), strict=True):
        curves = [frames @ query for frames in centered]
        scores = np.array([curve.max() + curve.mean() / 2 for curve in curves])
        spans = []
        for video, curve, score in zip(place.set.videos, curves, scores, strict=True):
            edges = np.append(video.timestamps_seconds, video.duration_seconds)
            sums = np.append(0, np.cumsum(curve - curve.mean() - curve.std() / 2))
            lowest = np.minimum.accumulate(sums[:-1])
            last = int((sums[1:] - lowest).argmax())
            first = int(sums[: last + 1].argmin())
            spans.append((edges[[[first, last + 1]]], np.array([score])))
        yield _found(scores, spans, place.set.queries[text][0][0])


SIMPLE: dict[str, Method] = {
    "mean vector": _without_moments(_mean_vector),
    "best frame": _without_moments(_best_frame),
    "mean of the best 3 frames": _without_moments(_best_frames),
    "mean vector + best frame": _without_moments(_mean_and_best),
    "fixed windows by cosine": _by_windows,
    "watershed": _by_watershed,
    "centered, largest excess": _by_excess,
}


def search(
    change: Callable[[IndexedSet, Calibration], Calibration] = lambda place, calibration: (
        calibration
    ),
    per_video: int | None = None,
    heads: bool = False,
) -> Method:
    """`vla search`, with a changed calibration, without heads where not told otherwise."""

    def find(place: IndexedSet, texts: list[str]) -> Iterator[Found]:
        calibration = change(place, place.calibration)
        searcher = replace(place.searcher, calibration=calibration)
        if not heads:
            searcher = replace(searcher, model=without_heads(place.model))
        for text in texts:
            yield _searched(searcher, place, text, per_video)

    return find


def _searched(searcher: Searcher, place: IndexedSet, text: str, per_video: int | None) -> Found:
    number = {name: row for row, name in enumerate(place.names)}
    hits = searcher.search(text, NUM_HITS, per_video)
    ranked = searcher.search(text, NUM_HITS, 1)
    own = place.names[place.set.queries[text][0][0]]
    inside = searcher.search(text, 1, filters=VideoFilter(include=(own,)))
    return Found(
        [
            number[name]
            for hit in ranked
            for name in (hit.video_id, *(v for v, _, _ in hit.near_duplicates))
        ],
        np.array([[number[h.video_id], h.start, h.end] for h in hits]).reshape(-1, 3),
        np.array([inside[0].start, inside[0].end]) if inside else np.zeros(2),
    )


def _only(name: str):
    from vla.retrieval.filters import VideoFilter

    return VideoFilter(include=(name,))


def without_heads(model: AlignmentModel) -> AlignmentModel:
    """The same projector and temperature without heads."""
    bare = AlignmentModel(replace(model.config, heads={}))
    bare.projector.load_state_dict(model.projector.state_dict())
    return bare.eval()


def no_query_center(place: IndexedSet, calibration: Calibration) -> Calibration:
    """Without the mean of the query bank."""
    return replace(calibration, query_center=np.zeros_like(calibration.query_center))


def no_video_center(place: IndexedSet, calibration: Calibration) -> Calibration:
    """Without the mean of the videos."""
    return replace(
        calibration,
        video_center=np.zeros_like(calibration.video_center),
        row_norms=np.ones_like(calibration.row_norms),
    )


def no_duration_prior(place: IndexedSet, calibration: Calibration) -> Calibration:
    """Without the durations of captions."""
    return replace(calibration, duration_range=None)


def video_weight(factor: float) -> Callable[[IndexedSet, Calibration], Calibration]:
    """With another weight of the mean frame of a video."""
    return lambda place, calibration: replace(
        calibration, video_weight=factor * calibration.video_weight
    )


def with_constants(method: Method, **constants: float) -> Method:
    """The method with other constants of the similarity curve."""

    def find(place: IndexedSet, texts: list[str]) -> Iterator[Found]:
        with _changed(constants):
            yield from method(place, texts)

    return find


@contextmanager
def _changed(constants: dict[str, float]) -> Iterator[None]:
    before = {name: getattr(similarity_curve, name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(similarity_curve, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(similarity_curve, name, value)


STAGES: dict[str, Method] = {
    "vla search": search(),
    "without the center of queries": search(no_query_center),
    "without the center of videos": search(no_video_center),
    "without the mean frame": search(video_weight(0.0)),
    "any number of moments a video": search(per_video=NUM_HITS),
    "at most 1 moment a video": search(per_video=1),
    "without the durations of captions": search(no_duration_prior),
    "threshold always at a quarter": with_constants(
        search(), _LOWEST_THRESHOLD=0.25, _HIGHEST_THRESHOLD=0.25
    ),
    "threshold always at a half": with_constants(
        search(), _LOWEST_THRESHOLD=0.5, _HIGHEST_THRESHOLD=0.5
    ),
    "with a head": search(heads=True),
}
CONSTANTS: dict[str, Method] = {
    "vla search": search(),
    **{
        f"weight of the mean frame times {weight:g}": search(video_weight(weight))
        for weight in (0.5, 0.8, 1.25, 2.0)
    },
    **{
        f"lowest threshold {value:g}": with_constants(search(), _LOWEST_THRESHOLD=value)
        for value in (0.125, 0.5)
    },
    **{
        f"highest threshold {value:g}": with_constants(search(), _HIGHEST_THRESHOLD=value)
        for value in (0.25, 1.0)
    },
    **{
        f"threshold per explained variance {value:g}": with_constants(
            search(), _VARIANCE_WEIGHT=value
        )
        for value in (0.375, 1.5)
    },
    **{
        f"smoothing {value:g} s": with_constants(search(), _SMOOTHING_SECONDS=value)
        for value in (0.125, 0.5)
    },
}


def best_iou(span: np.ndarray, truth: list[tuple[int, float, float]], video: int) -> float:
    """Highest IoU of `span` `(2,)` with a right moment in `video`."""
    right = [(start, end) for v, start, end in truth if v == video]
    return float(iou([span], right).max()) if right else 0.0
