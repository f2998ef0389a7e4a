"""Results of a search."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from vla.omissions import Omissions

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Hit:
    """A moment, or an event sequence, that matches a query.

    Attributes:
        rank: position in the results, from 1.
        score: ranking score; never increases from one hit to the next. For the best moment of a
            video it is the score of the video: the centered similarity of its best segment, plus
            that of its mean frame as far as the videos are each about one thing. Further moments
            have less, by how much less they stand out in the similarity curve (with a trained head:
            by how much less probable they are).
        video_id: name of the video in its workspace.
        path: path of the video; empty if its features were imported and the file is not here.
        start: start in seconds.
        end: end in seconds.
        peak: time of the best-matching frame of the moment, in seconds.
        query: the query.
        is_missing: whether the file no longer exists at `path`.
        confidence: 1 minus the estimated false-positive rate: the rate at which unrelated queries
            reach an equally high score. At 0.95, one unrelated query in twenty does.
            Calibrated for queries like those of the query bank; None without a bank.
        duplicates: names of other videos with the same content.
        near_duplicates: `(video, start, end)` of near-duplicate moments in other videos, such as a
            re-encoded video (`vla.retrieval.near_duplicates`). They are not listed as hits of their
            own.
        steps: of a sequence, `(text, start, end, peak)` of each step; `start` and `end` of the hit
            span all steps, and `peak` is that of the first.
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
    duplicates: tuple[str, ...] = ()
    near_duplicates: tuple[tuple[str, float, float], ...] = ()
    steps: tuple[tuple[str, float, float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object; the name of the video is `video`, times are in seconds."""
        record = asdict(self)
        record["video"] = record.pop("video_id")
        record["missing"] = record.pop("is_missing")
        record["duplicates"] = list(self.duplicates)
        record["near_duplicates"] = [
            {"video": v, "start": start, "end": end} for v, start, end in self.near_duplicates
        ]
        record["steps"] = [
            {"query": q, "start": a, "end": b, "peak": p} for q, a, b, p in self.steps
        ]
        return record


class Hits(list[Hit]):
    """Hits of one search or of several, best first within each.

    Attributes:
        omissions: videos that were left out because their files are missing.
        near_miss: best hit that `max_fpr` removed, by confidence; None if it removed none.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        omissions: Omissions | None = None,
        near_miss: Hit | None = None,
    ) -> None:
        super().__init__(hits)
        self.omissions = omissions or Omissions()
        self.near_miss = near_miss

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with a row for each hit and the attributes of `Hit` as columns, also
        without hits.
        """
        import pandas

        names = [f.name for f in fields(Hit)]
        return pandas.DataFrame(
            [[getattr(hit, name) for name in names] for hit in self], columns=names
        )


def most_confident(hits: Iterable[Hit]) -> Hit | None:
    """Return the hit of the highest confidence, the first of equal ones; None without hits."""
    return max(hits, key=lambda hit: hit.confidence or 0.0, default=None)
