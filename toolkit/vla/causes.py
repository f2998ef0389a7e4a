"""Causes of failures (content, machine or user), by reason and by error number of the system."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Literal, TypeGuard

from vla.errors import DecodeError

Cause = Literal["content", "machine", "user"]
"""`content`: final until the file, or the software that reads it, changes. `machine`: the next command
tries again. `user`: nothing failed; the file is not a video, or is missing."""

_CAUSES: dict[str, Cause] = {
    # The content of the file. The last three count only if the decoder passes `vla.cache.decoder_check`.
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
"""Reasons that need a second attempt, with nothing else running, to be certain."""

_REASONS: dict[str, str] = {
    **dict.fromkeys(("ENOENT", "ENOTDIR", "ELOOP", "ENAMETOOLONG"), "missing"),
    **dict.fromkeys(("EACCES", "EPERM"), "permission"),
    **dict.fromkeys(
        (
            "EMFILE",
            "ENFILE",
            "EAGAIN",
            "ENOMEM",
            "ENOBUFS",
            "ENOSPC",
            "EDQUOT",
            "EFBIG",
            "ENOLCK",
            "ENOEXEC",
        ),
        "resources",
    ),
}
_REASON_OF = {
    getattr(errno, name): reason for name, reason in _REASONS.items() if hasattr(errno, name)
}

# FFmpeg uses many error numbers of the system for faults in a file's content (EINVAL, EIO, EPERM,
# EAGAIN, ENOSYS). It does not use these itself, so they come from the system.
_SYSTEM_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "EMFILE",
        "ENFILE",
        "EACCES",
        "ESTALE",
        "ETIMEDOUT",
        "ENOLCK",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENOTCONN",
    )
    if hasattr(errno, name)
)


def cause_of(reason: str) -> Cause:
    """Return the cause of a reason of `DecodeError`; `content` for reasons of plug-ins."""
    return _CAUSES.get(reason, "content")


def reason_of(error: OSError) -> str:
    """Return `missing`, `permission`, `resources` or `unreadable` for an error of the system."""
    return _REASON_OF.get(error.errno or 0, "unreadable")


def unreadable_reason(path: Path, error: OSError) -> DecodeError:
    """Return the DecodeError for a file that the operating system cannot read."""
    return DecodeError(f"{path.name}: cannot be read: {error.strerror or error}", reason_of(error))


def is_of_system(error: BaseException) -> TypeGuard[OSError]:
    """Return whether an error of FFmpeg comes from the operating system, not from a file's content."""
    return isinstance(error, OSError) and error.errno in _SYSTEM_ERRNOS
