"""`.h5`: a dataset or a group for each video, in a file of its own or many in one.

HDF5 can name other files to be read in place of itself, and claim sizes that nothing stands behind. So every object is looked
at before it is opened: hard links only, no external or virtual storage, known filters, sizes that the file can hold.
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
from vla.formats._named import FEATURES, from_named, names_a_model
from vla.formats._record import checked_name
from vla.formats.base import (
    ArrayKeys,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_declared_size,
    frames_and_width,
    nbytes,
    released,
    unreadable,
)

_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
_DEEPEST = 16
_MOST_FIELDS = 32


class Format:
    """One video or many a file.

    A group that has an array of a usual name (or of the one that is wanted) is a video; if the file's root is such a group,
    the file is. So is a group whose arrays are named after a model (`v_0/c3d_features`), or all alike in many groups. Every
    other array is a video, named by its path; alone in a file, it has the file's name if its own is usual.
    """

    suffixes = (".h5", ".hdf5", ".hdf")
    holds_many = True

    def contents(self, path: Path, wanted: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """See the base class."""
        nbytes(path)
        with as_format_error(path):
            # Nothing is written, so no lock is needed; but who writes to it right now is to be told.
            file = h5py.File(path, "r", locking="best-effort")
        with file:
            yield from _videos(file, path, wanted)


def _videos(file: h5py.File, path: Path, wanted: ArrayKeys) -> Iterator[StoredVideo]:
    if _is_video(file, wanted, set(_names(file))):
        yield StoredVideo(checked_name(path.stem, path), partial(_read, file, wanted, path))
        return
    odd: list[StoredVideo] = []
    count = 0
    for count, stored in enumerate(_within(file, "", path, wanted, {_address(file)}, odd), 1):  # noqa: B007
        yield stored
    for stored in odd:
        # Beside videos an array of another shape is something else; alone it is the fault of the file.
        if count:
            wanted.omissions.add("array", stored.name)
        else:
            yield stored


def _within(
    group: h5py.Group, prefix: str, path: Path, wanted: ArrayKeys, seen: set[int], odd: list[StoredVideo]
) -> Iterator[StoredVideo]:
    names = _names(group)
    fields = _fields(group, names, wanted)
    for name in names:
        full, place = checked_name(prefix + name, path), f"{path} [{prefix}{name}]"
        try:
            found = _linked(group, name)
            inner = _names(found) if isinstance(found, h5py.Group) else []
            is_video = bool(inner) and (_is_video(found, wanted, set(inner)) or name in fields)
        except FormatError as error:
            yield unreadable(full, error)
            continue
        if found is None:
            yield unreadable(
                full, FormatError(f"{place} is a link to elsewhere; links are not followed: copy what it points at")
            )
        elif is_video:
            yield StoredVideo(full, partial(_read, found, wanted, place))
        elif isinstance(found, h5py.Dataset):
            # Where an array is asked for by name, the others are not what is meant.
            if not wanted.key:
                stored = StoredVideo(full, partial(_read_alone, found, place))
                shape, kind = _shape_and_kind(found)
                if kind and (len(shape) < 2 or kind not in "fiu"):
                    odd.append(stored)
                else:
                    yield stored
        # Hard links can make a group lie within itself, and in very many places.
        elif inner and prefix.count("/") < _DEEPEST and _address(found) not in seen:
            seen.add(_address(found))
            yield from _within(found, f"{full}/", path, wanted, seen, odd)


def _fields(group: h5py.Group, names: list[str], wanted: ArrayKeys) -> set[str]:
    """The groups within `group` that are a video each, since the names of their arrays are those of features and not of videos.

    They are if an array is named after a model (`c3d_features`), or is called the same in more groups than a group has arrays.
    """
    if wanted.key:
        return set()
    arrays: dict[str, list[str]] = {}
    for name in names:
        try:
            found = _linked(group, name)
            inner = _names(found) if isinstance(found, h5py.Group) else []
            if 0 < len(inner) <= _MOST_FIELDS:
                arrays[name] = [n for n in inner if _is_features(_linked(found, n))]
        except FormatError:
            continue
    shared = Counter(n for some in arrays.values() for n in some)
    return {
        name
        for name, some in arrays.items()
        if some and all(names_a_model(n) or (shared[n] > 1 and shared[n] > len(shared)) for n in some)
    }


def _is_features(found: object) -> bool:
    if not isinstance(found, h5py.Dataset):
        return False
    shape, kind = _shape_and_kind(found)
    return frames_and_width(shape) is not None and kind == "f"


def _shape_and_kind(dataset: h5py.Dataset) -> tuple[tuple[int, ...], str]:
    """Shape, and numpy's letter of the type; no letter where the file tells lies, which reading will say."""
    try:
        with as_format_error(_Place(dataset)):
            return tuple(dataset.shape or ()), str(dataset.dtype.kind)
    except FormatError:
        return (), ""


def _is_video(group: h5py.Group, wanted: ArrayKeys, names: set[str]) -> bool:
    keys = {wanted.key} if wanted.key else set(FEATURES)
    return any(isinstance(_linked(group, key), h5py.Dataset) for key in keys & names)


@dataclass(frozen=True)
class _Place:
    """Where an object lies, for messages; written out only when there is one."""

    group: h5py.Group
    name: str = ""

    def __str__(self) -> str:
        file = self.group.file.filename
        return f"{file} [{self.name}]" if self.name else str(file)


def _names(group: h5py.Group) -> list[str]:
    """Of all links; h5py gives names that are no UTF-8 as bytes."""
    with as_format_error(_Place(group)):
        return [os.fsdecode(name) for name in group]


def _linked(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """The object of that name, if it lies in this very file; None for a link to elsewhere, and where there is nothing."""
    with as_format_error(_Place(group, name)):
        # A path would be followed through whatever links it crosses.
        link = os.fsencode(name)
        if "/" in name or not group.id.links.exists(link):
            return None
        return group[link] if group.id.links.get_info(link).type == h5py.h5l.TYPE_HARD else None


def _address(group: h5py.Group) -> int:
    with as_format_error(group.file.filename):
        return int(h5py.h5o.get_info(group.id).addr)


def _read_alone(dataset: h5py.Dataset, place: object) -> ExternalFeatures:
    return released(place, _array(dataset, place))


def _read(group: h5py.Group, wanted: ArrayKeys, place: object) -> ExternalFeatures:
    found = {name: _linked(group, name) for name in _names(group)}
    shapes = {name: d.shape for name, d in found.items() if isinstance(d, h5py.Dataset) and d.shape is not None}
    return from_named(shapes, lambda name: _array(found[name], f"{place} [{name}]"), wanted, place)


def _array(dataset: h5py.Dataset, place: object) -> np.ndarray:
    with as_format_error(place):
        properties = dataset.id.get_create_plist()
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if properties.get_external_count() or dataset.is_virtual:
            raise FormatError(
                f"{place} keeps its numbers in another file; no other file is read: copy them into this one"
            )
        if filters - _FILTERS:
            raise FormatError(
                f"{place} is packed by HDF5 filters {sorted(filters - _FILTERS)}: save it with gzip or none"
            )
        if dataset.shape is None or dataset.dtype.kind not in "fiu":
            raise FormatError(f"{place} holds {dataset.dtype} of shape {dataset.shape}, no plain numbers")
        stored = int(dataset.id.get_storage_size())
        size = check_declared_size(dataset.shape, dataset.dtype.itemsize, stored, place, packed=bool(filters))
        if dataset.chunks is not None:
            check_declared_size(dataset.chunks, dataset.dtype.itemsize, stored, f"a piece of {place}", packed=True)
        if size and not stored:
            raise FormatError(f"{place} was declared, but nothing was ever written to it")
        values: np.ndarray = dataset[()]
        return values
