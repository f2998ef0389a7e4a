"""`.parquet`: a row for each frame, with the video's name, the time, and the feature as a list of numbers.

What reads Parquet ends the whole process over some files that lie. So it does that in a process of its own.
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
from vla.formats._record import checked_name
from vla.formats.base import (
    ArrayKeys,
    ExportItem,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_declared_size,
    nbytes,
    released,
)
from vla.hints import Hint
from vla.storage import atomic

_ROWS = 1024
_PATIENCE = 300.0
_LONGEST_LINE = 1 << 30


class Format:
    """One video or many a file; the rows of a video lie together."""

    suffixes = (".parquet",)
    written = (".parquet",)
    holds_many = True
    any_name = False

    def contents(self, path: Path, wanted: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """See the base class."""
        _require_pyarrow()
        nbytes(path)
        reader = _Reader(path, wanted)
        try:
            for name, first, last in reader.videos():
                yield StoredVideo(checked_name(name, path), partial(reader.read, name, first, last))
        finally:
            reader.end()

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """See the base class. float32, which every reader of Parquet knows; float16 is in it without loss."""
        _require_pyarrow()
        import pandas

        parts, space = [], {}
        for video in videos:
            features = video.features
            space = {k: video.record[k] for k in ("spec", "run") if k in video.record}
            parts.append(
                pandas.DataFrame(
                    {
                        "video": features.video_id,
                        "timestamp_seconds": features.timestamps_seconds,
                        "duration_seconds": features.duration_seconds,
                        "feature": list(features.values.astype(np.float32)),
                    }
                )
            )
        frame = pandas.concat(parts, ignore_index=True)
        frame.attrs = space
        with atomic.open_atomic(folder / f"{name}.parquet") as file:
            frame.to_parquet(file, engine="pyarrow", index=False, row_group_size=_ROWS)


class _Reader:
    """Our side of the process that reads; nothing it says is trusted beyond being numbers that the file can hold."""

    def __init__(self, path: Path, wanted: ArrayKeys) -> None:
        self._path = path
        paths = os.pathsep.join(p for p in sys.path if p)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from vla.formats._parquet_child import main; main()",
             os.fsencode(path.absolute()).hex(), wanted.key, wanted.times_key],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            # Ctrl-C is for us to answer: the child ends when its pipe does.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"},
        )  # fmt: skip

    def videos(self) -> list[tuple[str, int, int]]:
        """Name, first and last row of each video."""
        found = self._ask("videos")
        with as_format_error(self._path):
            return [(str(name), int(first), int(last)) for name, first, last in found]

    def read(self, name: str, first: int, last: int) -> ExternalFeatures:
        """The features in these rows."""
        place = f"{self._path} [{name}]"
        frames, width, kind, has_times, duration, origin = self._ask("values", [name, first, last])
        with as_format_error(place):
            dtype = np.dtype(str(kind))
            size = check_declared_size((frames, width), dtype.itemsize, nbytes(self._path), place, packed=True)
            values = np.frombuffer(self._take(size), dtype).reshape(frames, width)
            times = np.frombuffer(self._take(8 * frames), np.float64) if has_times else None
        return released(place, values, times, duration=duration, origin=str(origin))

    def end(self) -> None:
        """Kill it; nothing it holds is of worth."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if stream is not None:
                    stream.close()

    def _ask(self, wanted: str, question: Any = None) -> Any:
        """What the child answers, if it is what was asked for; raises FormatError if not, and if the child is gone."""
        # A child that hangs is killed, and reading from its pipe ends.
        watch = threading.Timer(_PATIENCE, self._process.kill)
        watch.start()
        try:
            if question is not None:
                with suppress(OSError):  # it is gone: the answer says so
                    _stream(self._process.stdin).write(json.dumps(question).encode("ascii") + b"\n")
                    _stream(self._process.stdin).flush()
            line = _stream(self._process.stdout).readline(_LONGEST_LINE)
        finally:
            watch.cancel()
        if not line:
            raise self._obituary()
        with as_format_error(f"{self._path}: its reader answered nonsense"):
            kind, value = json.loads(line)
        if kind != wanted:
            said = str(value) if kind in ("error", "keyless") else f"{self._path}: its reader answered nonsense"
            raise FormatError(said, hint=Hint("name_key") if kind == "keyless" else None)
        return value

    def _take(self, size: int) -> bytes:
        content = _stream(self._process.stdout).read(size)
        if len(content) != size:
            raise self._obituary()
        return content

    def _obituary(self) -> FormatError:
        self._process.kill()
        code = self._process.wait()
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit {code}"
        return FormatError(f"{self._path}: what reads Parquet crashed or hung over it ({name})")


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise OSError("closed")
    return stream


def _require_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise EnvironmentUnfitError("Parquet needs the package 'pyarrow', which is not installed: pip install pyarrow")
