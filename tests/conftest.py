"""What many tests need: clips whose pixels tell their frame number, a small workspace, and no silent skips in CI."""

from __future__ import annotations

import os

# Small arrays only: threads cost more than they bring, many times more where other work shares the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

ALLOWED_SKIPS = ("named:", "shared data")
"""A skip whose reason begins otherwise is a failure where the variable CI is set."""


def pytest_collection_modifyitems(items):
    """A test that is skipped in CI must say by name why it may be."""
    for item in items:
        for mark in item.iter_markers():
            if (
                mark.name in ("skip", "skipif")
                and not mark.kwargs.get("reason")
                and not mark.args[1:]
            ):
                raise pytest.UsageError(f"{item.nodeid}: a skip needs a reason")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _strict(item.nodeid, (yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _strict(collector.nodeid, (yield))


def _strict(name, report):
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = (
                f"{name} was skipped in CI, and its reason does not begin with 'named:': {reason}"
            )
    return report


@pytest.fixture(autouse=True)
def normal_scheduling():
    """Undo what SVT-AV1 does to the thread that encodes with it, if root runs it: SCHED_FIFO at priority 99.

    With it, a busy loop in the test process, or in any process that it starts later, would stop the rest of the machine.
    """
    yield
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_AtOnce(config))


class _AtOnce:
    """Failures are told when they happen: a session that is ended before its summary has told them too."""

    def __init__(self, config):
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        if report.failed:
            terminal = self._config.pluginmanager.get_plugin("terminalreporter")
            last = report.longreprtext.splitlines()[-12:]
            terminal.write(
                "\n".join(["", f"failed in {report.duration:.1f} s: {report.nodeid}", *last, ""])
            )


def pytest_terminal_summary(terminalreporter):
    """Counts that a test kept with `record_property("counts", ...)`: how much was tried is part of the result."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties if report.when == "call" else ():
            if name == "counts":
                terminalreporter.write_line(value)


BITS = 8


def number_picture(number: int, side: int = 64) -> np.ndarray:
    """`(side, side, 3)` uint8: the number's bits as 4x2 black or white blocks, coarse enough for any codec."""
    bits = np.array([(number >> i) & 1 for i in range(BITS)], np.uint8).reshape(2, 4)
    blocks = np.kron(bits * 215 + 20, np.ones((side // 2, side // 4), np.uint8)).astype(np.uint8)
    return np.repeat(blocks[..., None], 3, axis=2)


def number_in(pixels: np.ndarray) -> int:
    """The number that `number_picture` wrote, read from the middle of each block."""
    h, w = pixels.shape[:2]
    rows, columns = (np.arange(2) * 2 + 1) * h // 4, (np.arange(4) * 2 + 1) * w // 8
    bits = pixels[rows][:, columns].mean(-1).reshape(-1) > 127
    return int((bits * (1 << np.arange(BITS))).sum())


@dataclass(frozen=True)
class Shown:
    """One frame as a plain, complete decode with PyAV finds it; times count from the container's start."""

    number: int
    time: Fraction
    end: Fraction


@dataclass(frozen=True)
class ClipMaker:
    """`clip("a.mp4", frames=30)` writes a clip into the test's folder and returns its path."""

    folder: Path

    def __call__(
        self,
        name: str = "clip.mp4",
        *,
        frames: int = 20,
        fps: float = 10,
        pts: list[int] | None = None,
        time_base: Fraction | None = None,
        codec: str = "libx264",
        bframes: int = 0,
        start: float = 0.0,
        side: int = 64,
        pixels: np.ndarray | None = None,
        rotation: int = 0,
        aspect: Fraction | None = None,
        audio: bool = False,
        container: str | None = None,
    ) -> Path:
        """Write a clip.

        Args:
            name: file name; its suffix names the container unless `container` does.
            frames: how many, each showing its own number.
            fps: of an even clip.
            pts: times in units of `time_base`, for an uneven one.
            time_base: seconds in a unit of `pts`.
            codec: FFmpeg's name.
            bframes: between two others.
            start: seconds added to every time.
            side: of the square picture.
            pixels: `(T, H, W, 3)` uint8 to write in place of numbers.
            rotation: display rotation, degrees counterclockwise.
            aspect: of a pixel, width by height.
            audio: also a second of silence.
            container: format, where the suffix does not tell.
        """
        import av

        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = Fraction(fps).limit_denominator(1001)
        base = time_base or 1 / rate
        times = list(range(frames if pixels is None else len(pixels))) if pts is None else list(pts)
        shift = round(Fraction(start).limit_denominator(1000) / base)
        pictures = (
            [number_picture(i, side) for i in range(len(times))] if pixels is None else pixels
        )
        options = {
            "libx264": {"preset": "veryfast", "crf": "16", "bf": str(bframes), "g": "12"}
        }.get(codec, {})
        with av.open(str(path), "w", format=container) as output:
            stream = output.add_stream(codec, rate=rate, options=options)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = {"mjpeg": "yuvj420p", "ffv1": "bgr0"}.get(codec, "yuv420p")
            stream.codec_context.thread_count = 1
            stream.codec_context.time_base = base
            stream.time_base = base
            if codec == "mpeg4":
                stream.codec_context.bit_rate = 4_000_000
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            if rotation:
                stream.set_display_rotation(rotation)
            if audio:
                _silence(output)
            for picture, time in zip(pictures, times, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                frame.pts, frame.time_base = time + shift, base
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        return path

    def number(self, pixels: np.ndarray) -> int:
        """The frame number in a picture."""
        return number_in(pixels)

    def shown(self, path: Path) -> list[Shown]:
        """Every frame of a clip, decoded plainly from first to last: what decoders are measured against."""
        import av

        found = []
        with av.open(str(path)) as source:
            stream = source.streams.video[0]
            zero = Fraction(source.start_time or 0, 1_000_000)
            for frame in source.decode(stream):
                length = (
                    frame.duration * frame.time_base if frame.duration else 1 / stream.average_rate
                )
                time = frame.pts * frame.time_base
                found.append(
                    Shown(number_in(frame.to_ndarray(format="rgb24")), time, time + length)
                )
        found.sort(key=lambda s: s.time)
        return [Shown(s.number, s.time - zero, s.end - zero) for s in found]


def _silence(output) -> None:
    import av

    sound = output.add_stream("aac", rate=8000)
    sound.layout = "mono"
    frame = av.AudioFrame.from_ndarray(
        np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
    )
    frame.sample_rate, frame.pts = 8000, 0
    output.mux(sound.encode(frame))
    output.mux(sound.encode(None))


@pytest.fixture(scope="session", autouse=True)
def no_sync():
    """Writes without waiting for the disk: only a power cut would tell the difference, and disks that others use are slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture
def clip(tmp_path) -> ClipMaker:
    """Writes clips whose pixels tell their frame number."""
    return ClipMaker(tmp_path)


@pytest.fixture
def toy_workspace(tmp_path):
    """A workspace with three clips of 2, 3 and 4 seconds in `videos/`, extracted with the toy encoder."""
    import vla
    from vla.storage.workspace import Workspace

    make = ClipMaker(tmp_path / "videos")
    for seconds in (2, 3, 4):
        picture = np.random.default_rng(seconds).integers(0, 256, (seconds * 5, 8, 8, 3), np.uint8)
        make(f"v{seconds}.mp4", fps=5, pixels=picture.repeat(8, 1).repeat(8, 2))
    (tmp_path / "captions.csv").write_text(
        "video,caption,start,end\n"
        "videos/v2.mp4,a red door opens,,\n"
        "videos/v3.mp4,a dog runs over the grass,0.5,2\n"
        "videos/v4.mp4,someone pours green tea,1,3\n"
    )
    vla.extract(
        [tmp_path / "videos"],
        captions=tmp_path / "captions.csv",
        workspace=tmp_path,
        choice=vla.EncoderChoice(encoder="toy"),
        workers=1,
    )
    return Workspace.open(tmp_path)
