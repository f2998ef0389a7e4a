"""FAISS: the only module that imports it."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from vla.errors import CacheError
from vla.hints import Hint

# First four letters of a serialised IndexIDMap2 and of the flat index inside it, and the distance
# in bytes between them, the header of any index. No other content reaches the parser: it supports
# dozens of kinds and trusts what they declare.
_OUTER, _INNER, _HEADER = b"IxM2", b"IxFI", 37


def serialize(index: Any) -> bytes:
    """Return the index in FAISS's own format."""
    return faiss.serialize_index(index).tobytes()


def deserialize(content: bytes) -> Any:
    """Return the index in `content`.

    Raises:
        CacheError: for other kinds than vla builds, and for content that FAISS refuses.
    """
    if content[:4] != _OUTER or content[_HEADER : _HEADER + 4] != _INNER:
        raise CacheError("this is not a FAISS index of vla", hint=Hint("index"))
    try:
        # FAISS trusts the sizes it reads; the limit keeps a small file from allocating a terabyte.
        if hasattr(faiss, "set_deserialization_vector_byte_limit"):
            faiss.set_deserialization_vector_byte_limit(max(1 << 20, 2 * len(content)))
        return faiss.deserialize_index(np.frombuffer(content, np.uint8).copy())
    except RuntimeError as error:
        raise CacheError(
            f"FAISS refuses this index ({str(error).splitlines()[0]})", hint=Hint("index")
        ) from error


def flat(dim: int) -> Any:
    """Return an empty index of exact inner products with explicit ids."""
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dim))


def selector(ids: np.ndarray) -> Any:
    """Return a selector of `ids` for `remove_ids`."""
    return faiss.IDSelectorBatch(ids)


def search_params(id_mask: np.ndarray, nprobe: int | None = None) -> Any:
    """Return search parameters.

    Args:
        id_mask: `(M,)` bool; only ids for which it is True are returned.
        nprobe: number of lists of an inverted index to search; None for other indexes.
    """
    bits = np.packbits(id_mask, bitorder="little")
    # FAISS's type annotations lack both arguments.
    arguments: dict[str, Any] = {"sel": faiss.IDSelectorBitmap(bits)}  # type: ignore[call-arg,arg-type]
    if nprobe is None:
        return faiss.SearchParameters(**arguments)
    return faiss.SearchParametersIVF(**arguments | {"nprobe": nprobe})


def new_ivf(kind: str, centroids: np.ndarray) -> Any:
    """Return an empty inverted index.

    Args:
        kind: `flat`, `sq8` (a byte per dimension) or `rabitq` (a bit per dimension).
        centroids: `(L, E)`, one for each list.
    """
    dim = centroids.shape[1]
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(np.ascontiguousarray(centroids, np.float32))
    arguments = (quantizer, dim, len(centroids))
    if kind == "flat":
        return faiss.IndexIVFFlat(*arguments, faiss.METRIC_INNER_PRODUCT)
    if kind == "sq8":
        code_type = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(
            *arguments, code_type, faiss.METRIC_INNER_PRODUCT, True
        )
    index = faiss.IndexIVFRaBitQ(*arguments, faiss.METRIC_INNER_PRODUCT)
    index.qb = 8  # bits per dimension of a query: 4, the default, is no faster, and less accurate
    return index


def fast_scan(index: Any) -> Any:
    """Return the rows of a `rabitq` index arranged for comparing 32 at once.

    The result has the ids of `index` and needs it alive.
    """
    return faiss.IndexIVFRaBitQFastScan(index, 32)


def search(
    index: Any, queries: np.ndarray, k: int, params: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and ids of FAISS's search with `params`; see `search_params`.

    A single query is searched by one thread.
    """
    num_threads = faiss.omp_get_max_threads()
    try:
        # FAISS would split a single query and wait for all threads, of which one may be delayed for
        # longer than the search takes. The setting applies to the calling thread only.
        if len(queries) == 1:
            faiss.omp_set_num_threads(1)
        result: tuple[np.ndarray, np.ndarray] = index.search(queries, k, params=params)
        return result
    finally:
        faiss.omp_set_num_threads(num_threads)


def train_centroids(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return `(count, E)` unit vectors, the centroids of spherical k-means."""
    if not count < len(vectors):
        raise ValueError(f"cannot train {count} centroids on {len(vectors)} vectors")
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": 64}
    kmeans = faiss.Kmeans(vectors.shape[1], count, niter=8, spherical=True, seed=seed, **limits)
    kmeans.train(np.ascontiguousarray(vectors, np.float32))
    return np.asarray(kmeans.centroids, np.float32)


def nearest_lists(index: Any, vectors: np.ndarray) -> np.ndarray:
    """Return `(N,)` int64, the list of an inverted index for each of `vectors`."""
    return np.ascontiguousarray(index.quantizer.search(vectors, 1)[1][:, 0])


def add_to_lists(index: Any, ids: np.ndarray, vectors: np.ndarray, lists: np.ndarray) -> None:
    """Add `vectors` `(N, E)` to the `lists` `(N,)` of an inverted index."""
    ids, lists = np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(lists, np.int64)
    vectors = np.ascontiguousarray(vectors, np.float32)
    if not len(ids) == len(vectors) == len(lists) or (
        len(lists) and not 0 <= lists.min() <= lists.max() < index.nlist
    ):
        raise ValueError(
            f"{len(lists)} list numbers for {len(vectors)} vectors, of {index.nlist} lists"
        )
    index.add_core(len(ids), faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(lists))


def quantizer_ranges(index: Any) -> np.ndarray:
    """Return the trained ranges of a scalar quantizer, float32; empty for other kinds."""
    trained_ranges = (
        faiss.vector_to_array(index.sq.trained) if hasattr(index, "sq") else np.zeros(0)
    )
    return np.asarray(trained_ranges, np.float32)


def from_lists(
    index: Any, ranges: np.ndarray, sizes: np.ndarray, ids: np.ndarray, codes: np.ndarray
) -> Any:
    """Fill an empty inverted index from its lists and return it.

    Args:
        index: from `new_ivf`.
        ranges: from `quantizer_ranges`.
        sizes: `(L,)` number of rows of each list.
        ids: `(N,)`, list by list.
        codes: `(N, code_size)` uint8, list by list.

    Raises:
        ValueError: the arrays do not fit the index.
    """
    width = index.code_size
    # Check each size by itself, too: a sum of large ones overflows.
    is_valid = sizes.shape == (index.nlist,) and bool(((sizes >= 0) & (sizes <= len(ids))).all())
    if not is_valid or sizes.sum() != len(ids) or codes.shape != (len(ids), width):
        raise ValueError(
            f"codes of shape {codes.shape} do not fit {index.nlist} lists with {width} bytes per "
            f"row"
        )
    if hasattr(index, "sq"):
        if ranges.shape != (2 * index.d,) or not np.isfinite(ranges).all():
            raise ValueError("invalid ranges of the scalar quantizer")
        faiss.copy_array_to_vector(ranges, index.sq.trained)
    index.is_trained = True
    ends = np.cumsum(sizes)
    for number, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
        if size:
            list_ids = np.ascontiguousarray(ids[end - size : end])
            list_codes = np.ascontiguousarray(codes[end - size : end])
            index.invlists.add_entries(
                number, size, faiss.swig_ptr(list_ids), faiss.swig_ptr(list_codes)
            )
    index.ntotal = len(ids)
    return index


def to_lists(index: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `sizes`, `ids` and `codes` of an inverted index, as `from_lists` takes them."""
    lists, width = index.invlists, index.code_size
    sizes = np.array([lists.list_size(i) for i in range(index.nlist)], np.int64)
    ids, codes = np.empty(index.ntotal, np.int64), np.empty((index.ntotal, width), np.uint8)
    end = 0
    for number, size in enumerate(sizes.tolist()):
        if size:
            ids[end : end + size] = faiss.rev_swig_ptr(lists.get_ids(number), size)
            codes[end : end + size] = faiss.rev_swig_ptr(
                lists.get_codes(number), size * width
            ).reshape(size, width)
        end += size
    return sizes, ids, codes


def set_num_threads(count: int) -> None:
    """Set the number of threads that FAISS uses in this process."""
    faiss.omp_set_num_threads(count)
