"""Columns of a table by their roles: those that a user names, else those with usual names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla.datasets._columns import (
    CAPTION,
    ID,
    SPLIT,
    VIDEO,
    TimeColumns,
    find_time_columns,
    first_of,
    look_like_times,
    role_of,
    video_and_caption,
)
from vla.datasets._questions import QuestionColumns, question_columns
from vla.datasets._reading import Problems
from vla.datasets._rows import Rows

WINDOWS = ("relevant_windows", "spans")
"""Columns with a list of `[start, end]`."""

_USUAL_NAMES = {"video": VIDEO, "caption": CAPTION}
_MAX_LISTED_NAMES = 8
# One of these without its counterpart is a fault of the file; other names may have another meaning.
_PLAIN_TIMES = frozenset(("start", "start_time", "st", "end", "end_time", "et"))


@dataclass(frozen=True)
class TableColumns:
    """Columns by their roles; empty if the file has none."""

    video: str
    caption: str
    split: str
    id: str
    times: TimeColumns
    question: QuestionColumns

    @property
    def names(self) -> frozenset[str]:
        """Names of all columns with a role."""
        plain = frozenset((self.video, self.caption, self.split, self.id, *WINDOWS))
        return plain | self.times.columns | self.question.columns

    def unused_times(self, rows: Rows) -> list[str]:
        """Return the columns without a role that look like times."""
        others = [c for c in rows.columns if c not in self.names]
        return look_like_times(others, [row.cells for row in rows.rows])


def table_columns(
    rows: Rows, requests: Mapping[str, str], problems: Problems
) -> TableColumns | None:
    """Return the columns of the file by role; None if a required one is missing.

    Args:
        rows: of the file.
        requests: column names that the user gave, by role; empty where the usual names apply.
        problems: receives the faults.
    """
    by_name = {name.casefold(): name for name in reversed(rows.columns)} | {
        name: name for name in rows.columns
    }
    named_columns = {
        role: by_name.get(name) or by_name.get(name.casefold(), "")
        for role, name in requests.items()
        if name
    }
    for role, column in named_columns.items():
        if not column:
            problems.add(
                rows.header_line, f"there is no column {requests[role]!r}; {_column_list(rows)}"
            )
    cells = [row.cells for row in rows.rows]
    question = question_columns(rows.columns)
    video, caption = video_and_caption(rows.columns, cells)
    question_text = first_of(("question",), rows.columns)
    if (
        question_text
        and question.columns
        and any(isinstance(row.get(question_text), str) for row in cells)
    ):
        caption = question_text
    roles = {
        "video": named_columns.get("video", video),
        "caption": named_columns.get("caption", caption),
    }
    for role, usual in _USUAL_NAMES.items():
        if not roles[role] and role not in named_columns:
            names = f"{', '.join(usual[:_MAX_LISTED_NAMES])}, ..."
            problems.add(
                rows.header_line,
                f"no {role} column ({names}); name it by {role}_column=; {_column_list(rows)}",
            )
    if not all(roles.values()):
        return None
    is_question = roles["caption"] == question_text
    split = named_columns.get("split") or first_of(SPLIT, rows.columns)
    query_id = first_of(ID, rows.columns)
    other_roles = {
        *roles.values(),
        split,
        query_id,
        *WINDOWS,
        *(question.columns if is_question else ()),
    }
    times = _time_columns(rows, named_columns, other_roles, problems)
    flat = question if is_question else QuestionColumns()
    return TableColumns(roles["video"], roles["caption"], split, query_id, times, flat)


def _time_columns(
    rows: Rows, named_columns: Mapping[str, str], other_roles: set[str], problems: Problems
) -> TimeColumns:
    times = find_time_columns(rows.columns, [row.cells for row in rows.rows], other_roles)
    start, end = (named_columns.get(role) or getattr(times, role) for role in ("start", "end"))
    if named_columns.get("start") or named_columns.get("end"):
        times = TimeColumns(start, end, length="" if end else times.length, rate=times.rate)
    plain = [c for c in rows.columns if c not in other_roles and role_of(c)[0] in ("start", "end")]
    lone = start or end or next((c for c in plain if c.casefold() in _PLAIN_TIMES), "")
    if lone and not (times.pair or (times.start and (times.end or times.length))):
        other = (
            "end" if role_of(lone)[0] == "start" or lone == named_columns.get("start") else "start"
        )
        problems.add(
            rows.header_line, f"column {lone!r} but no {other} column; {_column_list(rows)}"
        )
        return TimeColumns()
    return times


def _column_list(rows: Rows) -> str:
    return f"the columns are: {', '.join(rows.columns):.500}"
