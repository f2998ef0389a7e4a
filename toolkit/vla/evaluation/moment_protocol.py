"""Moment protocols of the benchmarks: in the own video, in the corpus, and QVHighlights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.evaluation.head_answers import TASKS
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.results import BaselineScores, PerQueryScores, ScoreTable
from vla.evaluation.saliency import clip_ratings_of, clip_scores
from vla.metrics.average_precision import THRESHOLDS, average_precisions
from vla.metrics.baselines import corpus_chance, hit_chance
from vla.metrics.corpus_moments import RECALLS as CORPUS_RECALLS
from vla.metrics.corpus_moments import THRESHOLDS as CORPUS_THRESHOLDS
from vla.metrics.corpus_moments import first_hit_ranks
from vla.metrics.highlights import LEVELS, highlight_hits, highlight_precisions
from vla.metrics.moment_baselines import fit_constant_window, whole_video, window_grid
from vla.metrics.moments import RECALLS, best_ious
from vla.metrics.qvhighlights import LENGTHS, first_ious, subsets

IN_VIDEO, BY_HEAD, IN_CORPUS = "moment in its video", TASKS["moments"], "moment in the corpus"
HIGHLIGHTS, HIGHLIGHTS_BY_HEAD = "highlights", "highlights by head"
QUERY_TYPES = ("v", "t", "vt")
"""TVR: the query refers to pictures, to dialogue or to both."""
NO_TRAINING = "no constant window: the training annotations are unknown"

Predictions = list[np.ndarray]
Windows = dict[str, Predictions]


def in_video(queries: Sequence[Query], predictions: Predictions) -> ScoreTable:
    """Score moments in their own video (SVMR), see `moment_scores`."""
    return moment_scores(predictions, [q.spans for q in queries], _video_rows(queries))


def moment_scores(
    predictions: Predictions, truths: Sequence[np.ndarray], videos: np.ndarray
) -> ScoreTable:
    """Compute `R1@0.3` to `R5@0.7`, `mIoU` and `mAP` in percent.

    `Rn@x` is the share of queries where one of the first n predictions has an IoU of at least x
    with any true span. `mIoU` is the mean over queries of the first prediction's best IoU. `mAP` is
    the mean over QVHighlights' IoU thresholds. A query without predictions is a miss.

    Args:
        predictions: for each query `(N, 3)`, rows of start, end (seconds) and score, best first.
            The order decides, as in the official scripts; the score is not read.
        truths: for each query `(M, 2)` seconds, M at least 1.
        videos: `(Q,)` row of each query's video.

    Raises:
        ShapeError: predictions and truths differ in number, or an array has other columns.
        UsageError: no queries, a query without a true span, or a malformed span.
    """
    ious = {n: best_ious(predictions, truths, n) for n, _ in RECALLS}
    table = {f"R{n}@{x}": PerQueryScores(100.0 * (ious[n] >= x), videos) for n, x in RECALLS}
    precisions = average_precisions(predictions, truths).mean(axis=1)
    return {
        **table,
        "mIoU": PerQueryScores(100 * ious[1], videos),
        "mAP": PerQueryScores(100 * precisions, videos),
    }


def windows(queries: Sequence[Query], corpus: Corpus, trained_on: Corpus | None) -> Windows:
    """Return constant windows by name: one window for each query, from the duration of its video.

    `constant window by place` also uses the position of the query among the sentences of its
    paragraph.
    """
    lengths = _durations(queries, corpus)
    baselines = {"whole video": whole_video(lengths)}
    training_queries = (
        [q for q in trained_on.queries if q.is_caption and q.is_timed] if trained_on else []
    )
    if trained_on is None or not training_queries:
        return baselines
    truths, durations = (
        [q.spans for q in training_queries],
        _durations(training_queries, trained_on),
    )
    baselines["constant window"] = fit_constant_window(truths, durations).predict(lengths)
    training_positions, positions = (
        _sentence_positions(training_queries),
        _sentence_positions(queries),
    )
    if training_positions is not None and positions is not None:
        window = fit_constant_window(truths, durations, training_positions)
        baselines["constant window by place"] = window.predict(lengths, positions)
    return baselines


def in_video_baselines(
    queries: Sequence[Query], corpus: Corpus, constant_windows: Windows
) -> BaselineScores:
    """Score constant windows in the own video, and a grid of windows for R5 and mAP."""
    baselines = {**constant_windows, "window grid": window_grid(_durations(queries, corpus))}
    values = {
        name: {measure: v.value for measure, v in in_video(queries, rows).items()}
        for name, rows in baselines.items()
    }
    return BaselineScores(values, "" if len(constant_windows) > 1 else NO_TRAINING)


def in_corpus(queries: Sequence[Query], predictions: Predictions) -> ScoreTable:
    """Score moments in the corpus (VCMR): `0.5-r1` to `0.7-r100`, as TVR's evaluator prints them.

    With TVR's query types (`v`, `t`, `vt`), the same is computed for each type.
    """
    ranks, videos = (
        first_hit_ranks(predictions, _video_rows(queries), _annotator_spans(queries)),
        _video_rows(queries),
    )
    kinds = np.array(_categories(queries))
    groups = {"": np.ones(len(queries), dtype=bool)}
    if has_query_types(queries):
        groups |= {f"{kind}-": kinds == kind for kind in QUERY_TYPES if (kinds == kind).any()}
    return {
        f"{group}{x}-r{k}": PerQueryScores(
            100.0 * (ranks[members, column] <= k), videos[members], digits=2
        )
        for group, members in groups.items()
        for column, x in enumerate(CORPUS_THRESHOLDS)
        for k in CORPUS_RECALLS
    }


def has_query_types(queries: Sequence[Query]) -> bool:
    """Return whether the category of every query is one of TVR's query types."""
    return set(_categories(queries)) <= set(QUERY_TYPES)


def in_corpus_baselines(
    queries: Sequence[Query], corpus: Corpus, constant_windows: Windows
) -> BaselineScores:
    """Score each constant window in every video, with the videos in random order."""
    values: dict[str, dict[str, float]] = {}
    videos = _video_rows(queries)
    kinds = _categories(queries)
    for name, predictions in constant_windows.items():
        own_predictions = [
            np.insert(rows[:1], 0, video, axis=1)
            for rows, video in zip(predictions, videos, strict=True)
        ]
        is_correct = first_hit_ranks(own_predictions, videos, _annotator_spans(queries)) <= 1
        values[name] = {}
        for group in ("", *sorted(set(kinds) & set(QUERY_TYPES))):
            members = np.array([group in ("", kind) for kind in kinds])
            in_own_video = {
                str(x): 100 * float(is_correct[members, i].mean())
                for i, x in enumerate(CORPUS_THRESHOLDS)
            }
            chance = corpus_chance(len(corpus.videos), in_own_video)
            values[name] |= {f"{group}-{k}" if group else k: v for k, v in chance.items()}
    return BaselineScores(values, "" if len(constant_windows) > 1 else NO_TRAINING)


def highlights(
    corpus_predictions: CorpusPredictions,
    queries: Sequence[Query],
    predictions: Predictions,
    saliency: Sequence[np.ndarray] = (),
) -> ScoreTable:
    """Compute QVHighlights' `brief` table: predicted windows, and clips by their scores.

    Args:
        corpus_predictions: of the corpus.
        queries: with ratings, see `with_saliency_ratings`.
        predictions: for each query `(N, 3)` windows.
        saliency: for each query `(T,)` saliency of each frame by a head; empty to score clips by
            their cosine.
    """
    truths, videos = [q.spans for q in queries], _video_rows(queries)
    ratings = clip_ratings_of(queries, corpus_predictions.corpus)
    scores = [
        clip_scores(corpus_predictions, query, saliency[i] if len(saliency) else None)
        for i, query in enumerate(queries)
    ]
    table = window_scores(predictions, truths, videos)
    for name, min_rating in LEVELS.items():
        table[f"HL-min-{name}-mAP"] = _percent(
            highlight_precisions(scores, ratings, min_rating).mean(axis=1), videos
        )
        table[f"HL-min-{name}-Hit1"] = _percent(highlight_hits(scores, ratings, min_rating), videos)
    return table


def window_scores(
    predictions: Predictions, truths: Sequence[np.ndarray], videos: np.ndarray
) -> ScoreTable:
    """Compute the `MR` rows of QVHighlights' `brief` table, in percent with two digits, as printed.

    Within a duration range, only true windows of that range count, and only queries that have one.
    Predictions of any other duration remain, and count as wrong. A range without true windows has
    no row. A query without predictions counts 0 everywhere; the official evaluator fails on it.
    Arguments and errors as in `moment_scores`.
    """
    precisions, first = average_precisions(predictions, truths), first_ious(predictions, truths)
    table = {"MR-full-mAP": _percent(precisions.mean(axis=1), videos)}
    for x in (0.5, 0.75):
        table[f"MR-full-mAP@{x}"] = _percent(precisions[:, THRESHOLDS.index(x)], videos)
    for x in (0.5, 0.7):
        table[f"MR-full-R1@{x}"] = _percent(first >= x, videos)
    for name, subset in subsets(truths).items():
        if name in LENGTHS:
            in_range = average_precisions([predictions[i] for i in subset], list(subset.values()))
            table[f"MR-{name}-mAP"] = _percent(in_range.mean(axis=1), videos[list(subset)])
    return table


def highlight_baselines(
    queries: Sequence[Query], corpus: Corpus, constant_windows: Windows
) -> BaselineScores:
    """Score constant windows, a grid of ten windows, and a random clip."""
    truths, ratings = [q.spans for q in queries], clip_ratings_of(queries, corpus)
    baselines = {**constant_windows, "window grid": window_grid(_durations(queries, corpus))}
    videos = _video_rows(queries)
    values = {
        name: {
            measure: v.value for measure, v in window_scores(predictions, truths, videos).items()
        }
        for name, predictions in baselines.items()
    }
    constant_scores = [np.ones(len(labels)) for labels in ratings]
    values["any clip"] = {}
    for name, min_rating in LEVELS.items():
        precisions = highlight_precisions(constant_scores, ratings, min_rating)
        values["any clip"][f"HL-min-{name}-mAP"] = 100 * float(precisions.mean())
        values["any clip"][f"HL-min-{name}-Hit1"] = hit_chance(ratings, min_rating)
    return BaselineScores(values, "" if len(constant_windows) > 1 else NO_TRAINING)


def _categories(queries: Sequence[Query]) -> list[str]:
    return [q.annotation.category if q.annotation else "" for q in queries]


def _percent(by_query: np.ndarray, videos: np.ndarray) -> PerQueryScores:
    return PerQueryScores(100 * np.asarray(by_query, dtype=np.float64), videos, digits=2)


def _annotator_spans(queries: Sequence[Query]) -> list[np.ndarray]:
    """Return the true spans of each query; with several annotators (DiDeMo), the span of each.

    Two annotators have to be reached then.
    """
    votes = [
        np.array(q.annotation.votes if q.annotation else (), np.float64).reshape(-1, 2)
        for q in queries
    ]
    return [spans if len(spans) else q.spans for spans, q in zip(votes, queries, strict=True)]


def _sentence_positions(queries: Sequence[Query]) -> list[int] | None:
    """Return the position of each query in its paragraph; None if a query is in none."""
    positions = [q.annotation.sentence if q.annotation else None for q in queries]
    return None if None in positions else [n for n in positions if n is not None]


def _durations(queries: Sequence[Query], corpus: Corpus) -> np.ndarray:
    # The duration of a video of one frame may be 0.
    return np.array([max(corpus.videos[q.video].duration_seconds, 1e-3) for q in queries])


def _video_rows(queries: Sequence[Query]) -> np.ndarray:
    return np.array([q.video for q in queries], np.int64)
