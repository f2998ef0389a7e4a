"""Submission files for official evaluators, from the predictions of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vla.batches.corpus import Query
from vla.datasets.qvhighlights import CLIP_SECONDS
from vla.errors import MissingError
from vla.evaluation.head_answers import TASKS
from vla.evaluation.moment_protocol import with_saliency_ratings
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.search_metrics import videos_of
from vla.evaluation.submission import MAX_IN_CORPUS, write_nextqa, write_qvhighlights, write_tvr


def submit(
    folder: Path,
    predictions: CorpusPredictions,
    names: Mapping[str, str],
    format: str | None,
    split: str,
) -> list[Path]:
    """Write submission files, and return their paths.

    QVHighlights' is written for rated clips or its format, otherwise TVR's for timed captions, and
    NExT-QA's for multiple choice. Moments are those of the moment head, if the run has one, else
    search results, if `predictions` has a retriever, else windows. With the formats `qvhighlights`
    and `tvr`, queries without times (a test set without public answers) are located, too.

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
    if with_times.timed_queries and (
        format == "qvhighlights"
        or (format != "tvr" and with_saliency_ratings(with_times.timed_queries))
    ):
        paths.append(folder / f"hl_{suffix}_submission.jsonl")
        write_qvhighlights(paths[-1], _highlight_records(with_times, names))
    elif with_times.timed_queries:
        paths.append(folder / f"tvr_{suffix}_submission.json")
        _write_tvr(paths[-1], with_times, names)
    if TASKS["choice"] in predictions.answers:
        paths.append(folder / f"nextqa_{suffix}.json")
        write_nextqa(paths[-1], _choice_records(predictions, names))
    if not paths:
        raise MissingError("nothing to submit: captions without times have no official evaluator")
    return paths


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


def _highlight_records(
    predictions: CorpusPredictions, names: Mapping[str, str]
) -> list[dict[str, Any]]:
    by_head = predictions.answers.get(TASKS["moments"])
    own_video_moments = (
        predictions.own_video_search_results or predictions.moment_predictions.own_video
    )
    pairs = (
        zip(by_head.examples, by_head.predictions, strict=True)
        if by_head
        else zip(predictions.timed_queries, own_video_moments, strict=True)
    )
    records = []
    for query, windows in pairs:
        clips = max(1, int(_seconds(predictions, query) / CLIP_SECONDS))
        records.append(
            {
                "qid": _numeric_id(_query_id(query)),
                "query": query.text,
                "vid": _name(predictions, query.video, names),
                "pred_relevant_windows": windows,
                "pred_saliency_scores": predictions.clip_scores(query, clips, CLIP_SECONDS),
            }
        )
    return records


def _write_tvr(path: Path, predictions: CorpusPredictions, names: Mapping[str, str]) -> None:
    video_numbers = {
        _name(predictions, row, names): row for row in range(len(predictions.corpus.videos))
    }
    tasks: dict[str, list[dict[str, Any]]] = {"VCMR": [], "SVMR": [], "VR": []}
    corpus_moments, own_video_moments = (
        predictions.search_results or predictions.corpus_moments,
        predictions.own_video_search_results or predictions.moment_predictions.own_video,
    )
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


def _seconds(predictions: CorpusPredictions, query: Query) -> float:
    duration = query.annotation.duration if query.annotation else None
    return duration or predictions.corpus.videos[query.video].duration_seconds


def _name(predictions: CorpusPredictions, row: int, names: Mapping[str, str]) -> str:
    video = predictions.corpus.videos[row].video_id
    return names.get(video, video)


def _query_id(query: Query) -> str:
    return query.annotation.query_id if query.annotation else query.text


def _numeric_id(query_id: str) -> int | str:
    """Return the query id as a number, as in the benchmarks, if it is one."""
    return int(query_id) if query_id.isdecimal() else query_id
