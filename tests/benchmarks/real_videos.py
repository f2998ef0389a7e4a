"""Every file in a folder of real videos: is what is sampled what a full decode gives, and true to the file's own packets?

    python tests/benchmarks/real_videos.py FOLDER... [--fps 2]

Prints, by codec and container, files by status, the lowest coverage of those that are whole, the largest difference between
our duration and the end of the last packet by PyAV's own demuxer, how many sampled frames there are, how many of them are bit
for bit those of a full decode, and how many of their times are some packet's; then a line for each file that is not whole.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np

from vla.cache.discovery import find_videos
from vla.decoders.pyav import Decoder
from vla.errors import DecodeError
from vla.sampling import Sampling, at_fps


@dataclass
class Row:
    """One file."""

    name: str
    kind: str = "not a video"
    status: str = "skipped"
    reason: str = ""
    coverage: float = 0.0
    off: float = 0.0
    frames: int = 0
    equal: int = 0
    true_times: int = 0


def look(job: tuple[Path, float]) -> Row:
    path, fps = job
    row = Row(path.name)
    try:
        (times, pixels, report, codec), (_, whole, *_) = (
            sampled(path, at_fps(fps), w) for w in (False, True)
        )
    except DecodeError as error:
        row.reason = error.reason
        return row
    row.kind = f"{codec} {path.suffix}"
    row.status = "ok" if report.is_whole else "partial"
    row.reason = (
        ""
        if report.is_whole
        else f"{report.coverage:.0%} decoded, {report.errors} damaged: {report.first_error}"
    )
    row.coverage, row.frames = report.coverage, len(times)
    row.equal = sum(
        a.shape == b.shape and bool((a == b).all()) for a, b in zip(pixels, whole, strict=False)
    )
    shown, end = packets(path)
    row.off = abs(report.end_seconds - end)
    row.true_times = int(np.isclose(times[:, None], shown[None], atol=1e-6).any(1).sum())
    return row


def sampled(
    path: Path, sampling: Sampling, whole: bool
) -> tuple[np.ndarray, list[np.ndarray], object, str]:
    with Decoder(whole=whole).open(path) as reader:
        chunks = list(reader.sample(sampling))
        times = np.concatenate([c.timestamps_seconds for c in chunks])
        return times, [p for c in chunks for p in c.pixels], reader.report, reader.video.codec


def packets(path: Path) -> tuple[np.ndarray, float]:
    """When PyAV's demuxer says that frames are shown, since the first, and when the last of them ends."""
    with av.open(str(path)) as container:
        stream = next(
            s
            for s in container.streams.video
            if not s.disposition & s.disposition.__class__.attached_pic
        )
        found = [
            p for p in container.demux(stream) if p.pts is not None and p.size and not p.is_discard
        ]
        base = float(stream.time_base)
        start = min(p.pts for p in found)
        last = max(found, key=lambda p: p.pts)
        length = last.duration * base if last.duration else 1 / float(stream.average_rate or 25)
        return np.sort([(p.pts - start) * base for p in found]), (last.pts - start) * base + length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--fps", type=float, default=2.0)
    arguments = parser.parse_args()
    with get_context("spawn").Pool() as pool:
        rows = pool.map(look, [(p, arguments.fps) for p in find_videos(arguments.folders)], 1)
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    print(
        "| codec, container | ok | partial | skipped | coverage | duration off, s | frames | equal to a full decode | times of packets |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind, some in sorted(by_kind.items()):
        counts = [sum(r.status == s for r in some) for s in ("ok", "partial", "skipped")]
        good = [r for r in some if r.status == "ok"]
        coverage = f"{min((r.coverage for r in good), default=0):.3f}" if good else ""
        off = f"{max((r.off for r in good), default=0):.3f}" if good else ""
        sums = [sum(getattr(r, n) for r in some) for n in ("frames", "equal", "true_times")]
        print(f"| {kind} | " + " | ".join(map(str, [*counts, coverage, off, *sums])) + " |")
    for row in rows:
        if row.status != "ok":
            print(f"\n{row.name}: {row.status}, {row.reason}", end="")
    print()


if __name__ == "__main__":
    main()
