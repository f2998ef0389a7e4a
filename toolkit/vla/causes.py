"""Causes of failures: a file's own content, the machine, or the user. One table for reasons, one for error numbers."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Literal, TypeGuard

from vla.errors import DecodeError

Cause = Literal["content", "machine", "user"]
"""`content`: holds until the file, or the software that reads it, changes. `machine`: tried again by the next command.
`user`: nothing failed; the file is no video, or is not there."""

_CAUSES: dict[str, Cause] = {
    # The file's own content. The last three are believed only of a decoder that works: see `vla.cache.decoder_check`.
    "not-a-video": "content",
    "empty-file": "content",
    "too-large": "content",
    "undecodable": "content",
    "no-frames": "content",
    "past-the-end": "content",
    "crashed": "content",
    "endless": "content",
    "memory": "content",
    # The machine.
    "killed": "machine",
    "hung": "machine",
    "resources": "machine",
    "permission": "machine",
    "unreadable": "machine",
    "changed": "machine",
    # The user.
    "no-video-stream": "user",
    "not-a-file": "user",
    "missing": "user",
}

DOUBTFUL = frozenset(["crashed", "endless", "memory", "killed", "hung", "resources", "unreadable"])
"""Reasons that only a second trial, alone, can settle."""

_REASONS: dict[str, str] = {
    **dict.fromkeys(("ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"), "missing"),
    **dict.fromkeys(("EACCES", "EPERM"), "permission"),
    **dict.fromkeys(
        ("EMFILE", "ENFILE", "EAGAIN", "ENOMEM", "ENOBUFS", "ENOSPC", "EDQUOT", "EFBIG", "ENOLCK", "ENOEXEC"),
        "resources",
    ),
}
_REASON_OF = {getattr(errno, name): reason for name, reason in _REASONS.items() if hasattr(errno, name)}

# FFmpeg gives many error numbers of the system for faults in a file's content (EINVAL, EIO, EPERM, EAGAIN, ENOSYS); these
# it only passes on.
_PASSED_ON = frozenset(
    getattr(errno, name)
    for name in ("EMFILE", "ENFILE", "EACCES", "ESTALE", "ETIMEDOUT", "ENOLCK", "EHOSTDOWN", "EHOSTUNREACH", "ENOTCONN")
    if hasattr(errno, name)
)


def cause_of(reason: str) -> Cause:
    """The cause that a reason of `DecodeError` stands for; one that plug-ins bring is the content's."""
    return _CAUSES.get(reason, "content")


def reason_of(error: OSError) -> str:
    """The reason for an error of the operating system: `missing`, `permission`, `resources`, or else `unreadable`."""
    return _REASON_OF.get(error.errno or 0, "unreadable")


def unreadable_reason(path: Path, error: OSError) -> DecodeError:
    """The error for a file that the operating system does not let us read."""
    return DecodeError(f"{path.name}: cannot be read: {error.strerror or error}", reason_of(error))


def is_of_system(error: BaseException) -> TypeGuard[OSError]:
    """True for an error of FFmpeg that no content can cause: it tells what the operating system said."""
    return isinstance(error, OSError) and error.errno in _PASSED_ON
