"""Detection of data that a file has lost.

Only evidence counts, never a frame rate or a tag alone: these may be stale or approximate.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cached_property

from vla.decoders._container import Source
from vla.decoders._packets import DISCONTINUOUS, Packets
from vla.decoders._structure import count_transport_bytes, has_another

_MIN_SHARE = 0.9


class Losses:
    """Losses of a video that was read to its end.

    Args:
        source: the open file.
        packets: the packets that were read.
        ends: declared ends of the video in seconds, see `declared_ends`.
        end: end of the last decoded frame, in seconds.
        failed: whether packets did not decode, or reading ended in an error.
    """

    def __init__(
        self, source: Source, packets: Packets, ends: list[float], end: float, failed: bool
    ) -> None:
        self._source, self._packets, self._end, self._failed = source, packets, end, failed
        # libav computes the lengths of fragments and broadcasts from packet times, so they
        # declare no total.
        container = source.container.format
        is_fragmented = container.name.startswith("mov,") and source.stream.frames == 0
        self._is_measured = is_fragmented or bool(int(container.flags) & DISCONTINUOUS)
        self._ends = [] if self._is_measured else ends

    def gaps(self, step: Fraction, tick: Callable[[], None]) -> list[float]:
        """Return the seconds of each damaged range without frames that is longer than `step`."""
        if self._source.stream.frames and self._source.container.format.name.startswith("mov,"):
            return []  # its table lists every frame and its time
        gaps = self._packets.gaps(step)
        ranges = [(start, stop) for *_, start, stop in gaps]
        num_bytes = [0] * len(gaps)
        if not any(start < stop for start, stop in ranges):
            pass
        elif "mpegts" in self._source.container.format.name:  # it may contain null packets
            num_bytes = [count_transport_bytes(self._source.path, *span) for span in ranges]
        elif len(self._source.container.streams) > 1:  # audio may fill the range
            num_bytes = self._source.bytes_read(ranges, tick)
        base = Fraction(self._source.stream.time_base or 0)
        typical = float(self._packets.length * base)
        return [
            max(0.0, float(after - before) - typical)
            for (before, after, start, stop), size in zip(gaps, num_bytes, strict=True)
            if size * 2 <= stop - start
        ]

    @cached_property
    def is_cut(self) -> bool:
        """Whether the file ends early and no declared end measures the loss."""
        if any(end * _MIN_SHARE <= self._end for end in self._ends):
            return False
        return self._source.is_cut() is True

    @cached_property
    def has_more(self) -> bool:
        """Whether another recording follows in the file behind the last packet."""
        return has_another(
            self._source.path, self._source.container.format.name, self._packets.stop
        )

    def declared_end(self, has_gaps: bool) -> float:
        """Return the declared end of the video in seconds; 0.0 if none is credible.

        If declared ends disagree, one that the frames reach is right. If the frames reach none, the
        tags are trusted, unless the file is complete and every indexed packet was read without an
        error.
        """
        reached_ends = [end for end in self._ends if end * _MIN_SHARE <= self._end]
        if reached_ends:
            return max(reached_ends)
        if not self._ends:
            return 0.0
        num_index_packets = len(self._source.stream.index_entries)
        is_incomplete = (
            self._failed
            or has_gaps
            or self.is_cut
            or len(self._packets.pts) < _MIN_SHARE * num_index_packets
        )
        is_complete = not is_incomplete and self._source.is_cut() is False
        return 0.0 if is_complete else min(self._ends)
