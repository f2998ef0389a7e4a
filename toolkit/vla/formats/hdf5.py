"""`.h5`: a dataset or a group for each video, in one file each or many in one file.

HDF5 can name other files to read in place of itself, and declare sizes without data. Every object
is therefore checked before it is opened: hard links only, no external or virtual storage, known
filters, sizes that the file can hold.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from vla.errors import FormatError
from vla.formats._array_keys import FEATURES, is_model_name, select_features
from vla.formats._record import check_name
from vla.formats.base import (
    ArrayKeys,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_declared_size,
    check_features,
    frames_and_width,
    nbytes,
    unreadable_video,
)

_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
    h5py.h5z.FILTER_LZF,
}
_MAX_DEPTH = 16
_MAX_FIELDS = 32


class Format:
    """One video or many per file.

    A group with an array of a usual name (or of the requested one) is a video. If the root is such
    a group, the file is one video. A group is also a video if its arrays are named after a model
    (`v_0/c3d_features`), or if many groups have arrays of the same names. Every other array is a
    video, named by its path. If it is alone in the file and has a usual name, it gets the file's
    name.
    """

    suffixes = (".h5", ".hdf5", ".hdf")
    holds_many = True

    def contents(self, path: Path, keys: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """Yield the videos in the file; see the base class."""
        nbytes(path)
        with as_format_error(path):
            # Reading needs no lock, but a concurrent writer should be detected.
            file = h5py.File(path, "r", locking="best-effort")
        with file:
            yield from _videos(file, path, keys)


def _videos(file: h5py.File, path: Path, keys: ArrayKeys) -> Iterator[StoredVideo]:
    if _is_video(file, keys, set(_names(file))):
        yield StoredVideo(check_name(path.stem, path), partial(_read, file, keys, path))
        return
    misfits: list[StoredVideo] = []
    count = 0
    for count, video in enumerate(_within(file, "", path, keys, {_address(file)}, misfits), 1):  # noqa: B007
        yield video
    for video in misfits:
        # Beside videos, an array of another shape is something else; alone, it is an error of the
        # file.
        if count:
            keys.omissions.add("array", video.name)
        else:
            yield video


def _within(
    group: h5py.Group,
    prefix: str,
    path: Path,
    keys: ArrayKeys,
    addresses: set[int],
    misfits: list[StoredVideo],
) -> Iterator[StoredVideo]:
    names = _names(group)
    fields = _fields(group, names, keys)
    for name in names:
        full, location = check_name(prefix + name, path), f"{path} [{prefix}{name}]"
        try:
            item = _get_object(group, name)
            inner = _names(item) if isinstance(item, h5py.Group) else []
            is_video = bool(inner) and (_is_video(item, keys, set(inner)) or name in fields)
        except FormatError as error:
            yield unreadable_video(full, error)
            continue
        if item is None:
            yield unreadable_video(
                full,
                FormatError(
                    f"{location} is a link, which is not followed: copy its target into the file"
                ),
            )
        elif is_video:
            yield StoredVideo(full, partial(_read, item, keys, location))
        elif isinstance(item, h5py.Dataset):
            # If an array is requested by name, other arrays do not count.
            if not keys.key:
                video = StoredVideo(full, partial(_read_alone, item, location))
                shape, kind = _shape_and_kind(item)
                if kind and (len(shape) < 2 or kind not in "fiu"):
                    misfits.append(video)
                else:
                    yield video
        # Hard links can place a group within itself, and in very many places.
        elif inner and _address(item) not in addresses:
            addresses.add(_address(item))
            if prefix.count("/") < _MAX_DEPTH:
                yield from _within(item, f"{full}/", path, keys, addresses, misfits)
            else:
                yield unreadable_video(
                    full,
                    FormatError(f"{location} is nested in more than {_MAX_DEPTH} groups"),
                )


def _fields(group: h5py.Group, names: list[str], keys: ArrayKeys) -> set[str]:
    """Return the names of groups in `group` that are a video each, judged by their arrays.

    A group is a video if each of its arrays is named after a model (`c3d_features`), or has a name
    found in more groups than a group has arrays.
    """
    if keys.key:
        return set()
    arrays: dict[str, list[str]] = {}
    for name in names:
        try:
            item = _get_object(group, name)
            inner = _names(item) if isinstance(item, h5py.Group) else []
            if 0 < len(inner) <= _MAX_FIELDS:
                arrays[name] = [n for n in inner if _is_features(_get_object(item, n))]
        except FormatError:
            continue
    counts = Counter(n for array_names in arrays.values() for n in array_names)
    return {
        name
        for name, array_names in arrays.items()
        if array_names
        and all(
            is_model_name(n) or (counts[n] > 1 and counts[n] > len(counts)) for n in array_names
        )
    }


def _is_features(item: object) -> bool:
    if not isinstance(item, h5py.Dataset):
        return False
    shape, kind = _shape_and_kind(item)
    return frames_and_width(shape) is not None and kind == "f"


def _shape_and_kind(dataset: h5py.Dataset) -> tuple[tuple[int, ...], str]:
    """Return the shape and numpy's letter of the type; no letter if the file is malformed.

    Reading the dataset reports the error.
    """
    try:
        with as_format_error(_Location(dataset)):
            return tuple(dataset.shape or ()), str(dataset.dtype.kind)
    except FormatError:
        return (), ""


def _is_video(group: h5py.Group, keys: ArrayKeys, names: set[str]) -> bool:
    candidates = {keys.key} if keys.key else set(FEATURES)
    return any(isinstance(_get_object(group, key), h5py.Dataset) for key in candidates & names)


@dataclass(frozen=True)
class _Location:
    """Location of an object for messages; formatted only when needed."""

    group: h5py.Group
    name: str = ""

    def __str__(self) -> str:
        file = self.group.file.filename
        return f"{file} [{self.name}]" if self.name else str(file)


def _names(group: h5py.Group) -> list[str]:
    """Return the names of all links; h5py gives names that are not UTF-8 as bytes."""
    with as_format_error(_Location(group)):
        return [os.fsdecode(name) for name in group]


def _get_object(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """Return the object of that name if it is in this file; None for other links and no object."""
    with as_format_error(_Location(group, name)):
        # A path would be resolved through any link that it crosses.
        link = os.fsencode(name)
        if "/" in name or not group.id.links.exists(link):
            return None
        return group[link] if group.id.links.get_info(link).type == h5py.h5l.TYPE_HARD else None


def _address(group: h5py.Group) -> int:
    with as_format_error(group.file.filename):
        return int(h5py.h5o.get_info(group.id).addr)


def _read_alone(dataset: h5py.Dataset, location: object) -> ExternalFeatures:
    return check_features(location, _array(dataset, location))


def _read(group: h5py.Group, keys: ArrayKeys, location: object) -> ExternalFeatures:
    items = {name: _get_object(group, name) for name in _names(group)}
    shapes = {
        name: d.shape
        for name, d in items.items()
        if isinstance(d, h5py.Dataset) and d.shape is not None
    }
    return select_features(
        shapes, lambda name: _array(items[name], f"{location} [{name}]"), keys, location
    )


def _array(dataset: h5py.Dataset, location: object) -> np.ndarray:
    with as_format_error(location):
        properties = dataset.id.get_create_plist()
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if properties.get_external_count() or dataset.is_virtual:
            raise FormatError(
                f"{location} stores its values in another file, which is not read: copy them "
                f"into this one"
            )
        if filters - _FILTERS:
            raise FormatError(
                f"{location} uses HDF5 filters {sorted(filters - _FILTERS)}: save it with gzip "
                f"or without filters"
            )
        if dataset.shape is None or dataset.dtype.kind not in "fiu":
            raise FormatError(
                f"{location} holds {dataset.dtype} of shape {dataset.shape}, not plain numbers"
            )
        stored_bytes = int(dataset.id.get_storage_size())
        size = check_declared_size(
            dataset.shape, dataset.dtype.itemsize, stored_bytes, location, packed=bool(filters)
        )
        if dataset.chunks is not None:
            check_declared_size(
                dataset.chunks,
                dataset.dtype.itemsize,
                stored_bytes,
                f"a chunk of {location}",
                packed=True,
            )
        if size and not stored_bytes:
            raise FormatError(f"{location} is declared but was never written")
        values: np.ndarray = dataset[()]
        return values
