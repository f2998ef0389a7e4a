"""The one file that imports faiss."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from vla.errors import CacheError
from vla.hints import Hint

# The four letters that a serialised IndexIDMap2 and the flat index inside it begin with, and how far apart they are (the
# header of any index): nothing else is handed to the parser, which knows dozens of kinds and believes what they say.
_OUTER, _INNER, _HEADER = b"IxM2", b"IxFI", 37


def serialized(index: Any) -> bytes:
    """Faiss's own format."""
    return faiss.serialize_index(index).tobytes()


def deserialized(content: bytes) -> Any:
    """The index in `content`; raises CacheError for kinds that we do not build and for whatever faiss refuses."""
    if content[:4] != _OUTER or content[_HEADER : _HEADER + 4] != _INNER:
        raise CacheError("this is not a FAISS index of vla", hint=Hint("index"))
    try:
        # faiss believes the sizes it reads; the limit keeps a small file from claiming a terabyte.
        if hasattr(faiss, "set_deserialization_vector_byte_limit"):
            faiss.set_deserialization_vector_byte_limit(max(1 << 20, 2 * len(content)))
        return faiss.deserialize_index(np.frombuffer(content, np.uint8).copy())
    except RuntimeError as error:
        raise CacheError(f"FAISS refuses this index ({str(error).splitlines()[0]})", hint=Hint("index")) from error


def flat(dim: int) -> Any:
    """Exact inner product with ids of our own."""
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dim))


def selector(ids: np.ndarray) -> Any:
    """What `remove_ids` takes."""
    return faiss.IDSelectorBatch(ids)


def search_params(allowed: np.ndarray, probes: int | None = None) -> Any:
    """Of a search: only ids for which `allowed` `(M,)` bool says so, and `probes` of an inverted index's lists."""
    bits = np.packbits(allowed, bitorder="little")
    # FAISS's own annotations know of neither argument.
    given: dict[str, Any] = {"sel": faiss.IDSelectorBitmap(bits)}  # type: ignore[call-arg,arg-type]
    if probes is None:
        return faiss.SearchParameters(**given)
    return faiss.SearchParametersIVF(**given | {"nprobe": probes})


def new_ivf(kind: str, centres: np.ndarray) -> Any:
    """An empty index of lists round `centres` `(L, E)`; `kind` is `flat`, `sq8` (a byte for each number) or `rabitq` (a bit)."""
    dim = centres.shape[1]
    nearest = faiss.IndexFlatIP(dim)
    nearest.add(np.ascontiguousarray(centres, np.float32))
    given = (nearest, dim, len(centres))
    if kind == "flat":
        return faiss.IndexIVFFlat(*given, faiss.METRIC_INNER_PRODUCT)
    if kind == "sq8":
        bytes_ = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexIVFScalarQuantizer(*given, bytes_, faiss.METRIC_INNER_PRODUCT, True)
    bits = faiss.IndexIVFRaBitQ(*given, faiss.METRIC_INNER_PRODUCT)
    bits.qb = 8  # bits of a query's numbers: with 4, the default, it is no faster, and estimates are worse
    return bits


def fast_scan(index: Any) -> Any:
    """The rows of a `rabitq` index laid out for comparing 32 at once; it needs `index` as long as it lives, and has its ids."""
    return faiss.IndexIVFRaBitQFastScan(index, 32)


def search(index: Any, queries: np.ndarray, k: int, limits: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """What FAISS finds, of that which `limits` (see `search_params`) allow; one query alone is searched for by one thread."""
    count = faiss.omp_get_max_threads()
    try:
        # Else FAISS splits one query and waits for all threads, where one is held up for longer than the search takes.
        # The number is the calling thread's own: searches at the same time do not see it.
        if len(queries) == 1:
            faiss.omp_set_num_threads(1)
        found: tuple[np.ndarray, np.ndarray] = index.search(queries, k, params=limits)
        return found
    finally:
        faiss.omp_set_num_threads(count)


def train_centroids(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`(count, E)` unit vectors round which `vectors` gather."""
    if not count < len(vectors):
        raise ValueError(f"{len(vectors)} vectors have no {count} centres")
    with_few = {"min_points_per_centroid": 1, "max_points_per_centroid": 64}
    found = faiss.Kmeans(vectors.shape[1], count, niter=8, spherical=True, seed=seed, **with_few)
    found.train(np.ascontiguousarray(vectors, np.float32))
    return np.asarray(found.centroids, np.float32)


def nearest(index: Any, vectors: np.ndarray) -> np.ndarray:
    """`(N,)` int64: which list of an inverted index each of `vectors` belongs to."""
    return np.ascontiguousarray(index.quantizer.search(vectors, 1)[1][:, 0])


def add_near(index: Any, ids: np.ndarray, vectors: np.ndarray, near: np.ndarray) -> None:
    """Put `vectors` into the lists `near` `(N,)` of an inverted index."""
    ids, vectors, near = (
        np.ascontiguousarray(a, t) for a, t in ((ids, np.int64), (vectors, np.float32), (near, np.int64))
    )
    if not len(ids) == len(vectors) == len(near) or (len(near) and not 0 <= near.min() <= near.max() < index.nlist):
        raise ValueError(f"{len(near)} list numbers for {len(vectors)} vectors, of {index.nlist} lists")
    index.add_core(len(ids), faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(near))


def quantizer_ranges(index: Any) -> np.ndarray:
    """What a scalar quantiser learned; nothing for other kinds."""
    found = faiss.vector_to_array(index.sq.trained) if hasattr(index, "sq") else np.zeros(0)
    return np.asarray(found, np.float32)


def from_lists(index: Any, learned: np.ndarray, sizes: np.ndarray, ids: np.ndarray, codes: np.ndarray) -> Any:
    """`index`, an `new_ivf` one, with rows: `sizes` `(L,)` of lists, and `ids` `(N,)` and `codes` `(N, code)`, list by list.

    Raises:
        ValueError: what is given does not fit the index.
    """
    width = index.code_size
    # Each size by itself, too: a sum of large ones wraps round.
    counts = sizes.shape == (index.nlist,) and bool(((sizes >= 0) & (sizes <= len(ids))).all())
    if not counts or sizes.sum() != len(ids) or codes.shape != (len(ids), width):
        raise ValueError(f"{codes.shape} codes do not make {index.nlist} lists of {width} bytes a row")
    if hasattr(index, "sq"):
        if learned.shape != (2 * index.d,) or not np.isfinite(learned).all():
            raise ValueError("the quantiser's ranges do not fit")
        faiss.copy_array_to_vector(learned, index.sq.trained)
    index.is_trained = True
    ends = np.cumsum(sizes)
    for number, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
        if size:
            mine, bytes_ = np.ascontiguousarray(ids[end - size : end]), np.ascontiguousarray(codes[end - size : end])
            index.invlists.add_entries(number, size, faiss.swig_ptr(mine), faiss.swig_ptr(bytes_))
    index.ntotal = len(ids)
    return index


def to_lists(index: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`sizes`, `ids` and `codes` of an inverted index, as `from_lists` takes them."""
    lists, width = index.invlists, index.code_size
    sizes = np.array([lists.list_size(i) for i in range(index.nlist)], np.int64)
    ids, codes = np.empty(index.ntotal, np.int64), np.empty((index.ntotal, width), np.uint8)
    end = 0
    for number, size in enumerate(sizes.tolist()):
        if size:
            ids[end : end + size] = faiss.rev_swig_ptr(lists.get_ids(number), size)
            codes[end : end + size] = faiss.rev_swig_ptr(lists.get_codes(number), size * width).reshape(size, width)
        end += size
    return sizes, ids, codes


def threads(count: int) -> None:
    """Let FAISS use `count` threads in this process."""
    faiss.omp_set_num_threads(count)
