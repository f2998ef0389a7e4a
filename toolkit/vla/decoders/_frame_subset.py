"""Decoding of an exact subset of a video's frames along its packet index."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import av
import numpy as np

from vla.decoders._index import DROP, JUMP, SHOW, IndexMismatchError, PacketIndex
from vla.decoders._packets import Packets


class FrameSubset:
    """Some frames of a stream.

    Args:
        index: the packet index of the stream.
        ranks: numbers of the frames, ascending.

    Raises:
        IndexMismatchError: they cannot be decoded without decoding all frames.
    """

    def __init__(self, index: PacketIndex, ranks: np.ndarray) -> None:
        self._index, self._ranks = index, ranks
        actions = index.packet_actions(ranks)
        if actions is None:
            raise IndexMismatchError
        self._actions = actions

    def decode(
        self, stream: av.VideoStream, packets: Packets, tick: Callable[[], None]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the frames with their numbers, in order of presentation.

        Args:
            stream: the stream, with a fresh decoder.
            packets: its packets, from the beginning.
            tick: called for every packet.

        Raises:
            IndexMismatchError: a frame is missing, damaged or not as its packet says.
        """
        waiting = {int(self._index.shown_pts[r]): int(r) for r in self._ranks}
        order = deque(waiting)
        ready: dict[int, av.VideoFrame] = {}
        try:
            for frame in self._frames(stream, packets, tick):
                if frame.pts not in waiting:
                    continue
                if frame.is_corrupt:
                    raise IndexMismatchError
                ready[frame.pts] = frame
                while order and order[0] in ready:
                    pts = order.popleft()
                    yield waiting[pts], ready.pop(pts)
                if not order:
                    return
        except (av.FFmpegError, EOFError, ValueError) as error:
            raise IndexMismatchError from error
        if order:
            raise IndexMismatchError

    def _frames(
        self, stream: av.VideoStream, packets: Packets, tick: Callable[[], None]
    ) -> Iterator[av.VideoFrame]:
        """Yield the frames that the decoder returns for the packets that are not dropped."""
        actions, context = self._actions, stream.codec_context
        final = int(np.flatnonzero(actions)[-1])
        for number, packet in enumerate(packets):
            if packet.size == 0 or number > final:
                break
            if number >= len(actions) or packet.pts != self._index.pts[number]:
                raise IndexMismatchError
            tick()
            action = int(actions[number])
            if action == DROP:
                continue
            if action & JUMP and number:
                yield from stream.decode(None)
                context.flush_buffers()
            # Some decoders read this only when they open, at the first packet.
            context.skip_frame = "DEFAULT" if action & SHOW or not number else "NONREF"
            yield from packet.decode()
        yield from stream.decode(None)
