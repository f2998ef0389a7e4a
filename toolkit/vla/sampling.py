"""Which frames of a video are kept: the one name for it that command line, cache and decoders share."""

from __future__ import annotations

from dataclasses import dataclass

from vla.errors import UsageError

_LEAST = 1e-4
_MOST = {"fps": 240.0, "frames": 100_000.0, "keyframes": 0.0, "scenes": 0.0}


@dataclass(frozen=True)
class Sampling:
    """A rule by which frames are chosen.

    Attributes:
        kind: `fps`, a frame every 1/value seconds, by presentation time; `frames`, so many frames evenly over the video;
            `keyframes`, those that the encoder of the video made keyframes: cheap, but irregular and far apart;
            `scenes`, one in the middle of each shot, and every ten seconds of a long one.
        value: the number that belongs to the kind; 0 where there is none.
    """

    kind: str
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _MOST:
            raise UsageError(f"sampling is fps=N, frames=N, keyframes or scenes, not {self.kind!r}")
        most = _MOST[self.kind]
        if not most and self.value:
            raise UsageError(f"sampling {self.kind!r} takes no number")
        if most and not _LEAST <= self.value <= most:
            raise UsageError(
                f"{self.kind}= must be above 0 (at least {_LEAST:g}) and at most {most:g}, not {self.value:g}"
            )
        if self.kind == "frames" and self.value != int(self.value):
            raise UsageError(f"frames= must be a whole number, not {self.value:g}")

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """The rule that `str` wrote; raises UsageError for anything else."""
        kind, _, value = text.partition("=")
        try:
            return cls(kind, float(value) if value else 0.0)
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"sampling {text!r}: {value!r} is no number") from error

    def __str__(self) -> str:
        return f"{self.kind}={self.value:.12g}" if self.value else self.kind


def at_fps(fps: float) -> Sampling:
    """`fps` frames a second."""
    return Sampling("fps", fps)
