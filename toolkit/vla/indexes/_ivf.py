"""Inverted file (IVF) indexes: a row is stored in the list of its nearest centroid, and a query is
compared with the rows of the nearest lists.

An index is saved as plain arrays, and FAISS's objects are rebuilt from them: no size or kind that a
file declares is trusted.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from vla.errors import CacheError, UsageError
from vla.hints import Hint
from vla.indexes import _faiss
from vla.indexes.base import NO_ID, by_score_then_id, check_vectors, empty_result

_NPROBE = 16
MIN_ROWS_PER_LIST = 16
"""Minimum number of training rows per centroid. FAISS recommends 39: with 40, 32 lists of 100,000
rows find .998 of the ten best rows instead of .990, but k-means takes nearly three times as
long.
"""


def nlist_for(rows: int) -> int:
    """Return the number of lists for an index of `rows` rows.

    With twice as many, a million rows are searched a fifth faster and take twice as long to assign
    to lists; with half as many, a search takes 1.7 times as long.
    """
    return max(1, round(4 * rows**0.5))


def train_centroids(vectors: np.ndarray, nlist: int, seed: int) -> np.ndarray:
    """Return `(nlist, E)` centroids of `vectors` `(N, E)`, fewer if there are few vectors.

    Several indexes of the same rows may share them.
    """
    count = min(nlist, max(1, len(vectors) // MIN_ROWS_PER_LIST))
    if count == 1:
        return vectors.mean(0, keepdims=True, dtype=np.float64).astype(np.float32)
    return _faiss.train_centroids(vectors, count, seed)


def nearest_centroids(centroids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return `(N,)` int64, the centroid nearest to each vector of `(N, E)`, for `IvfIndex.add`."""
    return _faiss.nearest_lists(
        _faiss.new_ivf("flat", centroids), np.ascontiguousarray(vectors, np.float32)
    )


class IvfIndex:
    """Approximate search in inverted lists; the plug-ins differ in the encoding of a row.

    Args:
        dim: width of the vectors.
        nlist: number of lists; 0 for four times the square root of the number of training rows.
        nprobe: number of lists that a query searches.
        seed: seed of k-means and of the rotation.
    """

    is_exact = False
    memory_factor = 1
    kind: ClassVar[str]
    rotates: ClassVar[bool] = False
    """Whether vectors are rotated at random, so that all dimensions matter about equally."""

    def __init__(self, dim: int, nlist: int = 0, nprobe: int = _NPROBE, seed: int = 0) -> None:
        if nlist < 0 or nprobe < 1:
            raise UsageError(
                f"nlist must be at least 0 and nprobe at least 1, not {nlist} and {nprobe}"
            )
        self.dim, self.nlist, self.nprobe, self._seed = dim, nlist, nprobe, seed
        self._index: Any = None
        self._centroids = np.zeros((0, dim), np.float32)
        self._rotation = np.zeros((0, dim), np.float32)
        self._largest = -1

    def train(self, vectors: np.ndarray) -> None:
        """Train centroids and encoding on `vectors` `(N, E)`; see the base class."""
        _, vectors = check_vectors(np.arange(len(vectors)), vectors, self.dim)
        self.begin(
            vectors, train_centroids(vectors, self.nlist or nlist_for(len(vectors)), self._seed)
        )

    def begin(self, vectors: np.ndarray, centroids: np.ndarray) -> None:
        """Start with trained `centroids`; train the encoding on `vectors` `(N, E)`."""
        if self.rotates:
            gaussian = np.random.default_rng(self._seed).standard_normal((self.dim, self.dim))
            self._rotation = np.linalg.qr(gaussian)[0].astype(np.float32)
        self._centroids, self.nlist = centroids, len(centroids)
        self._index = _faiss.new_ivf(self.kind, self._rotate(centroids))
        self._index.train(self._rotate(vectors))

    def add(self, ids: np.ndarray, vectors: np.ndarray, lists: np.ndarray | None = None) -> None:
        """Add or replace rows; see the base class.

        Args:
            ids: `(N,)`.
            vectors: `(N, E)`.
            lists: `(N,)` from `nearest_centroids`, if known; computing it takes longest.
        """
        ids, vectors = check_vectors(ids, vectors, self.dim)
        if not len(ids):
            return
        if self._index is None:
            self.train(vectors)
        if ids.min() <= self._largest:
            self.remove(ids)
        self._largest = max(self._largest, int(ids.max()))
        points = self._rotate(vectors)
        _faiss.add_to_lists(
            self._index,
            ids,
            points,
            _faiss.nearest_lists(self._index, points) if lists is None else lists,
        )

    def remove(self, ids: np.ndarray) -> int:
        """Remove `ids` and return how many were present; see the base class."""
        ids = np.unique(np.asarray(ids, np.int64))
        return int(self._index.remove_ids(_faiss.selector(ids))) if len(ids) and len(self) else 0

    def search(
        self, queries: np.ndarray, k: int, id_mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best rows; see the base class.

        With `id_mask`, proportionally more lists are searched for the fewer rows that it leaves.
        """
        _, queries = check_vectors(np.arange(len(queries)), queries, self.dim)
        if not len(queries) or not len(self):
            return empty_result(len(queries), k)
        index, nprobe, params = self._search_index(), min(self.nprobe, self.nlist), None
        index.nprobe = nprobe
        if id_mask is not None:
            # The mask may select more ids than there are rows.
            share = min(1.0, max(1, int(id_mask.sum())) / len(self))
            nprobe = min(self.nlist, math.ceil(nprobe / share))
            params = _faiss.search_params(id_mask, nprobe)
        scores, ids = _faiss.search(index, self._rotate(queries), k, params)
        scores[ids == NO_ID] = -np.inf
        return by_score_then_id(scores, ids)

    def _search_index(self) -> Any:
        """Return the FAISS index to search."""
        return self._index

    def _rotate(self, vectors: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(vectors @ self._rotation.T) if len(self._rotation) else vectors

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._index.ntotal) if self._index is not None else 0

    def to_bytes(self) -> bytes:
        """Return the index as safetensors: centroids, then ids and codes list by list."""
        from safetensors.numpy import save

        if self._index is None:
            sizes, ids, codes = (
                np.zeros(0, np.int64),
                np.zeros(0, np.int64),
                np.zeros((0, 0), np.uint8),
            )
            ranges = np.zeros(0, np.float32)
        else:
            (sizes, ids, codes), ranges = (
                _faiss.to_lists(self._index),
                _faiss.quantizer_ranges(self._index),
            )
        kind = np.frombuffer(self.kind.encode(), np.uint8)
        settings = np.array([self.nlist, self.nprobe, self._seed], np.int64)
        return save(
            {
                "kind": kind, "settings": settings, "centres": self._centroids, "turn": self._rotation, "learned": ranges,
                "sizes": sizes, "ids": ids, "codes": codes,
            }
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, content: bytes) -> IvfIndex:
        """Return the index that `to_bytes` saved; see the base class."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(content)
            if arrays["kind"].tobytes() != cls.kind.encode():
                raise ValueError(f"it is of the kind {arrays['kind'].tobytes()[:20]!r}")
            return cls._from_arrays(arrays)
        except (KeyError, TypeError, ValueError, SafetensorError, UsageError) as error:
            raise CacheError(
                f"this is not an index in lists of vla ({error})", hint=Hint("index")
            ) from error

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray]) -> IvfIndex:
        centroids, rotation, ids, codes = (
            arrays[name] for name in ("centres", "turn", "ids", "codes")
        )
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
            if arrays[name].dtype != np.dtype(kind) or arrays[name].ndim != (
                2 if name in ("centres", "turn", "codes") else 1
            ):
                raise ValueError(f"{name} is {arrays[name].dtype} of shape {arrays[name].shape}")
        nlist, nprobe, seed = arrays["settings"].tolist()
        dim = centroids.shape[1]
        if dim < 1 or rotation.shape != (dim * (cls.rotates and len(centroids) > 0), dim):
            raise ValueError(
                f"a rotation of shape {rotation.shape} does not fit vectors of width {dim}"
            )
        if (
            (ids < 0).any()
            or len(np.unique(ids)) != len(ids)
            or not (np.isfinite(centroids).all() and np.isfinite(rotation).all())
        ):
            raise ValueError("ids are not unique and non-negative, or values are not finite")
        index = cls(dim, nlist, nprobe, seed)
        if len(centroids):
            if nlist != len(centroids):
                raise ValueError(f"{len(centroids)} centroids do not fit {nlist} lists")
            index._centroids, index._rotation = centroids, rotation
            empty = _faiss.new_ivf(cls.kind, index._rotate(centroids))
            index._index = _faiss.from_lists(empty, arrays["learned"], arrays["sizes"], ids, codes)
            index._largest = int(ids.max(initial=-1))
        return index
