"""What every decoder is, and the rule by which frames are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from vla.sampling import Sampling
from vla.video import Frames, Video


@dataclass(frozen=True)
class DecodeReport:
    """How decoding went; complete once the iterator that made it is exhausted.

    Attributes:
        end_seconds: where the last decoded frame ends, counted from the container's start.
        declared_seconds: when the video should end; 0.0 where nothing tells, or where the file is complete and its tags are
            stale.
        errors: packets that did not decode.
        first_error: what the first of them said.
        synthetic_times: the file carries no times, so they were counted from its frame rate.
        dropped: frames passed over because they are due no later than the frame before them.
        gaps: stretches of damage, longer than the sampling step, without a frame.
        gap_seconds: length of all of them.
        is_cut: the file ends within an element of its container.
        has_more: another recording follows in the file that the container's reader does not come to.
    """

    end_seconds: float
    declared_seconds: float
    errors: int
    first_error: str
    synthetic_times: bool
    dropped: int = 0
    gaps: int = 0
    gap_seconds: float = 0.0
    is_cut: bool = False
    has_more: bool = False

    @property
    def coverage(self) -> float:
        """Share of the video that was decoded, gaps left out, at most 1; 1 where nothing is declared and nothing missing."""
        whole = max(self.declared_seconds, self.end_seconds)
        return min(1.0, max(0.0, self.end_seconds - self.gap_seconds) / whole) if whole > 0 else 1.0

    @property
    def is_whole(self) -> bool:
        """False if packets failed, less than 90 % could be decoded, or an unknown part could not."""
        unknown = self.is_cut and self.declared_seconds <= 0
        return self.errors == 0 and self.coverage >= 0.9 and not unknown and not self.has_more


class Reader(Protocol):
    """One open video."""

    video: Video

    def sample(self, sampling: Sampling, chunk: int = 32) -> Iterator[Frames]:
        """The frames that `sampling` chooses, each frame once, in order, `chunk` at a time.

        `fps=R` means those on screen at 0, 1/R, 2/R ... seconds; `frames=N`, in the middle of N equal parts of the time from
        the first frame to the last. A frame is on screen from its own time until the next frame's; before the first, the first
        counts. Each comes with its *own* time, not with the time it was asked for, so what is cached is true whatever the frame
        rate did. 0 is the container's start, from which players count: the first frame's time is above 0 where sound comes
        before it. Frames of different sizes come in different chunks.
        """

    def frames_at(self, timestamps_seconds: np.ndarray) -> Frames:
        """The frame on screen at each of the times (ascending); its own time beside it."""

    @property
    def report(self) -> DecodeReport:
        """How the last `sample` or `frames_at` went."""

    def __enter__(self) -> Reader: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Decoder(Protocol):
    """Opens files. Raises `DecodeError`, with a `reason`, for whatever is not a video it can decode."""

    def open(self, path: Path) -> Reader:
        """A reader of the video at `path`."""

    def probe(self, path: Path) -> Video:
        """What the file says of itself, without decoding it through."""

    def close(self) -> None:
        """Give back what is held between videos; the decoder may be used again all the same."""
