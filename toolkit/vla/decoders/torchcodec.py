"""Decoding with torchcodec, which can use a GPU's decoder. Which frames, and that they are local files, is settled by PyAV.

torchcodec loads the FFmpeg libraries of the system; where there are none, building it says so. What it does not decode as the
packets promise is decoded by PyAV instead. Colours are converted by other code, so pixels may differ by a grey level or two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vla.decoders import pyav
from vla.decoders._index import IndexMismatchError, PacketIndex
from vla.decoders._picture import RgbConverter
from vla.errors import EnvironmentUnfitError

_TOGETHER = 16


class Decoder(pyav.Decoder):
    """torchcodec, in this process.

    Args:
        device: `cpu`, or `cuda` for the GPU's decoder (NVDEC).
        max_pixels: a picture larger than this is refused before memory is taken for it.

    Raises:
        EnvironmentUnfitError: torchcodec cannot be loaded here.
    """

    def __init__(self, device: str = "cpu", max_pixels: int = 8192 * 8192) -> None:
        super().__init__(max_pixels)
        self.device = device
        _load()

    def open(self, path: Path) -> pyav.PyavReader:
        """A reader of the video at `path`; refuses what `pyav` refuses."""
        return _Reader(path, self.max_pixels, self.device)


@dataclass(frozen=True)
class _Picture:
    """A decoded frame: `pixels` `(H, W, 3)` uint8 RGB, upright, shown for `seconds`; `lies` if that made rows of columns."""

    pixels: np.ndarray
    seconds: float
    lies: bool


class _Reader(pyav.PyavReader):
    def __init__(self, path: Path, max_pixels: int, device: str) -> None:
        super().__init__(path, max_pixels)
        self._device = device
        self._upright = _Upright(self._source.stream)
        self._frames_from: Any = None

    def _decode_planned(self, index: PacketIndex, ranks: np.ndarray) -> Iterator[tuple[int, Any]]:
        every = np.sort(index.pts)
        self._begin()
        for start in range(0, len(ranks), _TOGETHER):
            some = ranks[start : start + _TOGETHER]
            try:
                found = self._decoder().get_frames_at(np.searchsorted(every, index.shown_pts[some]).tolist())
            except (RuntimeError, ValueError, IndexError) as error:
                raise IndexMismatchError from error
            lies = round((self._decoder().metadata.rotation or 0) / 90) % 2 == 1
            pixels, lengths = found.data.cpu().numpy(), found.duration_seconds.tolist()
            for k, (rank, shown) in enumerate(zip(some.tolist(), found.pts_seconds.tolist(), strict=True)):
                # Its numbering may know of frames that an edit list hides, or that never come out: the time tells.
                if abs(shown - float(int(index.shown_pts[rank]) * index.base)) > 1e-6:
                    raise IndexMismatchError
                self.tick()
                yield rank, _Picture(pixels[k], lengths[k], lies)

    def _length(self, frame: Any) -> Fraction:
        if isinstance(frame, _Picture):
            return Fraction(frame.seconds).limit_denominator(1_000_000) or 1 / self._rate
        return super()._length(frame)

    def _decoder(self) -> Any:
        if self._frames_from is None:
            self._frames_from = _load()(
                # A full path is never an address to libav.
                os.path.abspath(self._source.container.name.removeprefix("file:")),  # noqa: PTH100
                stream_index=self._source.stream.index, dimension_order="NHWC", device=self._device,
            )  # fmt: skip
        return self._frames_from


class _Upright(RgbConverter):
    """Pixels that torchcodec decoded are RGB and upright already; only their aspect is left to mend."""

    def __call__(self, frame: Any) -> np.ndarray:
        if not isinstance(frame, _Picture):
            return super().__call__(frame)
        if self._aspect == 1:
            return frame.pixels
        height, width = frame.pixels.shape[:2]
        if frame.lies:
            return self._resized(frame.pixels, width, max(1, round(height * self._aspect)))
        return self._resized(frame.pixels, max(1, round(width * self._aspect)), height)


def _load() -> Any:
    """Torchcodec's decoder of videos."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentUnfitError(
            f"torchcodec cannot be used here ({str(error).strip().splitlines()[0]:.120}): it needs 'pip install torchcodec' and "
            "the FFmpeg libraries of the system; the decoder 'isolated' needs neither"
        ) from error
    return VideoDecoder
