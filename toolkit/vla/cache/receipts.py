"""Receipts: one small JSON file for each processed video. A video without a receipt is not processed."""

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
    """Outcome of the extraction of one video.

    Attributes:
        video_id: id of the video in the workspace.
        status: `ok`; `partial` (features of the decodable part); `skipped` (no video in it); `failed`.
        reason: one line that explains a status other than `ok`.
        size: bytes of the file; with `mtime_ns`, detects a changed file.
        mtime_ns: time of the last modification.
        content: digest of the file's size, head and tail, a cheap test for possible duplicates.
        shard: file name of the features; empty without features.
        sha256: digest of the shard.
        frames: number of frames with features.
        duration_seconds: duration of the video; the declared one if only a part was decoded.
        coverage: decoded fraction of the declared duration.
        codec: the video codec.
        schema: version of this record.
        digest: sha256 of the whole file; empty in records of older versions.
        cause: `content`, `machine` or `user` of a status other than `ok` (see `vla.causes`); empty in
            records of older versions.
        software: versions of the software that read the file, see `software`; empty in records of older
            versions.
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
        """Whether the status is `ok` or `partial`."""
        return self.status in ("ok", "partial")

    @property
    def is_no_video(self) -> bool:
        """Whether the file is intact but contains no video."""
        return self.status == "skipped" and self.cause == "user"

    @property
    def is_final(self) -> bool:
        """Whether the outcome stands; False for failures to retry: of the machine, or of other software versions."""
        return self.has_features or (self.cause != "machine" and self.software == software())

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object of all fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any, source: Path, *, strict: bool = False) -> Receipt:
        """Decode the receipt in `record`; raise CacheError if it is invalid or newer."""
        return records.decode(cls, record, str(source), WAY_ON, schema=SCHEMA, strict=strict)


@cache
def software() -> str:
    """Return the versions that an outcome depends on, e.g. `vla-toolkit 0.1.0, av 17.1.0`.

    A file that these versions cannot read is tried again with others.
    """
    versions = []
    for name in ("vla-toolkit", "av", "torchcodec"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(versions)


def video_key(video_id: str) -> str:
    """Return a key of 20 hexadecimal digits for a video, safe in file names for any bytes in the id."""
    return hashlib.sha256(os.fsencode(video_id)).hexdigest()[:20]


def content_digest(path: Path, size: int) -> str:
    """Return the digest of a file's size, first and last 256 KiB.

    It is cheap, and equal for equal files. Different files may share it, e.g. raw recordings with dark
    ends.
    """
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 18))
        if size > 1 << 19:
            file.seek(-(1 << 18), os.SEEK_END)
        digest.update(file.read(1 << 18))
    return digest.hexdigest()[:32]


def file_digest(file: BufferedReader) -> str:
    """Return the SHA-256 of an open file from its beginning, as 64 hexadecimal digits."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
