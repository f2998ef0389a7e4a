"""How much of a video was decoded, and how long its last frame is shown, by values worked by hand."""

from fractions import Fraction

import av
import numpy as np
import pytest

import vla
from conftest import number_picture
from vla.cache.store import active_cache
from vla.decoders import pyav
from vla.sampling import at_fps
from vla.storage.workspace import Workspace

TOY = vla.EncoderChoice(encoder="toy", sampling="fps=5")


def write(path, codec, pixel_format, frames, change):
    """`frames` frames at 10 a second, each packet as `change(number, packet)` makes it."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.time_base = pixel_format, Fraction(1, 10)
        packets = []
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(number_picture(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        assert len(packets) == frames
        for number, packet in enumerate(packets):
            output.mux(change(number, packet))


@pytest.mark.parametrize(
    ("whole", "said"), [(14, "70% decoded"), (10, "50% decoded"), (19, None), (20, None)]
)
def test_partial_video_reports_its_coverage(tmp_path, whole, said):
    """Of 20 packets the first `whole` hold pictures; the others have their times, and zeros."""

    def change(number, packet):
        if number < whole:
            return packet
        broken = av.Packet(bytes(len(bytes(packet))))
        broken.stream, broken.time_base = packet.stream, packet.time_base
        broken.pts, broken.dts, broken.duration = packet.pts, packet.dts, packet.duration
        return broken

    (tmp_path / "v").mkdir()
    write(tmp_path / "v" / "a.mkv", "mjpeg", "yuvj420p", 20, change)
    (receipt,) = vla.extract([tmp_path / "v"], workspace=tmp_path, choice=TOY, workers=1).receipts
    assert receipt.coverage == pytest.approx(whole / 20, abs=0.026)
    assert (said in receipt.reason) if said else ("% decoded" not in receipt.reason)
    assert receipt.status == "partial" if said else receipt.status == "ok" or whole == 19
    assert receipt.duration_seconds == pytest.approx(2.0, abs=0.11)
    kept = active_cache(Workspace(tmp_path).caches).frames("v/a.mkv")
    np.testing.assert_allclose(kept.timestamps_seconds[-1], 0.2 * ((whole - 1) // 2), atol=0.011)


@pytest.mark.parametrize("last", [1, 5, 13])
@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_the_last_frame_is_shown_as_long_as_its_packet_says(tmp_path, name, last):
    """Ten frames a tenth of a second each, the last of them `last` tenths; nothing but its packet says so."""

    def change(number, packet):
        packet.duration = last if number == 9 else 1
        return packet

    write(tmp_path / name, "mpeg4", "yuv420p", 10, change)
    with pyav.Decoder().open(tmp_path / name) as reader:
        times = np.concatenate([f.timestamps_seconds for f in reader.sample(at_fps(10))])
        report = reader.report
    assert report.end_seconds == pytest.approx(0.9 + last / 10, abs=0.002)
    assert len(times) >= 10 and report.is_whole
