"""The packets of one stream on one timeline, and what their times and places in the file tell of what is lost."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property

import av
import numpy as np

DISCONTINUOUS = 0x0200  # AVFMT_TS_DISCONT: streams of a broadcast, whose clock may start again
_AGAIN = Fraction(1)  # seconds that a clock runs back by if it starts again anywhere
_AGAIN_AT_KEY = Fraction(1, 10)  # ... where a picture of its own follows
_AHEAD = Fraction(10)  # seconds that a broadcast's clock leaps ahead by if it was set anew; FFmpeg's number
_FEW = 4  # lengths of a frame: times further apart are a gap
_LEAST_BYTES = 512
_RESYNC = 1 << 16  # bytes that libav's demuxer of transport streams looks through at a time
_REORDERED = 16  # frames that may be shown in another order than they are decoded in


class Packets:
    """Reads the packets of `stream` in the order of the file; those of joined recordings follow one another in time.

    A clock that runs back begins a new recording: `cat` joined them, or the camera was stopped and started. Its packets'
    times are moved behind the end of what came before. So is one that leaps ahead in a broadcast, unless bytes are missing there.

    Attributes:
        pts: `(N,)` of the packets read so far, moved; `NO_TIME` for one without.
        corrupt: places of packets that the container calls damaged, first packets of recordings left out.
        recordings: how many there were.
    """

    NO_TIME = -(1 << 62)

    def __init__(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        self._container, self._stream = container, stream
        self._base = Fraction(stream.time_base or 1)
        self._is_broadcast = bool(int(container.format.flags) & DISCONTINUOUS)
        # It keeps the order of decoding only; what libav makes of it as times of presentation may lie behind.
        self._is_order = container.format.name == "avi"
        rate = stream.average_rate or stream.guessed_rate or 25
        self.length = max(1, round(1 / Fraction(rate) / self._base))
        self.pts, self._start, self._stop = array("q"), array("q"), array("q")
        self.corrupt: list[int] = []
        self.recordings = 1
        self._offset, self._widest = 0, 0
        self._latest: int | None = None
        self._end: int | None = None
        self._top = self._second = self._highest = (
            self.NO_TIME
        )  # of this recording: the latest clocks, the latest frame
        self._began: tuple[int, int] | None = None  # file position and clock where the recording began

    def __iter__(self) -> Iterator[av.Packet]:
        """Each packet, moved; an empty one at the end. Raises what libav raises."""
        tries = 16 + (self._container.size or 0) // _RESYNC
        while True:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:
                        self._place(packet)
                    yield packet
                return
            except IndexError:
                # A packet of a stream that PyAV did not see when it opened the file, as a damaged transport stream announces
                # them. It is passed over; reading goes on behind it.
                continue
            except BlockingIOError:
                # A transport stream without packets over a long stretch: libav asks to be called again, behind it.
                tries -= 1
                if tries <= 0:
                    raise

    def gaps(self, longest: Fraction) -> list[tuple[Fraction, Fraction, int, int]]:
        """Stretches without frames, longer than `longest` seconds and four frames, where the file is damaged.

        A recording may leave out frames while nothing changes; so only what the container calls damaged, or where bytes lie
        between packets, counts.

        Returns:
            For each: where it begins and ends in seconds of the stream, and from which byte of the file to which nothing was
            read (equal where the container said it).
        """
        found = []
        pts, place = self._known
        wide = np.flatnonzero(np.diff(pts) * self._base > max(longest, _FEW * self.length * self._base))
        rate, slack = self._bytes_per_tick, _REORDERED * self.length
        for i in wide:
            before, after = int(pts[i]), int(pts[i + 1])
            # Packets are damaged in the order of decoding, which is up to some frames off.
            if any(before - slack <= self.pts[k] <= after + slack for k in self.corrupt):
                hole: tuple[int, int] | None = (0, 0)
            else:
                hole = self._hole(place[i], place[i + 1], rate * (after - before))
            if hole is not None:
                found.append((before * self._base, after * self._base, *hole))
        return found

    @property
    def stop(self) -> int:
        """The byte of the file where the last packet ends."""
        return max(self._stop, default=0)

    @cached_property
    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Times, ascending, and which packets have them."""
        pts = np.frombuffer(self.pts, np.int64)
        place = np.argsort(pts, kind="stable")
        place = place[pts[place] > self.NO_TIME]
        return pts[place], place

    @property
    def _bytes_per_tick(self) -> float:
        pts, _ = self._known
        return self.stop / max(1, int(pts[-1] - pts[0])) if len(pts) else 0.0

    def _hole(self, one: int, other: int, usual: float) -> tuple[int, int] | None:
        """Bytes that no packet of ours holds about the two packets; None if there are few for the time that passed."""
        first, last = max(0, min(one, other) - 1), min(max(one, other) + 1, len(self._stop) - 1)
        widest = max(((self._start[k + 1] - self._stop[k], k) for k in range(first, last)), default=(0, 0))
        if widest[0] < max(_LEAST_BYTES, usual / 10):
            return None
        return self._stop[widest[1]], self._start[widest[1] + 1]

    def _place(self, packet: av.Packet) -> None:
        if self._is_order and packet.dts is not None:
            if not self.pts and packet.pts is not None and packet.pts - packet.dts > _REORDERED:
                # A picture that begins after the sound: libav numbers its first packet 0, and the next as it should.
                packet.dts = packet.pts - int(self._stream.codec_context.has_b_frames)
            packet.pts = packet.dts
        clock = packet.dts if packet.dts is not None else packet.pts
        start = packet.pos if packet.pos is not None and packet.pos >= 0 else (self._stop[-1] if self._stop else 0)
        is_new = clock is not None and self._top > self.NO_TIME and self._is_new(packet, clock, start)
        if is_new:
            assert self._end is not None and clock is not None
            self._offset = self._end - (packet.pts if packet.pts is not None else clock)
            self.recordings += 1
            self._widest, self._began, self._latest = 0, None, None
            self._top = self._second = self.NO_TIME
        if packet.is_corrupt and not is_new:
            self.corrupt.append(len(self.pts))
        if clock is not None:
            if self._latest is not None and packet.dts is not None and not is_new:
                self._widest = max(self._widest, packet.dts - self._latest)
            self._latest = packet.dts if packet.dts is not None else self._latest
            self._second = max(self._second, min(self._top, clock))
            self._top = max(self._top, clock)
            self._began = self._began or (start, clock)
        if self._offset:
            packet.pts = None if packet.pts is None else packet.pts + self._offset
            packet.dts = None if packet.dts is None else packet.dts + self._offset
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is not None:
            self._highest = max(self._highest, shown - self._offset) if not is_new else shown - self._offset
            self._end = max(shown + (packet.duration or self.length), self._end if self._end is not None else shown)
        self.pts.append(packet.pts if packet.pts is not None else self.NO_TIME)
        self._start.append(start)
        self._stop.append(start + packet.size)

    def _is_new(self, packet: av.Packet, clock: int, start: int) -> bool:
        """True if a recording begins with this packet."""
        if clock > self._second and clock <= self._top:
            return False  # back to where it was before one packet that lay far ahead
        # What refers to nothing before it is shown after all that; other frames may be reordered, over seconds if they are slow.
        if packet.is_keyframe and packet.pts is not None and (self._highest - packet.pts) * self._base > _AGAIN_AT_KEY:
            return True
        if packet.dts is None or self._latest is None:
            return False
        if (self._latest - packet.dts) * self._base > _AGAIN:
            return True
        ahead = packet.dts - self._latest
        if not self._is_broadcast or ahead * self._base <= max(_AHEAD, 2 * self._widest * self._base):
            return False
        position, began = self._began or (start, clock)
        usual = (self._stop[-1] - position) / max(1, self._latest - began)
        # Within a recording that lost a stretch, the bytes of that stretch lie between the packets.
        return start - self._stop[-1] < usual * ahead / 4
