"""Moments as the benchmarks ask for them: in their own video, among all videos, and QVHighlights' table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.datasets.base import Saliency
from vla.errors import UsageError
from vla.evaluation.head_answers import TASKS
from vla.evaluation.predictions import CorpusPredictions, clip_frames
from vla.evaluation.results import BaselineScores, PerQueryScores, ScoreTable
from vla.metrics.average_precision import THRESHOLDS, average_precisions
from vla.metrics.baselines import corpus_chance, hit_chance
from vla.metrics.corpus_moments import RECALLS as CORPUS_RECALLS
from vla.metrics.corpus_moments import THRESHOLDS as CORPUS_THRESHOLDS
from vla.metrics.corpus_moments import first_hit_ranks
from vla.metrics.highlights import (
    LEVELS,
    clip_count,
    clip_ratings,
    highlight_hits,
    highlight_precisions,
)
from vla.metrics.moment_baselines import fit_constant_window, whole_video, window_grid
from vla.metrics.moments import RECALLS, best_ious
from vla.metrics.qvhighlights import LENGTHS, first_ious, subsets

IN_VIDEO, BY_HEAD, IN_CORPUS = "moment in its video", TASKS["moments"], "moment in the corpus"
HIGHLIGHTS, HIGHLIGHTS_BY_HEAD = "highlights", "highlights by head"
NO_TRAINING = "no constant window: the annotations that were trained on are not known"

Predictions = list[np.ndarray]
Windows = dict[str, Predictions]


def in_video(queries: Sequence[Query], predictions: Predictions) -> ScoreTable:
    """Score moments in their own video, see `moment_scores`."""
    return moment_scores(predictions, [q.spans for q in queries], _videos(queries))


def moment_scores(predictions: Predictions, truths: Sequence[np.ndarray], videos: np.ndarray) -> ScoreTable:
    """Compute `R1@0.3` to `R5@0.7`, `mIoU` and `mAP`, the mean over QVHighlights' thresholds of IoU, in percent.

    `Rn@x` is the part of the queries of which one of the first n predictions has IoU of at least x with any true span;
    `mIoU` is the mean, over queries, of the first prediction's best IoU. A query without predictions is a miss.

    Args:
        predictions: for every query `(N, 3)`, rows of start, end (seconds) and score, best first. The order decides, as
            in the official scripts; the score is not read.
        truths: for every query `(M, 2)` seconds, M at least 1.
        videos: `(Q,)` row of each query's video.

    Raises:
        ShapeError: predictions and truths are not as many, or an array has other columns.
        UsageError: no queries, a query without a true span, or a malformed span.
    """
    best = {n: best_ious(predictions, truths, n) for n, _ in RECALLS}
    found = {f"R{n}@{x}": PerQueryScores(100.0 * (best[n] >= x), videos) for n, x in RECALLS}
    precisions = average_precisions(predictions, truths).mean(axis=1)
    return {**found, "mIoU": PerQueryScores(100 * best[1], videos), "mAP": PerQueryScores(100 * precisions, videos)}


def windows(queries: Sequence[Query], corpus: Corpus, trained_on: Corpus | None) -> Windows:
    """By name, one window for each query that depends on nothing but its video's length, and its place among sentences."""
    lengths = _lengths(queries, corpus)
    found = {"whole video": whole_video(lengths)}
    known = [q for q in trained_on.queries if q.is_caption and q.is_timed] if trained_on else []
    if trained_on is None or not known:
        return found
    truths, durations = [q.spans for q in known], _lengths(known, trained_on)
    found["constant window"] = fit_constant_window(truths, durations).predict(lengths)
    there, here = _sentences(known), _sentences(queries)
    if there is not None and here is not None:
        found["constant window by place"] = fit_constant_window(truths, durations, there).predict(lengths, here)
    return found


def in_video_baselines(queries: Sequence[Query], corpus: Corpus, trivial: Windows) -> BaselineScores:
    """The same measures of windows that nobody looked for; of several, for where the first few predictions count."""
    given = {**trivial, "window grid": window_grid(_lengths(queries, corpus))}
    values = {
        name: {measure: v.value for measure, v in in_video(queries, found).items()} for name, found in given.items()
    }
    return BaselineScores(values, "" if len(trivial) > 1 else NO_TRAINING)


def in_corpus(queries: Sequence[Query], predictions: Predictions) -> ScoreTable:
    """`0.5-r1` to `0.7-r100`, and for each type of query that is TVR's (`v`, `t`, `vt`), as TVR's evaluator prints them."""
    found, videos = first_hit_ranks(predictions, _videos(queries), _marked(queries)), _videos(queries)
    kinds = np.array([q.annotation.category if q.annotation else "" for q in queries])
    groups = {"": np.ones(len(queries), dtype=bool)}
    if set(kinds) <= {"v", "t", "vt"}:
        groups |= {f"{kind}-": kinds == kind for kind in ("v", "t", "vt") if (kinds == kind).any()}
    return {
        f"{group}{x}-r{k}": PerQueryScores(100.0 * (found[members, column] <= k), videos[members], digits=2)
        for group, members in groups.items()
        for column, x in enumerate(CORPUS_THRESHOLDS)
        for k in CORPUS_RECALLS
    }


def in_corpus_baselines(queries: Sequence[Query], corpus: Corpus, trivial: Windows) -> BaselineScores:
    """Each window in every video, the videos in any order."""
    values: dict[str, dict[str, float]] = {}
    videos = _videos(queries)
    kinds = [q.annotation.category if q.annotation else "" for q in queries]
    for name, found in trivial.items():
        own = [np.insert(rows[:1], 0, video, axis=1) for rows, video in zip(found, videos, strict=True)]
        reached = first_hit_ranks(own, videos, _marked(queries)) <= 1
        values[name] = {}
        for group in ("", *sorted(set(kinds) & {"v", "t", "vt"})):
            members = np.array([group in ("", kind) for kind in kinds])
            located = {str(x): 100 * float(reached[members, i].mean()) for i, x in enumerate(CORPUS_THRESHOLDS)}
            chance = corpus_chance(len(corpus.videos), located)
            values[name] |= {f"{group}-{k}" if group else k: v for k, v in chance.items()}
    return BaselineScores(values, "" if len(trivial) > 1 else NO_TRAINING)


def with_saliency_ratings(queries: Sequence[Query]) -> list[int]:
    """Places of those queries whose clips annotators rated, all by as many: what QVHighlights' table is of."""
    found = [i for i, q in enumerate(queries) if q.annotation and q.annotation.saliency and q.annotation.saliency.clips]
    annotators = [_annotators(queries[i]) for i in found]
    return [i for i, n in zip(found, annotators, strict=True) if n == max(annotators)]


def highlights(
    seen: CorpusPredictions, queries: Sequence[Query], predictions: Predictions, shown: Sequence[np.ndarray] = ()
) -> ScoreTable:
    """QVHighlights' `brief` table: windows as predicted, and clips by their cosine with the query.

    Where a head says how well each frame shows each query, `shown` `(T,)` each, clips go by that.
    """
    truths, videos = [q.spans for q in queries], _videos(queries)
    scores, ratings = [], _ratings(queries, seen.corpus)
    for i, (query, of_clips) in enumerate(zip(queries, ratings, strict=True)):
        clips, seconds = len(of_clips), _saliency(query).clip_seconds
        if len(shown):
            video, frames = seen.corpus.videos[query.video], shown[i]
            scores.append(np.array([frames[rows].mean() for rows in clip_frames(video, clips, seconds)], np.float64))
        else:
            scores.append(seen.clip_scores(query, clips, seconds))
    found = window_scores(predictions, truths, videos)
    for name, least in LEVELS.items():
        found[f"HL-min-{name}-mAP"] = _printed(highlight_precisions(scores, ratings, least).mean(axis=1), videos)
        found[f"HL-min-{name}-Hit1"] = _printed(highlight_hits(scores, ratings, least), videos)
    return found


def window_scores(predictions: Predictions, truths: Sequence[np.ndarray], videos: np.ndarray) -> ScoreTable:
    """Compute the `MR` rows of QVHighlights' `brief` table, in percent with the two digits that it prints.

    Within a range of lengths only true windows of such a length count, and only queries that have one; predictions of
    any other length stay, and count as wrong. A range without any true window has no row. A query without predictions
    counts 0 everywhere; the official evaluator fails on it. Arguments and errors as `moment_scores`.
    """
    precisions, first = average_precisions(predictions, truths), first_ious(predictions, truths)
    found = {"MR-full-mAP": _printed(precisions.mean(axis=1), videos)}
    for x in (0.5, 0.75):
        found[f"MR-full-mAP@{x}"] = _printed(precisions[:, THRESHOLDS.index(x)], videos)
    for x in (0.5, 0.7):
        found[f"MR-full-R1@{x}"] = _printed(first >= x, videos)
    for name, subset in subsets(truths).items():
        if name in LENGTHS:
            some = average_precisions([predictions[i] for i in subset], list(subset.values()))
            found[f"MR-{name}-mAP"] = _printed(some.mean(axis=1), videos[list(subset)])
    return found


def highlight_baselines(queries: Sequence[Query], corpus: Corpus, trivial: Windows) -> BaselineScores:
    """Windows that nobody looked for, a grid of ten of them, and any clip."""
    truths, ratings = [q.spans for q in queries], _ratings(queries, corpus)
    given = {**trivial, "window grid": window_grid(_lengths(queries, corpus))}
    videos = _videos(queries)
    values = {
        name: {measure: v.value for measure, v in window_scores(found, truths, videos).items()}
        for name, found in given.items()
    }
    same = [np.ones(len(of_clips)) for of_clips in ratings]
    values["any clip"] = {}
    for name, least in LEVELS.items():
        precisions = highlight_precisions(same, ratings, least)
        values["any clip"][f"HL-min-{name}-mAP"] = 100 * float(precisions.mean())
        values["any clip"][f"HL-min-{name}-Hit1"] = hit_chance(ratings, least)
    return BaselineScores(values, "" if len(trivial) > 1 else NO_TRAINING)


def _printed(by_query: np.ndarray, videos: np.ndarray) -> PerQueryScores:
    return PerQueryScores(100 * np.asarray(by_query, dtype=np.float64), videos, digits=2)


def _ratings(queries: Sequence[Query], corpus: Corpus) -> list[np.ndarray]:
    found = []
    for query, seconds in zip(queries, _lengths(queries, corpus), strict=True):
        marks = _saliency(query)
        clips = clip_count(seconds, marks.clip_seconds, marks.clips[-1])
        found.append(clip_ratings(clips, marks.clips, marks.scores))
    return found


def _saliency(query: Query) -> Saliency:
    marks = query.annotation.saliency if query.annotation else None
    if marks is None:
        raise UsageError(f"nobody rated the clips of {query.text[:80]!r}: highlights are of queries with ratings")
    return marks


def _annotators(query: Query) -> int:
    return len(_saliency(query).scores[0])


def _marked(queries: Sequence[Query]) -> list[np.ndarray]:
    """Where several annotators marked the same moment (DiDeMo), each one's span: two of them have to be reached."""
    votes = [np.array(q.annotation.votes if q.annotation else (), np.float64).reshape(-1, 2) for q in queries]
    return [of_query if len(of_query) else q.spans for of_query, q in zip(votes, queries, strict=True)]


def _sentences(queries: Sequence[Query]) -> list[int] | None:
    """Place of each query among the sentences of its paragraph; None where some is in none."""
    found = [q.annotation.sentence if q.annotation else None for q in queries]
    return None if None in found else [n for n in found if n is not None]


def _lengths(queries: Sequence[Query], corpus: Corpus) -> np.ndarray:
    # A video of one frame may say that it takes no time.
    return np.array([max(corpus.videos[q.video].duration_seconds, 1e-3) for q in queries])


def _videos(queries: Sequence[Query]) -> np.ndarray:
    return np.array([q.video for q in queries], np.int64)
