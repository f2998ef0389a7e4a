"""One budget of memory for the decoded pictures of all workers: large videos wait for each other, small ones do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vla.video import Video

MAX_PICTURE_BYTES = 512 << 20
"""Bytes that the decoded pictures of all workers may take together: of nine videos at 1920x1080 or 3840x2160 side by side."""
_WAITING, _WAITING_BYTES = (
    8,
    32 << 20,
)  # what a decoding process holds ready, or one picture; see `decoders/_worker_main.py`
_TOGETHER, _TOGETHER_BYTES = 4, 16 << 20


class MemoryBudget:
    """Bytes that may be taken side by side. A video that needs more than there are gets them alone."""

    def __init__(self, total: int = MAX_PICTURE_BYTES) -> None:
        self._total, self._taken = total, 0
        self._freed = threading.Condition()

    @contextmanager
    def room(self, size: int, still: Callable[[], None]) -> Iterator[None]:
        """Hold `size` bytes; `still` is called now and then while waiting, and may raise."""
        with self._freed:
            while self._taken and self._taken + size > self._total:
                still()
                self._freed.wait(0.2)
            self._taken += size
        try:
            yield
        finally:
            with self._freed:
                self._taken -= size
                self._freed.notify_all()


def decode_batch_size(video: Video) -> int:
    """How many pictures of `video` are decoded together: 1, 2 or 4, so that they take 16 MiB at most, or one picture."""
    count = _TOGETHER
    while count > 1 and count * _picture(video) > _TOGETHER_BYTES:
        count //= 2
    return count


def required_bytes(video: Video) -> int:
    """Bytes of pictures that are held at once while `video` is decoded: those together, their copy, and those that wait."""
    picture, count = _picture(video), decode_batch_size(video)
    return picture * (count if count == 1 else 2 * count) + max(picture, min(_WAITING * picture, _WAITING_BYTES))


def _picture(video: Video) -> int:
    return 3 * video.width * video.height
