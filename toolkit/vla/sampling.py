"""Sampling rules of frames, with the one spelling shared by command line, cache and decoders."""

from __future__ import annotations

from dataclasses import dataclass

from vla.errors import UsageError

_MIN = 1e-4
_MAX = {"fps": 240.0, "frames": 100_000.0, "keyframes": 0.0, "scenes": 0.0}


@dataclass(frozen=True)
class Sampling:
    """Rule for the choice of frames.

    Attributes:
        kind: `fps`, a frame every 1/value seconds of presentation time; `frames`, a number of frames
            evenly spaced over the video; `keyframes`, the keyframes of the video codec, which are cheap to
            decode but irregular and far apart; `scenes`, the middle of each shot, and every ten seconds
            of a long one.
        value: the number of the kind; 0 if it has none.
    """

    kind: str
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _MAX:
            raise UsageError(
                f"sampling must be fps=N, frames=N, keyframes or scenes, not {self.kind!r}"
            )
        maximum = _MAX[self.kind]
        if not maximum and self.value:
            raise UsageError(f"sampling {self.kind!r} takes no number")
        if maximum and not _MIN <= self.value <= maximum:
            raise UsageError(
                f"{self.kind}= must be above 0 (at least {_MIN:g}) and at most {maximum:g}, not "
                f"{self.value:g}"
            )
        if self.kind == "frames" and self.value != int(self.value):
            raise UsageError(f"frames= must be a whole number, not {self.value:g}")

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """Parse the text of a rule, e.g. `fps=2`; raise UsageError if it is invalid."""
        kind, _, value = text.partition("=")
        try:
            return cls(kind, float(value) if value else 0.0)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"sampling {text!r}: {value!r} is not a number") from error

    def __str__(self) -> str:
        return f"{self.kind}={self.value:.12g}" if self.value else self.kind


def at_fps(fps: float) -> Sampling:
    """Return the rule for `fps` frames a second."""
    return Sampling("fps", fps)
