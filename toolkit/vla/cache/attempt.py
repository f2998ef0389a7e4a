"""One attempt to decode and encode a video, which ends in features or in a receipt with the cause of failure."""

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

from vla.cache.memory_budget import MemoryBudget, decode_batch_size, required_bytes
from vla.cache.receipts import Receipt, Status, content_digest, file_digest, software
from vla.causes import DOUBTFUL, cause_of, unreadable_reason
from vla.decoders.base import Decoder, DecodeReport, Reader
from vla.encoders.base import Encoder
from vla.errors import DecodeError, VlaError
from vla.sampling import Sampling
from vla.video import Frames

CHUNK = 32
"""Number of frames in one call of the encoder."""
_SKIP_REASONS = (
    "no-video-stream",
    "not-a-video",
    "not-a-file",
    "empty-file",
    "too-large",
    "changed",
)


@dataclass(frozen=True)
class ChunkDone:
    """Progress of one video: a chunk of its frames is encoded.

    Attributes:
        video_id: id of the video.
        frames: number of frames in the chunk.
        seconds: length of video that the chunk covers.
        share: fraction of the declared duration that the chunk covers; 0 if none is declared.
    """

    video_id: str
    frames: int
    seconds: float
    share: float


@dataclass(frozen=True)
class VideoResult:
    """Outcome of one attempt.

    Attributes:
        receipt: the receipt, without the fields that the commit fills.
        decoded: report of the decoder; None if decoding failed.
        values: features, chunk by chunk.
        times: presentation times of their frames in seconds, chunk by chunk.
        doubt: the failure, if a second attempt may succeed.
    """

    receipt: Receipt
    decoded: DecodeReport | None = None
    values: tuple[np.ndarray, ...] = ()
    times: tuple[np.ndarray, ...] = ()
    doubt: DecodeError | None = None


@dataclass(frozen=True)
class Attempt:
    """Resources shared by all attempts of an extraction.

    Attributes:
        encoder: encoder of the frames.
        decoder: decoder of the videos.
        sampling: sampling rule for the frames.
        budget: memory of decoded pictures.
        submit: queues prepared frames for the encoding threads.
        check_stop: called while waiting; raises when the extraction is to end.
    """

    encoder: Encoder
    decoder: Decoder
    sampling: Sampling
    budget: MemoryBudget
    submit: Callable[[np.ndarray, ChunkDone], Future[np.ndarray]]
    check_stop: Callable[[], None]

    def run(self, video_id: str, path: Path) -> VideoResult:
        """Decode and encode the video at `path`; a failure to read or decode it becomes its receipt.

        Raises:
            ResourceError: no decoder can be started, for lack of resources.
            EnvironmentUnfitError: no decoder can be started, for another reason.
        """
        blank = Receipt(video_id, "failed", "", 0, 0, "", software=software())
        try:
            with _open_regular(path) as file:
                before = os.fstat(file.fileno())
                blank = replace(blank, size=before.st_size, mtime_ns=before.st_mtime_ns)
                blank = replace(blank, content=content_digest(path, before.st_size))
                result = self._decode(blank, path)
                # Reading the whole file also tells an unreadable disk from undecodable content.
                digest = file_digest(file)
                if (
                    _identity(path.stat()) != _identity(before)
                    or os.fstat(file.fileno()).st_size != before.st_size
                ):
                    raise DecodeError(
                        f"{path.name}: the file changed while it was read: run again", "changed"
                    )
                return replace(result, receipt=replace(result.receipt, digest=digest))
        except DecodeError as error:
            return _failure(blank, path, error)
        except VlaError:
            raise
        except OSError as error:
            return _failure(blank, path, unreadable_reason(path, error))
        except MemoryError:
            return _failure(
                blank, path, DecodeError(f"{path.name}: not enough memory", "resources")
            )

    def _decode(self, blank: Receipt, path: Path) -> VideoResult:
        """Return the features of a video; a failure of its content becomes a receipt.

        Raises:
            DecodeError: the machine is the cause.
        """
        try:
            with (
                _open(self.decoder, path) as reader,
                self.budget.reserve(required_bytes(reader.video), self.check_stop),
            ):
                blank = replace(blank, codec=reader.video.codec)
                values: list[Future[np.ndarray]] = []
                times: list[np.ndarray] = []
                for pixels, seconds in self._iter_chunks(reader, path):
                    length = float(seconds[-1]) - (float(times[-1][-1]) if times else 0.0)
                    share = (
                        length / reader.video.duration_seconds
                        if reader.video.duration_seconds > 0
                        else 0.0
                    )
                    done = ChunkDone(blank.video_id, len(pixels), length, max(0.0, min(1.0, share)))
                    values.append(self.submit(pixels, done))
                    times.append(seconds)
                report = reader.report
            features = tuple(v.result() for v in values)
            return VideoResult(replace(blank, status="ok"), report, features, tuple(times))
        except DecodeError as error:
            if cause_of(error.reason) == "machine":
                raise
            return _failure(blank, path, error)

    def _iter_chunks(self, reader: Reader, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the sampled frames at the encoder's size and their times, CHUNK frames at a time.

        Only a few pictures of full size are in memory.
        """
        pixels: list[np.ndarray] = []
        times: list[np.ndarray] = []
        num_frames = 0
        for frames in _iter_batches(
            reader.sample(self.sampling, decode_batch_size(reader.video)), path
        ):
            inputs, timestamps = self.encoder.prepare(frames.pixels), frames.timestamps_seconds
            del frames
            # The decoder's batches change with the size of its pictures; chunks have CHUNK frames regardless.
            pixels.append(inputs)
            times.append(timestamps)
            num_frames += len(inputs)
            if num_frames >= CHUNK:
                all_pixels, all_times = np.concatenate(pixels), np.concatenate(times)
                yield all_pixels[:CHUNK], all_times[:CHUNK]
                pixels, times, num_frames = (
                    [all_pixels[CHUNK:]],
                    [all_times[CHUNK:]],
                    num_frames - CHUNK,
                )
        if num_frames:
            yield np.concatenate(pixels), np.concatenate(times)


def _open(decoder: Decoder, path: Path) -> Reader:
    with _crash_as_decode_error(path):
        return decoder.open(path)


def _iter_batches(frames: Iterator[Frames], path: Path) -> Iterator[Frames]:
    while True:
        with _crash_as_decode_error(path):
            batch = next(frames, None)
        if batch is None:
            return
        yield batch
        del batch  # pictures are large: one batch at a time


@contextmanager
def _crash_as_decode_error(path: Path) -> Iterator[None]:
    """Turn an unexpected exception into a crash of the decoder.

    It may be a defect of ours, or an incompatible version of a library.
    """
    try:
        yield
    except (VlaError, OSError, MemoryError):
        raise
    except Exception as error:
        raise DecodeError(
            f"{path.name}: the decoder crashed ({type(error).__name__}: {error})", "crashed"
        ) from error


def _failure(blank: Receipt, path: Path, error: DecodeError) -> VideoResult:
    status: Status = "skipped" if error.reason in _SKIP_REASONS else "failed"
    reason = str(error).removeprefix(f"{path.name}: ")
    receipt = replace(blank, status=status, reason=reason, cause=cause_of(error.reason))
    return VideoResult(receipt, doubt=error if error.reason in DOUBTFUL else None)


@contextmanager
def _open_regular(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file; refuse anything else, since a pipe would never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise DecodeError(f"{path.name}: not a regular file", "not-a-file")
    with path.open("rb") as file:
        yield file


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return a value that changes whenever the file is written to or replaced.

    It includes the time of the last status change, which programs cannot set.
    """
    ctime_ns = status.st_ctime_ns if os.name == "posix" else 0
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, ctime_ns)
