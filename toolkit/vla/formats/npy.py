"""`.npy`: an array `(T, D)` for each video, with metadata in a file beside it.

vla writes `<name>.json` beside it; `video_features` writes `<name>_<model>.npy` beside
`<name>_timestamps_ms.npy`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterable
from pathlib import Path

import numpy as np

from vla.formats._array import read_array
from vla.formats._record import check_name, read_record
from vla.formats.base import (
    ArrayKeys,
    ExportItem,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_features,
    nbytes,
)
from vla.storage import atomic

_TIMES, _RATE = "_timestamps_ms", "_fps"


class Format:
    """One array per file."""

    suffixes = (".npy",)
    output_suffixes = (".json", ".npy")
    holds_many = False
    allows_any_name = True

    def contents(self, path: Path, keys: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """Yield the video in the file; see the base class. `keys` is unused: there is one array."""
        stem = path.stem
        is_rate = stem.endswith(_RATE) and _times_path(stem.removesuffix(_RATE), path).is_file()
        if stem.endswith(_TIMES) or is_rate:
            return
        record_path = path.with_suffix(".json")
        record = read_record(record_path)
        if record is not None:
            times, duration, origin = (
                record.timestamps_seconds,
                record.duration_seconds,
                record.origin,
            )
            yield StoredVideo(
                record.video,
                lambda: check_features(path, _read(path), times, duration=duration, origin=origin),
                (record_path,),
            )
            return
        name = _without_model(stem, path)
        times_path = _times_path(name, path)
        sidecars = (times_path,) if times_path.is_file() else ()

        def read() -> ExternalFeatures:
            return check_features(
                path, _read(path), _read(sidecars[0]) if sidecars else None, seconds=0.001
            )

        yield StoredVideo(check_name(name, path), read, sidecars)

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """Write one video; see the base class.

        The array is written last, so that an array on disk always has its times.
        """
        for video in videos:
            record = json.dumps(video.record, indent=1, sort_keys=True) + "\n"
            atomic.write_bytes(folder / f"{name}.json", record.encode("ascii"))
            atomic.write_bytes(folder / f"{name}.npy", array_bytes(video.features.values))


def array_bytes(values: np.ndarray) -> bytes:
    """Return `values` in numpy's own format."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _read(path: Path) -> np.ndarray:
    stored_bytes = nbytes(path)
    with as_format_error(path), path.open("rb") as file:
        return read_array(file, stored_bytes, path)


def _times_path(name: str, path: Path) -> Path:
    return path.with_name(f"{name}{_TIMES}.npy")


def _without_model(stem: str, path: Path) -> str:
    """Return `x` for `x_clip.npy` beside `x_timestamps_ms.npy`, else the whole stem."""
    parts = stem.split("_")
    names = ("_".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((name for name in names if _times_path(name, path).is_file()), stem)
