"""Stage 1 at work: decode and encode side by side, commit video by video.

What is in a batch depends on one video alone, so a video's features are the same bits whatever was extracted before,
beside or after it, and whatever was interrupted in between.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vla.cache.plan import Plan
from vla.cache.receipts import Receipt, content_digest
from vla.cache.store import FeatureCache
from vla.decoders.base import Decoder, DecodeReport, Reader
from vla.encoders.base import Encoder
from vla.errors import DecodeError, VlaError
from vla.features import FrameFeatures
from vla.progress import Progress, ProgressCallback, silent
from vla.sampling import Sampling

CHUNK = 32
"""Frames that are encoded together."""
_DECODED = 4
"""Frames that are decoded together: whole pictures, so few; divides CHUNK."""


@dataclass
class ExtractReport:
    """What an extraction did.

    Attributes:
        receipts: one for each video that was asked for, in order.
        extracted: how many of them were worked on now, not found done.
        frames: frames encoded now.
        seconds: wall-clock time.
        texts: texts encoded now.
        captions: annotations known to the workspace afterwards.
        unknown_videos: names in captions for which there is no video.
        renamed: new names of videos that were found under another one, by the old.
    """

    receipts: list[Receipt] = field(default_factory=list)
    extracted: int = 0
    frames: int = 0
    seconds: float = 0.0
    texts: int = 0
    captions: int = 0
    unknown_videos: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> list[Receipt]:
        """Receipts that are not `ok`."""
        return [r for r in self.receipts if r.status != "ok"]

    @property
    def video_seconds(self) -> float:
        """Length of all videos that have features."""
        return sum(r.duration_seconds for r in self.receipts if r.has_features)


@dataclass(frozen=True)
class _Worked:
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


def extract_videos(
    cache: FeatureCache,
    encoder: Encoder,
    decoder: Decoder,
    plan: Plan,
    sampling: Sampling,
    *,
    workers: int = 2,
    progress: ProgressCallback = silent,
) -> ExtractReport:
    """Extract and commit `plan.todo`; one bad file never stops the others.

    Raises:
        ResourceError: the cache cannot be written; what was committed before stays.
    """
    began = time.monotonic()
    for receipt in plan.refreshed:
        cache.add_receipt(receipt)
    for receipt in plan.copied:
        cache.add_receipt(receipt)
    for old, receipt in plan.renamed.items():
        cache.rename(old, receipt)
    known = [*plan.done, *plan.refreshed, *plan.copied, *plan.renamed.values()]
    report = ExtractReport(receipts=known, renamed={old: r.video_id for old, r in plan.renamed.items()})
    # Closed at once when something goes wrong here: threads must not go on decoding behind an error message.
    with closing(_Workers(encoder, decoder, sampling, workers).run(plan.todo)) as messages:
        for message in messages:
            text, level = "", "info"
            if isinstance(message, int):
                report.frames += message
            else:
                report.receipts.append(_commit(cache, message))
                report.extracted += 1
                text, level = _remark(report.receipts[-1])
            rate = {"frames/s": report.frames / max(1e-9, time.monotonic() - began)}
            progress(Progress("extract", report.extracted, len(plan.todo), text, level, rate))
    order = {v: i for i, v in enumerate([v for v, _ in plan.todo])}
    report.receipts.sort(key=lambda r: (order.get(r.video_id, -1), r.video_id))
    report.seconds = time.monotonic() - began
    return report


def _commit(cache: FeatureCache, worked: _Worked) -> Receipt:
    """Write what came of one video, and return its receipt."""
    receipt, decoded = worked.receipt, worked.decoded
    if receipt.status == "ok" and decoded is not None and not worked.values:
        receipt = replace(receipt, status="failed", reason="no frame could be decoded")
    if receipt.status != "ok" or decoded is None:
        cache.add_receipt(receipt)
        return receipt
    whole = decoded.is_whole
    remarks = [f"{decoded.coverage:.0%} decoded"] if decoded.coverage < 0.9 else []
    if decoded.errors:
        packets = "1 damaged packet" if decoded.errors == 1 else f"{decoded.errors} damaged packets"
        remarks.append(f"{packets} ({decoded.first_error})")
    if decoded.synthetic_times:
        remarks.append("no times in the file, counted from its frame rate")
    duration = decoded.end_seconds if whole else max(decoded.end_seconds, decoded.declared_seconds)
    receipt = replace(
        receipt,
        status="ok" if whole else "partial",
        reason="; ".join(remarks),
        duration_seconds=duration,
        coverage=decoded.coverage,
    )
    try:
        features = FrameFeatures(
            receipt.video_id, np.concatenate(worked.values), np.concatenate(worked.times), duration
        )
        return cache.add_video(features, receipt)
    except VlaError as error:
        if isinstance(error, OSError):  # the disk, not the video
            raise
        receipt = replace(receipt, status="failed", reason=str(error))
        cache.add_receipt(receipt)
        return receipt


def _remark(receipt: Receipt) -> tuple[str, str]:
    if receipt.status == "ok":
        return "", "info"
    return f"{receipt.video_id}: {receipt.status}, {receipt.reason}", "warning"


class _Workers:
    """A thread for each video that is decoded, and as many threads that encode as the encoder can make use of.

    Chunks of one long video are encoded side by side as well as those of many short ones. Memory grows with neither.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, sampling: Sampling, workers: int) -> None:
        self._encoder, self._decoder, self._sampling, self._workers = encoder, decoder, sampling, workers
        self._messages: queue.Queue[int | _Worked | BaseException] = queue.Queue(4 * workers)
        self._stop = threading.Event()
        self._room = threading.Semaphore(encoder.lanes + workers)
        self._encoding = ThreadPoolExecutor(max_workers=encoder.lanes, thread_name_prefix="encode")

    def run(self, todo: list[tuple[str, Path]]) -> Generator[int | _Worked, None, None]:
        """Numbers of frames as they are encoded, and each video when it is done."""
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
                    left -= isinstance(item, _Worked)
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

    def _submit(self, pixels: np.ndarray) -> Future[np.ndarray]:
        while not self._room.acquire(timeout=0.2):
            if self._stop.is_set():
                raise _StoppedError
        return self._encoding.submit(self._encode, pixels)

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        try:
            if self._stop.is_set():
                raise _StoppedError
            values = self._encoder.encode_frames(pixels)
        finally:
            self._room.release()
        self._put(len(pixels))
        return values

    def _put(self, item: int | _Worked | BaseException) -> None:
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
    submit: Callable[[np.ndarray], Future[np.ndarray]],
) -> _Worked:
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
                values.append(submit(pixels))
                times.append(seconds)
            decoded = reader.report
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            return _Worked(replace(blank, status="skipped", reason="the file changed while it was read: run again"))
        return _Worked(replace(blank, status="ok"), decoded, tuple(v.result() for v in values), tuple(times))
    except DecodeError as error:
        skipped = error.reason in ("no-video-stream", "not-a-video", "not-a-file", "empty-file", "too-large")
        reason = str(error).removeprefix(f"{path.name}: ")
        return _Worked(replace(blank, status="skipped" if skipped else "failed", reason=reason))
    except OSError as error:
        return _Worked(replace(blank, reason=f"cannot be read: {error.strerror or error}"))
    except MemoryError:
        return _Worked(replace(blank, reason="not enough memory to decode it"))


def _prepared(reader: Reader, encoder: Encoder, sampling: Sampling) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The sampled frames at the encoder's size with their times, CHUNK at a time; few whole pictures are in memory at once."""
    pixels: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for frames in reader.sample(sampling, _DECODED):
        pixels.append(encoder.prepare(frames.pixels))
        times.append(frames.timestamps_seconds)
        if sum(map(len, pixels)) == CHUNK:
            yield np.concatenate(pixels), np.concatenate(times)
            pixels, times = [], []
    if pixels:
        yield np.concatenate(pixels), np.concatenate(times)


def default_workers() -> int:
    """Decoding threads: one for each core, at most 8; more only wait for the encoder."""
    return max(1, min(8, os.cpu_count() or 1))
