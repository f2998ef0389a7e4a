"""Device and precision of an encoder, and batching within the memory of the device."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

from vla.errors import EnvironmentUnfitError, UsageError
from vla.hints import Hint
from vla.threads import single_thread

T = TypeVar("T")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str) -> torch.device:
    """Return the device called `device`; `auto` is CUDA, else Apple's GPU, else the CPU."""
    if device == "auto":
        device = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    try:
        torch_device = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"there is no device called {device!r}; use auto, cpu, cuda, cuda:1 or mps"
        ) from error
    is_missing = (
        torch_device.type == "cuda"
        and (
            not torch.cuda.is_available() or (torch_device.index or 0) >= torch.cuda.device_count()
        )
    ) or (torch_device.type == "mps" and not torch.backends.mps.is_available())
    if is_missing:
        raise EnvironmentUnfitError(
            f"torch finds no device {device!r}", hint=Hint("compute_on_cpu")
        )
    return torch_device


def useful_threads(device: torch.device) -> int:
    """Return the number of threads that may usefully encode at once.

    One for each core; two on a GPU, so that one copies while the other computes.
    """
    return os.cpu_count() or 1 if device.type == "cpu" else 2


def one_core_per_call(device: torch.device) -> AbstractContextManager[None]:
    """Return a context in which each call uses one core of a CPU.

    Threads of one call would compete with other calls and with decoders. One core also gives the
    same bits for any number of cores and threads.
    """
    return single_thread() if device.type == "cpu" else nullcontext()


def choose_dtype(dtype: str, device: torch.device) -> tuple[torch.dtype, str]:
    """Return the precision called `dtype` and the reason; `auto` depends on the hardware."""
    if dtype != "auto":
        if dtype not in DTYPES:
            raise UsageError(f"there is no dtype called {dtype!r}; use auto, {', '.join(DTYPES)}")
        return DTYPES[dtype], "as requested"
    if device.type == "cuda":
        if has_bf16_hardware(device):
            return torch.bfloat16, "the GPU has hardware for it"
        return torch.float16, "the GPU has no hardware for bfloat16"
    if device.type != "cpu":
        return torch.float32, "the safe choice on this device"
    # Depends on the processor, never on timing: the load of the machine must not change the bits of
    # cached features.
    for instructions, is_supported in (
        ("AMX", "_is_amx_tile_supported"),
        ("AVX512-BF16", "_is_avx512_bf16_supported"),
    ):
        if hasattr(torch.cpu, is_supported) and getattr(torch.cpu, is_supported)():
            return torch.bfloat16, f"the CPU has {instructions}"
    return torch.float32, "the CPU has no instructions for bfloat16"


def has_bf16_hardware(device: torch.device) -> bool:
    """Return whether the GPU `device` has hardware for products of bfloat16.

    Older GPUs (T4, RTX 20) emulate them slowly. The given GPU counts, not the current one: a
    machine may have two kinds.
    """
    if torch.version.hip:
        return True
    return torch.cuda.get_device_capability(device) >= (8, 0)


class OomSafeBatcher:
    """Processing in batches that are halved if they do not fit into memory.

    Args:
        max_rows: largest batch; None for all rows at once.
    """

    def __init__(self, max_rows: int | None = None) -> None:
        self._max_rows = max_rows or sys.maxsize

    def run(self, rows: torch.Tensor, work: Callable[[torch.Tensor], T]) -> list[T]:
        """Return the results of `work` on batches of `rows`, in order.

        Raises:
            EnvironmentUnfitError: a single row does not fit into memory.
        """
        results: list[T] = []
        start = 0
        while start < len(rows):
            batch = rows[start : start + self._max_rows]
            try:
                results.append(work(batch))
                start += len(batch)
                continue
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise EnvironmentUnfitError(
                        "the device has no memory left for a single input of this model",
                        hint=Hint("free_device"),
                    ) from error
                self._max_rows = max(1, len(batch) // 2)
            # Outside the handler, where the tensors of the failed batch have been released.
            torch.cuda.empty_cache()
            if torch.backends.mps.is_available():
                torch.mps.empty_cache()
        return results


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether `error` means that a device lacks memory.

    Libraries of CUDA and of Apple's GPU raise a plain RuntimeError.
    """
    message = str(error)
    signs = ("out of memory", "ALLOC_FAILED", "not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(sign in message for sign in signs)
