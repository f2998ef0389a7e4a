"""Names that become files: one rule for all systems, so that a workspace can be moved between them."""

from __future__ import annotations

import re

from vla.errors import UsageError

_MOST = 100
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
# Control characters, direction marks, lone surrogates, and what Windows does not have in names.
_UNFIT = re.compile('[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff/\\\\:*?"<>|]')


def require_name(name: str, what: str) -> str:
    """`name`, if it can name a file or folder on every system.

    Raises:
        UsageError: it cannot; says why.
    """
    if not name.strip():
        why = "it is empty"
    elif len(name.encode("utf-8", "surrogatepass")) > _MOST:
        why = f"it is longer than {_MOST} bytes"
    elif (bad := _UNFIT.search(name)) is not None:
        why = f"it contains {bad[0]!r}"
    elif name.startswith((".", "-", " ")) or name.endswith((".", " ")):
        why = "it begins with a dot, a dash or a space, or ends with a dot or a space"
    elif _RESERVED.fullmatch(name):
        why = "Windows reserves that name"
    else:
        return name
    short = name if len(name) <= 40 else f"{name[:40]}..."
    raise UsageError(f"{what} cannot be called {short!r}: {why}. Take letters, digits, - and _")
