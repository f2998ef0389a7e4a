"""Memory budget for the decoded pictures of all workers: large videos wait for each other, small ones do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vla.video import Video

MAX_PICTURE_BYTES = 512 << 20
"""Bytes of decoded pictures of all workers together: nine videos at 1920x1080 or 3840x2160 side by side."""
# The queue of a decoding process holds this much, or one picture; see `decoders/_worker_main.py`.
_MAX_QUEUE_PICTURES, _MAX_QUEUE_BYTES = 8, 32 << 20
_MAX_BATCH_PICTURES, _MAX_BATCH_BYTES = 4, 16 << 20


class MemoryBudget:
    """Bytes shared by concurrent workers. A video that needs more than the total gets it alone."""

    def __init__(self, total: int = MAX_PICTURE_BYTES) -> None:
        self._total_bytes, self._used_bytes = total, 0
        self._release = threading.Condition()

    @contextmanager
    def reserve(self, size: int, check_stop: Callable[[], None]) -> Iterator[None]:
        """Hold `size` bytes; `check_stop` is called every 0.2 s while waiting, and may raise."""
        with self._release:
            while self._used_bytes and self._used_bytes + size > self._total_bytes:
                check_stop()
                self._release.wait(0.2)
            self._used_bytes += size
        try:
            yield
        finally:
            with self._release:
                self._used_bytes -= size
                self._release.notify_all()


def decode_batch_size(video: Video) -> int:
    """Return the number of pictures to decode at once: 4, 2 or 1, the most that fit in 16 MiB."""
    count = _MAX_BATCH_PICTURES
    while count > 1 and count * _picture_bytes(video) > _MAX_BATCH_BYTES:
        count //= 2
    return count


def required_bytes(video: Video) -> int:
    """Return the bytes of pictures in memory while `video` is decoded: a batch, its copy, and the queue."""
    size, count = _picture_bytes(video), decode_batch_size(video)
    return size * (count if count == 1 else 2 * count) + max(
        size, min(_MAX_QUEUE_PICTURES * size, _MAX_QUEUE_BYTES)
    )


def _picture_bytes(video: Video) -> int:
    return 3 * video.width * video.height
