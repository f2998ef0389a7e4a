"""`.npy`: an array `(T, D)` for each video, with what is known of it in a file beside it.

Our own lie beside `<name>.json`; `video_features` writes `<name>_<model>.npy` beside `<name>_timestamps_ms.npy`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np

from vla.formats._array import read_array
from vla.formats._record import checked_name, read_record
from vla.formats.base import ArrayKeys, ExportItem, ExternalFeatures, StoredVideo, as_format_error, nbytes, released
from vla.storage import atomic

_TIMES, _RATE = "_timestamps_ms", "_fps"


class Format:
    """One array a file."""

    suffixes = (".npy",)
    written = (".json", ".npy")
    holds_many = False
    any_name = True

    def contents(self, path: Path, wanted: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """See the base class. `wanted` names nothing here: there is one array."""
        stem = path.stem
        is_rate = stem.endswith(_RATE) and _times_of(stem.removesuffix(_RATE), path).is_file()
        if stem.endswith(_TIMES) or is_rate:
            return
        record_path = path.with_suffix(".json")
        record = read_record(record_path)
        if record is not None:
            times, duration, origin = record.timestamps_seconds, record.duration_seconds, record.origin
            yield StoredVideo(
                record.video,
                lambda: released(path, _read(path), times, duration=duration, origin=origin),
                (record_path,),
            )
            return
        name = _without_model(stem, path)
        times_path = _times_of(name, path)
        beside = (times_path,) if times_path.is_file() else ()

        def read() -> ExternalFeatures:
            return released(path, _read(path), _read(beside[0]) if beside else None, seconds=0.001)

        yield StoredVideo(checked_name(name, path), read, beside)

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """See the base class. The array comes last: what has an array has its times."""
        for video in videos:
            record = json.dumps(video.record, indent=1, sort_keys=True) + "\n"
            atomic.write_bytes(folder / f"{name}.json", record.encode("ascii"))
            atomic.write_bytes(folder / f"{name}.npy", array_bytes(video.features.values))


def array_bytes(values: np.ndarray) -> bytes:
    """`values` in numpy's own format."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _read(path: Path) -> np.ndarray:
    stored = nbytes(path)
    with as_format_error(path), path.open("rb") as file:
        return read_array(file, stored, path)


def _times_of(name: str, path: Path) -> Path:
    return path.with_name(f"{name}{_TIMES}.npy")


def _without_model(stem: str, path: Path) -> str:
    """`x` for `x_clip.npy` beside `x_timestamps_ms.npy`; the whole stem where no such file is there."""
    parts = stem.split("_")
    names = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((name for name in names if _times_of(name, path).is_file()), stem)
