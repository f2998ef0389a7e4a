"""`.parquet`: a row for each frame, with the video's name, the time, and the feature as a list.

The Parquet reader may crash on a malformed file, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np

from vla.errors import EnvironmentUnfitError, FormatError
from vla.formats._record import check_name
from vla.formats.base import (
    ArrayKeys,
    ExportItem,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_declared_size,
    check_features,
    nbytes,
)
from vla.hints import Hint
from vla.storage import atomic

_ROW_GROUP_ROWS = 1024
_TIMEOUT = 300.0
_MAX_LINE_BYTES = 1 << 30
_INVALID_MESSAGE = "the Parquet reader sent an invalid message"


class Format:
    """One video or many per file; the rows of a video are contiguous."""

    suffixes = (".parquet",)
    output_suffixes = (".parquet",)
    holds_many = True
    allows_any_name = False

    def contents(self, path: Path, keys: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """Yield the videos in the file; see the base class."""
        _require_pyarrow()
        nbytes(path)
        reader = _Reader(path, keys)
        try:
            for name, first, last in reader.videos():
                yield StoredVideo(check_name(name, path), partial(reader.read, name, first, last))
        finally:
            reader.end()

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """Write the videos as float32; see the base class.

        Every Parquet reader supports float32, and float16 converts to it without loss.
        """
        _require_pyarrow()
        import pandas

        tables, space = [], {}
        for video in videos:
            features = video.features
            space = {k: video.record[k] for k in ("spec", "run") if k in video.record}
            tables.append(
                pandas.DataFrame(
                    {
                        "video": features.video_id,
                        "timestamp_seconds": features.timestamps_seconds,
                        "duration_seconds": features.duration_seconds,
                        "feature": list(features.values.astype(np.float32)),
                    }
                )
            )
        frame = pandas.concat(tables, ignore_index=True)
        frame.attrs = space
        with atomic.open_atomic(folder / f"{name}.parquet") as file:
            frame.to_parquet(file, engine="pyarrow", index=False, row_group_size=_ROW_GROUP_ROWS)


class _Reader:
    """Parent side of the reading process.

    Its answers are untrusted: only numbers are taken, of sizes that the file can hold.
    """

    def __init__(self, path: Path, keys: ArrayKeys) -> None:
        self._path = path
        paths = os.pathsep.join(p for p in sys.path if p)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from vla.formats._parquet_child import main; main()",
             os.fsencode(path.absolute()).hex(), keys.key, keys.times_key],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            # This process handles Ctrl-C: the child ends with its pipe.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"},
        )  # fmt: skip

    def videos(self) -> list[tuple[str, int, int]]:
        """Return the name, first row and last row (exclusive) of each video."""
        videos = self._request("videos")
        with as_format_error(self._path):
            return [(str(name), int(first), int(last)) for name, first, last in videos]

    def read(self, name: str, first: int, last: int) -> ExternalFeatures:
        """Return the features in these rows."""
        location = f"{self._path} [{name}]"
        frames, width, kind, has_times, duration, origin = self._request(
            "values", [name, first, last]
        )
        with as_format_error(location):
            dtype = np.dtype(str(kind))
            size = check_declared_size(
                (frames, width), dtype.itemsize, nbytes(self._path), location, packed=True
            )
            values = np.frombuffer(self._read_bytes(size), dtype).reshape(frames, width)
            times = np.frombuffer(self._read_bytes(8 * frames), np.float64) if has_times else None
        return check_features(location, values, times, duration=duration, origin=str(origin))

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def _request(self, answer_kind: str, request: Any = None) -> Any:
        """Return the child's answer of this kind; raise FormatError for another, or none."""
        # A child that hangs is killed; reading from its pipe then ends.
        timer = threading.Timer(_TIMEOUT, self._process.kill)
        timer.start()
        try:
            if request is not None:
                with suppress(OSError):  # the child ended: the missing answer reports it
                    _stream(self._process.stdin).write(json.dumps(request).encode("ascii") + b"\n")
                    _stream(self._process.stdin).flush()
            line = _stream(self._process.stdout).readline(_MAX_LINE_BYTES)
        finally:
            timer.cancel()
        if not line:
            raise self._crash_error()
        with as_format_error(f"{self._path}: {_INVALID_MESSAGE}"):
            kind, value = json.loads(line)
        if kind != answer_kind:
            message = (
                str(value) if kind in ("error", "keyless") else f"{self._path}: {_INVALID_MESSAGE}"
            )
            raise FormatError(message, hint=Hint("name_key") if kind == "keyless" else None)
        return value

    def _read_bytes(self, size: int) -> bytes:
        content = _stream(self._process.stdout).read(size)
        if len(content) != size:
            raise self._crash_error()
        return content

    def _crash_error(self) -> FormatError:
        self._process.kill()
        code = self._process.wait()
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
        return FormatError(f"{self._path}: the Parquet reader crashed or hung ({name})")


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise OSError("closed")
    return stream


def _require_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise EnvironmentUnfitError(
            "Parquet needs the package 'pyarrow', which is not installed: pip install pyarrow"
        )
