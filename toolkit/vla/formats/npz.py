"""`.npz`: named arrays in a zip, as HERO, moment_detr and Lighthouse release them."""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np

from vla.errors import FormatError
from vla.formats._array import header, read_array
from vla.formats._named import from_named, videos_in
from vla.formats._record import checked_name
from vla.formats.base import ArrayKeys, ExternalFeatures, StoredVideo, as_format_error, nbytes, released, unreadable

TEXTS = ("texts.npz", "texts.jsonl")
"""Two files that lie beside exported features, and are none themselves."""
_MOST_ARRAYS = 10_000


class Format:
    """One video a file, or an array for each of many, named after them."""

    suffixes = (".npz",)
    holds_many = False

    def contents(self, path: Path, wanted: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """See the base class."""
        if path.name == TEXTS[0] and path.with_name(TEXTS[1]).is_file():
            return
        try:
            with Archive(path) as archive:
                names = videos_in(archive.shapes, wanted)
                for name in names:
                    yield StoredVideo(checked_name(name, path), partial(_read_one, archive, name, path))
                for name in archive.shapes if names else ():
                    if name not in names:
                        wanted.omissions.add("array", name)
        except FormatError as error:
            yield unreadable(checked_name(path.stem, path), error)
            return
        if not names:
            yield StoredVideo(checked_name(path.stem, path), lambda: _read(path, wanted))


class Archive:
    """The arrays of an open `.npz`: their shapes are known, each is read when it is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = nbytes(path)
        with as_format_error(path):
            self._zip = zipfile.ZipFile(path)
        try:
            members = self._zip.infolist()
            if len(members) > _MOST_ARRAYS:
                raise FormatError(f"{path} holds {len(members)} arrays, more than {_MOST_ARRAYS}")
            self._members = {m.filename.removesuffix(".npy"): m for m in members if m.filename.endswith(".npy")}
            self.shapes = {name: self._shape(name) for name in self._members}
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """The array of that name; raises FormatError."""
        member, place = self._members[name], f"{self._path} [{name}]"
        with as_format_error(place), self._zip.open(member) as file:
            return read_array(file, min(member.compress_size, self._size), place, packed=True)

    def _shape(self, name: str) -> tuple[int, ...]:
        """Empty for what is no array of numbers or text: it may lie there as long as nobody wants it."""
        place = f"{self._path} [{name}]"
        try:
            with as_format_error(place), self._zip.open(self._members[name]) as file:
                return header(file, place)[0]
        except FormatError:
            return ()


def _read_one(archive: Archive, name: str, path: Path) -> ExternalFeatures:
    return released(f"{path} [{name}]", archive.read(name))


def _read(path: Path, wanted: ArrayKeys) -> ExternalFeatures:
    with Archive(path) as archive:
        return from_named(archive.shapes, archive.read, wanted, path)
