"""Where an encoder runs and in which precision."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import torch

from vla.errors import EnvironmentUnfitError, UsageError
from vla.hints import Hint

T = TypeVar("T")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


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
        raise EnvironmentUnfitError(
            f"device {device!r} was asked for, but torch sees none", hint=Hint("compute_on_cpu")
        )
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The precision called `dtype`, and why; `auto` is what `device` is fast in."""
    if dtype != "auto":
        if dtype not in DTYPES:
            raise UsageError(f"there is no dtype called {dtype!r}; use auto, {', '.join(DTYPES)}")
        return DTYPES[dtype], "as asked for"
    if device.type == "cuda":
        if has_bf16_hardware(device):
            return torch.bfloat16, "the GPU has hardware for it"
        return torch.float16, "the GPU has none for bfloat16"
    if device.type != "cpu":
        return torch.float32, "the safe choice on this device"
    # By the kind of processor, never by a measurement: the load of the machine must not decide the bits of cached features.
    for instructions, is_supported in (("AMX", "_is_amx_tile_supported"), ("AVX512-BF16", "_is_avx512_bf16_supported")):
        if hasattr(torch.cpu, is_supported) and getattr(torch.cpu, is_supported)():
            return torch.bfloat16, f"the CPU has {instructions}"
    return torch.float32, "the CPU has no instructions for bfloat16"


def has_bf16_hardware(device: torch.device) -> bool:
    """True if the GPU `device` has hardware for products of bfloat16; older ones (T4, RTX 20) only emulate it, slowly.

    Asked of that GPU and not of the current one: a machine may have two kinds.
    """
    if torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


class OomSafeBatcher:
    """Work on as many rows at once as there is memory for: where there is not, half as many, from then on."""

    def __init__(self) -> None:
        self._most = sys.maxsize

    def run(self, rows: torch.Tensor, work: Callable[[torch.Tensor], T]) -> list[T]:
        """What `work` makes of `rows`, a piece at a time and in order.

        Raises:
            EnvironmentUnfitError: there is no memory for a single row.
        """
        done: list[T] = []
        start = 0
        while start < len(rows):
            piece = rows[start : start + self._most]
            try:
                done.append(work(piece))
                start += len(piece)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(piece) == 1:
                    raise EnvironmentUnfitError(
                        "the device has no memory left for a single input of this model",
                        hint=Hint("free_device"),
                    ) from error
                self._most = max(1, len(piece) // 2)
            # Not within the handler: what failed is let go of only now.
            torch.cuda.empty_cache()
            if torch.backends.mps.is_available():
                torch.mps.empty_cache()
        return done


def is_out_of_memory(error: RuntimeError) -> bool:
    """True if a device had too little memory: libraries of CUDA and Apple's GPU raise a plain RuntimeError."""
    said = str(error)
    signs = ("out of memory", "ALLOC_FAILED", "not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in said for sign in signs)
