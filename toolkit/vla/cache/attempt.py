"""One attempt at one video: it is decoded and encoded, or there is a reason why not, and whose fault that is."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

import numpy as np

from vla.cache.memory_budget import Budget, needed, pictures_together
from vla.cache.receipts import Receipt, Status, content_digest, software, whole_digest
from vla.causes import DOUBTFUL, cause_of, unreadable_reason
from vla.decoders.base import Decoder, DecodeReport, Reader
from vla.encoders.base import Encoder
from vla.errors import DecodeError, VlaError
from vla.sampling import Sampling
from vla.video import Frames

CHUNK = 32
"""Frames that are encoded together."""
_SKIPPED = ("no-video-stream", "not-a-video", "not-a-file", "empty-file", "too-large", "changed")


@dataclass(frozen=True)
class ChunkDone:
    """Frames of one video that are done.

    Attributes:
        video_id: of the video.
        frames: how many.
        seconds: of video that they stand for.
        share: of the whole video, by what it says of its own length; 0 where it says nothing.
    """

    video_id: str
    frames: int
    seconds: float
    share: float


@dataclass(frozen=True)
class VideoResult:
    """What became of one video.

    Attributes:
        receipt: so far; without what the commit adds.
        decoded: how decoding went; None if it failed.
        values: features, chunk by chunk.
        times: when each of their frames is shown.
        doubt: the failure, where a second trial may end otherwise.
    """

    receipt: Receipt
    decoded: DecodeReport | None = None
    values: tuple[np.ndarray, ...] = ()
    times: tuple[np.ndarray, ...] = ()
    doubt: DecodeError | None = None


@dataclass(frozen=True)
class Attempt:
    """What an attempt works with.

    Attributes:
        encoder: of the frames.
        decoder: of the videos.
        sampling: which frames.
        budget: of decoded pictures.
        submit: hands prepared frames to the threads that encode.
        still: called while waiting; raises when the extraction is to end.
    """

    encoder: Encoder
    decoder: Decoder
    sampling: Sampling
    budget: Budget
    submit: Callable[[np.ndarray, ChunkDone], Future[np.ndarray]]
    still: Callable[[], None]

    def at(self, video_id: str, path: Path) -> VideoResult:
        """Decode the video at `path` and have it encoded; a failure of the video or of reading it becomes its receipt.

        Raises:
            ResourceError, EnvironmentUnfitError: no decoder can be started.
        """
        blank = Receipt(video_id, "failed", "", 0, 0, "", software=software())
        try:
            with _opened(path) as file:
                before = os.fstat(file.fileno())
                blank = replace(blank, size=before.st_size, mtime_ns=before.st_mtime_ns)
                blank = replace(blank, content=content_digest(path, before.st_size))
                worked = self._decoded(blank, path)
                # Reading all of it also tells a disk that cannot be read from content that cannot be decoded.
                digest = whole_digest(file)
                if _identity(path.stat()) != _identity(before) or os.fstat(file.fileno()).st_size != before.st_size:
                    raise DecodeError(f"{path.name}: the file changed while it was read: run again", "changed")
                return replace(worked, receipt=replace(worked.receipt, digest=digest))
        except DecodeError as error:
            return _failure(blank, path, error)
        except VlaError:
            raise
        except OSError as error:
            return _failure(blank, path, unreadable_reason(path, error))
        except MemoryError:
            return _failure(blank, path, DecodeError(f"{path.name}: not enough memory", "resources"))

    def _decoded(self, blank: Receipt, path: Path) -> VideoResult:
        """The video's features; a failure of its content is a receipt, one of the machine is raised."""
        try:
            with _open(self.decoder, path) as reader, self.budget.room(needed(reader.video), self.still):
                blank = replace(blank, codec=reader.video.codec)
                values: list[Future[np.ndarray]] = []
                times: list[np.ndarray] = []
                for pixels, seconds in self._prepared(reader, path):
                    covered = float(seconds[-1]) - (float(times[-1][-1]) if times else 0.0)
                    share = covered / reader.video.duration_seconds if reader.video.duration_seconds > 0 else 0.0
                    done = ChunkDone(blank.video_id, len(pixels), covered, max(0.0, min(1.0, share)))
                    values.append(self.submit(pixels, done))
                    times.append(seconds)
                decoded = reader.report
            encoded = tuple(v.result() for v in values)
            return VideoResult(replace(blank, status="ok"), decoded, encoded, tuple(times))
        except DecodeError as error:
            if cause_of(error.reason) == "machine":
                raise
            return _failure(blank, path, error)

    def _prepared(self, reader: Reader, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The sampled frames at the encoder's size with their times, CHUNK at a time; few whole pictures are in memory."""
        pixels: list[np.ndarray] = []
        times: list[np.ndarray] = []
        held = 0
        for frames in _guarded(reader.sample(self.sampling, pictures_together(reader.video)), path):
            ready, shown = self.encoder.prepare(frames.pixels), frames.timestamps_seconds
            del frames
            # Where their size changes pictures come in other numbers; chunks are of CHUNK frames all the same.
            pixels.append(ready)
            times.append(shown)
            held += len(ready)
            if held >= CHUNK:
                joined, moments = np.concatenate(pixels), np.concatenate(times)
                yield joined[:CHUNK], moments[:CHUNK]
                pixels, times, held = [joined[CHUNK:]], [moments[CHUNK:]], held - CHUNK
        if held:
            yield np.concatenate(pixels), np.concatenate(times)


def _open(decoder: Decoder, path: Path) -> Reader:
    with _no_surprise(path):
        return decoder.open(path)


def _guarded(frames: Iterator[Frames], path: Path) -> Iterator[Frames]:
    while True:
        with _no_surprise(path):
            some = next(frames, None)
        if some is None:
            return
        yield some
        del some  # pictures are large: not two at a time


@contextmanager
def _no_surprise(path: Path) -> Iterator[None]:
    """Make an exception that no decoder should raise its crash: it may be our defect, or a library of another version."""
    try:
        yield
    except (VlaError, OSError, MemoryError):
        raise
    except Exception as error:
        raise DecodeError(f"{path.name}: the decoder crashed ({type(error).__name__}: {error})", "crashed") from error


def _failure(blank: Receipt, path: Path, error: DecodeError) -> VideoResult:
    status: Status = "skipped" if error.reason in _SKIPPED else "failed"
    reason = str(error).removeprefix(f"{path.name}: ")
    receipt = replace(blank, status=status, reason=reason, cause=cause_of(error.reason))
    return VideoResult(receipt, doubt=error if error.reason in DOUBTFUL else None)


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The regular file at `path`; anything else is not opened, since a pipe would never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DecodeError(f"{path.name}: not a regular file", "not-a-file")
    with path.open("rb") as file:
        yield file


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Changes whenever the file is written to or another takes its place, also where sizes and times are made to look alike."""
    changed = status.st_ctime_ns if os.name == "posix" else 0
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, changed)
