"""Portable names: one rule for names that become files, so that workspaces can move between systems."""

from __future__ import annotations

import re
from pathlib import PureWindowsPath

from vla.errors import UsageError

_MAX_BYTES = 100
_RESERVED_NAMES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
# Control characters, direction marks, lone surrogates, and characters that Windows forbids.
_FORBIDDEN = re.compile(
    '[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff/\\\\:*?"<>|]'
)


def require_name(name: str, what: str) -> str:
    """Return `name` if it can name a file or folder on every system.

    Args:
        name: the name.
        what: the named thing in the message, e.g. `a run`.

    Raises:
        UsageError: it cannot; the message gives the reason.
    """
    if not name.strip():
        reason = "it is empty"
    elif len(name.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        reason = f"it is longer than {_MAX_BYTES} bytes"
    elif (forbidden := _FORBIDDEN.search(name)) is not None:
        reason = f"it contains {forbidden[0]!r}"
    elif name.startswith((".", "-", " ")) or name.endswith((".", " ")):
        reason = "it begins with a dot, a dash or a space, or ends with a dot or a space"
    elif _RESERVED_NAMES.fullmatch(name):
        reason = "Windows reserves that name"
    else:
        return name
    short = name if len(name) <= 40 else f"{name[:40]}..."
    raise UsageError(f"{what} cannot be called {short!r}: {reason}. Use letters, digits, - and _")


def is_file_name(name: str) -> bool:
    """Return whether `name` is a file name on every system.

    It has at most 255 bytes, no separator, drive or NUL, and does not begin with a dot.
    """
    try:
        is_short = 0 < len(name.encode("utf-8", "surrogateescape")) <= 255
    except UnicodeEncodeError:
        return False
    return (
        is_short
        and PureWindowsPath(name).name == name
        and not name.startswith(".")
        and "\0" not in name
    )
