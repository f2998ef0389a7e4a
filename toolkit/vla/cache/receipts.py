"""Receipts: one small JSON file for each finished video. What has a receipt is done; what has none never happened."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, Literal

from vla.hints import Hint
from vla.storage import records
from vla.storage.records import LATE, Count, FileNameOrEmpty, Hex, Seconds, Share

SCHEMA = 1
WAY_ON = Hint("extract_again")
Status = Literal["ok", "partial", "skipped", "failed"]
Cause = Literal["", "content", "machine", "user"]


@dataclass(frozen=True)
class Receipt:
    """What became of one video.

    Attributes:
        video_id: its name in the workspace.
        status: `ok`; `partial` (features of what could be decoded); `skipped` (no video in it); `failed`.
        reason: why it is not `ok`, one line.
        size: bytes of the file, with `mtime_ns` what tells a changed file from an old one.
        mtime_ns: time of the last change.
        content: digest of the file's size, head and tail: cheap, to find files that may hold the same.
        shard: file name of the features; empty without features.
        sha256: of the shard.
        frames: rows of features.
        duration_seconds: of the video; of what was declared, where less could be decoded.
        coverage: share of the declared duration that was decoded.
        codec: the video codec.
        schema: version of this record.
        digest: sha256 of the whole file; empty in records of older versions.
        cause: `content`, `machine` or `user` of what is not `ok` (see `vla.causes`); empty in records of older versions.
        software: versions of what read the file, see `software`; empty in records of older versions.
    """

    video_id: str
    status: Status
    reason: str
    size: Count
    mtime_ns: int
    content: str
    shard: FileNameOrEmpty = ""
    sha256: Hex = ""
    frames: Count = 0
    duration_seconds: Seconds = 0.0
    coverage: Share = 0.0
    codec: str = ""
    schema: int = SCHEMA
    digest: Annotated[Hex, LATE] = ""
    cause: Annotated[Cause, LATE] = ""
    software: Annotated[str, LATE] = ""

    @property
    def has_features(self) -> bool:
        """True for `ok` and `partial`."""
        return self.status in ("ok", "partial")

    @property
    def is_no_video(self) -> bool:
        """True for a file that holds no video, and that nothing is wrong with."""
        return self.status == "skipped" and self.cause == "user"

    @property
    def holds(self) -> bool:
        """False for a failure of the machine, or one that other versions of the software found: it is tried again."""
        return self.has_features or (self.cause != "machine" and self.software == software())

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any, source: Path, *, strict: bool = False) -> Receipt:
        """The receipt in `record`; raises CacheError if it is not one, or a newer one."""
        return records.decode(cls, record, str(source), WAY_ON, schema=SCHEMA, strict=strict)


@cache
def software() -> str:
    """The versions that a verdict depends on, e.g. `vla-toolkit 0.1.0, av 17.1.0`: another may read what this one cannot."""
    there = []
    for name in ("vla-toolkit", "av", "torchcodec"):
        try:
            there.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(there)


def key_of(video_id: str) -> str:
    """File-name-safe key of a video: equal names, equal keys, whatever bytes the name holds."""
    return hashlib.sha256(os.fsencode(video_id)).hexdigest()[:20]


def content_digest(path: Path, size: int) -> str:
    """Digest of a file's size, first and last 256 KiB.

    Cheap, and equal for equal files; different files may have the same, raw recordings with dark ends among them.
    """
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 18))
        if size > 1 << 19:
            file.seek(-(1 << 18), os.SEEK_END)
        digest.update(file.read(1 << 18))
    return digest.hexdigest()[:32]


def whole_digest(file: BufferedReader) -> str:
    """Sha256 of an open file from its beginning, 64 hexadecimal digits."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
