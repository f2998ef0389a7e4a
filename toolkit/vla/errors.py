"""What can go wrong, one class for each thing a caller may want to catch.

Every message says what happened, with the values; `hint` is the way out. Each class is also the standard library's kind
for it, so `except KeyError` and `except vla.VlaError` both work.
"""

from __future__ import annotations

from vla.hints import Hint, Note


class VlaError(Exception):
    """Anything that `vla` refuses or cannot do; `str(error)` is fit to be shown to a person.

    Attributes:
        hint: the way out, where there is one that a caller can take; `str(error)`, a `Note`, has it, too.
    """

    hint: Hint | None = None

    def __init__(self, *args: object, hint: Hint | None = None) -> None:
        super().__init__(*args)
        self.hint = hint

    def __str__(self) -> str:
        # KeyError quotes its argument, which would put quotes round a whole sentence.
        return Note(str(self.args[0]) if self.args else type(self).__name__, self.hint)


class UsageError(VlaError, ValueError):
    """The caller asked for something that makes no sense: a bad option, a bad value."""


class UnknownNameError(VlaError, KeyError):
    """A name that no plug-in has; the message lists the names there are."""


class ShapeError(VlaError, ValueError):
    """Arrays that belong together do not fit together."""


class AnnotationError(VlaError, ValueError):
    """A captions file that cannot be used; the message names the lines."""


class FormatError(VlaError, ValueError):
    """A file of released features that cannot be used; the message says why."""


class DecodeError(VlaError, ValueError):
    """A file that is not a video we can decode. `reason` is a short word, e.g. `not-a-video`; `vla.causes` has its cause."""

    def __init__(self, message: str, reason: str = "undecodable", *, hint: Hint | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class SpecMismatchError(VlaError, ValueError):
    """Features, a run or an index of two different encoders were about to be mixed."""


class CacheError(VlaError, OSError):
    """A cache, run or index on disk that is damaged, too new, or not what it says."""


class MissingError(VlaError, FileNotFoundError):
    """Something an earlier step makes is not there yet; the hint names what makes it."""


class EnvironmentUnfitError(VlaError, RuntimeError):
    """This machine lacks something: a package, a GPU, weights, a network."""


class ResourceError(VlaError, OSError):
    """The disk is full or the output cannot be written."""


class InterruptedRunError(VlaError, RuntimeError):
    """The person asked to stop; what was finished is saved."""
