"""`.npz`: named arrays in a zip file, as HERO, moment_detr and Lighthouse distribute them."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np

from vla.errors import FormatError
from vla.formats._array import read_array, read_header
from vla.formats._array_keys import select_features, video_keys
from vla.formats._record import check_name
from vla.formats.base import (
    ArrayKeys,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_features,
    nbytes,
    unreadable_video,
)

TEXTS = ("texts.npz", "texts.jsonl")
"""Files of text features beside exported frame features."""
_MAX_ARRAYS = 10_000


class Format:
    """One video per file, or one array for each of many videos, named after them."""

    suffixes = (".npz",)
    holds_many = False

    def contents(self, path: Path, keys: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """Yield the videos in the file; see the base class."""
        if path.name == TEXTS[0] and path.with_name(TEXTS[1]).is_file():
            return
        try:
            with Archive(path) as archive:
                names = video_keys(archive.shapes, keys)
                for name in names:
                    yield StoredVideo(
                        check_name(name, path), partial(_read_one, archive, name, path)
                    )
                for name in archive.shapes if names else ():
                    if name not in names:
                        keys.omissions.add("array", name)
        except FormatError as error:
            yield unreadable_video(check_name(path.stem, path), error)
            return
        if not names:
            yield StoredVideo(check_name(path.stem, path), lambda: _read(path, keys))


class Archive:
    """Arrays of an open `.npz`: shapes are read at once, each array on request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = nbytes(path)
        with as_format_error(path):
            self._zip = zipfile.ZipFile(path)
        try:
            members = self._zip.infolist()
            if len(members) > _MAX_ARRAYS:
                raise FormatError(f"{path} holds {len(members)} arrays, more than {_MAX_ARRAYS}")
            self._members = {
                m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")
            }
            self.shapes = {name: self._shape(name) for name in self._members}
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """Return the array of that name; raise FormatError if it cannot be read."""
        member, location = self._members[name], f"{self._path} [{name}]"
        with as_format_error(location), self._zip.open(member) as file:
            return read_array(file, min(member.compress_size, self._size), location, packed=True)

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape; empty for other data, which is only refused when it is read."""
        location = f"{self._path} [{name}]"
        try:
            with as_format_error(location), self._zip.open(self._members[name]) as file:
                return read_header(file, location)[0]
        except FormatError:
            return ()


def _read_one(archive: Archive, name: str, path: Path) -> ExternalFeatures:
    return check_features(f"{path} [{name}]", archive.read(name))


def _read(path: Path, keys: ArrayKeys) -> ExternalFeatures:
    with Archive(path) as archive:
        return select_features(archive.shapes, archive.read, keys, path)
