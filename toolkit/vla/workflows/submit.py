"""Submission files for official evaluators, from the predictions of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla.batches.corpus import Query
from vla.errors import MissingError
from vla.evaluation.head_answers import TASKS
from vla.evaluation.moment_protocol import has_query_types
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.saliency import clip_scores, with_saliency_ratings
from vla.evaluation.search_metrics import videos_of
from vla.evaluation.submission import MAX_IN_CORPUS, write_nextqa, write_qvhighlights, write_tvr

_QVHIGHLIGHTS, _MOMENTS, _TVR = (
    "hl_{split}_submission.jsonl",
    "moments_{split}_submission.jsonl",
    "tvr_{split}_submission.json",
)


def submit(
    folder: Path,
    predictions: CorpusPredictions,
    names: Mapping[str, str],
    format: str | None,
    split: str,
) -> list[Path]:
    """Write submission files, and return their paths.

    They hold the predictions that the printed table scores. Moments in the own video are those of
    the row `moment by head`, or else `moment in its video`. Clips have the saliency of this head, or
    else their cosines. Videos and moments in the corpus are those of the rows `by search`, if
    `predictions` has a retriever.

    Timed captions are written as JSON lines of moment_detr, as TVR's file, or, if the data set is
    unknown, as both (see `_moment_files`). With the formats `qvhighlights` and `tvr`, queries without
    times (a test set without public answers) are located, too. Multiple choice is written as for
    NExT-QA.

    Args:
        folder: of the files; existing files are replaced.
        predictions: of the model on the corpus.
        names: name of each video in the annotations.
        format: of the annotations; None for the default by suffix.
        split: used in the file names.

    Raises:
        MissingError: no evaluator reads files about these annotations.
        ResourceError: a file cannot be written.
    """
    suffix, paths = split or "all", []
    with_times = _with_located_queries(predictions, everything=format in ("qvhighlights", "tvr"))
    for name in _moment_files(with_times.timed_queries, format):
        paths.append(folder / name.format(split=suffix))
        if name == _TVR:
            _write_tvr(paths[-1], with_times, names)
        else:
            has_clips = name == _QVHIGHLIGHTS and _has_clips(predictions)
            write_qvhighlights(paths[-1], _moment_records(with_times, names, has_clips))
    if TASKS["choice"] in predictions.answers:
        paths.append(folder / f"nextqa_{suffix}.json")
        write_nextqa(paths[-1], _choice_records(predictions, names))
    if not paths:
        raise MissingError("nothing to submit: captions without times have no official evaluator")
    return paths


def _moment_files(queries: Sequence[Query], format: str | None) -> list[str]:
    """Return the names of the files about the moments of timed queries, with `{split}` in each.

    A named format decides, then clip ratings (QVHighlights) and the query types of TVR. Captions of
    an unknown data set have both files: moment_detr's form is that of Charades-STA and other data
    sets in Lighthouse; TVR's has rankings of all videos.

    Args:
        queries: timed captions; without any, there is no file.
        format: of the annotations; None if unknown.
    """
    if not queries:
        return []
    if format == "qvhighlights":
        return [_QVHIGHLIGHTS]
    if format == "charades_sta":
        return [_MOMENTS]
    if format == "tvr":
        return [_TVR]
    if with_saliency_ratings(queries):
        return [_QVHIGHLIGHTS]
    return [_TVR] if has_query_types(queries) else [_MOMENTS, _TVR]


def _has_clips(predictions: CorpusPredictions) -> bool:
    """Return whether clips need scores: there are ratings, or all answers are withheld.

    The evaluator fails on scores of clips if the annotations have no ratings.
    """
    timed_queries = predictions.timed_queries
    return not timed_queries or bool(with_saliency_ratings(timed_queries))


def _with_located_queries(predictions: CorpusPredictions, everything: bool) -> CorpusPredictions:
    """Return predictions whose untimed captions span their whole video, if `everything`."""
    if not everything or not predictions.untimed_queries:
        return predictions
    queries = [
        q if q.is_timed or not q.is_caption else _over_whole_video(q, predictions)
        for q in predictions.corpus.queries
    ]
    return CorpusPredictions(
        predictions.model, replace(predictions.corpus, queries=queries), search=predictions.search
    )


def _over_whole_video(query: Query, predictions: CorpusPredictions) -> Query:
    return replace(
        query, spans=np.array([[0.0, predictions.corpus.videos[query.video].duration_seconds]])
    )


def _moment_records(
    predictions: CorpusPredictions, names: Mapping[str, str], has_clips: bool
) -> list[dict[str, Any]]:
    """Return the records of moment_detr's file; with `has_clips`, with a score for each clip."""
    records = []
    own_video = _own_video_moments(predictions)
    for query, (moments, saliency) in zip(predictions.timed_queries, own_video, strict=True):
        record = {
            "qid": _numeric_id(_query_id(query)),
            "query": query.text,
            "vid": _name(predictions, query.video, names),
            "pred_relevant_windows": moments,
        }
        if has_clips:
            record["pred_saliency_scores"] = clip_scores(predictions, query, saliency)
        records.append(record)
    return records


def _own_video_moments(
    predictions: CorpusPredictions,
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return `(N, 3)` moments of each timed query, and the saliency `(T,)` of the frames.

    Both are those of the head for moments; without one, moments of the curve, and None.
    """
    by_head = predictions.answers.get(TASKS["moments"])
    if by_head is None:
        return [(moments, None) for moments in predictions.moment_predictions.own_video]
    row_of = {id(query): row for row, query in enumerate(by_head.examples)}
    rows = [row_of[id(query)] for query in predictions.timed_queries]
    return [
        (by_head.predictions[row], by_head.saliency[row] if by_head.saliency else None)
        for row in rows
    ]


def _write_tvr(path: Path, predictions: CorpusPredictions, names: Mapping[str, str]) -> None:
    video_numbers = {
        _name(predictions, row, names): row for row in range(len(predictions.corpus.videos))
    }
    tasks: dict[str, list[dict[str, Any]]] = {"VCMR": [], "SVMR": [], "VR": []}
    corpus_moments = predictions.search_results or predictions.corpus_moments
    own_video_moments = [moments for moments, _ in _own_video_moments(predictions)]
    for i, query in enumerate(predictions.timed_queries):
        by_task = {
            "VCMR": corpus_moments[i],
            "SVMR": np.insert(own_video_moments[i], 0, query.video, axis=1),
            "VR": _top_videos(predictions, i),
        }
        record = {"desc_id": _numeric_id(_query_id(query)), "desc": query.text}
        for task, moments in by_task.items():
            tasks[task].append({**record, "predictions": moments})
    write_tvr(path, video_numbers, tasks)


def _top_videos(predictions: CorpusPredictions, row: int) -> np.ndarray:
    """Return `(N, 4)` best videos of a timed query, with times of 0."""
    if predictions.search_results:
        videos = videos_of(predictions.search_results[row])[:MAX_IN_CORPUS]
        return np.column_stack([videos[:, 0], np.zeros((len(videos), 2)), videos[:, 3]])
    scores = predictions.moment_predictions.video_scores[row].astype(np.float64)
    rows = np.argsort(-scores, kind="stable")[:MAX_IN_CORPUS]
    return np.column_stack([rows, np.zeros((len(rows), 2)), scores[rows]])


def _choice_records(
    predictions: CorpusPredictions, names: Mapping[str, str]
) -> list[dict[str, Any]]:
    answers = predictions.answers[TASKS["choice"]]
    records = []
    for question, choice in zip(answers.examples, answers.predictions, strict=True):
        video = _name(predictions, question.video, names)
        records.append(
            {
                "video": video,
                "qid": question.annotation.query_id.removeprefix(f"{video}_"),
                "prediction": int(choice),
                "answer": question.question.right,
            }
        )
    return records


def _name(predictions: CorpusPredictions, row: int, names: Mapping[str, str]) -> str:
    video = predictions.corpus.videos[row].video_id
    return names.get(video, video)


def _query_id(query: Query) -> str:
    return query.annotation.query_id if query.annotation else query.text


def _numeric_id(query_id: str) -> int | str:
    """Return the query id as a number, as in the benchmarks, if it is one."""
    return int(query_id) if query_id.isdecimal() else query_id
