"""One budget of memory for the decoded pictures of all workers: large videos wait for each other, small ones do not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vla.video import Video

PICTURES = 1 << 30
"""Bytes that the decoded pictures of all workers may take together: 18 videos at 1920x1080 side by side, 13 at 3840x2160."""
RING = 32 << 20
"""Bytes of pictures that a decoding process may hold ready; one picture always may."""
_TOGETHER, _TOGETHER_BYTES = 4, 16 << 20


class Budget:
    """Bytes that may be taken side by side. A video that needs more than there are gets them alone."""

    def __init__(self, total: int = PICTURES) -> None:
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


def pictures_together(video: Video) -> int:
    """How many pictures of `video` are decoded together: 1, 2 or 4, so that they take 16 MiB at most, or one picture."""
    count = _TOGETHER
    while count > 1 and count * _picture(video) > _TOGETHER_BYTES:
        count //= 2
    return count


def needed(video: Video) -> int:
    """Bytes of pictures that are held at once while `video` is decoded: those together, their copy, and those that wait."""
    picture, count = _picture(video), pictures_together(video)
    return picture * (count if count == 1 else 2 * count) + max(picture, RING)


def _picture(video: Video) -> int:
    return 3 * video.width * video.height
