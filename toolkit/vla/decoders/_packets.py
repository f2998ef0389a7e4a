"""The packets of one stream on a continuous timeline, and their gaps."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property

import av
import numpy as np

DISCONTINUOUS = 0x0200  # AVFMT_TS_DISCONT: broadcast streams, whose clock may restart
_MIN_RESET = Fraction(1)  # seconds that a clock runs back if it restarts at any packet
_MIN_RESET_AT_KEY = Fraction(1, 10)  # ... at a keyframe
_MIN_LEAP = Fraction(10)  # seconds that a restarted broadcast clock leaps ahead; FFmpeg's value
_MIN_GAP_FRAMES = 4  # frame lengths; times further apart are a gap
_MIN_BYTES = 512
_RESYNC = 1 << 16  # bytes that libav's transport stream demuxer searches at a time
_MAX_REORDER = 16  # frames by which presentation order may differ from decoding order


class Packets:
    """Packets of `stream` in file order, with joined recordings placed end to end.

    A clock that runs back begins a new recording: files were concatenated, or the camera was
    restarted. The times of its packets are moved behind the end of the preceding recording. A clock
    that leaps ahead in a broadcast is treated alike, unless bytes are missing there.

    Attributes:
        pts: `(N,)` times of the packets read so far, moved; `NO_TIME` for a packet without one.
        corrupt: positions of packets that the container marks as damaged, without the first packets
            of recordings.
        recordings: number of recordings.
        length: duration of a frame in units of the stream's clock.
    """

    NO_TIME = -(1 << 62)

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        self._base = Fraction(stream.time_base or 1)
        self._is_broadcast = bool(int(container.format.flags) & DISCONTINUOUS)
        # AVI stores only the decoding order; libav derives presentation times that may be late.
        self._has_decoding_order_only = container.format.name == "avi"
        rate = stream.average_rate or stream.guessed_rate or 25
        self.length = max(1, round(1 / Fraction(rate) / self._base))
        self.pts, self._start, self._stop = array("q"), array("q"), array("q")
        self.corrupt: list[int] = []
        self.recordings = 1
        self._offset, self._widest = 0, 0
        self._latest: int | None = None
        self._end: int | None = None
        # Of this recording: the two latest clocks, the latest presentation time.
        self._top = self._second = self._highest = self.NO_TIME
        self._origin: tuple[int, int] | None = (
            None  # file position and clock of the recording's start
        )

    def __iter__(self) -> Iterator[av.Packet]:
        """Yield each packet, moved, and an empty one at the end. Raises the errors of libav."""
        tries = 16 + (self._container.size or 0) // _RESYNC
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:
                        self._shift(packet)
                    yield packet
                return
            except IndexError:
                # A damaged transport stream may announce a stream that PyAV did not see when it
                # opened the file. Skip the packet and read on.
                continue
            except BlockingIOError:
                # A transport stream without packets over a long range: call libav again.
                tries -= 1
                if tries <= 0:
                    raise

    def gaps(self, longest: Fraction) -> list[tuple[Fraction, Fraction, int, int]]:
        """Return the damaged ranges without frames, longer than `longest` seconds and four frames.

        A recording may omit frames while the picture is static. So a range counts only if the
        container marks damage there or if bytes lie between the packets.

        Returns:
            For each range: its start and end in seconds of the stream, and the first and last byte
            of the file between which no packet was read (equal if the container marked the damage).
        """
        gaps = []
        pts, positions = self._by_time
        wide = np.flatnonzero(
            np.diff(pts) * self._base > max(longest, _MIN_GAP_FRAMES * self.length * self._base)
        )
        rate, slack = self._bytes_per_tick, _MAX_REORDER * self.length
        for i in wide:
            before, after = int(pts[i]), int(pts[i + 1])
            # Packets are damaged in decoding order, which differs by some frames.
            if any(before - slack <= self.pts[k] <= after + slack for k in self.corrupt):
                hole: tuple[int, int] | None = (0, 0)
            else:
                hole = self._hole(positions[i], positions[i + 1], rate * (after - before))
            if hole is not None:
                gaps.append((before * self._base, after * self._base, *hole))
        return gaps

    @property
    def stop(self) -> int:
        """The byte of the file at which the last packet ends."""
        return max(self._stop, default=0)

    @cached_property
    def _by_time(self) -> tuple[np.ndarray, np.ndarray]:
        """Presentation times, ascending, and the positions of the packets that have them."""
        pts = np.frombuffer(self.pts, np.int64)
        positions = np.argsort(pts, kind="stable")
        positions = positions[pts[positions] > self.NO_TIME]
        return pts[positions], positions

    @property
    def _bytes_per_tick(self) -> float:
        pts, _ = self._by_time
        return self.stop / max(1, int(pts[-1] - pts[0])) if len(pts) else 0.0

    def _hole(self, position: int, other_position: int, typical: float) -> tuple[int, int] | None:
        """Return the largest byte range between two packets; None if it is small."""
        first, last = (
            max(0, min(position, other_position) - 1),
            min(max(position, other_position) + 1, len(self._stop) - 1),
        )
        widest = max(
            ((self._start[k + 1] - self._stop[k], k) for k in range(first, last)), default=(0, 0)
        )
        if widest[0] < max(_MIN_BYTES, typical / 10):
            return None
        return self._stop[widest[1]], self._start[widest[1] + 1]

    def _shift(self, packet: av.Packet) -> None:
        if self._has_decoding_order_only and packet.dts is not None:
            if not self.pts and packet.pts is not None and packet.pts - packet.dts > _MAX_REORDER:
                # The picture begins after the audio: libav numbers only its first packet 0.
                packet.dts = packet.pts - int(self._stream.codec_context.has_b_frames)
            packet.pts = packet.dts
        clock = packet.dts if packet.dts is not None else packet.pts
        start = (
            packet.pos
            if packet.pos is not None and packet.pos >= 0
            else (self._stop[-1] if self._stop else 0)
        )
        is_new = (
            clock is not None
            and self._top > self.NO_TIME
            and self._starts_recording(packet, clock, start)
        )
        if is_new:
            assert self._end is not None and clock is not None
            self._offset = self._end - (packet.pts if packet.pts is not None else clock)
            self.recordings += 1
            self._widest, self._origin, self._latest = 0, None, None
            self._top = self._second = self.NO_TIME
        if packet.is_corrupt and not is_new:
            self.corrupt.append(len(self.pts))
        if clock is not None:
            if self._latest is not None and packet.dts is not None and not is_new:
                self._widest = max(self._widest, packet.dts - self._latest)
            self._latest = packet.dts if packet.dts is not None else self._latest
            self._second = max(self._second, min(self._top, clock))
            self._top = max(self._top, clock)
            self._origin = self._origin or (start, clock)
        if self._offset:
            packet.pts = None if packet.pts is None else packet.pts + self._offset
            packet.dts = None if packet.dts is None else packet.dts + self._offset
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is not None:
            self._highest = (
                max(self._highest, pts - self._offset) if not is_new else pts - self._offset
            )
            self._end = max(
                pts + (packet.duration or self.length), self._end if self._end is not None else pts
            )
        self.pts.append(packet.pts if packet.pts is not None else self.NO_TIME)
        self._start.append(start)
        self._stop.append(start + packet.size)

    def _starts_recording(self, packet: av.Packet, clock: int, start: int) -> bool:
        """Return whether a recording begins with this packet."""
        if clock > self._second and clock <= self._top:
            return False  # back to where it was before one packet far ahead
        # A keyframe that starts a group is shown after all frames before it. Other frames may be
        # reordered, by seconds if the frame rate is low.
        if (
            packet.is_keyframe
            and packet.pts is not None
            and (self._highest - packet.pts) * self._base > _MIN_RESET_AT_KEY
        ):
            return True
        if packet.dts is None or self._latest is None:
            return False
        if (self._latest - packet.dts) * self._base > _MIN_RESET:
            return True
        ahead = packet.dts - self._latest
        if not self._is_broadcast or ahead * self._base <= max(
            _MIN_LEAP, 2 * self._widest * self._base
        ):
            return False
        position, first_clock = self._origin or (start, clock)
        typical = (self._stop[-1] - position) / max(1, self._latest - first_clock)
        # Within a recording that lost a range, the bytes of that range lie between the packets.
        return start - self._stop[-1] < typical * ahead / 4
