"""The other side of `parquet.py`: a process that reads one Parquet file, since what reads it may crash over a file that lies."""

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
from vla.formats._named import FEATURES, unit_of
from vla.formats._record import checked_name, origin_of
from vla.formats.base import ArrayKeys, as_format_error, check_declared_size, nbytes, released
from vla.hints import Hint

_VIDEOS = ("video", "video_id", "vid", "name")
_TIMES = ("timestamp_seconds", "timestamps_seconds", "timestamp", "timestamp_ms", "time")
_SPACE = b"PANDAS_ATTRS"
"""Where pandas keeps what is said of a whole table."""
_ROWS = 1024
_MEMORY = 16 << 30


def main() -> None:
    """Say which videos are in the file, then send those that are asked for on standard input until it ends.

    `argv` holds the path in hexadecimal digits of its bytes, and the two names of `ArrayKeys`.
    """
    path = Path(os.fsdecode(bytes.fromhex(sys.argv[1])))
    from pyarrow import parquet

    _limit()
    # Answers have their own handle: whatever a library prints must not look like one.
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        try:
            with as_format_error(path):
                file = parquet.ParquetFile(path)
            table = _Table(file, path, ArrayKeys(sys.argv[2], sys.argv[3]))
            _say(answers, "videos", table.videos())
        except FormatError as error:
            _say(answers, "keyless" if error.hint else "error", str(error))
            return
        for line in sys.stdin:
            _answer(answers, table, *json.loads(line))


def _answer(answers: Any, table: _Table, name: str, first: int, last: int) -> None:
    try:
        found, origin = table.read(name, first, last)
    except FormatError as error:
        _say(answers, "error", str(error))
        return
    values, times = np.ascontiguousarray(found.values), found.timestamps_seconds
    _say(answers, "values", [*values.shape, values.dtype.str, times is not None, found.duration_seconds, origin])
    answers.write(values.tobytes())
    answers.write(b"" if times is None else times.tobytes())
    answers.flush()


def _say(answers: Any, kind: str, value: Any) -> None:
    answers.write(json.dumps([kind, value]).encode("ascii") + b"\n")
    answers.flush()


def _limit() -> None:
    """No more memory than this, no core files, nothing written."""
    with suppress(ImportError):
        import resource

        for name, value in {"RLIMIT_AS": _MEMORY, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0}.items():
            with suppress(AttributeError, ValueError, OSError):  # a system without it, or with a stricter limit
                resource.setrlimit(getattr(resource, name), (value, value))


class _Table:
    """An open file: which columns are what, checked for sizes that it cannot hold."""

    def __init__(self, file: Any, path: Path, wanted: ArrayKeys) -> None:
        self._file, self._path = file, path
        self._open: tuple[Any, int, Any] = (None, 0, None)
        size = nbytes(path)
        with as_format_error(path):
            names = file.schema_arrow.names
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            columns = [g.column(i) for g in groups for i in range(g.num_columns)]
            check_declared_size((sum(c.total_uncompressed_size for c in columns),), 1, size, path, packed=True)
            check_declared_size((sum(c.num_values for c in columns),), 8, size, path, packed=True)
            self._starts = np.cumsum([0, *(g.num_rows for g in groups)])
            attributes = (file.schema_arrow.metadata or {}).get(_SPACE)
            space = json.loads(attributes) if attributes else {}
        self._origin = origin_of(space, path) if isinstance(space, dict) else ""
        self._video = next((n for n in _VIDEOS if n in names), "")
        self._times = wanted.times_key or next((n for n in _TIMES if n in names), "")
        self._duration = "duration_seconds" if "duration_seconds" in names else ""
        usual = [n for n in ("feature", *FEATURES) if n in names]
        self._features = wanted.key or "".join(usual[:1])
        missing = [n for n in (self._features, self._times) if n and n not in names]
        if missing or not self._features:
            wish = f"no column {missing[0]!r}" if missing else "no column of a usual name for features"
            raise FormatError(f"{path} has {wish}; its columns are {', '.join(names)}", hint=Hint("name_key"))

    def videos(self) -> list[tuple[str, int, int]]:
        """Name, first row and last row (exclusive) of each video; raises FormatError where they are not together."""
        if not self._video:
            return [(self._path.stem, 0, int(self._starts[-1]))]
        found: list[tuple[str, int, int]] = []
        seen: set[str] = set()
        row = 0
        with as_format_error(self._path):
            for batch in self._file.iter_batches(batch_size=1 << 16, columns=[self._video], use_threads=False):
                for name in batch.column(0).to_pylist():
                    if not found or found[-1][0] != name:
                        if name in seen:
                            raise FormatError(f"{self._path}: the rows of {name!r} do not lie together")
                        found.append((checked_name(name, self._path), row, row))
                        seen.add(name)
                    row += 1
                    found[-1] = (*found[-1][:2], row)
        return found

    def read(self, name: str, first: int, last: int) -> tuple[Any, str]:
        """The features in these rows, and their origin; quick where rows are asked for in order."""
        place = f"{self._path} [{name}]"
        columns = [c for c in (self._features, self._times, self._duration) if c]
        parts: dict[str, list[np.ndarray]] = {c: [] for c in columns}
        with as_format_error(place):
            for piece in self._pieces(columns, first, last):
                for column in columns:
                    parts[column].append(_numbers(piece.column(column), place))
            joined = {c: np.concatenate(p) if p else np.zeros((0, 0)) for c, p in parts.items()}
            longest = float(joined[self._duration].flat[0]) if self._duration and joined[self._duration].size else None
        known = longest if longest is not None and math.isfinite(longest) else None
        times = joined[self._times] if self._times else None
        unit = unit_of(self._times)
        return released(place, joined[self._features], times, seconds=unit, duration=known), self._origin

    def _pieces(self, columns: list[str], first: int, last: int) -> Iterator[Any]:
        """The rows from `first` to `last`, in batches; goes on where the last call ended if it can."""
        group = int(np.searchsorted(self._starts, first, "right")) - 1
        stream, row, held = self._open
        if stream is None or first < row or self._starts[group] > row:
            groups = list(range(group, len(self._starts) - 1))
            stream = self._file.iter_batches(_ROWS, row_groups=groups, columns=columns, use_threads=False)
            row, held = int(self._starts[group]), None
        self._open = (None, 0, None)  # if this ends in an error, the next call begins anew
        while row < last:
            held = next(stream, None) if held is None else held
            if held is None:
                break
            end = row + len(held)
            begin, stop = max(first, row), min(last, end)
            if begin < stop:
                yield held.slice(begin - row, stop - begin)
            held, row = (None, end) if stop == end or end <= first else (held.slice(stop - row), stop)
        self._open = (stream, row, held)


def _numbers(column: Any, place: str) -> np.ndarray:
    """`(rows,)` of plain numbers, `(rows, width)` of lists of numbers that are all as long."""
    if not hasattr(column, "flatten") or not hasattr(column.type, "value_type"):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if column.null_count:
        raise FormatError(f"{place} has frames without a feature")
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
    rows = len(column)
    width = len(flat) // rows if rows else 0
    lengths = np.diff(np.asarray(column.offsets)) if hasattr(column, "offsets") else np.full(rows, width)
    if (lengths != width).any():
        raise FormatError(f"{place} has features of different widths, {lengths.min()} to {lengths.max()}")
    return flat.reshape(rows, width)
