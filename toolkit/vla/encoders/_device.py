"""Where an encoder runs and in which precision."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vla.errors import EnvironmentUnfitError, UsageError

# Below this the lower precision is not worth it, and the choice would hang on what else the machine does.
_WORTHWHILE = 1.5
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str) -> torch.device:
    """The device called `device`; `auto` is CUDA, else Apple's GPU, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"there is no device called {device!r}; use auto, cpu, cuda, cuda:1 or mps") from error
    absent = (
        chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count())
    ) or (chosen.type == "mps" and not torch.backends.mps.is_available())
    if absent:
        raise EnvironmentUnfitError(f"device {device!r} was asked for, but torch sees none: use --device cpu or auto")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The precision called `dtype`, and why; `auto` is what `device` is fast in."""
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise UsageError(f"there is no dtype called {dtype!r}; use auto, {', '.join(_DTYPES)}")
        return _DTYPES[dtype], "as asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "the GPU has hardware for it"
        return torch.float16, "the GPU has none for bfloat16"
    if device.type != "cpu":
        return torch.float32, "the safe choice on this device"
    # A processor may know bfloat16 and still be slower in it, many times so where it only emulates it: measured, not asked.
    gain = _seconds_in(torch.float32) / _seconds_in(torch.bfloat16)
    if gain >= _WORTHWHILE:
        return torch.bfloat16, f"{gain:.1f} times as fast as float32 here"
    return torch.float32, f"bfloat16 is {gain:.1f} times as fast here"


@functools.cache
def _seconds_in(dtype: torch.dtype) -> float:
    """Seconds that a product of matrices as large as a small encoder's takes at best, a few tens of milliseconds in all."""
    a, b = torch.ones(1024, 768, dtype=dtype), torch.ones(768, 3072, dtype=dtype)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return best


@contextmanager
def one_core() -> Iterator[None]:
    """Threads that begin to use torch inside this use one core each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
