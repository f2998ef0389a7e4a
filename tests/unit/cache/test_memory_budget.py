"""One budget of memory for decoded pictures: what fits goes side by side, what is too large goes alone."""

import threading
from pathlib import Path

import numpy as np
import pytest

import vla
from vla.cache import attempt
from vla.cache.memory_budget import (
    MAX_PICTURE_BYTES,
    MemoryBudget,
    decode_batch_size,
    required_bytes,
)
from vla.video import Video


def video(width, height):
    return Video(Path("a.mp4"), 1.0, 25.0, width, height, "h264")


@pytest.mark.parametrize(
    ("size", "together", "bytes_needed"),
    [
        ((64, 64), 4, 4 * 2 * 12288 + 8 * 12288),
        ((1280, 720), 4, 4 * 2 * 2764800 + 8 * 2764800),
        ((1920, 1080), 2, 2 * 2 * 6220800 + (32 << 20)),
        ((3840, 2160), 1, 24883200 + (32 << 20)),
        ((8000, 8000), 1, 2 * 192_000_000),
        ((16384, 1), 4, 4 * 2 * 49152 + 8 * 49152),
    ],
)
def test_required_bytes(size, together, bytes_needed):
    assert (decode_batch_size(video(*size)), required_bytes(video(*size))) == (
        together,
        bytes_needed,
    )


def test_eight_workers_do_not_wait_for_each_other_up_to_4k():
    assert (
        8 * max(required_bytes(video(w, h)) for w, h in ((1920, 1080), (2560, 1440), (3840, 2160)))
        <= MAX_PICTURE_BYTES
    )


@pytest.mark.parametrize(
    ("sizes", "most"), [([30] * 8, 3), ([60] * 6, 1), ([500] * 4, 1), ([100, 1, 1, 100], 2)]
)
def test_budget_is_never_exceeded(sizes, most):
    budget, lock = MemoryBudget(100), threading.Lock()
    held, seen, barrier = [], [], threading.Event()

    def work(size):
        with budget.reserve(size, lambda: None):
            with lock:
                held.append(size)
                seen.append(list(held))
            barrier.wait(0.02)
            with lock:
                held.remove(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(seen) == len(sizes)
    assert (
        all(sum(items) <= 100 or len(items) == 1 for items in seen) and max(map(len, seen)) <= most
    )


def test_waiting_ends_with_the_extraction():
    budget = MemoryBudget(10)

    def ended():
        raise InterruptedError

    with budget.reserve(8, lambda: None), pytest.raises(InterruptedError), budget.reserve(8, ended):
        pass
    with budget.reserve(10, ended):
        pass


@pytest.mark.parametrize("together", [1, 2, 4])
def test_features_do_not_depend_on_the_decode_batch_size(tmp_path, clip, monkeypatch, together):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3), np.uint8)
    clip("v/a.mkv", pixels=pixels, codec="ffv1", fps=5)
    toy = vla.EncoderChoice(encoder="toy", sampling="fps=5")
    vla.extract([tmp_path / "v"], workspace=tmp_path / "w", choice=toy, workers=1)
    monkeypatch.setattr(attempt, "decode_batch_size", lambda video: together)
    vla.extract([tmp_path / "v"], workspace=tmp_path / "x", choice=toy, workers=1)
    one, other = (
        next((tmp_path / name).glob(".vla/cache/*/shards/*.h5")).read_bytes() for name in ("w", "x")
    )
    assert one == other
