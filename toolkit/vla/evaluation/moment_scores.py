"""Moments and highlights as heads find them, measured, and beside them what not looking scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.features import FrameFeatures
from vla.metrics.average_precision import average_precisions
from vla.metrics.baselines import hit_chance
from vla.metrics.highlights import LEVELS, clip_count, clip_ratings, highlight_metrics
from vla.metrics.moment_baselines import fit_constant_window, whole_video
from vla.metrics.moments import moment_metrics
from vla.spans import frames_in

HIGHLIGHT = LEVELS["VeryGood"]
_SHORTEST = 1e-3
Metrics = dict[str, float]


def located(queries: Sequence[Query], predictions: Sequence[np.ndarray]) -> Metrics:
    """`moment_metrics` and `mAP`, the mean over QVHighlights' thresholds of IoU, in percent.

    Args:
        queries: timed.
        predictions: for each `(N, 3)`, start, end (seconds) and score, best first.
    """
    truths = [q.spans for q in queries]
    return {
        **moment_metrics(predictions, truths),
        "mAP": 100 * float(average_precisions(predictions, truths).mean()),
    }


def highlighted(queries: Sequence[Query], videos: Sequence[FrameFeatures], shown: Sequence[np.ndarray]) -> Metrics:
    """`HL-mAP` and `HL-Hit1` in percent, of the queries whose clips were rated; empty where none was.

    As QVHighlights has it: a highlight is rated Very Good, which is 4 of 0 to 4, and a clip that nobody rated is none.

    Args:
        queries: timed.
        videos: of each query, its video.
        shown: of each query `(T,)`, how well each frame of its video shows it; empty where a head does not tell.
    """
    ratings = _ratings(queries, videos) if shown else {}
    if not ratings:
        return {}
    scores = [clip_scores(shown[i], videos[i], len(rated), seconds) for i, (rated, seconds) in ratings.items()]
    return highlight_metrics(scores, [rated for rated, _ in ratings.values()], HIGHLIGHT)


def unlooked(queries: Sequence[Query], videos: Sequence[FrameFeatures], trained_on: Corpus) -> Metrics:
    """The figures of `located` and `highlighted` for what depends on no picture and no word.

    Of the whole video and, where `trained_on` has timed captions, the constant window that fits these best, each figure of
    the better one; and of any clip.
    """
    given = [whole_video(_lengths(videos))]
    known = [q for q in trained_on.queries if q.is_timed and q.is_caption]
    if known:
        lengths = _lengths([trained_on.videos[q.video] for q in known])
        given.append(fit_constant_window([q.spans for q in known], lengths).predict(_lengths(videos)))
    measured = [located(queries, found) for found in given]
    floor = {name: max(figures[name] for figures in measured) for name in measured[0]}
    ratings = [rated for rated, _ in _ratings(queries, videos).values()]
    if ratings:
        same = [np.zeros(len(rated)) for rated in ratings]
        floor["HL-mAP"] = highlight_metrics(same, ratings, HIGHLIGHT)["HL-mAP"]
        floor["HL-Hit1"] = hit_chance(ratings, HIGHLIGHT)
    return floor


def clip_scores(shown: np.ndarray, video: FrameFeatures, clips: int, clip_seconds: float) -> np.ndarray:
    """`(clips,)` the mean of `shown` `(T,)` over the frames on screen in each clip of so many seconds, clip 0 the first.

    A clip beyond the end of the video has the score of the last frame.
    """
    times, end = video.timestamps_seconds, video.duration_seconds
    spans = ((i * clip_seconds, (i + 1) * clip_seconds) for i in range(clips))
    return np.array([shown[slice(*frames_in(times, end, span))].mean() for span in spans], np.float64)


def _ratings(queries: Sequence[Query], videos: Sequence[FrameFeatures]) -> dict[int, tuple[np.ndarray, float]]:
    """`(clips, annotators)` and the seconds of a clip, by place of the query; of those that most annotators rated."""
    marks = {i: q.annotation.saliency for i, q in enumerate(queries) if q.annotation and q.annotation.saliency}
    marks = {i: m for i, m in marks.items() if m.clips and m.scores[0]}
    most = max((len(m.scores[0]) for m in marks.values()), default=0)
    found = {}
    for i, m in marks.items():
        if len(m.scores[0]) == most:
            clips = clip_count(videos[i].duration_seconds, m.clip_seconds, m.clips[-1])
            found[i] = clip_ratings(clips, m.clips, m.scores), m.clip_seconds
    return found


def _lengths(videos: Sequence[FrameFeatures]) -> np.ndarray:
    # A video of one frame may say that it takes no time.
    return np.array([max(v.duration_seconds, _SHORTEST) for v in videos])
