"""Print hits as a table, JSON lines, CSV or paths."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vla_cli.render import (
    format_time,
    plural,
    print_message,
    print_omissions,
    print_table,
    stderr_console,
)

if TYPE_CHECKING:
    from vla.retrieval.hits import Hit, Hits

_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Prefixes of cells that a spreadsheet evaluates as a formula."""

_FURTHER = "  "
"""Indent of the further moments of a video."""
_RANKING_NOTE = (
    "Hits are ranked by the score of all texts together. The confidence is that of the text that "
    "matches least."
)


def print_hit_omissions(hits: Hits) -> None:
    """Print on stderr what the search left out, if anything."""
    if hits.omissions:
        print_omissions(hits.omissions, stderr_console())
        print_message("`vla rm --missing` removes videos whose files are gone")


def no_hits_message(hits: Hits) -> str:
    """Return the message of a search without hits: with `--max-fpr`, how close the best one came."""
    best = hits.near_miss
    if best is None:
        return "No hits."
    return (
        f"No hit passes --max-fpr. The best, {best.video_id} at {format_time(best.peak)}, has "
        f"confidence {best.confidence or 0.0:.3f}."
    )


def print_hits(hits: Sequence[Hit], title: str) -> None:
    """Print a table, the further moments of a video below its first; for event sequences, the last
    column has the peak of each step.
    """
    has_steps = any(hit.steps for hit in hits)
    rows = [
        (
            hit.rank,
            f"{hit.score:.3f}",
            "" if hit.confidence is None else f"{hit.confidence:.3f}",
            ("" if is_first else _FURTHER)
            + hit.video_id
            + (" (missing)" if hit.is_missing else "")
            + _duplicates(hit),
            f"{format_time(hit.start)} - {format_time(hit.end)}",
            ", ".join(format_time(peak) for _, _, _, peak in hit.steps)
            if has_steps
            else format_time(hit.peak),
        )
        for hit, is_first in _by_video(hits)
    ]
    heads = ("rank", "score", "confidence", "video", "moment", "steps" if has_steps else "peak")
    if rows:
        numeric = ("rank", "score", "confidence", "moment") + (() if has_steps else ("peak",))
        print_table(heads, rows, title=title, numeric=numeric)
        confidences = [hit.confidence for hit in hits if hit.confidence is not None]
        if confidences != sorted(confidences, reverse=True):
            print_message(_RANKING_NOTE)
    elif title:
        print_message(f"{title}: no hits")


def _by_video(hits: Sequence[Hit]) -> list[tuple[Hit, bool]]:
    """Return hits by video, in the order of the best hit of each, and whether a hit is that."""
    by_video: dict[str, list[Hit]] = {}
    for hit in hits:
        by_video.setdefault(hit.video_id, []).append(hit)
    return [(hit, hit is group[0]) for group in by_video.values() for hit in group]


def print_lines(hits: Sequence[Hit]) -> None:
    """Print each hit as a JSON object on its own line."""
    for hit in hits:
        sys.stdout.write(json.dumps(hit.to_json(), ensure_ascii=True, allow_nan=False) + "\n")


def print_csv(hits: Sequence[Hit]) -> None:
    """Print CSV with a header, in UTF-8 regardless of the terminal's encoding.

    Cells that a spreadsheet would evaluate as a formula are prefixed with an apostrophe.
    """
    columns = (
        "query",
        "rank",
        "score",
        "confidence",
        "video",
        "start",
        "end",
        "peak",
        "path",
        "missing",
    )
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows({name: _cell(value) for name, value in hit.to_json().items()} for hit in hits)
    # File names may contain any bytes.
    _write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def print_paths(hits: Sequence[Hit], end: bytes) -> None:
    """Print the path of each video once, followed by `end`."""
    # Imported features may have a name only, and no file.
    paths = dict.fromkeys(hit.path or hit.video_id for hit in hits)
    _write_bytes(b"".join(os.fsencode(path) + end for path in paths))


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_PREFIXES) else value


def _write_bytes(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _duplicates(hit: Hit) -> str:
    """Return a suffix with the number of videos that have the same content, or show it there."""
    count = len(hit.duplicates) + len(hit.near_duplicates)
    return f" (+{plural(count, 'duplicate')})" if count else ""
