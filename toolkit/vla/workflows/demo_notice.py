"""Videos that the demo encoder knows nothing of: all that `vla demo` has not rendered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vla.features import FeatureSpec
from vla.hints import Hint, Note
from vla.storage.workspace import Workspace
from vla.world.render import RENDERED

_ENDS = 1 << 16


def strangers(place: Workspace, spec: FeatureSpec, names: Iterable[str]) -> list[str]:
    """Those of the videos `names` that are not of the rendered world, where `spec` is of the demo encoder; none for others.

    A rendered clip says so in its file, also when it is copied or renamed. A file that is gone is a stranger: nothing vouches
    for it.
    """
    if (spec.encoder, spec.model) != ("open_clip", "demo"):
        return []
    return [name for name in names if not _is_rendered(place.video_path(name))]


def warning(count: int, total: int) -> str:
    """The message about `count` strangers among `total` videos."""
    if count < total:
        some = f"{count:,} of the {total:,} videos here are" if count > 1 else f"1 of the {total:,} videos here is"
    else:
        some = "the videos here are" if total > 1 else "the video here is"
    return Note(
        f"The demo encoder recognises only the shapes that the demo renders, and {some} something else: such results mean "
        "nothing and get no confidence.",
        Hint("use_real_encoder"),
    )


def _is_rendered(path: Path) -> bool:
    """True if the file holds the mark near its beginning or end, where containers keep their metadata; nothing is parsed."""
    try:
        with path.open("rb") as file:
            if RENDERED.encode() in file.read(_ENDS):
                return True
            file.seek(max(0, path.stat().st_size - _ENDS))
            return RENDERED.encode() in file.read(_ENDS)
    except OSError:
        return False
