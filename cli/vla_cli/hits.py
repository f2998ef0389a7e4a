"""How hits are printed: as a table, JSON lines, CSV or paths."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vla_cli.render import clock, err, print_left_out, print_table, say

if TYPE_CHECKING:
    from vla.retrieval.hits import Hit, Hits


def say_left_out(hits: Hits) -> None:
    """Say on stderr what was left out, if anything was."""
    if hits.omissions:
        print_left_out(hits.omissions, err())
        say("'vla rm --missing' forgets videos whose files are gone")


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a text begins with that a spreadsheet takes for a formula."""

_WHY = (
    "Ranked by score, which also weighs how well a moment stands out in its video. Confidence is of the similarity alone: the "
    "share of unrelated queries whose best result is less similar."
)


def print_hits(hits: Sequence[Hit], title: str) -> None:
    """A table; of sequences, with a column for when each step is best."""
    has_steps = any(hit.steps for hit in hits)
    rows = [
        (
            hit.rank,
            f"{hit.score:.3f}",
            "" if hit.confidence is None else f"{hit.confidence:.3f}",
            hit.video_id + (" (missing)" if hit.is_missing else "") + _copies(hit),
            f"{clock(hit.start)} - {clock(hit.end)}",
            ", ".join(clock(peak) for _, _, _, peak in hit.steps) if has_steps else clock(hit.peak),
        )
        for hit in hits
    ]
    heads = ("rank", "score", "confidence", "video", "moment", "steps" if has_steps else "peak")
    if rows:
        numeric = ("rank", "score", "confidence", "moment") + (() if has_steps else ("peak",))
        print_table(heads, rows, title=title, numeric=numeric)
        sure = [hit.confidence for hit in hits if hit.confidence is not None]
        if sure != sorted(sure, reverse=True):
            say(_WHY)
    elif title:
        say(f"{title}: nothing found")


def print_lines(hits: Sequence[Hit]) -> None:
    """A JSON object on each line."""
    for hit in hits:
        sys.stdout.write(json.dumps(hit.to_json(), ensure_ascii=True, allow_nan=False) + "\n")


def print_csv(hits: Sequence[Hit]) -> None:
    """A table with commas in UTF-8, whatever the terminal's encoding is, its columns named in the first line.

    Spreadsheets run what begins like a formula: such texts get an apostrophe in front.
    """
    columns = ("query", "rank", "score", "confidence", "video", "start", "end", "peak", "path", "missing")
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows({name: _cell(value) for name, value in hit.to_json().items()} for hit in hits)
    # Names of any bytes, as the file system has them.
    _write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def print_paths(hits: Sequence[Hit], end: bytes) -> None:
    """The path of each video, once, each with `end` after it."""
    # Of imported features there may be no file, only a name.
    found = dict.fromkeys(hit.path or hit.video_id for hit in hits)
    _write_bytes(b"".join(os.fsencode(path) + end for path in found))


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _write_bytes(content: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _copies(hit: Hit) -> str:
    """How many other videos have the same content, or show the same there."""
    count = len(hit.duplicates) + len(hit.near_duplicates)
    return f" (and {count} cop{'y' if count == 1 else 'ies'})" if count else ""
