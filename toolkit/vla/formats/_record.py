"""What lies beside the numbers of a video that vla wrote: its name, its times, and the space it is of."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import FormatError, VlaError
from vla.features import FeatureSpec, FrameFeatures
from vla.formats.base import as_format_error, nbytes

_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True)
class Record:
    """What is said of a video.

    Attributes:
        video: its name.
        timestamps_seconds: `(T,)`, unchecked.
        duration_seconds: unchecked; None where nothing is said.
        origin: see `Released`.
    """

    video: str
    timestamps_seconds: np.ndarray
    duration_seconds: float | None
    origin: str

    @classmethod
    def parse(cls, content: bytes, place: object) -> Record | None:
        """The record in `content`; None for JSON of another meaning, as other tools put beside their features.

        Raises:
            FormatError: it is no JSON, or a record that cannot be used.
        """
        with as_format_error(f"{place} is no JSON that can be used"):
            found = json.loads(content)
            if not isinstance(found, dict) or not {"video", "timestamps_seconds"} <= found.keys():
                return None
        with as_format_error(place):
            times = np.asarray(found["timestamps_seconds"], np.float64)
            duration = found.get("duration_seconds")
            name = checked_name(found["video"], place)
            return cls(name, times, None if duration is None else float(duration), origin_of(found, place))


def read_record(path: Path) -> Record | None:
    """The record in the file at `path`; None if there is no file, or it means something else; raises FormatError."""
    if not path.is_file():
        return None
    if nbytes(path) > _LIMIT_BYTES:
        raise FormatError(f"{path} has {path.stat().st_size} bytes, too many for the times of one video")
    with as_format_error(path):
        content = path.read_bytes()
    return Record.parse(content, path)


def record_of(features: FrameFeatures, space: dict[str, Any]) -> dict[str, Any]:
    """The JSON object that `Record.parse` reads; `space` is what `space_of` made."""
    return {
        "video": features.video_id,
        "duration_seconds": features.duration_seconds,
        "timestamps_seconds": features.timestamps_seconds.tolist(),
        **space,
    }


def space_of(spec: FeatureSpec, run: str, digest: str) -> dict[str, Any]:
    """Which space features are of: `spec`, and the `run` (with the digest of its weights) that aligned them, if one did."""
    return {"spec": spec.to_json(), "run": {"name": run, "digest": digest} if run else None}


def origin_of(space: dict[str, Any], place: object) -> str:
    """16 hexadecimal digits of what `space_of` made; empty where nothing is said; raises FormatError."""
    if space.get("spec") is None:
        return ""
    try:
        with as_format_error(place):
            told = json.dumps(
                [FeatureSpec.from_json(space["spec"], str(place)).fingerprint, space.get("run")], sort_keys=True
            )
    except VlaError as error:
        raise FormatError(str(error), hint=error.hint) from error
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def checked_name(name: object, place: object) -> str:
    """`name`, if it can be a video's; raises FormatError."""
    try:
        if isinstance(name, str) and name.strip() and "\0" not in name and len(os.fsencode(name)) <= 4096:
            return name
    except UnicodeEncodeError:
        pass
    raise FormatError(f"{place}: no video can be called {name!r:.80}")
