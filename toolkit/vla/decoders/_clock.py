"""Presentation times of decoded frames, in the order that a decoder returns them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av


class Clock:
    """Presentation times of one stream's frames, counted from the container's start.

    Args:
        base: seconds per unit of the stream's clock.
        rate: frames per second, for frames without a time.
        zero: the container's start on the stream's clock, in seconds.
        first: returns the time of the first packet, for a container that stores only the decoding
            order: its frames carry the times of the packets that went in. None for any other
            container.

    Attributes:
        latest: time of the last frame that was not dropped; None before the first.
        drop_count: number of frames due no later than the frame before them.
        synthetic: whether times were counted from `rate` because the file has none.
    """

    def __init__(
        self, base: Fraction, rate: Fraction, zero: Fraction, first: Callable[[], int] | None
    ) -> None:
        self._base, self._rate, self._zero, self._first = base, rate, zero, first
        self._best_effort = _BestEffortTime()
        self.latest: Fraction | None = None
        self.drop_count, self.synthetic = 0, False

    def time_of(self, frame: av.VideoFrame) -> Fraction | None:
        """Return the time of `frame`; None if it is to be dropped because it is due too early."""
        base = Fraction(frame.time_base) if frame.time_base else self._base
        ticks = frame.dts if self._first else self._best_effort(frame.pts, frame.dts)
        if ticks is not None and base:
            if self.latest is None and self._first:
                # Compensate for the frames that the decoder delays.
                self._zero += (ticks - self._first()) * base
            time = ticks * base - self._zero
            if self.latest is None and time < 0:
                # Frames before the declared start begin the video.
                self._zero, time = self._zero + time, Fraction(0)
        elif self.latest is None:
            self.synthetic, time = True, Fraction(0)
        else:
            time = self.latest + 1 / self._rate
        if self.latest is not None and time <= self.latest:
            self.drop_count += 1
            return None
        self.latest = time
        return time


class _BestEffortTime:
    """libavcodec's best-effort time.

    It is the presentation time, unless presentation times run backwards more often than decoding
    times do.
    """

    def __init__(self) -> None:
        self._wrong_pts = self._wrong_dts = 0
        self._last_pts = self._last_dts = -(1 << 63)

    def __call__(self, pts: int | None, dts: int | None) -> int | None:
        if dts is not None:
            self._wrong_dts += dts <= self._last_dts
            self._last_dts = dts
        elif pts is not None:
            self._last_dts = pts
        if pts is not None:
            self._wrong_pts += pts <= self._last_pts
            self._last_pts = pts
        elif dts is not None:
            self._last_pts = dts
        if pts is not None and (self._wrong_pts <= self._wrong_dts or dts is None):
            return pts
        return dts
