"""Stage 1 at work: videos are decoded and encoded side by side, and committed one by one."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np

from vla.cache.plan import Plan
from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache
from vla.cache.workers import Encoded, Worked, Workers
from vla.decoders.base import Decoder
from vla.encoders.base import Encoder
from vla.errors import VlaError
from vla.features import FrameFeatures
from vla.progress import Progress, ProgressCallback, silent
from vla.sampling import Sampling


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
    warnings: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[Receipt]:
        """Receipts that are not `ok`."""
        return [r for r in self.receipts if r.status != "ok"]

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
    in_hand: dict[str, float] = {}
    seen = 0.0
    with closing(Workers(encoder, decoder, sampling, workers).run(plan.todo)) as messages:
        for message in messages:
            text, level = "", "info"
            if isinstance(message, Encoded):
                report.frames += message.frames
                seen += message.seconds
                in_hand[message.video_id] = min(0.99, in_hand.get(message.video_id, 0.0) + message.share)
            else:
                report.receipts.append(_commit(cache, message))
                report.extracted += 1
                in_hand.pop(message.receipt.video_id, None)
                text, level = _remark(report.receipts[-1])
            passed = max(1e-9, time.monotonic() - began)
            rates = {"frames/s": report.frames / passed, "x real time": seen / passed}
            progress(Progress("extract", report.extracted, len(plan.todo), text, level, rates, sum(in_hand.values())))
    order = {v: i for i, v in enumerate([v for v, _ in plan.todo])}
    report.receipts.sort(key=lambda r: (order.get(r.video_id, -1), r.video_id))
    report.seconds = time.monotonic() - began
    return report


def _commit(cache: FeatureCache, worked: Worked) -> Receipt:
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
