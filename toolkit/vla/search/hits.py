"""What a search returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Hit:
    """One moment.

    Attributes:
        rank: from 1.
        score: cosine of query and segment in the shared space; never increases from one hit to the next.
        video_id: the video's name in its workspace.
        path: where the video lies; empty where features were imported and the video is not here.
        start: seconds.
        end: seconds.
        peak: when, within the moment, a single frame matches best, in seconds.
        query: what was asked.
        is_missing: the file is no longer at `path`.
    """

    rank: int
    score: float
    video_id: str
    path: str
    start: float
    end: float
    peak: float
    query: str
    is_missing: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object: `video` for the name, times in seconds."""
        record = asdict(self)
        record["video"] = record.pop("video_id")
        record["missing"] = record.pop("is_missing")
        return record
