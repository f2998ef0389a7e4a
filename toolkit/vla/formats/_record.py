"""Metadata that vla writes beside a video's features: its name, times and feature space."""

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
    """Metadata of a video's features.

    Attributes:
        video: name of the video.
        timestamps_seconds: `(T,)`, unchecked.
        duration_seconds: unchecked; None if not stated.
        origin: see `ExternalFeatures`.
    """

    video: str
    timestamps_seconds: np.ndarray
    duration_seconds: float | None
    origin: str

    @classmethod
    def parse(cls, content: bytes, location: object) -> Record | None:
        """Return the record in `content`; None for other JSON, as other tools put beside features.

        Raises:
            FormatError: `content` is not JSON, or is an invalid record.
        """
        with as_format_error(f"{location} is not valid JSON"):
            record = json.loads(content)
            if not isinstance(record, dict) or not {"video", "timestamps_seconds"} <= record.keys():
                return None
        with as_format_error(location):
            times = np.asarray(record["timestamps_seconds"], np.float64)
            duration = record.get("duration_seconds")
            name = check_name(record["video"], location)
            return cls(
                name,
                times,
                None if duration is None else float(duration),
                compute_origin(record, location),
            )


def read_record(path: Path) -> Record | None:
    """Return the record in the file at `path`; None if there is no file, or it holds other JSON.

    Raises:
        FormatError: the file is too large, is not JSON, or holds an invalid record.
    """
    if not path.is_file():
        return None
    if nbytes(path) > _LIMIT_BYTES:
        raise FormatError(
            f"{path} has {path.stat().st_size} bytes, more than the times of one video can take"
        )
    with as_format_error(path):
        content = path.read_bytes()
    return Record.parse(content, path)


def make_record(features: FrameFeatures, space: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON object that `Record.parse` reads; `space` comes from `describe_space`."""
    return {
        "video": features.video_id,
        "duration_seconds": features.duration_seconds,
        "timestamps_seconds": features.timestamps_seconds.tolist(),
        **space,
    }


def describe_space(spec: FeatureSpec, run: str, digest: str) -> dict[str, Any]:
    """Return the description of a feature space.

    Args:
        spec: the spec of the features.
        run: name of the run that aligned them; empty if none did.
        digest: digest of the run's weights.
    """
    return {"spec": spec.to_json(), "run": {"name": run, "digest": digest} if run else None}


def compute_origin(space: dict[str, Any], location: object) -> str:
    """Return 16 hexadecimal digits that identify a `space`; empty if it has no spec.

    Raises:
        FormatError: the spec is invalid.
    """
    if space.get("spec") is None:
        return ""
    try:
        with as_format_error(location):
            content = json.dumps(
                [FeatureSpec.from_json(space["spec"], str(location)).fingerprint, space.get("run")],
                sort_keys=True,
            )
    except VlaError as error:
        raise FormatError(str(error), hint=error.hint) from error
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def check_name(name: object, location: object) -> str:
    """Return `name` if it is a valid name of a video; else raise FormatError."""
    try:
        if (
            isinstance(name, str)
            and name.strip()
            and "\0" not in name
            and len(os.fsencode(name)) <= 4096
        ):
            return name
    except UnicodeEncodeError:
        pass
    raise FormatError(f"{location}: invalid name of a video: {name!r:.80}")
