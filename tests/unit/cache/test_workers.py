"""Concurrent extraction with a decoder and an encoder whose every step the test sees."""

import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from vla.cache.attempt import CHUNK, VideoResult
from vla.cache.workers import Workers
from vla.decoders.base import DecodeReport
from vla.sampling import at_fps
from vla.video import Frames, Video

CHUNKS = 6


class Reader:
    """A video of `CHUNKS` chunks of frames, one picture element each."""

    video = Video(Path("a.mp4"), float(CHUNKS * CHUNK), 1.0, 1, 1, "h264")
    report = DecodeReport(CHUNKS * CHUNK, CHUNKS * CHUNK, 0, "", False)

    def __enter__(self):
        return self

    def __exit__(self, *given):
        pass

    def sample(self, sampling, chunk=32):
        for k in range(CHUNKS):
            rows = np.arange(k * CHUNK, (k + 1) * CHUNK)
            yield Frames(
                rows.astype(np.uint8).reshape(-1, 1, 1, 1).repeat(3, -1), rows.astype(float)
            )


class Decoder:
    def open(self, path):
        return Reader()


class Encoder:
    """Encodes one chunk at a time, and none until `gate` is open."""

    max_concurrency = 1

    def __init__(self):
        self.gate = threading.Event()
        self.prepared = [threading.Event() for _ in range(CHUNKS)]

    def one_thread_per_call(self):
        return nullcontext()

    def prepare(self, pixels):
        next(event for event in self.prepared if not event.is_set()).set()
        return pixels.transpose(0, 3, 1, 2)

    def encode_frames(self, inputs):
        assert self.gate.wait(30)
        return inputs[:, :, 0, 0].astype(np.float32)


def test_decoding_waits_for_encoding(tmp_path):
    """A slow encoder holds up decoding, or all frames of a long video would be in memory."""
    path = tmp_path / "a.mp4"
    path.write_bytes(b"a video")
    encoder, messages = Encoder(), []
    workers = Workers(encoder, Decoder(), at_fps(1), workers=1)
    thread = threading.Thread(target=lambda: messages.extend(workers.run([("a", path)])))
    thread.start()
    try:
        # One chunk is in the encoder, one waits for it, and the decoding thread holds the third.
        assert encoder.prepared[2].wait(20)
        assert not encoder.prepared[3].wait(1)
    finally:
        encoder.gate.set()
        thread.join(30)
    assert not thread.is_alive()
    result = messages[-1]
    assert isinstance(result, VideoResult) and result.receipt.status == "ok"
    assert sum(message.frames for message in messages[:-1]) == CHUNKS * CHUNK
    np.testing.assert_array_equal(
        np.concatenate(result.values)[:, 0], np.arange(CHUNKS * CHUNK) % 256
    )
