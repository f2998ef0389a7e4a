"""Decoding and encoding side by side: a thread for each video that is decoded, and threads that encode.

What is in a batch depends on one video alone, so a video's features are the same bits whatever was extracted before,
beside or after it, and whatever was interrupted in between.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vla.cache.receipts import Receipt, content_digest
from vla.decoders.base import Decoder, DecodeReport, Reader
from vla.encoders.base import Encoder
from vla.errors import DecodeError
from vla.sampling import Sampling

CHUNK = 32
"""Frames that are encoded together."""
_DECODED = 4
"""Frames that are decoded together: whole pictures, so few; divides CHUNK."""


@dataclass(frozen=True)
class Encoded:
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
class Worked:
    """What became of one video.

    Attributes:
        receipt: so far; without what the commit adds.
        decoded: how decoding went; None if it failed.
        values: features, chunk by chunk.
        times: when each of their frames is shown.
    """

    receipt: Receipt
    decoded: DecodeReport | None = None
    values: tuple[np.ndarray, ...] = ()
    times: tuple[np.ndarray, ...] = ()


class Workers:
    """A thread for each video that is decoded, and as many threads that encode as the encoder can make use of.

    Chunks of one long video are encoded side by side as well as those of many short ones. Memory grows with neither.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, sampling: Sampling, workers: int) -> None:
        self._encoder, self._decoder, self._sampling, self._workers = encoder, decoder, sampling, workers
        self._messages: queue.Queue[Encoded | Worked | BaseException] = queue.Queue(4 * workers)
        self._stop = threading.Event()
        self._room = threading.Semaphore(encoder.lanes + workers)
        self._encoding = ThreadPoolExecutor(max_workers=encoder.lanes, thread_name_prefix="encode")

    def run(self, todo: list[tuple[str, Path]]) -> Generator[Encoded | Worked, None, None]:
        """What is encoded, chunk by chunk, and each video when it is done."""
        left = len(todo)
        with (
            self._encoder.side_by_side(),
            self._encoding,
            ThreadPoolExecutor(max_workers=self._workers, thread_name_prefix="decode") as decoding,
        ):
            for video_id, path in todo:
                decoding.submit(self._work, video_id, path)
            try:
                while left:
                    item = self._messages.get()
                    if isinstance(item, BaseException):
                        raise item
                    left -= isinstance(item, Worked)
                    yield item
            finally:
                self._stop.set()
                decoding.shutdown(wait=True, cancel_futures=True)

    def _work(self, video_id: str, path: Path) -> None:
        if self._stop.is_set():
            return
        try:
            self._put(_work_on(video_id, path, self._encoder, self._decoder, self._sampling, self._submit))
        except _StoppedError:
            pass
        except BaseException as error:
            self._put(error)

    def _submit(self, pixels: np.ndarray, encoded: Encoded) -> Future[np.ndarray]:
        while not self._room.acquire(timeout=0.2):
            if self._stop.is_set():
                raise _StoppedError
        return self._encoding.submit(self._encode, pixels, encoded)

    def _encode(self, pixels: np.ndarray, encoded: Encoded) -> np.ndarray:
        try:
            if self._stop.is_set():
                raise _StoppedError
            values = self._encoder.encode_frames(pixels)
        finally:
            self._room.release()
        self._put(encoded)
        return values

    def _put(self, item: Encoded | Worked | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._messages.put(item, timeout=0.2)
                return
            except queue.Full:
                continue


class _StoppedError(Exception):
    """The extraction ends before this video does."""


def _work_on(
    video_id: str,
    path: Path,
    encoder: Encoder,
    decoder: Decoder,
    sampling: Sampling,
    submit: Callable[[np.ndarray, Encoded], Future[np.ndarray]],
) -> Worked:
    """Decode one video and have it encoded; a failure becomes its receipt."""
    blank = Receipt(video_id, "failed", "", 0, 0, "")
    try:
        before = path.stat()
        blank = replace(blank, size=before.st_size, mtime_ns=before.st_mtime_ns)
        values: list[Future[np.ndarray]] = []
        times: list[np.ndarray] = []
        with decoder.open(path) as reader:
            # Digested only after the decoder has made sure that it is a regular file: a FIFO would never end.
            blank = replace(blank, content=content_digest(path, before.st_size), codec=reader.video.codec)
            for pixels, seconds in _prepared(reader, encoder, sampling):
                covered = float(seconds[-1]) - (float(times[-1][-1]) if times else 0.0)
                share = covered / reader.video.duration_seconds if reader.video.duration_seconds > 0 else 0.0
                values.append(submit(pixels, Encoded(video_id, len(pixels), covered, max(0.0, min(1.0, share)))))
                times.append(seconds)
            decoded = reader.report
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            return Worked(replace(blank, status="skipped", reason="the file changed while it was read: run again"))
        return Worked(replace(blank, status="ok"), decoded, tuple(v.result() for v in values), tuple(times))
    except DecodeError as error:
        skipped = error.reason in ("no-video-stream", "not-a-video", "not-a-file", "empty-file", "too-large")
        reason = str(error).removeprefix(f"{path.name}: ")
        return Worked(replace(blank, status="skipped" if skipped else "failed", reason=reason))
    except OSError as error:
        return Worked(replace(blank, reason=f"cannot be read: {error.strerror or error}"))
    except MemoryError:
        return Worked(replace(blank, reason="not enough memory to decode it"))


def _prepared(reader: Reader, encoder: Encoder, sampling: Sampling) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The sampled frames at the encoder's size with their times, CHUNK at a time; few whole pictures are in memory at once."""
    pixels: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for frames in reader.sample(sampling, _DECODED):
        pixels.append(encoder.prepare(frames.pixels))
        times.append(frames.timestamps_seconds)
        if sum(map(len, pixels)) >= CHUNK:  # a change of size ends a chunk early
            yield np.concatenate(pixels), np.concatenate(times)
            pixels, times = [], []
    if pixels:
        yield np.concatenate(pixels), np.concatenate(times)


def default_workers() -> int:
    """Decoding threads: one for each core, at most 8; more only wait for the encoder."""
    return max(1, min(8, os.cpu_count() or 1))
