"""Exceptions of vla, one class for each kind of failure that callers may want to catch.

Every message states the problem, with the values; `hint` is the way out. Each class also derives from
the matching exception of Python, so `except KeyError` and `except vla.VlaError` both work.
"""

from __future__ import annotations

from vla.hints import Hint, Note


class VlaError(Exception):
    """Base class of all errors that vla raises on purpose; `str(error)` is a message for users.

    Attributes:
        hint: the way out, or None. `str(error)` is a `Note`, which has it, too.
    """

    hint: Hint | None = None

    def __init__(self, *args: object, hint: Hint | None = None) -> None:
        super().__init__(*args)
        self.hint = hint

    def __str__(self) -> str:
        # KeyError would put quotes round the message.
        return Note(str(self.args[0]) if self.args else type(self).__name__, self.hint)


class UsageError(VlaError, ValueError):
    """An argument or option is invalid."""


class UnknownNameError(VlaError, KeyError):
    """No plug-in has the name; the message lists all names."""


class ShapeError(VlaError, ValueError):
    """The shapes or values of arrays are inconsistent."""


class AnnotationError(VlaError, ValueError):
    """A captions file is invalid; the message names the lines."""


class FormatError(VlaError, ValueError):
    """A file of features to import is invalid; the message gives the reason."""


class DecodeError(VlaError, ValueError):
    """A file cannot be decoded as video.

    Attributes:
        reason: a short word, e.g. `not-a-video`; see `vla.causes`.
    """

    def __init__(
        self, message: str, reason: str = "undecodable", *, hint: Hint | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class SpecMismatchError(VlaError, ValueError):
    """Features, a run or an index belong to different encoders and cannot be mixed."""


class CacheError(VlaError, OSError):
    """A cache, run or index on disk is damaged, inconsistent or of a newer version."""


class MissingError(VlaError, FileNotFoundError):
    """The output of an earlier step is missing; the hint names that step."""


class EnvironmentUnfitError(VlaError, RuntimeError):
    """The machine lacks a package, a device, weights or a network."""


class ResourceError(VlaError, OSError):
    """The machine lacks disk space, memory or permissions."""
