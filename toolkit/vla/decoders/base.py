"""Interface of video decoders."""

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
    """Outcome of decoding; complete once the iterator that made it is exhausted.

    Attributes:
        end_seconds: end of the last decoded frame, counted from the container's start.
        declared_seconds: declared end of the video; 0.0 if nothing declares it, or if the file is
            complete and its tags are stale.
        errors: number of packets that did not decode.
        first_error: message of the first of these errors.
        synthetic_times: whether times were counted from the frame rate because the file has none.
        dropped: number of frames skipped because they are due no later than the frame before them.
        gaps: number of damaged ranges without a frame that are longer than the sampling step.
        gap_seconds: their total duration.
        is_cut: whether the file ends within an element of its container.
        has_more: whether another recording follows in the file that the demuxer does not reach.
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
        """Fraction of the video that was decoded, without gaps, in [0, 1].

        It is 1 if no end is declared and nothing is missing.
        """
        whole = max(self.declared_seconds, self.end_seconds)
        return min(1.0, max(0.0, self.end_seconds - self.gap_seconds) / whole) if whole > 0 else 1.0

    @property
    def is_whole(self) -> bool:
        """False if packets failed, less than 90 % was decoded, or the file is truncated or goes on.

        A truncated file counts only if no declared end measures the loss.
        """
        unknown = self.is_cut and self.declared_seconds <= 0
        return self.errors == 0 and self.coverage >= 0.9 and not unknown and not self.has_more


class Reader(Protocol):
    """Reader of one open video."""

    video: Video

    def sample(self, sampling: Sampling, chunk: int = 32) -> Iterator[Frames]:
        """Yield the frames that `sampling` chooses, each once, in order, `chunk` at a time.

        `fps=R` chooses the frames on screen at 0, 1/R, 2/R, ... seconds. `frames=N` chooses those
        in the middle of N equal parts of the time from the first frame to the last. A frame is on
        screen from its own time until that of the next frame, the first frame also before.

        Each frame comes with its own time, not with the requested one, so that cached times are
        exact for any frame rate. Time 0 is the container's start, where players begin to count: the
        first frame's time is above 0 if audio precedes it. Frames of different sizes come in
        different chunks.
        """

    def frames_at(self, timestamps_seconds: np.ndarray, max_width: int | None = None) -> Frames:
        """Return the frame on screen at each of the times (ascending), with its own time.

        Frames wider than `max_width` pixels are reduced to this width, with their aspect ratio.
        """

    @property
    def report(self) -> DecodeReport:
        """The report of the last `sample` or `frames_at`."""

    def __enter__(self) -> Reader: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Decoder(Protocol):
    """Factory of readers.

    Raises `DecodeError`, with a `reason`, for a file that it cannot decode.
    """

    def open(self, path: Path) -> Reader:
        """Return a reader of the video at `path`."""

    def probe(self, path: Path) -> Video:
        """Return the metadata that the file declares, without decoding it through."""

    def close(self) -> None:
        """Release resources held between videos; the decoder remains usable."""
