"""A video's packets and the cheapest exact way to some of its frames: which to leave out, skip through, and decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import av
import numpy as np

from vla.decoders._packets import Packets

DROP, PASS, SHOW, JUMP = 0, 1, 2, 4
"""What is done with a packet: not decoded; decoded only if others refer to it; decoded. JUMP is added where the decoder
starts anew, so that nothing before is needed."""


class IndexMismatchError(Exception):
    """The planned way does not lead to the frames."""


@dataclass(frozen=True)
class PacketIndex:
    """The packets of one stream in order of decoding.

    Attributes:
        pts: `(N,)` int64, when each is shown, in units of `base`; no two shown ones are equal.
        is_key: `(N,)` bool, where a decoder can start.
        is_shown: `(N,)` bool, False for what an edit list hides: it is decoded for others to refer to.
        base: seconds in a unit of time.
        last: how long the last shown packet is to stay on screen, in units of `base`; 0 where that is not said.
        zero: the container's start, in seconds: times count from it.
    """

    pts: np.ndarray
    is_key: np.ndarray
    is_shown: np.ndarray
    base: Fraction
    last: int = 0
    zero: Fraction = Fraction(0)

    @cached_property
    def order(self) -> np.ndarray:
        """`(S,)` places of the shown packets, in order of presentation."""
        shown = np.flatnonzero(self.is_shown)
        return shown[np.argsort(self.pts[shown], kind="stable")]

    @cached_property
    def shown_pts(self) -> np.ndarray:
        """`(S,)` times of the shown packets, ascending."""
        return self.pts[self.order]

    def rank_at(self, seconds: Fraction) -> int:
        """Which frame (0 is the first shown) is on screen `seconds` after the container's start; the first, before it came up."""
        ticks = (seconds + self.zero) // self.base  # whole ticks: what is shown later is not on screen yet
        return max(0, int(np.searchsorted(self.shown_pts, ticks, "right")) - 1)

    def seconds(self, rank: int) -> Fraction:
        """When frame `rank` comes up, after the container's start."""
        return int(self.shown_pts[rank]) * self.base - self.zero

    def end_seconds(self, length: Fraction) -> Fraction:
        """When the last frame ends, which stays for `length` seconds if the file does not say how long."""
        return self.seconds(len(self.order) - 1) + (self.last * self.base or length)

    def steps(self, ranks: np.ndarray) -> np.ndarray | None:
        """What to do with each packet, `(N,)` uint8, so that the frames `ranks` come out as a full decode would make them.

        A frame needs what lies between it and the last keyframe that is neither decoded nor shown after it: frames before a
        keyframe on screen but after it in the file refer to what came before the keyframe (an open group of pictures).
        None where a frame has no such keyframe.
        """
        wanted = np.sort(self.order[ranks])
        starts = self._starts(wanted)
        if starts is None:
            return None
        steps = np.full(len(self.pts), DROP, np.uint8)
        position, floor = -1, 0
        for place, start in zip(wanted, starts, strict=True):
            begin = position + 1
            if start > position:
                begin, floor = start, self.pts[start]
            # What is shown before the frame that decoding started at refers to what was left out.
            between = steps[begin : place + 1]
            between[self.pts[begin : place + 1] >= floor] = PASS
            steps[place] = SHOW
            if start > position:
                steps[start] |= JUMP
            position = int(place)
        return steps

    def _starts(self, wanted: np.ndarray) -> np.ndarray | None:
        """For each of the ascending places, the keyframe to decode it from, such that all later ones can be decoded too."""
        keys = np.flatnonzero(self.is_key)
        starts = np.empty(len(wanted), np.int64)
        nearest = np.searchsorted(keys, wanted, "right") - 1
        for i, (place, key) in enumerate(zip(wanted, nearest, strict=True)):
            while key >= 0 and self.pts[keys[key]] > self.pts[place]:
                key -= 1
            if key < 0:
                return None
            starts[i] = keys[key]
        return np.minimum.accumulate(starts[::-1])[::-1]


def read_index(
    container: av.container.InputContainer,
    packets: Packets,
    stream: av.VideoStream,
    zero: Fraction,
    tick: Callable[[], None],
) -> PacketIndex | None:
    """The index of `stream`, read through once without decoding; None where its times do not name its frames.

    That is so for packets without a time or with the same one twice, for damaged ones, for streams that begin in the
    middle of a group of pictures or before `zero`, and in AVI, which says only in which order packets are decoded, for codecs
    that show them in another, or, as MPEG-4 does, pack two frames into one packet and leave the next one empty: such videos are
    decoded whole.

    Args:
        container: the open file.
        packets: of `stream`, from its beginning.
        stream: the video.
        zero: the container's start, in seconds of the stream's clock.
        tick: called for every packet.
    """
    context = stream.codec_context
    if container.format.name == "avi" and (context.name == "mpeg4" or context.has_b_frames):
        return None
    pts: list[int] = []
    is_key: list[bool] = []
    is_shown: list[bool] = []
    latest = (-(1 << 63), 0)
    try:
        for packet in packets:
            tick()
            if packet.size == 0:  # the end
                continue
            if packet.pts is None or packet.is_corrupt:
                return None
            pts.append(packet.pts)
            is_key.append(packet.is_keyframe)
            is_shown.append(not packet.is_discard)
            if is_shown[-1]:
                latest = max(latest, (packet.pts, packet.duration or 0))
    except (av.FFmpegError, EOFError):
        return None
    base = Fraction(stream.time_base or 0)
    index = PacketIndex(np.array(pts, np.int64), np.array(is_key), np.array(is_shown), base, latest[1], zero)
    if not pts or not index.base or not is_key[0] or index.pts.min() < index.pts[0] or not any(is_shown):
        return None
    return index if (np.diff(index.shown_pts) > 0).all() and index.seconds(0) >= 0 else None
