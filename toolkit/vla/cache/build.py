"""Stage 1 at work: decode in threads, encode here, commit video by video.

What is in a batch depends on one video alone, so a video's features are the same bits whatever was extracted before,
beside or after it, and whatever was interrupted in between.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
class _Opened:
    """A worker's message: this file holds a video."""

    codec: str


@dataclass(frozen=True)
class _Prepared:
    pixels: np.ndarray
    timestamps_seconds: np.ndarray


@dataclass(frozen=True)
class _Finished:
    report: DecodeReport | None
    receipt: Receipt


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
    open_videos: dict[str, tuple[list[np.ndarray], list[np.ndarray], str]] = {}
    for video_id, message in _decoded(plan.todo, encoder, decoder, sampling, workers):
        if isinstance(message, _Opened):
            open_videos[video_id] = ([], [], message.codec)
        elif isinstance(message, _Prepared):
            values, times, _ = open_videos[video_id]
            values.append(encoder.encode_frames(message.pixels))
            times.append(message.timestamps_seconds)
            report.frames += len(message.pixels)
        else:
            values, times, codec = open_videos.pop(video_id, ([], [], ""))
            receipt = _commit(cache, video_id, values, times, replace(message.receipt, codec=codec), message.report)
            report.receipts.append(receipt)
            report.extracted += 1
        elapsed = max(1e-9, time.monotonic() - began)
        text, level = _remark(report.receipts[-1]) if isinstance(message, _Finished) else ("", "info")
        progress(
            Progress("extract", report.extracted, len(plan.todo), text, level, {"frames/s": report.frames / elapsed})
        )
    order = {v: i for i, v in enumerate([v for v, _ in plan.todo])}
    report.receipts.sort(key=lambda r: (order.get(r.video_id, -1), r.video_id))
    report.seconds = time.monotonic() - began
    return report


def _commit(
    cache: FeatureCache,
    video_id: str,
    values: list[np.ndarray],
    times: list[np.ndarray],
    receipt: Receipt,
    decoded: DecodeReport | None,
) -> Receipt:
    """Write what came of one video, and return its receipt."""
    if receipt.status == "ok" and decoded is not None and not values:
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
        features = FrameFeatures(video_id, np.concatenate(values), np.concatenate(times), duration)
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


def _decoded(
    todo: list[tuple[str, Path]], encoder: Encoder, decoder: Decoder, sampling: Sampling, workers: int
) -> Iterator[tuple[str, _Opened | _Prepared | _Finished]]:
    """Messages of all videos, each video's in order. At most a few chunks wait, whatever the number of videos."""
    messages: queue.Queue[tuple[str, _Opened | _Prepared | _Finished] | BaseException] = queue.Queue(2 * workers + 2)
    stop = threading.Event()

    def put(item: tuple[str, _Opened | _Prepared | _Finished] | BaseException) -> None:
        while not stop.is_set():
            try:
                messages.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    def work(video_id: str, path: Path) -> None:
        if stop.is_set():
            return
        try:
            for message in _decode_one(video_id, path, encoder, decoder, sampling):
                put((video_id, message))
                if stop.is_set():
                    return
        except BaseException as error:
            put(error)

    left = len(todo)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decode") as pool:
        for video_id, path in todo:
            pool.submit(work, video_id, path)
        try:
            while left:
                item = messages.get()
                if isinstance(item, BaseException):
                    raise item
                left -= isinstance(item[1], _Finished)
                yield item
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _decode_one(
    video_id: str, path: Path, encoder: Encoder, decoder: Decoder, sampling: Sampling
) -> Iterator[_Opened | _Prepared | _Finished]:
    """Messages of one video; a failure becomes its receipt."""
    blank = Receipt(video_id, "failed", "", 0, 0, "")
    try:
        before = path.stat()
        blank = replace(blank, size=before.st_size, mtime_ns=before.st_mtime_ns)
        with decoder.open(path) as reader:
            # Digested only after the decoder has made sure that it is a regular file: a FIFO would never end.
            blank = replace(blank, content=content_digest(path, before.st_size))
            yield _Opened(reader.video.codec)
            yield from _prepared(reader, encoder, sampling)
            decoded = reader.report
        after = path.stat()
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            yield _Finished(
                None, replace(blank, status="skipped", reason="the file changed while it was read: run again")
            )
            return
        yield _Finished(decoded, replace(blank, status="ok"))
    except DecodeError as error:
        skipped = error.reason in ("no-video-stream", "not-a-video", "not-a-file", "empty-file", "too-large")
        reason = str(error).removeprefix(f"{path.name}: ")
        yield _Finished(None, replace(blank, status="skipped" if skipped else "failed", reason=reason))
    except OSError as error:
        yield _Finished(None, replace(blank, reason=f"cannot be read: {error.strerror or error}"))
    except MemoryError:
        yield _Finished(None, replace(blank, reason="not enough memory to decode it"))


def _prepared(reader: Reader, encoder: Encoder, sampling: Sampling) -> Iterator[_Prepared]:
    """The sampled frames at the encoder's size, CHUNK at a time; few whole pictures are in memory at once."""
    pixels: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for frames in reader.sample(sampling, _DECODED):
        pixels.append(encoder.prepare(frames.pixels))
        times.append(frames.timestamps_seconds)
        if sum(map(len, pixels)) == CHUNK:
            yield _Prepared(np.concatenate(pixels), np.concatenate(times))
            pixels, times = [], []
    if pixels:
        yield _Prepared(np.concatenate(pixels), np.concatenate(times))


def default_workers() -> int:
    """Decoding threads: one for each core, at most 8; more only wait for the encoder."""
    return max(1, min(8, os.cpu_count() or 1))
