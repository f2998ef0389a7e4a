"""When each decoded frame is shown, in the order in which a decoder gives them back."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av


class Clock:
    """Times of one stream's frames since the container's start.

    Args:
        base: seconds in a unit of the stream's clock.
        rate: frames a second, for frames without a time.
        zero: the container's start on the stream's clock, in seconds.
        first: gives the first packet's time where the container knows only the order of decoding: frames then come out with
            the times of packets that went in as they did. None for any other container.

    Attributes:
        latest: time of the last frame that was not dropped; None before the first.
        dropped: frames due no later than the one before them.
        synthetic: True if times were counted from `rate`, as the file has none.
    """

    def __init__(self, base: Fraction, rate: Fraction, zero: Fraction, first: Callable[[], int] | None) -> None:
        self._base, self._rate, self._zero, self._first = base, rate, zero, first
        self._guess = _Guess()
        self.latest: Fraction | None = None
        self.dropped, self.synthetic = 0, False

    def time_of(self, frame: av.VideoFrame) -> Fraction | None:
        """When `frame` comes up; None if it is to be dropped, as it shows nothing new."""
        base = Fraction(frame.time_base) if frame.time_base else self._base
        ticks = frame.dts if self._first else self._guess(frame.pts, frame.dts)
        if ticks is not None and base:
            if self.latest is None and self._first:
                self._zero += (ticks - self._first()) * base  # what the decoder held back
            time = ticks * base - self._zero
            if self.latest is None and time < 0:  # frames before the stated start: they begin the video
                self._zero, time = self._zero + time, Fraction(0)
        elif self.latest is None:
            self.synthetic, time = True, Fraction(0)
        else:
            time = self.latest + 1 / self._rate
        if self.latest is not None and time <= self.latest:
            self.dropped += 1
            return None
        self.latest = time
        return time


class _Guess:
    """libavcodec's best-effort time: the presentation time, unless these run back more often than the times of decoding."""

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
