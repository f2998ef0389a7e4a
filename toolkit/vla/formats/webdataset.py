"""`.tar`: `key.npy` for each video, with `key.json` and `key.txt` beside it, in shards.

clip-video-encode and webdataset use this layout. The members of one video share the name up to the
first dot, or up to a later one if names contain dots (`a_60.0_210.0.npy`).
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
from vla.formats._array_keys import is_model_name
from vla.formats._record import Record, check_name
from vla.formats.base import (
    ArrayKeys,
    ExportItem,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_features,
    nbytes,
    unreadable_video,
)
from vla.formats.npy import array_bytes
from vla.hints import Hint
from vla.storage import atomic

_MAX_RECORD_BYTES = 64 << 20
# `clip.npy`, `image_features.json`: no part of a kind begins with a digit, as in times and dates.
_KIND = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")


class Format:
    """Many videos per file."""

    suffixes = (".tar",)
    output_suffixes = (".tar",)
    holds_many = True
    allows_any_name = True

    def contents(self, path: Path, keys: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """Yield the videos in the file; see the base class."""
        nbytes(path)
        with as_format_error(path):
            archive = tarfile.open(path, "r:")
        with archive:
            samples, fault = _samples(archive, path)
            for key, members in samples.items():
                yield from _sample_videos(archive, key, members, path, keys)
            if fault is not None:
                yield unreadable_video(check_name(path.stem, path), fault)

    def write(self, folder: Path, name: str, videos: Iterable[ExportItem]) -> None:
        """Write the videos; equal videos give equal bytes: no times, no owners."""
        with (
            atomic.open_atomic(folder / f"{name}.tar") as file,
            tarfile.open(fileobj=file, mode="w") as archive,
        ):
            for video in videos:
                _add(archive, f"{video.key}.npy", array_bytes(video.features.values))
                _add(
                    archive,
                    f"{video.key}.json",
                    json.dumps(video.record, sort_keys=True).encode("ascii"),
                )
                if video.captions:
                    lines = [" ".join(c.split()) + "\n" for c in video.captions]
                    _add(archive, f"{video.key}.txt", "".join(lines).encode())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _samples(
    archive: tarfile.TarFile, path: Path
) -> tuple[dict[str, dict[str, tarfile.TarInfo]], FormatError | None]:
    """Return the members of each key by kind, and the error that ended reading, if any."""
    members: list[tarfile.TarInfo] = []
    fault = None
    try:
        with as_format_error(path):
            for member in archive:
                if (
                    member.isreg()
                    and not member.issparse()
                    and "." in PurePosixPath(member.name).name
                ):
                    members.append(member)
        # A damaged header ends an archive silently, just like its regular end.
        with as_format_error(path), path.open("rb") as file:
            file.seek(archive.offset)
            if (
                file.read(tarfile.BLOCKSIZE).strip(b"\0")
                or file.tell() < archive.offset + tarfile.BLOCKSIZE
            ):
                raise FormatError(f"{path} is damaged or truncated after {len(members)} files")
    except FormatError as error:
        fault = error
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member, key, kind in _split_names(members):
        sample = samples.setdefault(key, {})
        if kind in sample:
            return samples, fault or FormatError(f"{path} holds {member.name!r} twice")
        sample[kind] = member
    return samples, fault


def _split_names(members: list[tarfile.TarInfo]) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """Yield each member with the key of its sample and its kind.

    An array's kind follows the first dot of its name if that part is `npy`, is named after a model
    (`clip.npy`), or begins with a letter and is also the kind of an array of another key, or if all
    arrays have one key. Otherwise the dot belongs to the key, and the next dot is tried. Another
    member belongs to the longest key of an array that its name begins with.
    """
    splits = [_name_splits(member) for member in members]
    arrays = [names for names in splits if names[-1][1] == "npy"]
    keys_of: dict[str, set[str]] = defaultdict(set)
    for names in arrays:
        for key, kind in names:
            keys_of[kind].add(key)
    has_one_key = len({names[0][0] for names in arrays}) == 1

    def is_kind(kind: str) -> bool:
        if kind == "npy" or not _KIND.fullmatch(kind):
            return kind == "npy"
        return has_one_key or len(keys_of[kind]) > 1 or is_model_name(kind.removesuffix(".npy"))

    array_splits = {id(names): next(pair for pair in names if is_kind(pair[1])) for names in arrays}
    sample_keys = {key for key, _ in array_splits.values()}
    for member, names in zip(members, splits, strict=True):
        own = next((pair for pair in reversed(names) if pair[0] in sample_keys), names[0])
        yield member, *array_splits.get(id(names), own)


def _name_splits(member: tarfile.TarInfo) -> list[tuple[str, str]]:
    """Return `(key, kind)` for each dot of the name, from the first to the last."""
    whole = PurePosixPath(member.name)
    parts = whole.name.split(".")
    return [
        (str(whole.parent / ".".join(parts[:n])), ".".join(parts[n:])) for n in range(1, len(parts))
    ]


def _sample_videos(
    archive: tarfile.TarFile,
    key: str,
    members: dict[str, tarfile.TarInfo],
    path: Path,
    keys: ArrayKeys,
) -> Iterator[StoredVideo]:
    location = f"{path} [{key}]"
    arrays = [kind for kind in members if kind == "npy" or kind.endswith(".npy")]
    kind = f"{keys.key}.npy" if keys.key else "npy" if "npy" in arrays else "".join(arrays[:1])
    if not arrays:
        return
    try:
        if kind not in arrays or (kind != "npy" and len(arrays) > 1 and not keys.key):
            raise FormatError(
                f"{location}: several arrays may hold the features: {', '.join(arrays)}",
                hint=Hint("name_key"),
            )
        record = _record(archive, members.get("json"), location)
    except FormatError as error:
        yield unreadable_video(check_name(key, path), error)
        return

    def read() -> ExternalFeatures:
        content = _content(archive, members[kind], location)
        values = read_array(io.BytesIO(content), len(content), location)
        if record is None:
            return check_features(location, values)
        return check_features(
            location,
            values,
            record.timestamps_seconds,
            duration=record.duration_seconds,
            origin=record.origin,
        )

    yield StoredVideo(record.video if record else check_name(key, path), read)


def _record(
    archive: tarfile.TarFile, member: tarfile.TarInfo | None, location: str
) -> Record | None:
    if member is None:
        return None
    if member.size > _MAX_RECORD_BYTES:
        raise FormatError(
            f"{location} has a record of {member.size} bytes, too large for one video"
        )
    return Record.parse(_content(archive, member, location), location)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, location: str) -> bytes:
    """Return the bytes present of the member; they may be fewer than its header declares."""
    with as_format_error(location):
        file = archive.extractfile(member)
        return file.read() if file is not None else b""
