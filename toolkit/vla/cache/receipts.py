"""Receipts: one small JSON file for each finished video. What has a receipt is done; what has none never happened."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from vla import records
from vla.records import Count, FileNameOrEmpty, Hex, Seconds, Share

SCHEMA = 1
WAY_ON = "delete it and run 'vla extract' again"
Status = Literal["ok", "partial", "skipped", "failed"]


@dataclass(frozen=True)
class Receipt:
    """What became of one video.

    Attributes:
        video_id: its name in the workspace.
        status: `ok`; `partial` (features of what could be decoded); `skipped` (no video in it); `failed`.
        reason: why it is not `ok`, one line.
        size: bytes of the file, with `mtime_ns` and `content` what tells a changed file from an old one.
        mtime_ns: time of the last change.
        content: digest of the file's size, head and tail.
        shard: file name of the features; empty without features.
        sha256: of the shard.
        frames: rows of features.
        duration_seconds: of the video; of what was declared, where less could be decoded.
        coverage: share of the declared duration that was decoded.
        codec: the video codec.
        schema: version of this record.
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

    @property
    def has_features(self) -> bool:
        """True for `ok` and `partial`."""
        return self.status in ("ok", "partial")

    def to_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any, source: Path, *, strict: bool = False) -> Receipt:
        """The receipt in `record`; raises CacheError if it is not one, or a newer one."""
        return records.decode(cls, record, str(source), WAY_ON, schema=SCHEMA, strict=strict)


def key_of(video_id: str) -> str:
    """File-name-safe key of a video: equal names, equal keys, whatever bytes the name holds."""
    return hashlib.sha256(os.fsencode(video_id)).hexdigest()[:20]


def content_digest(path: Path, size: int) -> str:
    """Digest of a file's size, first and last 256 KiB: cheap, and different for any two different videos in practice."""
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 18))
        if size > 1 << 19:
            file.seek(-(1 << 18), os.SEEK_END)
        digest.update(file.read(1 << 18))
    return digest.hexdigest()[:32]
