"""`.tar`: for each video `key.npy`, with `key.json` and `key.txt` beside it, in shards; as clip-video-encode and webdataset do.

What belongs to one video has one name up to the first dot; or up to a later one, where names have dots (`a_60.0_210.0.npy`).
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path, PurePosixPath

from vla.errors import FormatError
from vla.formats._array import read_array
from vla.formats._named import names_a_model
from vla.formats._record import Record, checked_name
from vla.formats.base import (
    ArrayKeys,
    ExportItem,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    nbytes,
    released,
    unreadable,
)
from vla.formats.npy import array_bytes
from vla.hints import Hint
from vla.storage import atomic

_LIMIT_RECORD = 64 << 20
# `clip.npy`, `image_features.json`: no part of a kind begins with a digit, as those of times and dates do.
_KIND = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")


class Format:
    """Many videos a file."""

    suffixes = (".tar",)
    written = (".tar",)
    holds_many = True
    any_name = True

    def contents(self, path: Path, wanted: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """See the base class."""
        nbytes(path)
        with as_format_error(path):
            archive = tarfile.open(path, "r:")
        with archive:
            samples, fault = _samples(archive, path)
            for key, members in samples.items():
                yield from _stored(archive, key, members, path, wanted)
            if fault is not None:
                yield unreadable(checked_name(path.stem, path), fault)

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """See the base class. The same videos make the same bytes: no times, no owners."""
        with atomic.open_atomic(folder / f"{name}.tar") as file, tarfile.open(fileobj=file, mode="w") as archive:
            for video in videos:
                _add(archive, f"{video.key}.npy", array_bytes(video.features.values))
                _add(archive, f"{video.key}.json", json.dumps(video.record, sort_keys=True).encode("ascii"))
                if video.captions:
                    lines = [" ".join(c.split()) + "\n" for c in video.captions]
                    _add(archive, f"{video.key}.txt", "".join(lines).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _samples(archive: tarfile.TarFile, path: Path) -> tuple[dict[str, dict[str, tarfile.TarInfo]], FormatError | None]:
    """For each key its members, by what follows it; and what is wrong with the rest, if something is."""
    members: list[tarfile.TarInfo] = []
    fault = None
    try:
        with as_format_error(path):
            for member in archive:
                if member.isreg() and not member.issparse() and "." in PurePosixPath(member.name).name:
                    members.append(member)
        # A damaged header ends an archive as its proper end does, without a word.
        with as_format_error(path), path.open("rb") as file:
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE).strip(b"\0") or file.tell() < archive.offset + tarfile.BLOCKSIZE:
                raise FormatError(f"{path} is damaged or cut off after {len(members)} files")
    except FormatError as error:
        fault = error
    found: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member, key, kind in _keyed(members):
        sample = found.setdefault(key, {})
        if kind in sample:
            return found, fault or FormatError(f"{path} holds {member.name!r} twice")
        sample[kind] = member
    return found, fault


def _keyed(members: list[tarfile.TarInfo]) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """Each member with the key of its sample and its kind.

    What follows the first dot of an array's name is its kind if it is `npy` or named after a model (`clip.npy`), or if it
    begins with a letter and is the kind of an array of another key too, or all arrays have one key. Otherwise the dot
    belongs to the name, and the next one is looked at. Other members belong to the longest key of an array that their name
    begins with.
    """
    parted = [_parted(member) for member in members]
    arrays = [names for names in parted if names[-1][1] == "npy"]
    keys_of: dict[str, set[str]] = defaultdict(set)
    for names in arrays:
        for key, kind in names:
            keys_of[kind].add(key)
    is_one = len({names[0][0] for names in arrays}) == 1

    def is_kind(kind: str) -> bool:
        if kind == "npy" or not _KIND.fullmatch(kind):
            return kind == "npy"
        return is_one or len(keys_of[kind]) > 1 or names_a_model(kind.removesuffix(".npy"))

    chosen = {id(names): next(pair for pair in names if is_kind(pair[1])) for names in arrays}
    keys = {key for key, _ in chosen.values()}
    for member, names in zip(members, parted, strict=True):
        own = next((pair for pair in reversed(names) if pair[0] in keys), names[0])
        yield member, *chosen.get(id(names), own)


def _parted(member: tarfile.TarInfo) -> list[tuple[str, str]]:
    """`(key, kind)` for each dot of the name, the first first."""
    whole = PurePosixPath(member.name)
    parts = whole.name.split(".")
    return [(str(whole.parent / ".".join(parts[:n])), ".".join(parts[n:])) for n in range(1, len(parts))]


def _stored(
    archive: tarfile.TarFile, key: str, members: dict[str, tarfile.TarInfo], path: Path, wanted: ArrayKeys
) -> Iterator[StoredVideo]:
    place = f"{path} [{key}]"
    arrays = [kind for kind in members if kind == "npy" or kind.endswith(".npy")]
    kind = f"{wanted.key}.npy" if wanted.key else "npy" if "npy" in arrays else "".join(arrays[:1])
    if not arrays:
        return
    try:
        if kind not in arrays or (kind != "npy" and len(arrays) > 1 and not wanted.key):
            raise FormatError(
                f"{place}: which of {', '.join(arrays)} holds the features?",
                hint=Hint("name_key"),
            )
        record = _record(archive, members.get("json"), place)
    except FormatError as error:
        yield unreadable(checked_name(key, path), error)
        return

    def read() -> ExternalFeatures:
        content = _content(archive, members[kind], place)
        values = read_array(io.BytesIO(content), len(content), place)
        if record is None:
            return released(place, values)
        return released(
            place, values, record.timestamps_seconds, duration=record.duration_seconds, origin=record.origin
        )

    yield StoredVideo(record.video if record else checked_name(key, path), read)


def _record(archive: tarfile.TarFile, member: tarfile.TarInfo | None, place: str) -> Record | None:
    if member is None:
        return None
    if member.size > _LIMIT_RECORD:
        raise FormatError(f"{place} has a record of {member.size} bytes, too many for one video")
    return Record.parse(_content(archive, member, place), place)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> bytes:
    """What there is of the member; it may be less than its header says."""
    with as_format_error(place):
        file = archive.extractfile(member)
        return file.read() if file is not None else b""
