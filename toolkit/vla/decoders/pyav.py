"""Decoding with PyAV, which brings its own FFmpeg. Local regular files of known containers only."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, count
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from vla.decoders._index import DROP, JUMP, SHOW, PacketIndex, read_index
from vla.decoders.base import DecodeReport
from vla.errors import DecodeError
from vla.video import Frames, Video

# Playlists, concat scripts and network formats are not videos: they make libav open other files and addresses.
_FORMATS = (
    "mov,matroska,webm,avi,mpegts,flv,asf,mpeg,mpegvideo,ogg,gif,h264,hevc,ivf,obu,m4v,mxf,rm,dv,nut,y4m,yuv4mpegpipe"
)
_CORRUPT_LIMIT = 500
# Times are compared with this slack, so that 1/fps sums and container time bases that round apart still meet.
_SLACK = Fraction(1, 2000)


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


class PyavReader:
    """One open file; see `vla.decoders.base.Reader`."""

    def __init__(self, path: Path, max_pixels: int, whole: bool = False) -> None:
        self._path, self._max_pixels, self._whole = path, max_pixels, whole
        self._container = _open(path)
        self._used = False
        try:
            streams = [s for s in self._container.streams.video if not _is_cover(s)]
            if not streams:
                raise DecodeError(f"{path.name}: no video stream (audio, or a cover picture only)", "no-video-stream")
            self._stream = streams[0]
            self._number = self._stream.index
            context = self._stream.codec_context
            if context is None:
                raise DecodeError(f"{path.name}: no decoder for its video codec", "undecodable")
            if context.width * context.height > max_pixels:
                raise DecodeError(
                    f"{path.name}: {context.width}x{context.height} pixels; more than {max_pixels} are refused",
                    "too-large",
                )
            if context.width <= 0 or context.height <= 0:
                raise DecodeError(f"{path.name}: declares no picture size", "undecodable")
            self._prepare()
            self._declared = _declared_seconds(self._container, self._stream)
            rate = self._stream.average_rate or self._stream.guessed_rate or 0
            self.video = Video(path, self._declared, float(rate), context.width, context.height, context.name)
            self._rate = Fraction(rate) if rate else Fraction(25)
        except BaseException:
            self._container.close()
            raise
        self._end, self._errors, self._first_error, self._synthetic = Fraction(0), 0, "", False
        self._before = 0.0

    def sample(self, fps: float, chunk: int = 32) -> Iterator[Frames]:
        """Frames on screen at 0, 1/fps, 2/fps ... seconds, each once; see the base class."""
        step = 1 / Fraction(fps).limit_denominator(100_000)
        pixels: list[np.ndarray] = []
        times: list[float] = []
        last = None
        for frame, time in self._on_screen(k * step for k in count()):
            if time == last:
                continue
            last = time
            pixels.append(self._upright(frame))
            times.append(float(time))
            if len(pixels) == chunk:
                yield Frames(_stack(pixels), np.array(times))
                pixels, times = [], []
        if pixels:
            yield Frames(_stack(pixels), np.array(times))

    def frames_at(self, timestamps_seconds: np.ndarray) -> Frames:
        """The frame on screen at each of the ascending times."""
        wanted = [Fraction(float(t)) for t in timestamps_seconds]
        found = [(self._upright(f), float(t)) for f, t in self._on_screen(wanted)]
        if len(found) < len(wanted):
            raise DecodeError(
                f"{self.video.path.name}: nothing is on screen at {float(wanted[len(found)]):.3f} s; it ends at "
                f"{float(self._end):.3f} s",
                "past-the-end",
            )
        return Frames(_stack([f for f, _ in found]), np.array([t for _, t in found]))

    @property
    def report(self) -> DecodeReport:
        """How the last decoding went."""
        declared = max(0.0, self._declared - self._before)
        return DecodeReport(float(self._end), declared, self._errors, self._first_error, self._synthetic)

    def __enter__(self) -> PyavReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    def _on_screen(self, wanted: Iterable[Fraction]) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """For each wanted time, the frame on screen then, until the video ends."""
        queue = iter(wanted)
        pending: deque[Fraction] = deque()
        index = None if self._whole else self._read_index()
        if index is not None:
            try:
                yield from self._planned(index, queue, pending)
                return
            except _UnplannedError:
                pass  # the packets do not tell the whole truth about the frames: decode them all
        yield from self._through(chain(pending, queue))

    def _through(self, wanted: Iterable[Fraction]) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """`_on_screen` by decoding every frame."""
        queue = iter(wanted)
        target = next(queue, None)
        current: av.VideoFrame | None = None
        shown = Fraction(0)
        for frame, time in self._decode():
            while current is not None and target is not None and target + _SLACK < time:
                yield current, shown
                target = next(queue, None)
            if target is None:
                return
            current, shown = frame, time
        while current is not None and target is not None and target < self._end:
            yield current, shown
            target = next(queue, None)

    def _planned(
        self, index: PacketIndex, queue: Iterator[Fraction], pending: deque[Fraction]
    ) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """`_on_screen` by decoding only what the wanted frames need.

        Raises:
            _UnplannedError: something did not come out as the packets promised; what was yielded is right, and the times
                that were taken from `queue` but not served are in `pending`.
        """
        last = len(index.order) - 1
        ranks: list[int] = []
        for target in queue:
            pending.append(target)
            ranks.append(index.rank_at(target + _SLACK))
            if ranks[-1] == last:  # how long it stays on screen shows only once it is decoded
                break
        if not ranks:
            return
        number = 0
        for rank, frame in self._decode_planned(index, np.unique(ranks)):
            time = index.seconds(rank)
            self._end = time + self._length(frame)
            while rank < last and number < len(ranks) and ranks[number] == rank:
                number += 1
                pending.popleft()
                yield frame, time
            if rank == last:
                for target in chain(tuple(pending), queue):
                    if target >= self._end:
                        break
                    yield frame, time

    def _decode_planned(self, index: PacketIndex, ranks: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """The frames `ranks` (ascending) in order of presentation."""
        steps = index.steps(ranks)
        if steps is None:
            raise _UnplannedError
        self._begin()
        self._before = self._start_of(int(index.shown_pts[0]) * index.base)
        waiting = {int(index.shown_pts[r]): int(r) for r in ranks}
        order = deque(waiting)
        ready: dict[int, av.VideoFrame] = {}
        try:
            for frame in self._frames_of(index, steps):
                if frame.pts not in waiting:
                    continue
                if frame.is_corrupt:
                    raise _UnplannedError
                ready[frame.pts] = frame
                while order and order[0] in ready:
                    pts = order.popleft()
                    yield waiting[pts], ready.pop(pts)
                if not order:
                    return
        except (av.FFmpegError, EOFError, ValueError) as error:
            raise _UnplannedError from error
        if order:
            raise _UnplannedError

    def _frames_of(self, index: PacketIndex, steps: np.ndarray) -> Iterator[av.VideoFrame]:
        """What the decoder gives back for the packets that are not dropped."""
        context = self._stream.codec_context
        final = int(np.flatnonzero(steps)[-1])
        for number, packet in enumerate(self._container.demux(self._stream)):
            if packet.size == 0 or number > final:
                break
            if number >= len(steps) or packet.pts != index.pts[number]:
                raise _UnplannedError
            step = int(steps[number])
            if step == DROP:
                continue
            if step & JUMP and number:
                yield from self._stream.decode(None)
                context.flush_buffers()
            context.skip_frame = "DEFAULT" if step & SHOW else "NONREF"
            yield from packet.decode()
        yield from self._stream.decode(None)

    def _read_index(self) -> PacketIndex | None:
        """The packets' index, by a handle of its own: the reader's stays where it is."""
        with _open(self._path) as container:
            streams = [s for s in container.streams.video if s.index == self._number]
            return read_index(container, streams[0]) if streams else None

    def _begin(self) -> None:
        """A handle at the beginning of the file and a decoder that has seen nothing."""
        self._end, self._errors, self._first_error, self._synthetic = Fraction(0), 0, "", False
        if self._used:
            self._container.close()
            self._container = _open(self._path)
            self._stream = next(s for s in self._container.streams.video if s.index == self._number)
            self._prepare()
        self._used = True

    def _prepare(self) -> None:
        context = self._stream.codec_context
        # The size may also change in mid-stream: libav checks it there.
        context.options = {"max_pixels": str(self._max_pixels)}
        # One decoder per core beats several threads in one decoder, and is deterministic.
        context.thread_count = 1

    def _start_of(self, origin: Fraction) -> float:
        """What the declared duration counts before the first frame.

        Where the start is not stated, what was declared is where the video ends, counted from 0.
        """
        return float(origin) if self._stream.start_time is None else 0.0

    def _length(self, frame: av.VideoFrame) -> Fraction:
        # Frames that come out at the end carry no unit: it is the stream's.
        base = frame.time_base or self._stream.time_base
        return frame.duration * base if frame.duration and base else 1 / self._rate

    def _decode(self) -> Iterator[tuple[av.VideoFrame, Fraction]]:
        """Every frame in order of presentation with its time since the first one."""
        self._begin()
        origin: Fraction | None = None
        latest, number = Fraction(-1), 0
        for frame in self._frames():
            base = frame.time_base or self._stream.time_base
            if frame.pts is None or base is None:
                self._synthetic = True
                time = number / self._rate
            else:
                time = frame.pts * base
            if origin is None:
                origin = time
                self._before = self._start_of(origin)
            time -= origin
            if time <= latest:  # a repeated or backward time shows nothing new
                continue
            latest, number = time, number + 1
            self._end = time + self._length(frame)
            yield frame, time
        if origin is None:
            why = f": {self._first_error}" if self._first_error else ""
            raise DecodeError(f"{self.video.path.name}: no frame could be decoded{why}", "no-frames")

    def _frames(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, EOFError) as error:
                self._note(error)  # the container is torn here: what came before stays
                return
            if packet is None:
                return
            try:
                yield from packet.decode()
            except (av.FFmpegError, EOFError, ValueError) as error:
                self._note(error)
                if self._errors >= _CORRUPT_LIMIT:
                    return

    def _note(self, error: BaseException) -> None:
        self._errors += 1
        self._first_error = self._first_error or _said(error)

    def _aspect(self) -> Fraction:
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        return Fraction(aspect) if aspect and Fraction(1, 8) <= Fraction(aspect) <= 8 else Fraction(1)

    def _upright(self, frame: av.VideoFrame) -> np.ndarray:
        """`(H, W, 3)` uint8 as a player shows it: rotation applied, pixels square."""
        width = max(1, round(frame.width * self._aspect()))
        pixels = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
        quarter = round((frame.rotation or 0) / 90) % 4
        return np.ascontiguousarray(np.rot90(pixels, quarter)) if quarter else pixels


class _UnplannedError(Exception):
    """The planned way does not lead to the frames."""


def _open(path: Path) -> av.container.InputContainer:
    try:
        status = path.stat()
    except OSError as error:
        reason = "permission" if isinstance(error, PermissionError) else "missing"
        raise DecodeError(f"{path.name}: {error.strerror}", reason) from error
    if not stat.S_ISREG(status.st_mode):
        raise DecodeError(f"{path.name}: not a regular file", "not-a-file")
    if status.st_size == 0:
        raise DecodeError(f"{path.name}: the file is empty", "empty-file")
    try:
        # A bare name such as `concat:a|b` or `http:x.mp4` is an address to libav; `file:` and a full path never is.
        return av.open(
            "file:" + os.path.abspath(path),  # noqa: PTH100 - links in the name are the user's
            options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
            metadata_errors="ignore",
        )
    except PermissionError as error:
        raise DecodeError(f"{path.name}: permission denied", "permission") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DecodeError(f"{path.name}: not a video that can be read ({_said(error)})", "not-a-video") from error


def _said(error: BaseException) -> str:
    """What libav says, without its number and without the path, in one phrase."""
    return getattr(error, "strerror", None) or str(error).split(":")[0] or type(error).__name__


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def _declared_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """The video stream's own length where the file states it, else the container's; 0.0 where neither does."""
    if stream.duration and stream.time_base and stream.duration > 0:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska keeps each track's length in a tag
    parts = tag.split(":")
    if len(parts) == 3:
        try:
            # A tag holds the time of the track's end, which starts where the stream does.
            start = float((stream.start_time or 0) * (stream.time_base or 0))
            return max(0.0, int(parts[0]) * 3600 + int(parts[1]) * 60 + float(parts[2]) - start)
        except ValueError:
            pass
    return max(0.0, container.duration / 1_000_000) if container.duration else 0.0


def _stack(pixels: list[np.ndarray]) -> np.ndarray:
    """`(T, H, W, 3)`; a stream whose size changes is brought to its first size, as players do."""
    if not pixels:
        return np.zeros((0, 1, 1, 3), np.uint8)
    height, width = pixels[0].shape[:2]
    same = [p if p.shape[:2] == (height, width) else _resized(p, width, height) for p in pixels]
    return np.stack(same)


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return frame.to_ndarray(format="rgb24", width=width, height=height)
