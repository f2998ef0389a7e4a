"""What a file has lost, by evidence: never by a frame rate or a tag alone, which may be stale or a rule of thumb."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cached_property

from vla.decoders._container import Source
from vla.decoders._packets import DISCONTINUOUS, Packets
from vla.decoders._structure import has_another, transported

_ENOUGH = 0.9


class Losses:
    """What is missing of a video that was read to its end.

    Args:
        source: the open file.
        packets: those that were read.
        ends: when the video ends, by each that states it; see `declared_ends`.
        end: where the last decoded frame ends, in seconds.
        failed: packets did not decode, or reading ended in an error.
    """

    def __init__(self, source: Source, packets: Packets, ends: list[float], end: float, failed: bool) -> None:
        self._source, self._packets, self._end, self._failed = source, packets, end, failed
        # Lengths of fragments and of broadcasts are what libav found in the times of packets: nothing states the whole.
        container = source.container.format
        is_fragmented = container.name.startswith("mov,") and source.stream.frames == 0
        self._is_measured = is_fragmented or bool(int(container.flags) & DISCONTINUOUS)
        self._ends = [] if self._is_measured else ends

    def gaps(self, step: Fraction, tick: Callable[[], None]) -> list[float]:
        """Seconds of each stretch longer than `step` that damage left without frames."""
        if self._source.stream.frames and self._source.container.format.name.startswith("mov,"):
            return []  # a table holds every frame and its time
        gaps = self._packets.gaps(step)
        stretches = [(start, stop) for *_, start, stop in gaps]
        held = [0] * len(gaps)
        if not any(start < stop for start, stop in stretches):
            pass
        elif "mpegts" in self._source.container.format.name:  # which may be stuffed with packets of no stream
            held = [transported(self._source.path, *stretch) for stretch in stretches]
        elif len(self._source.container.streams) > 1:  # sound may fill what looks like a hole
            held = self._source.bytes_read(stretches, tick)
        base = Fraction(self._source.stream.time_base or 0)
        usual = float(self._packets.length * base)
        return [
            max(0.0, float(after - before) - usual)
            for (before, after, start, stop), count in zip(gaps, held, strict=True)
            if count * 2 <= stop - start
        ]

    @cached_property
    def is_cut(self) -> bool:
        """True if the file ends early, and how much is missing is not known from elsewhere."""
        if any(end * _ENOUGH <= self._end for end in self._ends):
            return False
        return self._source.is_cut() is True

    @cached_property
    def has_more(self) -> bool:
        """True if the file goes on with another recording behind the last packet."""
        return has_another(self._source.path, self._source.container.format.name, self._packets.stop)

    def declared(self, has_gaps: bool) -> float:
        """When the video should end, in seconds; 0.0 where nothing credible says so.

        Lengths that disagree: one that the frames reach is right. If they reach none, tags are believed unless the file is
        complete and every packet that its index has was read without an error.
        """
        reached = [end for end in self._ends if end * _ENOUGH <= self._end]
        if reached:
            return max(reached)
        if not self._ends:
            return 0.0
        indexed = len(self._source.stream.index_entries)
        lost = self._failed or has_gaps or self.is_cut or len(self._packets.pts) < _ENOUGH * indexed
        is_complete = not lost and self._source.is_cut() is False
        return 0.0 if is_complete else min(self._ends)
