"""Trial of an index type in a separate process, as its library may crash."""

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
_TIMEOUT_SECONDS = 120.0
_MIN_RECALL = 0.9
"""Fraction of the queries that must find the row they equal: approximate indexes may miss a few."""


@functools.cache
def trial_error(name: str) -> str:
    """Build, search, save and load a small index of type `name` in a child process.

    The result is cached for the life of this process.

    Returns:
        The reason why the type cannot be used, in one phrase; empty if it works.
    """
    code = "import sys; from vla.indexes._trial import main; main(sys.argv[1])"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "OMP_NUM_THREADS": "1",
    }
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-c", code, name], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"its trial did not end within {_TIMEOUT_SECONDS:g} s"
    except OSError as error:
        return f"no process could be started for its trial ({error.strerror})"
    if not process.returncode:
        return ""
    if process.returncode < 0:
        return f"it crashed its process ({signal.Signals(-process.returncode).name})"
    lines = process.stderr.strip().splitlines()
    return lines[-1] if lines else f"it crashed its process (exit code {process.returncode})"


def main(name: str) -> None:
    """Try the type `name` in this process; on failure exit with code 1 and a reason on stderr."""
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
    _check_search(index, vectors, ids)
    copy = type(index).from_bytes(index.to_bytes())
    _check_search(copy, vectors, ids)
    if copy.remove(ids[:10]) != 10:
        raise ValueError("removed rows are still present")
    _check_search(copy, vectors[10:], ids[10:])


def _check_search(index: Any, vectors: np.ndarray, ids: np.ndarray) -> None:
    """Raise ValueError unless rows are found by their own vectors.

    Queries are many at once, a single one, and a single one with an id mask.
    """
    query_ids, queries = ids[::32], vectors[::32]
    id_mask = np.zeros(2 * _ROWS, bool)
    id_mask[ids[::2]] = True
    for count, mask in ((len(query_ids), None), (1, None), (1, id_mask)):
        hits = index.search(queries[:count], 10, mask)[1]
        if (hits == query_ids[:count, None]).any(1).mean() < _MIN_RECALL:
            raise ValueError(
                f"rows of width {vectors.shape[1]} were not found by their own vectors"
            )
        if mask is not None and not mask[hits[hits >= 0]].all():
            raise ValueError("rows were found that the id mask excludes")
