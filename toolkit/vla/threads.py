"""Thread counts of torch and numpy: one for small operations, where several threads cost more than they gain.

A training step or a query consists of hundreds of small products. If other programs use the cores, a
product split between threads ends when its last thread was scheduled, while the others spin. One thread
also gives the same bits on every machine, with any number of cores.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

VARIABLE = "OMP_NUM_THREADS"
_NAMES = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
)


@contextmanager
def small_op_threads() -> Iterator[None]:
    """Use one thread in the block, or `OMP_NUM_THREADS` threads; restore the previous counts afterwards."""
    with limit_threads(_configured_count()):
        yield


@contextmanager
def single_thread() -> Iterator[None]:
    """Use one thread in the block, also in threads that start to use torch there; restore the counts."""
    with limit_threads(1):
        yield


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Use `count` threads for torch and for products of numpy in the block.

    Several threads may be in such blocks at once.
    """
    import torch

    previous = torch.get_num_threads()
    with _STATE.lock:
        if not _STATE.num_blocks:
            _STATE.torch, _STATE.blas = previous, _blas("get")()
        _STATE.num_blocks += 1
        # Counts are only set if they differ: other threads may be in the middle of a product.
        if previous != count:
            torch.set_num_threads(count)
        if _blas("get")() != count:
            _blas("set")(count)
    try:
        yield
    finally:
        with _STATE.lock:
            _STATE.num_blocks -= 1
            # Torch's count holds for the calling thread and all later threads. A thread that started in
            # a block only knows `count`, so the last block restores the count of the first.
            original = previous if _STATE.num_blocks else _STATE.torch
            if torch.get_num_threads() != original:
                torch.set_num_threads(original)
            if not _STATE.num_blocks and _blas("get")() != _STATE.blas:
                _blas("set")(_STATE.blas)


class _State:
    """The number of active blocks, and the thread counts before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_blocks = 0
        self.torch = self.blas = 1


_STATE = _State()


def _configured_count() -> int:
    """Return the first number of `OMP_NUM_THREADS`, which may be a list, or 1."""
    first = os.environ.get(VARIABLE, "").split(",")[0].strip()
    return int(first) if first.isdigit() and 1 <= int(first) <= 4096 else 1


@cache
def _blas(verb: str) -> Callable[..., int]:
    """Return the function to get or set the threads of the OpenBLAS in numpy's wheels.

    If numpy uses another library, the function does nothing.
    """
    import numpy

    folders = (
        Path(numpy.__file__).parent.parent / "numpy.libs",
        Path(numpy.__file__).parent / ".dylibs",
    )
    for file in (file for folder in folders for file in folder.glob("*openblas*")):
        with suppress(OSError):
            library = ctypes.CDLL(str(file))
            for name in _NAMES:
                if hasattr(library, name.format(verb)):
                    function: Callable[..., int] = getattr(library, name.format(verb))
                    return function
    return lambda *_: 1
