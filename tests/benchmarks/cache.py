"""What the cache costs: bytes for an hour of video, opening, one video at random, everything; beside the layouts people use.

    python tests/benchmarks/cache.py [FOLDER] [--videos 2000] [--seconds 60] [--dim 512]

Writes random features into FOLDER (made anew) in four layouts: ours (a checked shard and a receipt for each video), one HDF5
file with a dataset for each video, one `.npy` for each video, and one memory-mapped array of everything. Files are in the
operating system's cache when they are read: what is measured is the layout, not the disk. "Copy" is memcpy of the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache
from vla.features import FeatureSpec, FrameFeatures

FPS = 2


def on_disk(folder: Path) -> int:
    """Bytes that the file system has set aside for everything in `folder`."""
    return sum(p.stat().st_blocks * 512 for p in folder.rglob("*") if p.is_file())


def seconds(work: Callable[[], object], repeat: int = 3) -> float:
    """The best of some runs."""
    best = float("inf")
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("cache-benchmark"))
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--dim", type=int, default=512)
    a = parser.parse_args()
    frames = a.seconds * FPS
    rng = np.random.default_rng(0)
    values = rng.standard_normal((a.videos, frames, a.dim)).astype(np.float16)
    times = np.arange(frames) / FPS
    names = [f"videos/{i:06d}.mp4" for i in range(a.videos)]
    shutil.rmtree(a.folder, ignore_errors=True)
    a.folder.mkdir(parents=True)

    began = time.perf_counter()
    spec = FeatureSpec("toy", str(a.dim), "none", "none", f"fps={FPS}", a.dim)
    cache = FeatureCache.create(a.folder / "ours", spec, EncoderSource("toy", str(a.dim), ""))
    for name, one in zip(names, values, strict=True):
        cache.add_video(
            FrameFeatures(name, one, times, float(a.seconds)),
            Receipt(name, "ok", "", 1, 1, "x", duration_seconds=float(a.seconds)),
        )
    writing = time.perf_counter() - began
    with h5py.File(a.folder / "all.h5", "w") as file:
        for name, one in zip(names, values, strict=True):
            file.create_dataset(name, data=one)
    (a.folder / "npy").mkdir()
    for i, one in enumerate(values):
        np.save(a.folder / "npy" / f"{i}.npy", one)
    (a.folder / "map").mkdir()
    np.save(a.folder / "map" / "all.npy", values)

    payload, hours = values.nbytes, a.videos * a.seconds / 3600
    some = rng.integers(0, a.videos, 300)
    place = cache.folder

    def ours_open() -> FeatureCache:
        opened = FeatureCache.open(place)
        assert len(opened.receipts) == a.videos
        return opened

    opened = ours_open()
    h5 = h5py.File(a.folder / "all.h5", "r")
    whole = np.load(a.folder / "map" / "all.npy", mmap_mode="r")
    target = np.empty_like(values)

    def fill(read: Callable[[int], np.ndarray]) -> None:
        for i in range(a.videos):
            target[i] = read(i)

    rows: dict[str, tuple[float, float, Callable[[int], np.ndarray]]] = {
        "ours": (on_disk(a.folder / "ours"), seconds(ours_open), lambda i: opened.frames(names[i]).values),
        "one HDF5": ((a.folder / "all.h5").stat().st_size,
                     seconds(lambda: h5py.File(a.folder / "all.h5", "r").close()), lambda i: h5[names[i]][()]),
        "npy files": (on_disk(a.folder / "npy"), 0.0, lambda i: np.load(a.folder / "npy" / f"{i}.npy")),
        "mapped array": (on_disk(a.folder / "map"),
                         seconds(lambda: np.load(a.folder / "map" / "all.npy", mmap_mode="r")), lambda i: np.array(whole[i])),
    }  # fmt: skip
    print(f"{a.videos} videos of {a.seconds} s at {FPS} frames/s, {a.dim} wide: {payload / 1e6:.0f} MB, {hours:.1f} hours; "
          f"ours was written in {writing:.1f} s ({writing / a.videos * 1e3:.1f} ms a video, on disk for good)\n")  # fmt: skip
    print(
        "| layout | MB/hour | over the bare numbers | open ms | one video p50 ms | p95 ms | everything s | GB/s |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, (size, opening, read) in rows.items():
        single = []
        for i in some:
            began = time.perf_counter()
            read(int(i))
            single.append(1e3 * (time.perf_counter() - began))
        everything = seconds(lambda read=read: fill(read), 2)
        assert np.array_equal(target, values)
        print(f"| {name} | {size / 1e6 / hours:.2f} | {size / payload:.3f} | {1e3 * opening:.1f} | {np.median(single):.2f} | "
              f"{np.percentile(single, 95):.2f} | {everything:.2f} | {payload / 1e9 / everything:.2f} |", flush=True)  # fmt: skip
    copy = seconds(lambda: np.copyto(target, values))
    print(f"| copy | | | | | | {copy:.2f} | {payload / 1e9 / copy:.2f} |")
    shutil.rmtree(a.folder)


if __name__ == "__main__":
    main()
