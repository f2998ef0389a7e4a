"""Decoding of local files with PyAV and its own FFmpeg."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from vla.decoders._clock import Clock
from vla.decoders._container import Source, declared_ends, libav_message
from vla.decoders._frame_subset import FrameSubset
from vla.decoders._index import IndexMismatchError, PacketIndex
from vla.decoders._losses import Losses
from vla.decoders._packets import Packets
from vla.decoders._picture import RgbConverter
from vla.decoders._scenes import RATE, scene_times, thumbnail
from vla.decoders._timestamps import Regular, TimestampQueue, middles
from vla.decoders.base import DecodeReport
from vla.errors import DecodeError
from vla.sampling import Sampling, at_fps
from vla.video import Frames, Video

_MAX_ERRORS = 500
_TOLERANCE = Fraction(1, 2000)  # of times: sums of 1/fps and time bases round differently
_STEP = Fraction(1, 2)  # seconds without a frame that count as a gap if the sampling has no step


class Decoder:
    """PyAV decoder.

    Args:
        max_pixels: a larger picture is refused before memory is allocated for it.
        whole: decode every frame, even if neither requested nor referred to. The returned frames
            are the same; damage is then detected anywhere, not only where it matters.
    """

    def __init__(self, max_pixels: int = 8192 * 8192, whole: bool = False) -> None:
        self.max_pixels = max_pixels
        self.whole = whole

    def open(self, path: Path) -> PyavReader:
        """Return a reader of the video at `path`.

        Raises:
            DecodeError: `missing`, `permission`, `not-a-file`, `empty-file`, `not-a-video`,
                `no-video-stream`, `too-large` or `undecodable`.
        """
        return PyavReader(path, self.max_pixels, self.whole)

    def probe(self, path: Path) -> Video:
        """Return the metadata that the file declares."""
        with self.open(path) as reader:
            return reader.video

    def close(self) -> None:
        """Do nothing: no resource is held between videos."""


class PyavReader:
    """Reader of one open file. `tick` is called for every packet, as a sign of progress."""

    def __init__(self, path: Path, max_pixels: int, whole: bool = False) -> None:
        self._source = Source(path, max_pixels)
        self._whole = whole
        self.tick: Callable[[], None] = lambda: None
        stream = self._source.stream
        context = stream.codec_context
        self._declared_ends = declared_ends(self._source.container, stream, self._source.zero)
        self._upright = RgbConverter(stream)
        rate = stream.average_rate or stream.guessed_rate or 0
        self._rate = Fraction(rate) if rate else Fraction(25)
        size = context.width, context.height
        self.video = Video(
            path, min(self._declared_ends, default=0.0), float(rate), *size, context.name
        )
        self._end, self._errors, self._first_error, self._step = Fraction(0), 0, "", _STEP
        self._clock, self._packets = self._new_clock(), Packets(self._source.container, stream)

    def sample(self, sampling: Sampling, chunk: int = 32) -> Iterator[Frames]:
        """Yield the frames that `sampling` chooses, each once; see the base class."""
        index = self._index()
        self._step = _step_of(sampling) if sampling.kind == "fps" else _STEP
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

    def frames_at(self, timestamps_seconds: np.ndarray, max_width: int | None = None) -> Frames:
        """Return the frame on screen at each of the ascending times; see the base class."""
        times = [Fraction(float(t)) for t in timestamps_seconds]
        frames = [
            (self._upright.reduce(self._upright(f), max_width), float(t))
            for f, t in self._on_screen(TimestampQueue(times), self._index())
        ]
        if len(frames) < len(times):
            raise DecodeError(
                f"{self.video.path.name}: no frame is on screen at "
                f"{float(times[len(frames)]):.3f} s; the video ends at {float(self._end):.3f} s",
                "past-the-end",
            )
        return Frames(self._upright.stack([f for f, _ in frames]), np.array([t for _, t in frames]))

    @property
    def report(self) -> DecodeReport:
        """The report of the last decoding."""
        losses = Losses(
            self._source, self._packets, self._declared_ends, float(self._end), self._errors > 0
        )
        gaps = losses.gaps(self._step, self.tick)
        return DecodeReport(
            end_seconds=float(self._end),
            declared_seconds=losses.declared_end(bool(gaps)),
            errors=self._errors,
            first_error=self._first_error,
            synthetic_times=self._clock.synthetic,
            dropped=self._clock.drop_count,
            gaps=len(gaps),
            gap_seconds=sum(gaps),
            is_cut=losses.is_cut,
            has_more=losses.has_more,
        )

    def __enter__(self) -> PyavReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._source.container.close()

    def _times(self, sampling: Sampling, index: PacketIndex | None) -> TimestampQueue:
        """Return the times of `sampling`."""
        if sampling.kind == "fps":
            return Regular(_step_of(sampling))
        if sampling.kind == "scenes":
            frames = self._on_screen(self._times(at_fps(RATE), index), index)
            return TimestampQueue(scene_times((time, thumbnail(frame)) for frame, time in frames))
        if index is not None:
            entries = [
                (index.seconds(rank), bool(index.is_key[position]))
                for rank, position in enumerate(index.order)
            ]
        else:
            entries = [(time, frame.key_frame) for frame, time in self._decode()]
        if sampling.kind == "keyframes":
            return TimestampQueue(time for time, is_key in entries if is_key)
        (first, _), (last, _) = entries[0], entries[-1]
        return TimestampQueue(middles(first, last, int(sampling.value)))

    def _on_screen(
        self, queue: TimestampQueue, index: PacketIndex | None, *, to_end: bool = False
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yield the frame on screen at each time that is not skipped, until the video ends.

        Args:
            queue: the times; possibly endless.
            index: packet index, to decode only the frames needed; None to decode everything.
            to_end: determine the end of the video even if no time is near it.
        """
        latest: tuple[av.VideoFrame, Fraction] | None = None
        if index is not None:
            try:
                for latest in self._through_index(index, queue, to_end):
                    yield latest
                return
            except IndexMismatchError:
                pass  # the packets do not describe the frames fully: decode them all
        for entry in self._through_all(queue, to_end):
            # A full decode of a damaged file may yield an earlier frame: times must not decrease.
            yield entry if latest is None or entry[1] >= latest[1] else latest

    def _through_all(
        self, queue: TimestampQueue, to_end: bool
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yield as `_on_screen` does, by decoding every frame."""
        target = next(queue, None)
        current: av.VideoFrame | None = None
        current_time = Fraction(0)
        for frame, time in self._decode():
            while current is not None and target is not None and target + _TOLERANCE < time:
                yield current, current_time
                queue.skip_to(time - _TOLERANCE)
                target = next(queue, None)
            if target is None and not to_end:
                return
            current, current_time = frame, time
        while current is not None and target is not None and target < self._end:
            yield current, current_time
            queue.skip_to(self._end)
            target = next(queue, None)

    def _through_index(
        self, index: PacketIndex, queue: TimestampQueue, to_end: bool
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yield as `_on_screen` does, by decoding only the packets needed.

        Raises:
            IndexMismatchError: a frame differs from its packet's entry. The yielded frames are right;
                times taken from `queue` but not served are put back.
        """
        last = len(index.order) - 1
        targets: list[Fraction] = []
        ranks: list[int] = []
        for target in queue:
            targets.append(target)
            ranks.append(index.rank_at(target + _TOLERANCE))
            if ranks[-1] == last:  # its duration is known only once it is decoded
                break
            queue.skip_to(index.seconds(ranks[-1] + 1) - _TOLERANCE)
        head = 0
        try:
            for rank, frame in self._decode_subset(index, np.unique(ranks)) if ranks else ():
                time = index.seconds(rank)
                self._end = time + self._length(frame)
                while (
                    head < len(ranks)
                    and ranks[head] == rank
                    and (rank < last or targets[head] < self._end)
                ):
                    head += 1
                    yield frame, time
            while ranks and ranks[-1] == last and (target := next(queue, self._end)) < self._end:
                yield frame, time
                queue.skip_to(self._end)
        except IndexMismatchError:
            queue.push_back(targets[head:])
            raise
        if to_end and (not ranks or ranks[-1] != last):
            self._end = index.end_seconds(1 / self._rate)

    def _decode_subset(
        self, index: PacketIndex, ranks: np.ndarray
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Return an iterator over the frames `ranks` (ascending) in order of presentation."""
        subset = FrameSubset(index, ranks)
        self._begin()
        return subset.decode(self._source.stream, self._packets, self.tick)

    def _index(self) -> PacketIndex | None:
        """Return the packet index, or None to decode every frame."""
        if self._whole:
            return None
        index, self._packets = self._source.read_index(self.tick)
        return index

    def _begin(self) -> None:
        self._packets = self._source.begin()
        self._end, self._errors, self._first_error = Fraction(0), 0, ""
        self._clock = self._new_clock()

    def _new_clock(self) -> Clock:
        stream = self._source.stream
        is_avi = self._source.container.format.name == "avi"
        first = (lambda: self._packets.pts[0]) if is_avi else None
        return Clock(Fraction(stream.time_base or 0), self._rate, self._source.zero, first)

    def _length(self, frame: av.VideoFrame) -> Fraction:
        # Frames that come out at the end carry no unit: it is the stream's.
        base = frame.time_base or self._source.stream.time_base
        return frame.duration * base if frame.duration and base else 1 / self._rate

    def _decode(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Yield every frame in order of presentation with its time."""
        self._begin()
        for frame in self._frames():
            time = self._clock.time_of(frame)
            if time is not None:
                self._end = time + self._length(frame)
                yield frame, time
        if self._clock.latest is None:
            detail = f": {self._first_error}" if self._first_error else ""
            raise DecodeError(
                f"{self.video.path.name}: no frame could be decoded{detail}", "no-frames"
            )

    def _frames(self) -> Iterator[av.VideoFrame]:
        packets = iter(self._packets)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, EOFError) as error:
                self._record_error(error)  # the container is damaged here: frames before it stay
                return
            if packet is None:
                return
            self.tick()
            try:
                yield from packet.decode()
            except (av.FFmpegError, EOFError, ValueError) as error:
                self._record_error(error)
                if self._errors >= _MAX_ERRORS:
                    return

    def _record_error(self, error: BaseException) -> None:
        self._errors += 1
        self._first_error = self._first_error or libav_message(error)


def _step_of(sampling: Sampling) -> Fraction:
    """Return the seconds between two frames of the rule `fps`."""
    return 1 / Fraction(sampling.value).limit_denominator(100_000)
