"""Packet index of a video, and the packets to decode for an exact subset of its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import av
import numpy as np

from vla.decoders._packets import Packets

DROP, PASS, SHOW, JUMP = 0, 1, 2, 4
"""Actions for a packet: do not decode it; decode it only if others refer to it; decode it. JUMP is
added where the decoder restarts, so that nothing before is needed."""


class IndexMismatchError(Exception):
    """The packet index disagrees with the frames that the decoder returns."""


@dataclass(frozen=True)
class PacketIndex:
    """The packets of one stream in decoding order.

    Attributes:
        pts: `(N,)` int64, presentation times in units of `base`; those of shown packets differ.
        is_key: `(N,)` bool, whether a decoder can start at the packet.
        is_shown: `(N,)` bool, False for packets that an edit list hides. They are decoded because
            others refer to them.
        base: seconds per unit of time.
        last: duration of the last shown packet in units of `base`; 0 if it declares none.
        zero: the container's start in seconds: times count from it.
    """

    pts: np.ndarray
    is_key: np.ndarray
    is_shown: np.ndarray
    base: Fraction
    last: int = 0
    zero: Fraction = Fraction(0)

    @cached_property
    def order(self) -> np.ndarray:
        """`(S,)` positions of the shown packets, in order of presentation."""
        positions = np.flatnonzero(self.is_shown)
        return positions[np.argsort(self.pts[positions], kind="stable")]

    @cached_property
    def shown_pts(self) -> np.ndarray:
        """`(S,)` times of the shown packets, ascending."""
        return self.pts[self.order]

    def rank_at(self, seconds: Fraction) -> int:
        """Return the number of the frame on screen `seconds` after the container's start.

        The first shown frame is 0. It also counts as on screen before its own time.
        """
        # Round down: later frames are not on screen yet.
        ticks = (seconds + self.zero) // self.base
        return max(0, int(np.searchsorted(self.shown_pts, ticks, "right")) - 1)

    def seconds(self, rank: int) -> Fraction:
        """Return the time of frame `rank`, in seconds after the container's start."""
        return int(self.shown_pts[rank]) * self.base - self.zero

    def end_seconds(self, length: Fraction) -> Fraction:
        """Return the end of the last frame in seconds.

        Args:
            length: duration in seconds of the last frame, if the file does not declare it.
        """
        return self.seconds(len(self.order) - 1) + (self.last * self.base or length)

    def packet_actions(self, ranks: np.ndarray) -> np.ndarray | None:
        """Return the action for each packet, `(N,)` uint8, that yields the frames `ranks` exactly.

        The frames equal those of a full decode. A frame needs the packets between it and the last
        keyframe that is neither decoded nor shown after it: frames that are shown before a keyframe
        but stored behind it refer to packets before the keyframe (an open group of pictures).

        Returns None if some frame has no such keyframe.
        """
        positions = np.sort(self.order[ranks])
        starts = self._starts(positions)
        if starts is None:
            return None
        actions = np.full(len(self.pts), DROP, np.uint8)
        position, floor = -1, 0
        for target, start in zip(positions, starts, strict=True):
            begin = position + 1
            if start > position:
                begin, floor = start, self.pts[start]
            # Packets shown before the frame at which decoding started refer to dropped packets.
            between = actions[begin : target + 1]
            between[self.pts[begin : target + 1] >= floor] = PASS
            actions[target] = SHOW
            if start > position:
                actions[start] |= JUMP
            position = int(target)
        return actions

    def _starts(self, positions: np.ndarray) -> np.ndarray | None:
        """Return the keyframe to decode each of the ascending positions from.

        Each choice allows all later positions to be decoded too.
        """
        keys = np.flatnonzero(self.is_key)
        starts = np.empty(len(positions), np.int64)
        nearest = np.searchsorted(keys, positions, "right") - 1
        for i, (position, key) in enumerate(zip(positions, nearest, strict=True)):
            while key >= 0 and self.pts[keys[key]] > self.pts[position]:
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
    """Read the packets of `stream` without decoding; return None if their times are unreliable.

    Times are unreliable for packets without a time or with equal times, for damaged packets, and
    for streams that begin within a group of pictures or before `zero`. They also are in AVI, a
    format that stores only the decoding order, for codecs that reorder frames or, as MPEG-4 does,
    pack two frames into one packet and leave the next one empty. Such videos are decoded whole.

    Args:
        container: the open file.
        packets: the packets of `stream`, from its beginning.
        stream: the video stream.
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
            if packet.size == 0:  # the last packet, empty
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
    index = PacketIndex(
        np.array(pts, np.int64), np.array(is_key), np.array(is_shown), base, latest[1], zero
    )
    if (
        not pts
        or not index.base
        or not is_key[0]
        or index.pts.min() < index.pts[0]
        or not any(is_shown)
    ):
        return None
    return index if (np.diff(index.shown_pts) > 0).all() and index.seconds(0) >= 0 else None
