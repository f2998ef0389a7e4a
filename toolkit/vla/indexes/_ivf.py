"""Rows in lists: each row is kept with the centre nearest to it, and a query is compared with the lists of the centres nearest
to the query.

Saved, an index is plain arrays, and FAISS's objects are made anew from them: no size or kind that a file claims is believed.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from vla.errors import CacheError, UsageError
from vla.hints import Hint
from vla.indexes import _faiss
from vla.indexes.base import NO_ID, by_score_then_id, checked, empty_result

_PROBES = 16
PER_LIST = 16
"""Rows to learn a centre from, at least. FAISS wants 39: with 40, 32 lists of 100,000 rows find .998 of the ten best instead
of .990, and centres take nearly three times as long."""


def nlist_for(rows: int) -> int:
    """How many lists are worth their while. With twice as many a million rows are searched a fifth faster, and take twice as long
    to sort into lists; with half as many it takes 1.7 times as long.
    """
    return max(1, round(4 * rows**0.5))


def train_centroids(vectors: np.ndarray, lists: int, seed: int) -> np.ndarray:
    """`(lists, E)`, fewer where vectors `(N, E)` are few: where they gather. Several indexes of the same rows may use them."""
    count = min(lists, max(1, len(vectors) // PER_LIST))
    if count == 1:
        return vectors.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    return _faiss.train_centroids(vectors, count, seed)


def nearest(centres: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """`(N,)` int64: which of `centres` is nearest to each of `vectors` `(N, E)`. Rows of an index may be added with it."""
    return _faiss.nearest(_faiss.new_ivf("flat", centres), np.ascontiguousarray(vectors, np.float32))


class IvfIndex:
    """Approximate search in lists; see the plug-ins for how a row is kept.

    Args:
        dim: width of the vectors.
        lists: how many; 0 for four times the root of the number of rows that are learned from.
        probes: how many lists a query looks into.
        seed: of the centres.
    """

    is_exact = False
    memory_factor = 1
    kind: ClassVar[str]
    rotates: ClassVar[bool] = False
    """Whether vectors are turned at random first, so that every number of a vector matters about equally."""

    def __init__(self, dim: int, lists: int = 0, probes: int = _PROBES, seed: int = 0) -> None:
        if lists < 0 or probes < 1:
            raise UsageError(f"lists must be at least 0 and probes at least 1, not {lists} and {probes}")
        self.dim, self.lists, self.probes, self._seed = dim, lists, probes, seed
        self._index: Any = None
        self._centres = np.zeros((0, dim), np.float32)
        self._turn = np.zeros((0, dim), np.float32)
        self._largest = -1

    def train(self, vectors: np.ndarray) -> None:
        """See the base class."""
        _, vectors = checked(np.arange(len(vectors)), vectors, self.dim)
        self.begin(vectors, train_centroids(vectors, self.lists or nlist_for(len(vectors)), self._seed))

    def begin(self, vectors: np.ndarray, centres: np.ndarray) -> None:
        """Start with these `centres`; what else must be known of rows is learned from `vectors`."""
        if self.rotates:
            gaussian = np.random.default_rng(self._seed).standard_normal((self.dim, self.dim))
            self._turn = np.linalg.qr(gaussian)[0].astype(np.float32)
        self._centres, self.lists = centres, len(centres)
        self._index = _faiss.new_ivf(self.kind, self._turned(centres))
        self._index.train(self._turned(vectors))

    def add(self, ids: np.ndarray, vectors: np.ndarray, near: np.ndarray | None = None) -> None:
        """See the base class. `near`: what `nearest` says of them, where it is known: it takes longest."""
        ids, vectors = checked(ids, vectors, self.dim)
        if not len(ids):
            return
        if self._index is None:
            self.train(vectors)
        if ids.min() <= self._largest:
            self.remove(ids)
        self._largest = max(self._largest, int(ids.max()))
        turned = self._turned(vectors)
        _faiss.add_near(self._index, ids, turned, _faiss.nearest(self._index, turned) if near is None else near)

    def remove(self, ids: np.ndarray) -> int:
        """See the base class."""
        ids = np.unique(np.asarray(ids, np.int64))
        return int(self._index.remove_ids(_faiss.selector(ids))) if len(ids) and len(self) else 0

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See the base class. With `allowed`, as many more lists are looked into as there are fewer rows to find."""
        _, queries = checked(np.arange(len(queries)), queries, self.dim)
        if not len(queries) or not len(self):
            return empty_result(len(queries), k)
        index, probes, limits = self._searched(), min(self.probes, self.lists), None
        index.nprobe = probes
        if allowed is not None:
            # More may be allowed than there is.
            share = min(1.0, max(1, int(allowed.sum())) / len(self))
            wider = min(self.lists, math.ceil(probes / share))
            limits = _faiss.search_params(allowed, wider)
        scores, ids = _faiss.search(index, self._turned(queries), k, limits)
        scores[ids == NO_ID] = -np.inf
        return by_score_then_id(scores, ids)

    def _searched(self) -> Any:
        """FAISS's index that queries are given to."""
        return self._index

    def _turned(self, vectors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(vectors @ self._turn.T) if len(self._turn) else vectors

    def __len__(self) -> int:
        """Rows."""
        return int(self._index.ntotal) if self._index is not None else 0

    def to_bytes(self) -> bytes:
        """Safetensors: centres, and ids and codes list by list."""
        from safetensors.numpy import save

        if self._index is None:
            sizes, ids, codes = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0), np.uint8)
            learned = np.zeros(0, np.float32)
        else:
            (sizes, ids, codes), learned = _faiss.to_lists(self._index), _faiss.quantizer_ranges(self._index)
        kind = np.frombuffer(self.kind.encode(), np.uint8)
        settings = np.array([self.lists, self.probes, self._seed], np.int64)
        return save(
            {
                "kind": kind, "settings": settings, "centres": self._centres, "turn": self._turn, "learned": learned,
                "sizes": sizes, "ids": ids, "codes": codes,
            }
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, content: bytes) -> IvfIndex:
        """See the base class."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found = load(content)
            if found["kind"].tobytes() != cls.kind.encode():
                raise ValueError(f"it is of the kind {found['kind'].tobytes()[:20]!r}")
            return cls._restored(found)
        except (KeyError, TypeError, ValueError, SafetensorError, UsageError) as error:
            raise CacheError(f"this is not an index in lists of vla ({error})", hint=Hint("index")) from error

    @classmethod
    def _restored(cls, found: dict[str, np.ndarray]) -> IvfIndex:
        centres, turn, ids, codes = (found[name] for name in ("centres", "turn", "ids", "codes"))
        kinds = {
            "centres": "f4",
            "turn": "f4",
            "learned": "f4",
            "sizes": "i8",
            "ids": "i8",
            "codes": "u1",
            "settings": "i8",
        }
        for name, kind in kinds.items():
            if found[name].dtype != np.dtype(kind) or found[name].ndim != (
                2 if name in ("centres", "turn", "codes") else 1
            ):
                raise ValueError(f"{name} is {found[name].dtype} of shape {found[name].shape}")
        lists, probes, seed = found["settings"].tolist()
        dim = centres.shape[1]
        if dim < 1 or turn.shape != (dim * (cls.rotates and len(centres) > 0), dim):
            raise ValueError(f"vectors of {dim} numbers are not turned by {turn.shape}")
        if (
            (ids < 0).any()
            or len(np.unique(ids)) != len(ids)
            or not (np.isfinite(centres).all() and np.isfinite(turn).all())
        ):
            raise ValueError("ids are not different from each other, or numbers are not finite")
        index = cls(dim, lists, probes, seed)
        if len(centres):
            if lists != len(centres):
                raise ValueError(f"{len(centres)} centres are not {lists} lists")
            index._centres, index._turn = centres, turn
            empty = _faiss.new_ivf(cls.kind, index._turned(centres))
            index._index = _faiss.from_lists(empty, found["learned"], found["sizes"], ids, codes)
            index._largest = int(ids.max(initial=-1))
        return index
