"""Shards: HDF5 files of features, built in memory, written once, never changed.

This is the only module that imports h5py. A shard may come from an untrusted source, and HDF5 files can
refer to other files. So every object is checked before it is read: hard links only, no external or
virtual storage, plain numbers, no filters, sizes within the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from vla.errors import CacheError, ShapeError
from vla.features import FrameFeatures, TextFeatures


def frames_image(features: FrameFeatures) -> bytes:
    """Encode the features of one video: `values` `(T, D)` float16 and `timestamps_seconds` `(T,)` float64.

    Raises:
        ShapeError: a value is too large for float16.
    """
    values = _to_float16(features.values, features.video_id)
    return _image(
        {"values": values, "timestamps_seconds": features.timestamps_seconds.astype(np.float64)}
    )


def read_frames(content: bytes, video_id: str, duration_seconds: float) -> FrameFeatures:
    """Decode a shard made by `frames_image`.

    Raises:
        CacheError: it is not such a shard.
    """
    arrays = _read(content, {"values": (2, "f2"), "timestamps_seconds": (1, "f8")}, video_id)
    try:
        return FrameFeatures(
            video_id, arrays["values"], arrays["timestamps_seconds"], duration_seconds
        )
    except ShapeError as error:
        raise CacheError(f"{video_id} is not a shard of vla: {error}") from error


def texts_image(features: TextFeatures) -> bytes:
    """Encode the features of texts: pooled vectors, the tokens of all texts concatenated, and their ends.

    Raises:
        ShapeError: a value is too large for float16.
    """
    lengths = features.mask.sum(1)
    encoded = [t.encode("utf-8", "surrogatepass") for t in features.texts]
    return _image(
        {
            "pooled": _to_float16(features.pooled, "texts"),
            "tokens": _to_float16(features.tokens[features.mask], "texts"),
            "token_ends": np.cumsum(lengths).astype(np.int64),
            "text_bytes": np.frombuffer(b"".join(encoded), np.uint8),
            "text_ends": np.cumsum([len(b) for b in encoded]).astype(np.int64),
        }
    )


def read_texts(content: bytes, name: str) -> TextFeatures:
    """Decode a shard made by `texts_image`.

    Raises:
        CacheError: it is not such a shard.
    """
    kinds = {
        "pooled": (2, "f2"),
        "tokens": (2, "f2"),
        "token_ends": (1, "i8"),
        "text_bytes": (1, "u1"),
        "text_ends": (1, "i8"),
    }
    arrays = _read(content, kinds, name)
    try:
        return _texts(arrays, name)
    except (ShapeError, UnicodeDecodeError) as error:
        raise CacheError(f"{name} is not a shard of vla: {error}") from error


def _texts(arrays: Mapping[str, np.ndarray], name: str) -> TextFeatures:
    token_starts, token_ends = _bounds(arrays["token_ends"], len(arrays["tokens"]), name)
    text_starts, text_ends = _bounds(arrays["text_ends"], len(arrays["text_bytes"]), name)
    if not len(token_ends) == len(text_ends) == len(arrays["pooled"]):
        raise ShapeError(
            f"{len(text_ends)} texts, {len(token_ends)} rows of tokens, {len(arrays['pooled'])} "
            f"vectors"
        )
    raw = arrays["text_bytes"].tobytes()
    texts = tuple(
        raw[a:b].decode("utf-8", "surrogatepass")
        for a, b in zip(text_starts, text_ends, strict=True)
    )
    lengths = token_ends - token_starts
    longest = int(lengths.max(initial=1))
    tokens = np.zeros((len(texts), longest, arrays["tokens"].shape[1]), np.float16)
    mask = np.arange(longest)[None] < lengths[:, None]
    tokens[mask] = arrays["tokens"]
    return TextFeatures(texts, arrays["pooled"], tokens, mask)


def _bounds(ends: np.ndarray, total: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    edges = np.concatenate([[0], ends]).astype(np.int64)
    starts = edges[:-1]
    if (ends < starts).any() or edges[-1] != total:
        raise CacheError(f"{name} is not a shard of vla: its offsets do not match its content")
    return starts, ends


def _to_float16(values: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        raise ShapeError(f"{name}: features are too large for float16")
    return half


def _image(arrays: Mapping[str, np.ndarray]) -> bytes:
    # In memory, so that the checksum is known before anything is written, and a full disk cannot tear
    # HDF5's own structures; without backing store nothing is written on close. The earliest format has
    # no checksum in its superblock: HDF5 1.14 (h5py up to 3.15) writes a wrong one into the image of an
    # open file. All versions make the same bytes in this format.
    with h5py.File(
        "shard", "w", driver="core", backing_store=False, libver=("earliest", "v110")
    ) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, track_times=False)
        file.flush()
        return bytes(file.id.get_file_image())


def _read(content: bytes, kinds: Mapping[str, tuple[int, str]], name: str) -> dict[str, np.ndarray]:
    # HDF5's own calls, and the numbers from `content` itself: three times as fast as h5py's objects.
    # HDF5 only gives offsets, which are checked against the size of `content`.
    try:
        file = h5py.h5f.open_file_image(content)
        try:
            return {
                key: _dataset(file, content, key, ndim, kind, name)
                for key, (ndim, kind) in kinds.items()
            }
        finally:
            file.close()
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, CacheError):
            raise
        raise CacheError(f"{name} is not a shard of vla: {error}") from error


def _dataset(file: Any, content: bytes, key: str, ndim: int, kind: str, name: str) -> np.ndarray:
    link = key.encode()
    if not file.links.exists(link) or file.links.get_info(link).type != h5py.h5l.TYPE_HARD:
        raise CacheError(
            f"{name} is not a shard of vla: {key!r} is missing or a link to another file"
        )
    dataset = h5py.h5o.open(file, link)
    if not isinstance(dataset, h5py.h5d.DatasetID):
        raise CacheError(f"{name} is not a shard of vla: {key!r} is not an array")
    properties, shape, dtype = dataset.get_create_plist(), dataset.shape, np.dtype(kind)
    is_plain = (
        properties.get_layout() == h5py.h5d.CONTIGUOUS
        and properties.get_external_count() == 0
        and properties.get_nfilters() == 0
        and dataset.dtype == dtype
        and len(shape) == ndim
    )
    size = math.prod(shape) * dtype.itemsize
    offset = dataset.get_offset() if is_plain and size else 0
    if not is_plain or offset is None or not 0 <= offset <= offset + size <= len(content):
        raise CacheError(f"{name} is not a shard of vla: {key!r} has another layout or type")
    return np.frombuffer(content, dtype, size // dtype.itemsize, offset).reshape(shape).copy()
