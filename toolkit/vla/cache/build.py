"""Stage 1 at work: videos are decoded and encoded side by side, and committed one by one."""

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
    """What an extraction did.

    Attributes:
        receipts: one for each video that was asked for, in order.
        extracted: how many of `videos` were read now, whatever came of it.
        frames: frames encoded now.
        seconds: wall-clock time.
        texts: texts encoded now.
        captions: annotations known to the workspace afterwards.
        unknown_videos: names in captions for which there is no video.
        renamed: new names of videos that were found under another one, by the old.
        omissions: what was left out: files of other kinds, folders that cannot be read, frames, captions without a video.
        warnings: what makes all results doubtful.
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
        """Receipts of all files but those that hold no video."""
        return [r for r in self.receipts if not r.is_no_video]

    @property
    def problems(self) -> list[Receipt]:
        """Receipts of videos that are not `ok`."""
        return [r for r in self.videos if r.status != "ok"]

    @property
    def video_seconds(self) -> float:
        """Length of all videos that have features."""
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
    """Extract and commit `plan.todo`; one bad file never stops the others.

    Raises:
        ResourceError: the cache cannot be written, or the machine has nothing left to decode with; what was committed before
            stays.
        EnvironmentUnfitError: the decoder does not work on this machine; the same holds.
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
    in_hand: dict[str, float] = {}
    seen, finished = 0.0, 0
    with closing(Workers(encoder, decoder, sampling, workers).run(plan.todo)) as messages:
        for message in messages:
            text, level = "", "info"
            if isinstance(message, ChunkDone):
                report.frames += message.frames
                seen += message.seconds
                in_hand[message.video_id] = min(0.99, in_hand.get(message.video_id, 0.0) + message.share)
            else:
                report.receipts.append(_commit(cache, message))
                if message.decoded is not None:
                    report.omissions.add("dropped-frames", message.receipt.video_id, message.decoded.dropped)
                    report.omissions.add("gap", message.receipt.video_id, message.decoded.gaps)
                finished += 1
                report.extracted += not message.receipt.is_no_video
                in_hand.pop(message.receipt.video_id, None)
                text, level = _remark(report.receipts[-1])
            passed = max(1e-9, time.monotonic() - began)
            rates = {"frames/s": report.frames / passed, "x real time": seen / passed}
            progress(Progress("extract", finished, len(plan.todo), text, level, rates, sum(in_hand.values())))
    order = {v: i for i, v in enumerate([v for v, _ in plan.todo])}
    report.receipts.sort(key=lambda r: (order.get(r.video_id, -1), r.video_id))
    for receipt in report.receipts:
        if receipt.is_no_video:
            report.omissions.add("no-video", receipt.video_id)
    report.seconds = time.monotonic() - began
    return report


def _commit(cache: FeatureCache, worked: VideoResult) -> Receipt:
    """Write what came of one video, and return its receipt."""
    receipt, decoded = worked.receipt, worked.decoded
    if receipt.status == "ok" and decoded is not None and not worked.values:
        receipt = replace(receipt, status="failed", reason="no frame could be decoded", cause="content")
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
            receipt.video_id, np.concatenate(worked.values), np.concatenate(worked.times), duration
        )
        return cache.add_video(features, receipt)
    except VlaError as error:
        if isinstance(error, OSError):  # the disk, not the video
            raise
        return _commit_failure(cache, replace(receipt, status="failed", reason=str(error), cause="content"))


def _commit_failure(cache: FeatureCache, receipt: Receipt) -> Receipt:
    """Write that a video has no features; where the machine is to blame, features that it had are not lost for that."""
    before = cache.receipts.get(receipt.video_id)
    if before is None or not before.has_features or receipt.cause == "content":
        cache.add_receipt(receipt)
    return receipt


def _remarks(decoded: DecodeReport) -> Iterator[str]:
    """Each thing about a decoded video that its user should know."""
    if decoded.coverage < 0.9:
        yield f"{decoded.coverage:.0%} decoded"
    if decoded.is_cut:
        yield "the file ends early"
    if decoded.has_more:
        yield "another recording follows in the file, which cannot be read: split it"
    if decoded.gaps:
        yield f"{_count(decoded.gaps, 'gap')}, {decoded.gap_seconds:.1f} s without frames"
    if decoded.errors:
        yield f"{_count(decoded.errors, 'damaged packet')} ({decoded.first_error})"
    if decoded.dropped:
        yield f"{_count(decoded.dropped, 'frame')} dropped: due no later than the frame before"
    if decoded.synthetic_times:
        yield "no times in the file, counted from its frame rate"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _remark(receipt: Receipt) -> tuple[str, str]:
    if receipt.status == "ok" or receipt.is_no_video:
        return "", "info"
    return f"{receipt.video_id}: {receipt.status}, {receipt.reason}", "warning"
