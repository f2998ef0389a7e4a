"""Decoding with torchcodec, on a CPU or a GPU; PyAV chooses the frames.

torchcodec loads the FFmpeg libraries of the system and fails to build if there are none. If its
frames differ from the packet index, PyAV decodes the video instead. It converts colours with other
code, so pixels may differ by a grey level or two.
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

_BATCH_SIZE = 16


class Decoder(pyav.Decoder):
    """torchcodec decoder, in this process.

    Args:
        device: `cpu`, or `cuda` for the GPU's decoder (NVDEC).
        max_pixels: a larger picture is refused before memory is allocated for it.

    Raises:
        EnvironmentUnfitError: torchcodec cannot be loaded.
    """

    def __init__(self, device: str = "cpu", max_pixels: int = 8192 * 8192) -> None:
        super().__init__(max_pixels)
        self.device = device
        _load()

    def open(self, path: Path) -> pyav.PyavReader:
        """Return a reader of the video at `path`; refuses files that `pyav` refuses."""
        return _Reader(path, self.max_pixels, self.device)


@dataclass(frozen=True)
class _Picture:
    """Decoded frame.

    Attributes:
        pixels: `(H, W, 3)` uint8 RGB, upright.
        seconds: time on screen.
        is_transposed: whether rotation exchanged its rows and columns.
    """

    pixels: np.ndarray
    seconds: float
    is_transposed: bool


class _Reader(pyav.PyavReader):
    def __init__(self, path: Path, max_pixels: int, device: str) -> None:
        super().__init__(path, max_pixels)
        self._device = device
        self._upright = _Upright(self._source.stream)
        self._video_decoder: Any = None

    def _decode_ranks(self, index: PacketIndex, ranks: np.ndarray) -> Iterator[tuple[int, Any]]:
        all_pts = np.sort(index.pts)
        self._begin()
        for start in range(0, len(ranks), _BATCH_SIZE):
            batch = ranks[start : start + _BATCH_SIZE]
            try:
                frames = self._decoder().get_frames_at(
                    np.searchsorted(all_pts, index.shown_pts[batch]).tolist()
                )
            except (RuntimeError, ValueError, IndexError) as error:
                raise IndexMismatchError from error
            is_transposed = round((self._decoder().metadata.rotation or 0) / 90) % 2 == 1
            pixels, durations = frames.data.cpu().numpy(), frames.duration_seconds.tolist()
            for k, (rank, seconds) in enumerate(
                zip(batch.tolist(), frames.pts_seconds.tolist(), strict=True)
            ):
                # torchcodec may count frames that an edit list hides or that are never returned.
                if abs(seconds - float(int(index.shown_pts[rank]) * index.base)) > 1e-6:
                    raise IndexMismatchError
                self.tick()
                yield rank, _Picture(pixels[k], durations[k], is_transposed)

    def _length(self, frame: Any) -> Fraction:
        if isinstance(frame, _Picture):
            return Fraction(frame.seconds).limit_denominator(1_000_000) or 1 / self._rate
        return super()._length(frame)

    def _decoder(self) -> Any:
        if self._video_decoder is None:
            self._video_decoder = _load()(
                # libav never takes a full path for a URL.
                os.path.abspath(self._source.container.name.removeprefix("file:")),  # noqa: PTH100
                stream_index=self._source.stream.index, dimension_order="NHWC", device=self._device,
            )  # fmt: skip
        return self._video_decoder


class _Upright(RgbConverter):
    """Aspect correction of torchcodec's frames: they are RGB and upright already."""

    def __call__(self, frame: Any) -> np.ndarray:
        if not isinstance(frame, _Picture):
            return super().__call__(frame)
        if self._aspect == 1:
            return frame.pixels
        height, width = frame.pixels.shape[:2]
        if frame.is_transposed:
            return self._resize(frame.pixels, width, max(1, round(height * self._aspect)))
        return self._resize(frame.pixels, max(1, round(width * self._aspect)), height)


def _load() -> Any:
    """Return torchcodec's decoder class."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise EnvironmentUnfitError(
            f"cannot use torchcodec ({str(error).strip().splitlines()[0]:.120}): it needs 'pip "
            f"install torchcodec' and "
            "the FFmpeg libraries of the system; the decoder 'isolated' needs neither"
        ) from error
    return VideoDecoder
