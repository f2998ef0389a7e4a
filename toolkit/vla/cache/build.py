"""Extraction: decode and encode videos concurrently, and commit them to the cache one by one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from vla.cache.attempt import ChunkDone, VideoResult
from vla.cache.plan import Plan
from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache
from vla.cache.workers import Workers
from vla.decoders.base import Decoder, DecodeReport
from vla.encoders.base import Encoder
from vla.errors import VlaError
from vla.features import FrameFeatures
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.sampling import Sampling


@dataclass
class ExtractReport:
    """Result of an extraction.

    Attributes:
        receipts: one for each requested video, in order.
        extracted: number of `videos` that this run read, with or without success.
        frames: number of frames that this run encoded.
        seconds: wall-clock time.
        texts: number of texts that this run encoded.
        captions: number of annotations in the workspace afterwards.
        unknown_videos: names in captions without a video.
        renamed: new names of renamed videos, by old name.
        omissions: input that was left out: files of other kinds, unreadable folders, frames, captions
            without a video.
        warnings: problems that affect all results.
    """

    receipts: list[Receipt] = field(default_factory=list)
    extracted: int = 0
    frames: int = 0
    seconds: float = 0.0
    texts: int = 0
    captions: int = 0
    unknown_videos: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    omissions: Omissions = field(default_factory=Omissions)
    warnings: list[str] = field(default_factory=list)

    @property
    def videos(self) -> list[Receipt]:
        """Receipts of all files except those without a video."""
        return [r for r in self.receipts if not r.is_no_video]

    @property
    def problems(self) -> list[Receipt]:
        """Receipts of videos whose status is not `ok`."""
        return [r for r in self.videos if r.status != "ok"]

    @property
    def video_seconds(self) -> float:
        """Total duration of the videos with features."""
        return sum(r.duration_seconds for r in self.receipts if r.has_features)


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
    """Extract and commit `plan.todo`; a damaged file never stops the others.

    Raises:
        ResourceError: the cache cannot be written, or the machine lacks resources for decoding. Videos
            committed before stay.
        EnvironmentUnfitError: the decoder does not work on this machine. Videos committed before stay.
    """
    start = time.monotonic()
    for receipt in plan.updates:
        cache.add_receipt(receipt)
    for receipt in plan.copies:
        cache.add_receipt(receipt)
    for old, receipt in plan.renamed.items():
        cache.rename(old, receipt)
    report = ExtractReport(
        receipts=[*plan.done, *plan.updates, *plan.copies, *plan.renamed.values()],
        renamed={old: r.video_id for old, r in plan.renamed.items()},
    )
    shares: dict[str, float] = {}
    video_seconds, num_videos = 0.0, 0
    # `closing`, because threads must not continue to decode behind an error message.
    with closing(Workers(encoder, decoder, sampling, workers).run(plan.todo)) as messages:
        for message in messages:
            text, level = "", "info"
            if isinstance(message, ChunkDone):
                report.frames += message.frames
                video_seconds += message.seconds
                shares[message.video_id] = min(
                    0.99, shares.get(message.video_id, 0.0) + message.share
                )
            else:
                report.receipts.append(_commit(cache, message))
                if message.decoded is not None:
                    report.omissions.add(
                        "dropped-frames", message.receipt.video_id, message.decoded.dropped
                    )
                    report.omissions.add("gap", message.receipt.video_id, message.decoded.gaps)
                num_videos += 1
                report.extracted += not message.receipt.is_no_video
                shares.pop(message.receipt.video_id, None)
                text, level = _message(report.receipts[-1])
            elapsed_seconds = max(1e-9, time.monotonic() - start)
            rates = {
                "frames/s": report.frames / elapsed_seconds,
                "x real time": video_seconds / elapsed_seconds,
            }
            progress(
                Progress(
                    "extract", num_videos, len(plan.todo), text, level, rates, sum(shares.values())
                )
            )
    order = {v: i for i, v in enumerate([v for v, _ in plan.todo])}
    report.receipts.sort(key=lambda r: (order.get(r.video_id, -1), r.video_id))
    for receipt in report.receipts:
        if receipt.is_no_video:
            report.omissions.add("no-video", receipt.video_id)
    report.seconds = time.monotonic() - start
    return report


def _commit(cache: FeatureCache, result: VideoResult) -> Receipt:
    """Write the features and the receipt of one video, and return the receipt."""
    receipt, decoded = result.receipt, result.decoded
    if receipt.status == "ok" and decoded is not None and not result.values:
        receipt = replace(
            receipt, status="failed", reason="no frame could be decoded", cause="content"
        )
    if receipt.status != "ok" or decoded is None:
        return _commit_failure(cache, receipt)
    whole = decoded.is_whole
    duration = decoded.end_seconds if whole else max(decoded.end_seconds, decoded.declared_seconds)
    receipt = replace(
        receipt,
        status="ok" if whole else "partial",
        cause="" if whole else "content",
        reason="; ".join(_remarks(decoded)),
        duration_seconds=duration,
        coverage=decoded.coverage,
    )
    try:
        features = FrameFeatures(
            receipt.video_id, np.concatenate(result.values), np.concatenate(result.times), duration
        )
        return cache.add_video(features, receipt)
    except VlaError as error:
        if isinstance(error, OSError):  # caused by the disk, not by the video
            raise
        return _commit_failure(
            cache, replace(receipt, status="failed", reason=str(error), cause="content")
        )


def _commit_failure(cache: FeatureCache, receipt: Receipt) -> Receipt:
    """Write the receipt of a video without features; a failure of the machine keeps earlier features."""
    before = cache.receipts.get(receipt.video_id)
    if before is None or not before.has_features or receipt.cause == "content":
        cache.add_receipt(receipt)
    return receipt


def _remarks(decoded: DecodeReport) -> Iterator[str]:
    """Yield a remark on each defect of a decoded video."""
    if decoded.coverage < 0.9:
        yield f"{decoded.coverage:.0%} decoded"
    if decoded.is_cut:
        yield "the file ends early"
    if decoded.has_more:
        yield "the file contains a second recording, which cannot be read: split the file"
    if decoded.gaps:
        yield f"{_count(decoded.gaps, 'gap')}, {decoded.gap_seconds:.1f} s without frames"
    if decoded.errors:
        yield f"{_count(decoded.errors, 'damaged packet')} ({decoded.first_error})"
    if decoded.dropped:
        yield f"{_count(decoded.dropped, 'frame')} dropped: not later than the frame before"
    if decoded.synthetic_times:
        yield "the file has no timestamps; they were computed from its frame rate"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _message(receipt: Receipt) -> tuple[str, str]:
    if receipt.status == "ok" or receipt.is_no_video:
        return "", "info"
    return f"{receipt.video_id}: {receipt.status}, {receipt.reason}", "warning"
