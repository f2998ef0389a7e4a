"""Threads of torch and numpy for small operations: one, because several wait for each other longer than they compute.

A step of training or a query is hundreds of small products. Where other programs use the cores, a product that is split between
threads ends when its last thread has had its turn, and the others spin meanwhile. One thread also gives the same bits on every
machine, however many cores it has.
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
_NAMES = ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads")


@contextmanager
def small_op_threads() -> Iterator[None]:
    """Use one thread inside, or as many as `OMP_NUM_THREADS` says; the caller's numbers of threads are restored at the end."""
    with limit_threads(_chosen()):
        yield


@contextmanager
def single_threaded() -> Iterator[None]:
    """Use one thread inside, also in threads that begin to use torch there; the caller's numbers are restored at the end."""
    with limit_threads(1):
        yield


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Use `count` threads of torch and of numpy's products inside. Several threads may be inside at once."""
    import torch

    mine = torch.get_num_threads()
    with _HELD.lock:
        if not _HELD.inside:
            _HELD.torch, _HELD.blas = mine, _blas("get")()
        _HELD.inside += 1
        # Numbers that are right already are left alone: others may be in the middle of a product.
        if mine != count:
            torch.set_num_threads(count)
        if _blas("get")() != count:
            _blas("set")(count)
    try:
        yield
    finally:
        with _HELD.lock:
            _HELD.inside -= 1
            # Torch's number is of the calling thread and of all threads to come: a thread that began inside knows no other than
            # `count`, so the last one out restores that of the first one in.
            before = mine if _HELD.inside else _HELD.torch
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)
            if not _HELD.inside and _blas("get")() != _HELD.blas:
                _blas("set")(_HELD.blas)


class _Held:
    """How many are inside, and what the numbers were before the first of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.torch = self.blas = 1


_HELD = _Held()


def _chosen() -> int:
    """The first number of `OMP_NUM_THREADS`, which may be a list; 1 where there is none."""
    first = os.environ.get(VARIABLE, "").split(",")[0].strip()
    return int(first) if first.isdigit() and 1 <= int(first) <= 4096 else 1


@cache
def _blas(verb: str) -> Callable[..., int]:
    """The function `get` or `set` of the OpenBLAS in numpy's wheels; one that does nothing where numpy has another library."""
    import numpy

    folders = Path(numpy.__file__).parent.parent / "numpy.libs", Path(numpy.__file__).parent / ".dylibs"
    for file in (file for folder in folders for file in folder.glob("*openblas*")):
        with suppress(OSError):
            library = ctypes.CDLL(str(file))
            for name in _NAMES:
                if hasattr(library, name.format(verb)):
                    found: Callable[..., int] = getattr(library, name.format(verb))
                    return found
    return lambda *_: 1
