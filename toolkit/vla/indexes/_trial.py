"""Try a kind of index in a process of its own: a defect of a library over one kind ends that process, not ours."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np

from vla.errors import VlaError

_ROWS = 2000
_DIMS = (24, 128)
_SECONDS = 120.0
_ENOUGH = 0.9
"""Share of the queries that must find the row they were made from: estimates may miss a few."""


@functools.cache
def fault_of(name: str) -> str:
    """Build, search, save and load a small index of the kind `name` in a child process, once in the life of this process.

    Returns:
        Why it cannot be used here, in one phrase; empty where it can.
    """
    code = "import sys; from vla.indexes._trial import main; main(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, name], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"a trial of it did not end within {_SECONDS:g} s"
    except OSError as error:
        return f"no process could be started to try it ({error.strerror})"
    if not done.returncode:
        return ""
    if done.returncode < 0:
        return f"it ended its process ({signal.Signals(-done.returncode).name})"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"it ended its process (exit code {done.returncode})"


def main(name: str) -> None:
    """Try the kind `name` in this process; ends with exit code 1 and the reason on stderr where it does not work."""
    try:
        for dim in _DIMS:
            _try(name, dim)
    except (VlaError, ImportError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        sys.exit(f"{type(error).__name__}: {error}".splitlines()[0])


def _try(name: str, dim: int) -> None:
    from vla.indexes import registry

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((_ROWS, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.arange(_ROWS) * 2
    index = registry.build(name, dim=dim)
    index.train(vectors)
    index.add(ids, vectors)
    _require(index, vectors, ids)
    again = type(index).from_bytes(index.to_bytes())
    _require(again, vectors, ids)
    if again.remove(ids[:10]) != 10:
        raise ValueError("rows that were removed are still there")
    _require(again, vectors[10:], ids[10:])


def _require(index: Any, vectors: np.ndarray, ids: np.ndarray) -> None:
    """Raise ValueError unless rows are found by their own vectors: many at once, one alone, and one where a filter allows it."""
    own, queries = ids[::32], vectors[::32]
    allowed = np.zeros(2 * _ROWS, bool)
    allowed[ids[::2]] = True
    for count, limits in ((len(own), None), (1, None), (1, allowed)):
        found = index.search(queries[:count], 10, limits)[1]
        if (found == own[:count, None]).any(1).mean() < _ENOUGH:
            raise ValueError(f"rows were not found by their own vectors, {vectors.shape[1]} numbers wide")
        if limits is not None and not limits[found[found >= 0]].all():
            raise ValueError("rows were found that a filter excludes")
