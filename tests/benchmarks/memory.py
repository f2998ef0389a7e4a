"""How much memory `vla extract` takes at most: one very long, very large video, and very many small ones. Linux only.

    python tests/benchmarks/memory.py [FOLDER] [--hours 2] [--clips 10000] [--model demo] [--cases long many]

Makes the videos (kept and reused), runs the real command, and looks at it and its child processes ten times a second: memory
that several of them share counts once (proportional set size).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 2
_BOX = b"free"


def make_long(path: Path, hours: float) -> None:
    """3840x2160 at two frames a second, a keyframe every minute; a bar moves over a still picture."""
    partial = path.with_name(f".{path.name}")
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 255, (54, 96, 3), np.uint8), np.ones((40, 40, 1), np.uint8))
    with av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"preset": "ultrafast", "crf": "30", "g": "120"}
        )
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        still = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p").to_ndarray()
        for i in range(int(hours * 3600 * RATE)):
            shown = still.copy()
            shown[:2160, (i * 16) % 3800 : (i * 16) % 3800 + 40] = 235
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="yuv420p")))
        container.mux(stream.encode(None))
    partial.replace(path)


def make_many(folder: Path, count: int) -> None:
    """Clips of the rendered world, each in many copies that an empty box of their own keeps apart."""
    from vla.world.clips import plan_clips, write_clips

    folder.mkdir(parents=True, exist_ok=True)
    some = plan_clips("train", 40, 0)
    write_clips(some, folder.parent / "seeds")
    contents = [(folder.parent / "seeds" / c.name).read_bytes() for c in some]
    for i in range(count):
        path = folder / f"{i:05d}.mp4"
        if not path.is_file():
            path.write_bytes(
                contents[i % len(contents)] + (12).to_bytes(4, "big") + _BOX + i.to_bytes(4, "big")
            )


def family(pid: int) -> list[int]:
    """`pid` and all that descend from it."""
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                todo += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


def resident(pid: int) -> int:
    """Bytes, shared ones by their share; 0 for what is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def watch(arguments: list[str], folder: Path) -> tuple[int, int, float]:
    """Peak of the whole family, peak of our own process, and seconds."""
    shutil.rmtree(folder / ".vla", ignore_errors=True)
    began = time.monotonic()
    whole = own = 0
    environment = {**os.environ, "VLA_WORKSPACE": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-m", "vla_cli", "extract", *arguments], env=environment
    ) as process:
        while process.poll() is None:
            parts = [resident(p) for p in family(process.pid)]
            whole, own = max(whole, sum(parts)), max(own, parts[0])
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"vla extract ended with {process.returncode}")
    return whole, own, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("memory-benchmark"))
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--cases", nargs="*", default=["long", "many"], choices=["long", "many"])
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    print("| what | peak of all processes | of vla's own | wall clock |\n|---|---|---|---|")
    for case in arguments.cases:
        if case == "long":
            videos = folder / f"long-{arguments.hours:g}h.mp4"
            if not videos.is_file():
                make_long(videos, arguments.hours)
            name = f"one video of {arguments.hours:g} h, 3840x2160"
        else:
            videos = folder / f"many-{arguments.clips}"
            make_many(videos, arguments.clips)
            name = f"{arguments.clips} clips of 3 to 12 s"
        whole, own, seconds = watch([str(videos), "--model", arguments.model, "--quiet"], folder)
        print(
            f"| {name} | {whole / 1e6:.0f} MB | {own / 1e6:.0f} MB | {seconds:.0f} s |", flush=True
        )


if __name__ == "__main__":
    main()
