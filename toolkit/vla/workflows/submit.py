"""Files that official evaluators read, from what a model makes of a corpus."""

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
from vla.evaluation.submission import MOST_IN_CORPUS, write_nextqa, write_qvhighlights, write_tvr


def submit(
    folder: Path, seen: CorpusPredictions, names: Mapping[str, str], format: str | None, split: str
) -> list[Path]:
    """The files that were written: QVHighlights' where clips were rated or the format is its, else TVR's of timed captions,
    and NExT-QA's of choices.

    Moments are those of the head that was trained for them, else those that a search lists, where `seen` has one, else windows.
    Queries that carry no times (a test set whose answers are kept back) are located, too, where the format says that times
    are asked for.

    Args:
        folder: where to write; files of the same name are replaced.
        seen: the corpus as the model has it.
        names: what the annotations call each video.
        format: of the annotations; None where their suffix told.
        split: for the names of the files.

    Raises:
        MissingError: no evaluator asks for anything of this.
        ResourceError: they could not be written.
    """
    kind, written = split or "all", []
    asking = _asking(seen, everything=format in ("qvhighlights", "tvr"))
    if asking.timed and (format == "qvhighlights" or (format != "tvr" and with_saliency_ratings(asking.timed))):
        written.append(folder / f"hl_{kind}_submission.jsonl")
        write_qvhighlights(written[-1], _highlights(asking, names))
    elif asking.timed:
        written.append(folder / f"tvr_{kind}_submission.json")
        _write_tvr(written[-1], asking, names)
    if TASKS["choice"] in seen.answers:
        written.append(folder / f"nextqa_{kind}.json")
        write_nextqa(written[-1], _choices(seen, names))
    if not written:
        raise MissingError("there is nothing to submit: no evaluator reads files about captions without times")
    return written


def _asking(seen: CorpusPredictions, everything: bool) -> CorpusPredictions:
    """`seen` where every caption that has no times tells of its whole video, if `everything` is to be located."""
    if not everything or not seen.untimed:
        return seen
    queries = [q if q.is_timed or not q.is_caption else _spanning(q, seen) for q in seen.corpus.queries]
    return CorpusPredictions(seen.model, replace(seen.corpus, queries=queries), search=seen.search)


def _spanning(query: Query, seen: CorpusPredictions) -> Query:
    return replace(query, spans=np.array([[0.0, seen.corpus.videos[query.video].duration_seconds]]))


def _highlights(seen: CorpusPredictions, names: Mapping[str, str]) -> list[dict[str, Any]]:
    by_head = seen.answers.get(TASKS["moments"])
    own = seen.listed_in_own or seen.found.own
    pairs = zip(by_head.asked, by_head.predicted, strict=True) if by_head else zip(seen.timed, own, strict=True)
    records = []
    for query, windows in pairs:
        clips = max(1, int(_seconds(seen, query) / CLIP_SECONDS))
        records.append(
            {
                "qid": _number(_query_id(query)),
                "query": query.text,
                "vid": _name(seen, query.video, names),
                "pred_relevant_windows": windows,
                "pred_saliency_scores": seen.clip_scores(query, clips, CLIP_SECONDS),
            }
        )
    return records


def _write_tvr(path: Path, seen: CorpusPredictions, names: Mapping[str, str]) -> None:
    numbers = {_name(seen, row, names): row for row in range(len(seen.corpus.videos))}
    tasks: dict[str, list[dict[str, Any]]] = {"VCMR": [], "SVMR": [], "VR": []}
    everywhere, own = seen.listed or seen.everywhere, seen.listed_in_own or seen.found.own
    for i, query in enumerate(seen.timed):
        found = {
            "VCMR": everywhere[i],
            "SVMR": np.insert(own[i], 0, query.video, axis=1),
            "VR": _videos(seen, i),
        }
        told = {"desc_id": _number(_query_id(query)), "desc": query.text}
        for task, predictions in found.items():
            tasks[task].append({**told, "predictions": predictions})
    write_tvr(path, numbers, tasks)


def _videos(seen: CorpusPredictions, number: int) -> np.ndarray:
    """`(N, 4)` the best videos for the timed query of that number, with times of 0."""
    if seen.listed:
        found = videos_of(seen.listed[number])[:MOST_IN_CORPUS]
        return np.column_stack([found[:, 0], np.zeros((len(found), 2)), found[:, 3]])
    best = seen.found.best[number].astype(np.float64)
    rows = np.argsort(-best, kind="stable")[:MOST_IN_CORPUS]
    return np.column_stack([rows, np.zeros((len(rows), 2)), best[rows]])


def _choices(seen: CorpusPredictions, names: Mapping[str, str]) -> list[dict[str, Any]]:
    answered = seen.answers[TASKS["choice"]]
    records = []
    for asked, choice in zip(answered.asked, answered.predicted, strict=True):
        video = _name(seen, asked.video, names)
        records.append(
            {
                "video": video,
                "qid": asked.annotation.query_id.removeprefix(f"{video}_"),
                "prediction": int(choice),
                "answer": asked.question.right,
            }
        )
    return records


def _seconds(seen: CorpusPredictions, query: Query) -> float:
    told = query.annotation.duration if query.annotation else None
    return told or seen.corpus.videos[query.video].duration_seconds


def _name(seen: CorpusPredictions, row: int, names: Mapping[str, str]) -> str:
    video = seen.corpus.videos[row].video_id
    return names.get(video, video)


def _query_id(query: Query) -> str:
    return query.annotation.query_id if query.annotation else query.text


def _number(query_id: str) -> int | str:
    """As the benchmarks number their queries."""
    return int(query_id) if query_id.isdecimal() else query_id
