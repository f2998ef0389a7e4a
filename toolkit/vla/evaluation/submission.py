"""Files that the benchmarks' own evaluators and servers read, written whole or not at all.

Evaluators judge lists as listed, so predictions are written by falling score; of equal scores the order stays. Numbers are
written with all their digits: who reads the file back gets the same floats.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import ShapeError, UsageError
from vla.metrics.corpus_moments import TASKS
from vla.metrics.moments import check_predictions
from vla.storage.atomic import write_bytes

MOST_IN_CORPUS = 100
"""TVR: what comes after is not read."""


def write_qvhighlights(path: Path | str, records: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines with `qid`, `query`, `vid`, `pred_relevant_windows` and `pred_saliency_scores` (jayleicn/moment_detr).

    The server wants `hl_val_submission.jsonl` and `hl_test_submission.jsonl` in one zip file.

    Args:
        path: of the file to write.
        records: with those keys; the windows `(N, 3)` of start, end (seconds) and score, N at least 1, the scores one for
            each 2 s clip in order. The scores may be missing, from all records.

    Raises:
        ShapeError: windows or scores of another shape.
        UsageError: no records, a key is missing, a `qid` comes twice, or a number makes no sense.
        ResourceError: it could not be written.
    """
    rows, scored = [], set()
    for record in _checked(records, "qid", ("qid", "query", "vid", "pred_relevant_windows")):
        windows = _ranked(record["pred_relevant_windows"], 3, f"qid {record['qid']}")
        row = {
            **{key: _plain(record[key]) for key in ("qid", "query", "vid")},
            "pred_relevant_windows": windows.tolist(),
        }
        scored.add("pred_saliency_scores" in record)
        if "pred_saliency_scores" in record:
            row["pred_saliency_scores"] = _scores(record["pred_saliency_scores"], f"qid {record['qid']}")
        rows.append(row)
    if len(scored) > 1:
        raise UsageError("either every record has pred_saliency_scores or none: the evaluator looks at the first only")
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_tvr(
    path: Path | str, video2idx: Mapping[str, int], predictions: Mapping[str, Iterable[Mapping[str, Any]]]
) -> None:
    """One JSON object with `video2idx` and, for each task, a list of `desc_id`, `desc` and `predictions`.

    Source: jayleicn/TVRetrieval, `standalone_eval`. Only the best 100 predictions are written.

    Args:
        path: of the file to write; the server wants `tvr_val_submission.json` and `tvr_test_public_submission.json`.
        video2idx: number of every video, as in TVR's `tvr_video2dur_idx.json`.
        predictions: for `VCMR`, `SVMR` and `VR`, or some of them, records with those keys; the predictions `(N, 4)`, rows
            of the video's number, start, end (seconds; 0 for VR) and score, N at least 1.

    Raises:
        ShapeError: predictions of another shape.
        UsageError: an unknown task, no records, a key is missing, a `desc_id` comes twice, or a number makes no sense.
        ResourceError: it could not be written.
    """
    unknown = [task for task in predictions if task not in TASKS]
    if unknown or not predictions:
        raise UsageError(f"a submission has some of {', '.join(TASKS)}, not {list(predictions)}")
    numbers = {str(name): int(number) for name, number in video2idx.items()}
    content: dict[str, Any] = {"video2idx": numbers}
    for task in (task for task in TASKS if task in predictions):
        content[task] = [
            {
                "desc_id": _plain(record["desc_id"]),
                "desc": record["desc"],
                "predictions": _in_corpus(record, set(numbers.values())),
            }
            for record in _checked(predictions[task], "desc_id", ("desc_id", "desc", "predictions"))
        ]
    _write(path, json.dumps(content))


def write_nextqa(path: Path | str, records: Iterable[Mapping[str, Any]]) -> None:
    """NExT-QA's results by the path's suffix: `.json`, or `.csv` with the columns `video`, `qid`, `prediction`, `answer`.

    The JSON is `{"<video>_<qid>": {"prediction": 2, "answer": 0}}` as doc-doc/NExT-QA's `eval_mc.py` reads it; it needs
    the answers. The table is ours, with the names of the annotations' columns.

    Args:
        path: of the file to write.
        records: with `video`, `qid`, `prediction` and, from all or none, `answer`; the last two numbers of choices.

    Raises:
        UsageError: no records, a key is missing, a question comes twice, a choice is not a whole number from 0, or
            another suffix.
        ResourceError: it could not be written.
    """
    rows = [
        {"video": str(record["video"]), "qid": str(record["qid"])}
        | {key: _choice(record[key]) for key in ("prediction", "answer") if key in record}
        for record in _checked(records, "question", ("video", "qid", "prediction"))
    ]
    if len({"answer" in row for row in rows}) > 1:
        raise UsageError("either every record has an answer or none")
    suffix = Path(path).suffix
    if suffix == ".json":
        keys = ("prediction", "answer")
        named = {f"{row['video']}_{row['qid']}": {key: row[key] for key in keys if key in row} for row in rows}
        _write(path, json.dumps(named, indent=1) + "\n")
    elif suffix == ".csv":
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        _write(path, text.getvalue())
    else:
        raise UsageError(f"results of NExT-QA are written as .json or .csv, not as {Path(path).name!r}")


def _checked(records: Iterable[Mapping[str, Any]], unique: str, keys: Sequence[str]) -> list[Mapping[str, Any]]:
    """Records that have these keys, each once by its `unique` key; a question is a video and a `qid`."""
    rows = list(records)
    if not rows:
        raise UsageError("there are no records to write")
    seen: set[Any] = set()
    for number, record in enumerate(rows):
        missing = [key for key in keys if key not in record]
        if missing:
            raise UsageError(f"record {number} has no {missing[0]!r}: it needs {', '.join(keys)}")
        name = f"{record['video']}_{record['qid']}" if unique == "question" else _plain(record[unique])
        if name in seen:
            raise UsageError(f"{unique} {name} comes twice: an evaluator would read the last and say nothing")
        seen.add(name)
    return rows


def _ranked(predicted: Any, columns: int, where: str) -> np.ndarray:
    rows = check_predictions(predicted, columns)
    if not len(rows):
        raise UsageError(f"{where} has no prediction: give it one, e.g. the whole video, since evaluators fail on none")
    return rows[np.argsort(-rows[:, -1], kind="stable")]


def _in_corpus(record: Mapping[str, Any], numbers: set[int]) -> list[list[float]]:
    where = f"desc_id {record['desc_id']}"
    rows = _ranked(record["predictions"], 4, where)[:MOST_IN_CORPUS]
    strange = sorted(set(rows[:, 0].tolist()) - numbers)
    if strange:
        raise UsageError(f"{where} predicts video {strange[0]:g}, a number that no video of video2idx has")
    return [[int(video), *rest] for video, *rest in rows.tolist()]


def _scores(scores: Any, where: str) -> list[float]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(f"{where} needs one row of saliency scores, not an array of shape {values.shape}")
    if not len(values) or not np.isfinite(values).all():
        raise UsageError(f"{where} needs finite saliency scores, at least one; got {len(values)}")
    return [float(value) for value in values]


def _choice(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise UsageError(f"a choice is a whole number from 0, not {value!r}")
    return int(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write(path: Path | str, text: str) -> None:
    write_bytes(Path(path), text.encode("utf-8"))
