"""What a search returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from vla.omissions import Omissions

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Hit:
    """One moment.

    Attributes:
        rank: from 1.
        score: what hits are ordered by; never increases from one to the next. The cosine of the query with the best segment
            of the video, less that segment's bias as a hub, less what the moment stands behind the best of its video (or
            behind certainty, where a trained head tells).
        video_id: the video's name in its workspace.
        path: where the video lies; empty where features were imported and the video is not here.
        start: seconds.
        end: seconds.
        peak: when, within the moment, a single frame matches best, in seconds.
        query: what was asked.
        is_missing: the file is no longer at `path`.
        confidence: 1 less the rate at which queries that nothing here matches find something as good; None where no such
            queries are known. At 0.95, one in twenty of them does. It is right for queries like those it was measured with.
        copies: names of other videos with the same content.
        similar: `(video, start, end)` of near-duplicate moments in other videos, such as a video that was encoded again
            (`vla.retrieval.near_duplicates`); they are not listed as results of their own.
        steps: of a sequence, `(text, start, end, peak)` of what follows each other; `start` and `end` are of the whole,
            and `peak` is that of the first.
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
    confidence: float | None = None
    copies: tuple[str, ...] = ()
    similar: tuple[tuple[str, float, float], ...] = ()
    steps: tuple[tuple[str, float, float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object: `video` for the name, times in seconds."""
        record = asdict(self)
        record["video"] = record.pop("video_id")
        record["missing"] = record.pop("is_missing")
        record["copies"] = list(self.copies)
        record["similar"] = [{"video": video, "start": start, "end": end} for video, start, end in self.similar]
        record["steps"] = [{"query": q, "start": a, "end": b, "peak": p} for q, a, b, p in self.steps]
        return record


class Hits(list[Hit]):
    """The moments of one search or of several, best first within each.

    Attributes:
        omissions: videos that were left out, because their files are gone.
    """

    def __init__(self, hits: Iterable[Hit] = (), omissions: Omissions | None = None) -> None:
        super().__init__(hits)
        self.omissions = omissions or Omissions()

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each moment, with the columns that `Hit` has; also where there is none."""
        import pandas

        names = [f.name for f in fields(Hit)]
        return pandas.DataFrame([[getattr(hit, name) for name in names] for hit in self], columns=names)
