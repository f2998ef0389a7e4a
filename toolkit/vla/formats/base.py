"""What every format is, and what is refused whatever the format.

All of these files come from somebody else. Nothing is unpickled, no link is followed, and no memory is taken for what a
header claims before it is compared with the bytes that are really there.
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
_MOST_PACKED = 100
"""Features hardly shrink when they are compressed; what claims to have shrunk a hundredfold is a trap."""


@dataclass(frozen=True)
class ArrayKeys:
    """Which arrays of a file are meant.

    Attributes:
        key: name of the features; empty: found by the names that are usual.
        times_key: name of their times; in milliseconds where `ms` is a part of it, else in seconds; empty: likewise.
        omissions: where arrays are counted that are not a video's features.
    """

    key: str = ""
    times_key: str = ""
    omissions: Omissions = field(default_factory=Omissions, compare=False, repr=False)


@dataclass(frozen=True)
class ExternalFeatures:
    """Frame features of one video as a file has them.

    Attributes:
        values: `(T, D)` floating point, finite, at least 1 x 1.
        timestamps_seconds: `(T,)` float64, not negative, non-decreasing; None where the file does not say.
        duration_seconds: of the video; None where the file does not say.
        origin: 16 hexadecimal digits of the feature space that the file says it is of; empty where it says nothing.
    """

    values: np.ndarray
    timestamps_seconds: np.ndarray | None = None
    duration_seconds: float | None = None
    origin: str = ""


@dataclass(frozen=True)
class StoredVideo:
    """A video in a file; nothing of its features has been read yet.

    Attributes:
        name: of the video.
        read: the features; raises FormatError. To be called before the next one is asked for.
        beside: further files that they are read from.
    """

    name: str
    read: Callable[[], ExternalFeatures]
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ExportItem:
    """A video on its way out.

    Attributes:
        key: its name in the file, safe in file names and without dots.
        features: what is written; raw float16, or float32 of a shared space.
        record: what is said of it beside the numbers, for `Record.parse` of `vla.formats._record`.
        captions: what is known to be told of it, one line each.
    """

    key: str
    features: FrameFeatures
    record: Mapping[str, Any]
    captions: tuple[str, ...] = field(default=())


class Format(Protocol):
    """One kind of file. Its constructor takes nothing."""

    suffixes: tuple[str, ...]
    """Of the files that are read, in lower case."""

    holds_many: bool
    """True if a file may hold several videos."""

    def contents(self, path: Path, wanted: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """The videos in the file, in its order; none for a file that only belongs to others.

        Raises:
            FormatError: it is not such a file; the message has its name.
            EnvironmentUnfitError: a package is lacking.
        """


class WritableFormat(Format, Protocol):
    """A format that can be written, too."""

    written: tuple[str, ...]
    """What `write` appends to the name it is given, one for each file."""

    any_name: bool
    """True if every name comes back from what was written, names that are no text among them."""

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """Put `videos` (one, unless `holds_many`) into `folder`, each file whole or not at all, replacing what is there.

        Raises:
            ResourceError: it could not be written.
        """


def unreadable(name: str, error: FormatError) -> StoredVideo:
    """A video that `error` keeps from being read; told when it is read, since it is not the others' fault."""

    def read() -> ExternalFeatures:
        raise error

    return StoredVideo(name, read)


@contextmanager
def as_format_error(place: object) -> Iterator[None]:
    """Whatever goes wrong within is told as a fault of the file at `place`; errors of ours pass.

    Raises:
        FormatError: in place of any other error.
    """
    try:
        yield
    except VlaError:
        raise
    # Parsers that are fed lies raise anything, from IndexError to struct.error.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:300]
        raise FormatError(f"{place}: {reason or type(error).__name__}") from error


def nbytes(path: Path) -> int:
    """Bytes of a regular file; raises FormatError for anything else, which might never end."""
    with as_format_error(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(f"{path} is not a regular file")
    return status.st_size


def check_declared_size(
    shape: Iterable[int], item_bytes: int, stored_bytes: int, place: object, *, packed: bool
) -> int:
    """The bytes that an array of `shape` takes, if `stored_bytes` of a file can hold it.

    Args:
        shape: as the file declares it.
        item_bytes: of one number.
        stored_bytes: what is really there for it.
        place: for the message.
        packed: it may be compressed.

    Raises:
        FormatError: they cannot; nothing was read.
    """
    whole = tuple(shape)
    size = math.prod(whole) * item_bytes
    most = _FREE_BYTES + _MOST_PACKED * stored_bytes if packed else stored_bytes
    if any(n < 0 for n in whole) or size > min(most, _LIMIT_BYTES):
        raise FormatError(f"{place} claims an array of shape {whole}, {size} bytes; {stored_bytes} are there for it")
    return size


def frames_and_width(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """`(T, D)` of an array of this shape: axes of length 1 beside these two say nothing. None if it holds no features of a video.

    `(1, T, D)`, `(T, 1, D)` and `(T, D, 1, 1)` are `(T, D)`; `(1, 1, D)` is `(1, D)`; `(T, 49, D)` is not pooled.
    """
    if len(shape) <= 2:
        return shape if len(shape) == 2 else None
    longer = [axis for axis, length in enumerate(shape) if length != 1]
    if len(longer) == 2:
        return shape[longer[0]], shape[longer[1]]
    # One frame: its width comes after the frames' axis.
    return (1, shape[longer[0]]) if len(longer) == 1 and longer[0] > 0 else None


def released(
    place: object,
    values: np.ndarray,
    times: np.ndarray | None = None,
    *,
    seconds: float = 1.0,
    duration: float | None = None,
    origin: str = "",
) -> ExternalFeatures:
    """The features, checked.

    Args:
        place: for messages.
        values: what should be `(T, D)`.
        times: what should be `(T,)`, in units of `seconds`.
        seconds: see `times`.
        duration: what should be a length in seconds.
        origin: see `ExternalFeatures`.

    Raises:
        FormatError: one of them is not what it should be.
    """
    shape = frames_and_width(values.shape)
    if shape is not None and values.ndim > 2:
        values = values.reshape(shape)
        times = times.reshape(-1) if times is not None and times.size == shape[0] else times
    if values.ndim != 2:
        hint = ": pooled features are needed, one row a frame" if values.ndim > 2 else ""
        raise FormatError(f"{place} has shape {values.shape}; features are (frames, width){hint}")
    if not values.size:
        raise FormatError(f"{place} is empty: its shape is {values.shape}")
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise FormatError(f"{place} holds {values.dtype}, no floating-point numbers that are known")
    wrong = values.size - int(np.isfinite(values).sum())
    if wrong:
        raise FormatError(f"{place}: {wrong} of {values.size} values are not finite (NaN or infinite)")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise FormatError(f"{place} says that the video is {duration} s long")
    return ExternalFeatures(
        values, None if times is None else _seconds(place, times, len(values), seconds), duration, origin
    )


def _seconds(place: object, times: np.ndarray, count: int, unit: float) -> np.ndarray:
    if times.shape != (count,) or times.dtype.kind not in "fiu" or times.dtype.itemsize > 8:
        raise FormatError(f"{place}: {count} frames need as many times, not {times.dtype} of shape {times.shape}")
    seconds = times.astype(np.float64) * unit
    if not np.isfinite(seconds).all() or (seconds < 0).any():
        raise FormatError(
            f"{place}: times are finite and not negative; these go from {seconds.min()} to {seconds.max()} s"
        )
    falls = np.flatnonzero(np.diff(seconds) < 0)
    if len(falls):
        at = int(falls[0])
        raise FormatError(f"{place}: times decrease, from {seconds[at]:g} s at frame {at} to {seconds[at + 1]:g} s")
    return seconds
