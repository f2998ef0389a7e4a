"""Decoding with PyAV, which brings its own FFmpeg. Local regular files of known containers only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from vla.decoders._clock import Clock
from vla.decoders._container import Source, declared_ends, libav_message
from vla.decoders._index import DROP, JUMP, SHOW, IndexMismatchError, PacketIndex
from vla.decoders._losses import Losses
from vla.decoders._packets import Packets
from vla.decoders._picture import RgbConverter
from vla.decoders._scenes import RATE, scene_times, thumbnail
from vla.decoders._timestamps import Regular, TimestampQueue
from vla.decoders.base import DecodeReport
from vla.errors import DecodeError
from vla.sampling import Sampling, at_fps
from vla.video import Frames, Video

_CORRUPT_LIMIT = 500
# Times are compared with this slack, so that 1/fps sums and container time bases that round apart still meet.
_SLACK = Fraction(1, 2000)
_STEP = Fraction(1, 2)  # seconds without a frame that count as a gap, where the sampling has no step


class Decoder:
    """PyAV.

    Args:
        max_pixels: a picture larger than this is refused before memory is taken for it.
        whole: decode every frame, even those that nothing asked for and nothing refers to. The frames are the same;
            damage is then found wherever it is, not only where it matters.
    """

    def __init__(self, max_pixels: int = 8192 * 8192, whole: bool = False) -> None:
        self.max_pixels = max_pixels
        self.whole = whole

    def open(self, path: Path) -> PyavReader:
        """A reader of the video at `path`.

        Raises:
            DecodeError: `missing`, `permission`, `not-a-file`, `empty-file`, `not-a-video`, `no-video-stream`,
                `too-large` or `undecodable`.
        """
        return PyavReader(path, self.max_pixels, self.whole)

    def probe(self, path: Path) -> Video:
        """What the file says of itself."""
        with self.open(path) as reader:
            return reader.video

    def close(self) -> None:
        """Nothing is held between videos."""


class PyavReader:
    """One open file; see `vla.decoders.base.Reader`. `tick` is called for every packet: whoever waits knows that it works."""

    def __init__(self, path: Path, max_pixels: int, whole: bool = False) -> None:
        self._source = Source(path, max_pixels)
        self._whole = whole
        self.tick: Callable[[], None] = lambda: None
        stream = self._source.stream
        context = stream.codec_context
        self._declared = declared_ends(self._source.container, stream, self._source.zero)
        self._upright = RgbConverter(stream)
        rate = stream.average_rate or stream.guessed_rate or 0
        self._rate = Fraction(rate) if rate else Fraction(25)
        size = context.width, context.height
        self.video = Video(path, min(self._declared, default=0.0), float(rate), *size, context.name)
        self._end, self._errors, self._first_error, self._step = Fraction(0), 0, "", _STEP
        self._clock, self._packets = self._new_clock(), Packets(self._source.container, stream)

    def sample(self, sampling: Sampling, chunk: int = 32) -> Iterator[Frames]:
        """The frames that `sampling` chooses, each once; see the base class."""
        index = self._index()
        self._step = 1 / Fraction(sampling.value).limit_denominator(100_000) if sampling.kind == "fps" else _STEP
        pixels: list[np.ndarray] = []
        times: list[float] = []
        last = None
        for frame, time in self._on_screen(self._times(sampling, index), index, to_end=True):
            if time == last:
                continue
            last = time
            upright = self._upright(frame)
            if pixels and (len(pixels) == chunk or upright.shape != pixels[0].shape):
                yield Frames(np.stack(pixels), np.array(times))
                pixels, times = [], []
            pixels.append(upright)
            times.append(float(time))
        if pixels:
            yield Frames(np.stack(pixels), np.array(times))

    def frames_at(self, timestamps_seconds: np.ndarray) -> Frames:
        """The frame on screen at each of the ascending times."""
        asked = [Fraction(float(t)) for t in timestamps_seconds]
        found = [(self._upright(f), float(t)) for f, t in self._on_screen(TimestampQueue(asked), self._index())]
        if len(found) < len(asked):
            raise DecodeError(
                f"{self.video.path.name}: nothing is on screen at {float(asked[len(found)]):.3f} s; it ends at "
                f"{float(self._end):.3f} s",
                "past-the-end",
            )
        return Frames(self._upright.stack([f for f, _ in found]), np.array([t for _, t in found]))

    @property
    def report(self) -> DecodeReport:
        """How the last decoding went."""
        found = Losses(self._source, self._packets, self._declared, float(self._end), self._errors > 0)
        gaps = found.gaps(self._step, self.tick)
        seconds, failures = (float(self._end), found.declared(bool(gaps))), (self._errors, self._first_error)
        times = self._clock.synthetic, self._clock.dropped
        return DecodeReport(*seconds, *failures, *times, len(gaps), sum(gaps), found.is_cut, found.has_more)

    def __enter__(self) -> PyavReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._source.container.close()

    def _times(self, sampling: Sampling, index: PacketIndex | None) -> TimestampQueue:
        """When `sampling` looks at the screen."""
        if sampling.kind == "fps":
            return Regular(1 / Fraction(sampling.value).limit_denominator(100_000))
        if sampling.kind == "scenes":
            looks = self._on_screen(self._times(at_fps(RATE), index), index)
            return TimestampQueue(scene_times((time, thumbnail(frame)) for frame, time in looks))
        if index is not None:
            found = [(index.seconds(rank), bool(index.is_key[place])) for rank, place in enumerate(index.order)]
        else:
            found = [(time, frame.key_frame) for frame, time in self._decode()]
        if sampling.kind == "keyframes":
            return TimestampQueue(time for time, is_key in found if is_key)
        parts = int(sampling.value)
        (first, _), (last, _) = found[0], found[-1]
        return TimestampQueue(first + (last - first) * (2 * k + 1) / (2 * parts) for k in range(parts))

    def _on_screen(
        self, wanted: TimestampQueue, index: PacketIndex | None, *, to_end: bool = False
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """For each wanted time that is not passed over, the frame on screen then, until the video ends.

        Args:
            wanted: possibly without end.
            index: of the packets, to decode only what is needed; None to decode everything.
            to_end: find out where the video ends, even if nothing is wanted there.
        """
        latest: tuple[av.VideoFrame, Fraction] | None = None
        if index is not None:
            try:
                for latest in self._planned(index, wanted, to_end):
                    yield latest
                return
            except IndexMismatchError:
                pass  # the packets do not tell the whole truth about the frames: decode them all
        for found in self._through(wanted, to_end):
            # Of a damaged file a full decode may know less than was shown already: time does not run backwards.
            yield found if latest is None or found[1] >= latest[1] else latest

    def _through(self, wanted: TimestampQueue, to_end: bool) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """`_on_screen` by decoding every frame."""
        target = next(wanted, None)
        current: av.VideoFrame | None = None
        shown = Fraction(0)
        for frame, time in self._decode():
            while current is not None and target is not None and target + _SLACK < time:
                yield current, shown
                wanted.skip_to(time - _SLACK)
                target = next(wanted, None)
            if target is None and not to_end:
                return
            current, shown = frame, time
        while current is not None and target is not None and target < self._end:
            yield current, shown
            wanted.skip_to(self._end)
            target = next(wanted, None)

    def _planned(
        self, index: PacketIndex, wanted: TimestampQueue, to_end: bool
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """`_on_screen` by decoding only what the wanted frames need.

        Raises:
            UnplannedError: something did not come out as the packets promised; what was yielded is right, and what was taken
                from `wanted` but not served is put back.
        """
        last = len(index.order) - 1
        targets: list[Fraction] = []
        ranks: list[int] = []
        for target in wanted:
            targets.append(target)
            ranks.append(index.rank_at(target + _SLACK))
            if ranks[-1] == last:  # how long it stays on screen shows only once it is decoded
                break
            wanted.skip_to(index.seconds(ranks[-1] + 1) - _SLACK)
        served = 0
        try:
            for rank, frame in self._decode_planned(index, np.unique(ranks)) if ranks else ():
                time = index.seconds(rank)
                self._end = time + self._length(frame)
                while served < len(ranks) and ranks[served] == rank and (rank < last or targets[served] < self._end):
                    served += 1
                    yield frame, time
            while ranks and ranks[-1] == last and (target := next(wanted, self._end)) < self._end:
                yield frame, time
                wanted.skip_to(self._end)
        except IndexMismatchError:
            wanted.push_back(targets[served:])
            raise
        if to_end and (not ranks or ranks[-1] != last):
            self._end = index.end_seconds(1 / self._rate)

    def _decode_planned(self, index: PacketIndex, ranks: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames `ranks` (ascending) in order of presentation."""
        steps = index.steps(ranks)
        if steps is None:
            raise IndexMismatchError
        self._begin()
        waiting = {int(index.shown_pts[r]): int(r) for r in ranks}
        order = deque(waiting)
        ready: dict[int, av.VideoFrame] = {}
        try:
            for frame in self._frames_of(index, steps):
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

    def _frames_of(self, index: PacketIndex, steps: np.ndarray) -> Iterator[av.VideoFrame]:
        """What the decoder gives back for the packets that are not dropped."""
        context = self._source.stream.codec_context
        final = int(np.flatnonzero(steps)[-1])
        for number, packet in enumerate(self._packets):
            if packet.size == 0 or number > final:
                break
            if number >= len(steps) or packet.pts != index.pts[number]:
                raise IndexMismatchError
            self.tick()
            step = int(steps[number])
            if step == DROP:
                continue
            if step & JUMP and number:
                yield from self._source.stream.decode(None)
                context.flush_buffers()
            # Some decoders read this only when they open, which they do for the first packet.
            context.skip_frame = "DEFAULT" if step & SHOW or not number else "NONREF"
            yield from packet.decode()
        yield from self._source.stream.decode(None)

    def _index(self) -> PacketIndex | None:
        """The packets' index, unless every frame is to be decoded; what it saw of damage is kept."""
        if self._whole:
            return None
        index, self._packets = self._source.read_index(self.tick)
        return index

    def _begin(self) -> None:
        self._packets = self._source.begin()
        self._end, self._errors, self._first_error, self._clock = Fraction(0), 0, "", self._new_clock()

    def _new_clock(self) -> Clock:
        stream = self._source.stream
        first = (lambda: self._packets.pts[0]) if self._source.container.format.name == "avi" else None
        return Clock(Fraction(stream.time_base or 0), self._rate, self._source.zero, first)

    def _length(self, frame: av.VideoFrame) -> Fraction:
        # Frames that come out at the end carry no unit: it is the stream's.
        base = frame.time_base or self._source.stream.time_base
        return frame.duration * base if frame.duration and base else 1 / self._rate

    def _decode(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Every frame in order of presentation with its time."""
        self._begin()
        for frame in self._frames():
            time = self._clock.time_of(frame)
            if time is not None:
                self._end = time + self._length(frame)
                yield frame, time
        if self._clock.latest is None:
            why = f": {self._first_error}" if self._first_error else ""
            raise DecodeError(f"{self.video.path.name}: no frame could be decoded{why}", "no-frames")

    def _frames(self) -> Iterator[av.VideoFrame]:
        packets = iter(self._packets)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, EOFError) as error:
                self._note(error)  # the container is torn here: what came before stays
                return
            if packet is None:
                return
            self.tick()
            try:
                yield from packet.decode()
            except (av.FFmpegError, EOFError, ValueError) as error:
                self._note(error)
                if self._errors >= _CORRUPT_LIMIT:
                    return

    def _note(self, error: BaseException) -> None:
        self._errors, self._first_error = self._errors + 1, self._first_error or libav_message(error)
