"""Child side of `parquet.py`: a process that reads one Parquet file.

The reader may crash on a malformed file.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import FormatError
from vla.formats._array_keys import FEATURES, time_unit
from vla.formats._record import check_name, compute_origin
from vla.formats.base import ArrayKeys, as_format_error, check_declared_size, check_features, nbytes
from vla.hints import Hint

_VIDEOS = ("video", "video_id", "vid", "name")
_TIMES = ("timestamp_seconds", "timestamps_seconds", "timestamp", "timestamp_ms", "time")
_ATTRIBUTES_KEY = b"PANDAS_ATTRS"
"""Schema metadata key under which pandas stores the attributes of a table."""
_BATCH_ROWS = 1024
_MEMORY = 16 << 30


def main() -> None:
    """Send the list of videos, then those requested on standard input until it ends.

    `argv` holds the path in hexadecimal digits of its bytes, and the two keys of `ArrayKeys`.
    """
    path = Path(os.fsdecode(bytes.fromhex(sys.argv[1])))
    from pyarrow import parquet

    _limit()
    # Answers have a descriptor of their own: output of a library must not look like an answer.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        try:
            with as_format_error(path):
                file = parquet.ParquetFile(path)
            table = _Table(file, path, ArrayKeys(sys.argv[2], sys.argv[3]))
            _send(answers, "videos", table.videos())
        except FormatError as error:
            _send(answers, "keyless" if error.hint else "error", str(error))
            return
        for line in sys.stdin:
            _answer(answers, table, *json.loads(line))


def _answer(answers: Any, table: _Table, name: str, first: int, last: int) -> None:
    try:
        features, origin = table.read(name, first, last)
    except FormatError as error:
        _send(answers, "error", str(error))
        return
    values, times = np.ascontiguousarray(features.values), features.timestamps_seconds
    _send(
        answers,
        "values",
        [*values.shape, values.dtype.str, times is not None, features.duration_seconds, origin],
    )
    answers.write(values.tobytes())
    answers.write(b"" if times is None else times.tobytes())
    answers.flush()


def _send(answers: Any, kind: str, value: Any) -> None:
    answers.write(json.dumps([kind, value]).encode("ascii") + b"\n")
    answers.flush()


def _limit() -> None:
    """Limit memory, and forbid core files and writing."""
    with suppress(ImportError):
        import resource

        for name, value in {"RLIMIT_AS": _MEMORY, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0}.items():
            with suppress(
                AttributeError, ValueError, OSError
            ):  # a system without it, or with a stricter limit
                resource.setrlimit(getattr(resource, name), (value, value))


class _Table:
    """An open file and the roles of its columns, checked for sizes that it cannot hold."""

    def __init__(self, file: Any, path: Path, keys: ArrayKeys) -> None:
        self._file, self._path = file, path
        self._open: tuple[Any, int, Any] = (None, 0, None)
        size = nbytes(path)
        with as_format_error(path):
            names = file.schema_arrow.names
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            columns = [g.column(i) for g in groups for i in range(g.num_columns)]
            check_declared_size(
                (sum(c.total_uncompressed_size for c in columns),), 1, size, path, packed=True
            )
            check_declared_size((sum(c.num_values for c in columns),), 8, size, path, packed=True)
            self._starts = np.cumsum([0, *(g.num_rows for g in groups)])
            attributes = (file.schema_arrow.metadata or {}).get(_ATTRIBUTES_KEY)
            space = json.loads(attributes) if attributes else {}
        self._origin = compute_origin(space, path) if isinstance(space, dict) else ""
        self._video = next((n for n in _VIDEOS if n in names), "")
        self._times = keys.times_key or next((n for n in _TIMES if n in names), "")
        self._duration = "duration_seconds" if "duration_seconds" in names else ""
        usual_names = [n for n in ("feature", *FEATURES) if n in names]
        self._features = keys.key or "".join(usual_names[:1])
        missing = [n for n in (self._features, self._times) if n and n not in names]
        if missing or not self._features:
            fault = (
                f"no column {missing[0]!r}" if missing else "no column of a usual name for features"
            )
            raise FormatError(
                f"{path} has {fault}; its columns are {', '.join(names)}", hint=Hint("name_key")
            )

    def videos(self) -> list[tuple[str, int, int]]:
        """Return the name, first row and last row (exclusive) of each video.

        Raises:
            FormatError: the rows of a video are not contiguous.
        """
        if not self._video:
            return [(self._path.stem, 0, int(self._starts[-1]))]
        videos: list[tuple[str, int, int]] = []
        names: set[str] = set()
        row = 0
        with as_format_error(self._path):
            for batch in self._file.iter_batches(
                batch_size=1 << 16, columns=[self._video], use_threads=False
            ):
                for name in batch.column(0).to_pylist():
                    if not videos or videos[-1][0] != name:
                        if name in names:
                            raise FormatError(
                                f"{self._path}: the rows of {name!r} are not contiguous"
                            )
                        videos.append((check_name(name, self._path), row, row))
                        names.add(name)
                    row += 1
                    videos[-1] = (*videos[-1][:2], row)
        return videos

    def read(self, name: str, first: int, last: int) -> tuple[Any, str]:
        """Return the features in these rows and their origin; fast for rows in order."""
        location = f"{self._path} [{name}]"
        columns = [c for c in (self._features, self._times, self._duration) if c]
        parts: dict[str, list[np.ndarray]] = {c: [] for c in columns}
        with as_format_error(location):
            for batch in self._batches(columns, first, last):
                for column in columns:
                    parts[column].append(_numbers(batch.column(column), location))
            arrays = {c: np.concatenate(p) if p else np.zeros((0, 0)) for c, p in parts.items()}
            seconds = (
                float(arrays[self._duration].flat[0])
                if self._duration and arrays[self._duration].size
                else None
            )
        duration = seconds if seconds is not None and math.isfinite(seconds) else None
        times = arrays[self._times] if self._times else None
        unit = time_unit(self._times)
        return check_features(
            location, arrays[self._features], times, seconds=unit, duration=duration
        ), self._origin

    def _batches(self, columns: list[str], first: int, last: int) -> Iterator[Any]:
        """Yield the rows `first` to `last` in batches, continuing the last call if possible."""
        group = int(np.searchsorted(self._starts, first, "right")) - 1
        stream, row, batch = self._open
        if stream is None or first < row or self._starts[group] > row:
            groups = list(range(group, len(self._starts) - 1))
            stream = self._file.iter_batches(
                _BATCH_ROWS, row_groups=groups, columns=columns, use_threads=False
            )
            row, batch = int(self._starts[group]), None
        self._open = (None, 0, None)  # after an error, the next call starts anew
        while row < last:
            batch = next(stream, None) if batch is None else batch
            if batch is None:
                break
            end = row + len(batch)
            begin, stop = max(first, row), min(last, end)
            if begin < stop:
                yield batch.slice(begin - row, stop - begin)
            batch, row = (
                (None, end) if stop == end or end <= first else (batch.slice(stop - row), stop)
            )
        self._open = (stream, row, batch)


def _numbers(column: Any, location: str) -> np.ndarray:
    """Return `(rows,)` for a column of numbers, `(rows, width)` for lists of equal length."""
    if not hasattr(column, "flatten") or not hasattr(column.type, "value_type"):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if column.null_count:
        raise FormatError(f"{location} has frames without a feature")
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
    rows = len(column)
    width = len(flat) // rows if rows else 0
    lengths = (
        np.diff(np.asarray(column.offsets)) if hasattr(column, "offsets") else np.full(rows, width)
    )
    if (lengths != width).any():
        raise FormatError(
            f"{location} has features of different widths, {lengths.min()} to {lengths.max()}"
        )
    return flat.reshape(rows, width)
