"""Submission files for the official evaluators and servers of the benchmarks, written atomically.

Evaluators read lists in order: predictions are written by falling score, and equal scores keep
their order. Numbers are written with all digits, so that they are read back exactly.
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

MAX_IN_CORPUS = 100
"""Number of predictions that TVR's evaluator reads."""


def write_qvhighlights(path: Path | str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines with windows and saliency scores for QVHighlights (jayleicn/moment_detr).

    The server expects `hl_val_submission.jsonl` and `hl_test_submission.jsonl` in one zip file.
    Lighthouse evaluates Charades-STA and other data sets by the same lines. Their records have no
    saliency scores: with these, the evaluator expects ratings of clips in the annotations.

    Args:
        path: of the file to write.
        records: with `qid`, `query`, `vid`, `pred_relevant_windows` (`(N, 3)` of start, end
            (seconds) and score, N at least 1) and `pred_saliency_scores` (one for each 2 s clip, in
            order). The saliency scores may be missing from all records.

    Raises:
        ShapeError: windows or scores of another shape.
        UsageError: no records, a missing key, a repeated `qid`, or an invalid number.
        ResourceError: the file cannot be written.
    """
    rows, has_scores = [], set()
    for record in _validate_records(
        records, "qid", ("qid", "query", "vid", "pred_relevant_windows")
    ):
        windows = _sort_by_score(record["pred_relevant_windows"], 3, f"qid {record['qid']}")
        row = {
            **{key: _plain(record[key]) for key in ("qid", "query", "vid")},
            "pred_relevant_windows": windows.tolist(),
        }
        has_scores.add("pred_saliency_scores" in record)
        if "pred_saliency_scores" in record:
            row["pred_saliency_scores"] = _scores(
                record["pred_saliency_scores"], f"qid {record['qid']}"
            )
        rows.append(row)
    if len(has_scores) > 1:
        raise UsageError(
            "either all records or none must have pred_saliency_scores: the evaluator reads the "
            "keys of the first"
        )
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_tvr(
    path: Path | str,
    video2idx: Mapping[str, int],
    predictions: Mapping[str, Iterable[Mapping[str, Any]]],
) -> None:
    """Write a JSON object of `video2idx` and, by task, `desc_id`, `desc` and `predictions`.

    Source: jayleicn/TVRetrieval, `standalone_eval`. Only the best 100 predictions are written.

    Args:
        path: of the file to write; the server expects `tvr_val_submission.json` and
            `tvr_test_public_submission.json`.
        video2idx: number of every video, as in TVR's `tvr_video2dur_idx.json`.
        predictions: for `VCMR`, `SVMR` and `VR`, or some of them, records with those keys; the
            predictions `(N, 4)`, rows of the video's number, start, end (seconds; 0 for VR) and
            score, N at least 1.

    Raises:
        ShapeError: predictions of another shape.
        UsageError: an unknown task, no records, a missing key, a repeated `desc_id`, or an invalid
            number.
        ResourceError: the file cannot be written.
    """
    unknown = [task for task in predictions if task not in TASKS]
    if unknown or not predictions:
        raise UsageError(
            f"invalid tasks {list(predictions)}: a submission has one or more of {', '.join(TASKS)}"
        )
    numbers = {str(name): int(number) for name, number in video2idx.items()}
    content: dict[str, Any] = {"video2idx": numbers}
    for task in (task for task in TASKS if task in predictions):
        content[task] = [
            {
                "desc_id": _plain(record["desc_id"]),
                "desc": record["desc"],
                "predictions": _corpus_rows(record, set(numbers.values())),
            }
            for record in _validate_records(
                predictions[task], "desc_id", ("desc_id", "desc", "predictions")
            )
        ]
    _write(path, json.dumps(content))


def write_nextqa(path: Path | str, records: Iterable[Mapping[str, Any]]) -> None:
    """Write results of NExT-QA, in the format of the path's suffix: `.json` or `.csv`.

    The JSON is `{"<video>_<qid>": {"prediction": 2, "answer": 0}}`, as doc-doc/NExT-QA's
    `eval_mc.py` reads it; it needs the answers. The CSV is a format of this library, with the
    columns `video`, `qid`, `prediction` and `answer`, named as in the annotations.

    Args:
        path: of the file to write.
        records: with `video`, `qid`, `prediction` and, in all or none, `answer`; the last two are
            choice numbers.

    Raises:
        UsageError: no records, a missing key, a repeated question, a choice that is not a whole
            number from 0, or another suffix.
        ResourceError: the file cannot be written.
    """
    rows = [
        {"video": str(record["video"]), "qid": str(record["qid"])}
        | {key: _choice(record[key]) for key in ("prediction", "answer") if key in record}
        for record in _validate_records(records, "question", ("video", "qid", "prediction"))
    ]
    if len({"answer" in row for row in rows}) > 1:
        raise UsageError("either all records or none must have an answer")
    suffix = Path(path).suffix
    if suffix == ".json":
        keys = ("prediction", "answer")
        by_question = {
            f"{row['video']}_{row['qid']}": {key: row[key] for key in keys if key in row}
            for row in rows
        }
        _write(path, json.dumps(by_question, indent=1) + "\n")
    elif suffix == ".csv":
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        _write(path, text.getvalue())
    else:
        raise UsageError(
            f"invalid file name {Path(path).name!r}: NExT-QA results are written as .json or .csv"
        )


def _validate_records(
    records: Iterable[Mapping[str, Any]], id_key: str, keys: Sequence[str]
) -> list[Mapping[str, Any]]:
    """Return the records, with all keys and unique ids; a question's id is its video and `qid`."""
    rows = list(records)
    if not rows:
        raise UsageError("no records to write")
    ids: set[Any] = set()
    for row, record in enumerate(rows):
        missing = [key for key in keys if key not in record]
        if missing:
            raise UsageError(f"record {row} has no {missing[0]!r}; required: {', '.join(keys)}")
        identifier = (
            f"{record['video']}_{record['qid']}" if id_key == "question" else _plain(record[id_key])
        )
        if identifier in ids:
            raise UsageError(
                f"{id_key} {identifier} is repeated: evaluators would silently read the last"
            )
        ids.add(identifier)
    return rows


def _sort_by_score(predictions: Any, columns: int, record_name: str) -> np.ndarray:
    rows = check_predictions(predictions, columns)
    if not len(rows):
        raise UsageError(
            f"{record_name} has no prediction: evaluators need at least one, e.g. the whole video"
        )
    return rows[np.argsort(-rows[:, -1], kind="stable")]


def _corpus_rows(record: Mapping[str, Any], numbers: set[int]) -> list[list[float]]:
    record_name = f"desc_id {record['desc_id']}"
    rows = _sort_by_score(record["predictions"], 4, record_name)[:MAX_IN_CORPUS]
    unknown = sorted(set(rows[:, 0].tolist()) - numbers)
    if unknown:
        raise UsageError(
            f"{record_name} predicts video {unknown[0]:g}, but video2idx has no such number"
        )
    return [[int(video), *rest] for video, *rest in rows.tolist()]


def _scores(scores: Any, record_name: str) -> list[float]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise ShapeError(
            f"{record_name}: expected one row of saliency scores, got an array of shape "
            f"{values.shape}"
        )
    if not len(values) or not np.isfinite(values).all():
        raise UsageError(
            f"{record_name}: expected at least one saliency score, all finite; got {len(values)}"
        )
    return [float(value) for value in values]


def _choice(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise UsageError(f"invalid choice {value!r}: it must be a whole number from 0")
    return int(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _write(path: Path | str, text: str) -> None:
    write_bytes(Path(path), text.encode("utf-8"))
