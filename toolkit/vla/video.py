"""What a video is before any encoder has seen it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.errors import ShapeError

# Containers by the suffixes people use; what is inside is found out by decoding, never by the name.
SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .ts .mts .m2ts .wmv .flv .3gp .mpg .mpeg .ogv .gif".split())


def looks_like_video(path: Path) -> bool:
    """False for a text file under a suffix that videos share with program code, such as TypeScript's `.ts`."""
    if path.suffix.lower() not in (".ts", ".mts"):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return True  # opening it gives the reason
    return b"\0" in head or head[:1] == b"\x47"


@dataclass(frozen=True)
class Video:
    """A video file and what its container and first frames say.

    Attributes:
        path: where it lies.
        duration_seconds: from the first displayed frame to the end of the last, as declared; 0.0 where nothing is
            declared (it is then known only after decoding).
        fps: average frames per second as declared; 0.0 where nothing is declared.
        width: of the stored picture, before rotation and in the pixels' own shape.
        height: likewise.
        codec: the codec's short name.
    """

    path: Path
    duration_seconds: float
    fps: float
    width: int
    height: int
    codec: str

    def __post_init__(self) -> None:
        if self.duration_seconds < 0 or self.fps < 0 or self.width <= 0 or self.height <= 0:
            raise ShapeError(
                f"{self.path}: a video needs a size and no negative times, not {self.width}x{self.height}, "
                f"{self.duration_seconds} s, {self.fps} frames/s"
            )


@dataclass(frozen=True)
class Frames:
    """Decoded pictures with the time at which each is shown.

    Attributes:
        pixels: `(T, H, W, 3)` uint8, upright, square pixels, RGB.
        timestamps_seconds: `(T,)` float64, non-decreasing; 0 is the first displayed frame of the video.
    """

    pixels: np.ndarray
    timestamps_seconds: np.ndarray

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[-1] != 3 or self.pixels.dtype != np.uint8:
            raise ShapeError(f"pixels are (T, H, W, 3) uint8, not {self.pixels.shape} {self.pixels.dtype}")
        if self.timestamps_seconds.shape != self.pixels.shape[:1]:
            raise ShapeError(f"{len(self.pixels)} frames but timestamps of shape {self.timestamps_seconds.shape}")
        if (np.diff(self.timestamps_seconds) < 0).any():
            raise ShapeError("timestamps must not decrease")

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        t, h, w, _ = self.pixels.shape
        span = f", {self.timestamps_seconds[0]:.2f}-{self.timestamps_seconds[-1]:.2f} s" if t else ""
        return f"Frames({t} x {h}x{w}{span})"
