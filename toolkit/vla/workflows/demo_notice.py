"""Warnings about videos that the demo encoder cannot represent: all except those rendered by the
demo.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vla.features import FeatureSpec
from vla.hints import Hint, Note
from vla.storage.workspace import Workspace

_ENDS = 1 << 16


def unrendered_videos(workspace: Workspace, spec: FeatureSpec, names: Iterable[str]) -> list[str]:
    """Return the videos in `names` that the demo did not render; empty if `spec` is not of the
    demo encoder.

    Rendered clips contain a mark in their metadata, which copies keep. Missing files count as not
    rendered.
    """
    if (spec.encoder, spec.model) != ("open_clip", "demo"):
        return []
    return [name for name in names if not _is_rendered(workspace.video_path(name))]


def demo_warning(count: int, total: int) -> str:
    """Return the warning about `count` unrendered videos among `total`."""
    if count < total:
        subject = (
            f"{count:,} of the {total:,} videos here are"
            if count > 1
            else f"1 of the {total:,} videos here is"
        )
    else:
        subject = "the videos here are" if total > 1 else "the video here is"
    return Note(
        f"The demo encoder recognises only the shapes that the demo renders, and {subject} "
        f"something else: such results mean "
        "nothing and get no confidence.",
        Hint("use_real_encoder"),
    )


def _is_rendered(path: Path) -> bool:
    """Return whether the file has the mark near its start or end, where containers store metadata;
    nothing is parsed.
    """
    from vla.world.render import DEMO_COMMENT

    try:
        with path.open("rb") as file:
            if DEMO_COMMENT.encode() in file.read(_ENDS):
                return True
            file.seek(max(0, path.stat().st_size - _ENDS))
            return DEMO_COMMENT.encode() in file.read(_ENDS)
    except OSError:
        return False
