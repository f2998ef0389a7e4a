"""Options that select the videos of a search, and the filter that they make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vla_cli.parsing import seconds, timestamp

if TYPE_CHECKING:
    from vla.retrieval.filters import VideoFilter

_PANEL = "Video filters"

Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        help="Search only videos that match this folder, file or pattern, e.g. '2024/*.mp4'. "
        "Repeatable.",
        metavar="PATTERN",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        help="Skip videos that match this folder, file or pattern. Repeatable.",
        metavar="PATTERN",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
MinVideoDuration = Annotated[
    str | None,
    typer.Option(
        "--min-video-duration",
        help="Search only videos of at least this duration: 90, 1:30 or 2h.",
        metavar="TIME",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
MaxVideoDuration = Annotated[
    str | None,
    typer.Option(
        "--max-video-duration",
        help="Search only videos of at most this duration.",
        metavar="TIME",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ModifiedAfter = Annotated[
    str | None,
    typer.Option(
        "--modified-after",
        help="Search only files modified on DATE or later, e.g. 2024-05-01.",
        metavar="DATE",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
ModifiedBefore = Annotated[
    str | None,
    typer.Option(
        "--modified-before",
        help="Search only files modified before DATE.",
        metavar="DATE",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        help="Filter by a column of the caption table: camera=front, year>=2020, "
        "place='*beach*'. Repeatable.",
        metavar="CONDITION",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]


def video_filter(
    include: list[str] | None, exclude: list[str] | None, min_duration: str | None, max_duration: str | None,
    modified_after: str | None, modified_before: str | None, where: list[str] | None,
) -> VideoFilter:  # fmt: skip
    """Return the filter of the options; options that are not set do not filter."""
    from vla.retrieval.filters import MetadataFilter, VideoFilter

    bounds = {}
    if min_duration is not None:
        bounds["min_duration"] = seconds(min_duration, "--min-video-duration")
    if max_duration is not None:
        bounds["max_duration"] = seconds(max_duration, "--max-video-duration")
    if modified_after is not None:
        bounds["modified_after"] = timestamp(modified_after, "--modified-after")
    if modified_before is not None:
        bounds["modified_before"] = timestamp(modified_before, "--modified-before")
    conditions = tuple(map(MetadataFilter.of, where or ()))
    return VideoFilter(tuple(include or ()), tuple(exclude or ()), **bounds, where=conditions)
