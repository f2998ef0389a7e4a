"""Interface of file formats, and the checks that apply to all of them.

Files are untrusted input. Nothing is unpickled and no link is followed. A size that a header
declares is compared with the bytes present before memory is allocated.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vla.errors import FormatError, VlaError
from vla.features import FrameFeatures
from vla.omissions import Omissions

_LIMIT_BYTES = 16 << 30
_FREE_BYTES = 64 << 20
_MAX_COMPRESSION = 100
"""Highest plausible compression ratio: features hardly compress, so a higher one is an attack."""


@dataclass(frozen=True)
class ArrayKeys:
    """Names of the arrays to read from a file.

    Attributes:
        key: name of the features; empty: search for the usual names.
        times_key: name of their times, in milliseconds if `ms` is a part of it, else in seconds;
            empty: search for the usual names.
        omissions: counter of arrays that are not a video's features.
    """

    key: str = ""
    times_key: str = ""
    omissions: Omissions = field(default_factory=Omissions, compare=False, repr=False)


@dataclass(frozen=True)
class ExternalFeatures:
    """Frame features of one video as read from a file.

    Attributes:
        values: `(T, D)` floating point, finite, at least 1 x 1.
        timestamps_seconds: `(T,)` float64, not negative, non-decreasing; None if not stated.
        duration_seconds: duration of the video; None if not stated.
        origin: 16 hexadecimal digits of the feature space that the file states; empty if none.
    """

    values: np.ndarray
    timestamps_seconds: np.ndarray | None = None
    duration_seconds: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class StoredVideo:
    """A video in a file; its features have not been read yet.

    Attributes:
        name: name of the video.
        read: returns the features or raises FormatError. Call it before the next video is taken.
        sidecars: further files that the features are read from.
    """

    name: str
    read: Callable[[], ExternalFeatures]
    sidecars: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ExportItem:
    """A video to export.

    Attributes:
        key: name in the file, safe in file names and without dots.
        features: features to write; float16 if raw, float32 in a shared space.
        record: metadata beside the values, for `Record.parse` of `vla.formats._record`.
        captions: captions of the video, one line each.
    """

    key: str
    features: FrameFeatures
    record: Mapping[str, Any]
    captions: tuple[str, ...] = field(default=())


class Format(Protocol):
    """A kind of file. Its constructor takes no arguments."""

    suffixes: tuple[str, ...]
    """Suffixes of the files that are read, in lower case."""

    holds_many: bool
    """Whether a file may hold several videos."""

    def contents(self, path: Path, keys: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """Yield the videos in the file, in its order; none for a file that only belongs to others.

        Raises:
            FormatError: the file is not of this format; the message names it.
            EnvironmentUnfitError: a package is missing.
        """


class WritableFormat(Format, Protocol):
    """A format that can also be written."""

    output_suffixes: tuple[str, ...]
    """Suffixes that `write` appends to its name, one for each file."""

    allows_any_name: bool
    """Whether a video may have any name, including one that is not valid text."""

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """Write `videos` (one, unless `holds_many`) into `folder`, replacing existing files.

        Each file is written completely or not at all.

        Raises:
            ResourceError: a file could not be written.
        """


def unreadable_video(name: str, error: FormatError) -> StoredVideo:
    """Return a video whose `read` raises `error`: other videos of the file stay readable."""

    def read() -> ExternalFeatures:
        raise error

    return StoredVideo(name, read)


@contextmanager
def as_format_error(location: object) -> Iterator[None]:
    """Convert any error within to a FormatError of the file at `location`; errors of vla pass.

    Raises:
        FormatError: in place of any other error.
    """
    try:
        yield
    except VlaError:
        raise
    # Parsers of malformed files raise anything, from IndexError to struct.error.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise FormatError(f"{location}: {reason or type(error).__name__}") from error


def nbytes(path: Path) -> int:
    """Return the size of a regular file in bytes; raise FormatError for other kinds of file."""
    with as_format_error(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(f"{path} is not a regular file")
    return status.st_size


def check_declared_size(
    shape: Iterable[int], item_bytes: int, stored_bytes: int, location: object, *, packed: bool
) -> int:
    """Return the bytes that an array of `shape` takes; refuse a size that the file cannot hold.

    Args:
        shape: as the file declares it.
        item_bytes: bytes per value.
        stored_bytes: bytes present in the file for the array.
        location: name for the message.
        packed: whether the array may be compressed.

    Raises:
        FormatError: the declared size exceeds the limit; nothing was read.
    """
    dimensions = tuple(shape)
    size = math.prod(dimensions) * item_bytes
    max_bytes = _FREE_BYTES + _MAX_COMPRESSION * stored_bytes if packed else stored_bytes
    if any(n < 0 for n in dimensions) or size > min(max_bytes, _LIMIT_BYTES):
        raise FormatError(
            f"{location} declares an array of shape {dimensions} with {size} bytes, but the file "
            f"has {stored_bytes} for it"
        )
    return size


def frames_and_width(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return `(T, D)` for an array of this shape, ignoring further axes of length 1.

    `(1, T, D)`, `(T, 1, D)` and `(T, D, 1, 1)` become `(T, D)`; `(1, 1, D)` becomes `(1, D)`.
    Returns None if the array cannot hold features of a video; `(T, 49, D)` is not pooled.
    """
    if len(shape) <= 2:
        return shape if len(shape) == 2 else None
    axes = [axis for axis, length in enumerate(shape) if length != 1]
    if len(axes) == 2:
        return shape[axes[0]], shape[axes[1]]
    # One frame: the width follows the axis of frames.
    return (1, shape[axes[0]]) if len(axes) == 1 and axes[0] > 0 else None


def check_features(
    location: object,
    values: np.ndarray,
    times: np.ndarray | None = None,
    *,
    seconds: float = 1.0,
    duration: float | None = None,
    origin: str = "",
) -> ExternalFeatures:
    """Return the features after checks of their shapes, types and values.

    Args:
        location: name for messages.
        values: `(T, D)`.
        times: `(T,)`, in units of `seconds`.
        seconds: seconds per unit of `times`.
        duration: duration of the video in seconds.
        origin: see `ExternalFeatures`.

    Raises:
        FormatError: an argument is invalid.
    """
    shape = frames_and_width(values.shape)
    if shape is not None and values.ndim > 2:
        values = values.reshape(shape)
        times = times.reshape(-1) if times is not None and times.size == shape[0] else times
    if values.ndim != 2:
        hint = "; pool them to one row per frame" if values.ndim > 2 else ""
        raise FormatError(
            f"{location} has shape {values.shape}; features are (frames, width){hint}"
        )
    if not values.size:
        raise FormatError(f"{location} is empty: its shape is {values.shape}")
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise FormatError(
            f"{location} holds {values.dtype}; features must be floating-point numbers"
        )
    num_invalid = values.size - int(np.isfinite(values).sum())
    if num_invalid:
        raise FormatError(
            f"{location}: {num_invalid} of {values.size} values are not finite (NaN or infinite)"
        )
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise FormatError(f"{location} states an invalid duration of {duration} s")
    return ExternalFeatures(
        values,
        None if times is None else _seconds(location, times, len(values), seconds),
        duration,
        origin,
    )


def _seconds(location: object, times: np.ndarray, count: int, unit: float) -> np.ndarray:
    if times.shape != (count,) or times.dtype.kind not in "fiu" or times.dtype.itemsize > 8:
        raise FormatError(
            f"{location}: {count} frames need {count} times, not {times.dtype} of shape "
            f"{times.shape}"
        )
    seconds = times.astype(np.float64) * unit
    if not np.isfinite(seconds).all() or (seconds < 0).any():
        raise FormatError(
            f"{location}: times must be finite and not negative; they range from {seconds.min()} "
            f"to {seconds.max()} s"
        )
    decreases = np.flatnonzero(np.diff(seconds) < 0)
    if len(decreases):
        i = int(decreases[0])
        raise FormatError(
            f"{location}: times decrease, from {seconds[i]:g} s at frame {i} to "
            f"{seconds[i + 1]:g} s"
        )
    return seconds
