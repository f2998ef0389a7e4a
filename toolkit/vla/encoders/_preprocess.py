"""open_clip's image transform without PIL: batched, on uint8.

Results differ from PIL's by at most one grey level (two, for a few pixels in 100,000).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vla.errors import EnvironmentUnfitError


class Preprocess:
    """Resizing and cropping by an open_clip preprocessing configuration.

    PIL filters with fixed-point weights, as torch does for uint8 with `antialias=True`; filtering
    in float and OpenCV differ more from the reference. Colours are normalized later, on the
    encoder's device.

    Args:
        config: keys `size`, `interpolation`, `resize_mode`, `mean`, `std` as in
            `open_clip.transform.PreprocessCfg`. With a key `side`, the shorter side is resized to
            so many pixels before the crop, not to `size`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        size = config["size"]
        self.height, self.width = (
            (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))
        )
        self._side = int(config.get("side", self.height))
        self.mode = str(config["interpolation"])
        self.squash = config["resize_mode"] == "squash"
        self.mean = tuple(float(v) for v in config["mean"])
        self.std = tuple(float(v) for v in config["std"])
        if config["resize_mode"] not in ("shortest", "squash") or self.mode not in (
            "bicubic",
            "bilinear",
        ):
            raise EnvironmentUnfitError(
                f"preprocessing {config['resize_mode']!r} with {self.mode!r} interpolation is "
                f"not supported; "
                "'shortest' and 'squash' with 'bicubic' or 'bilinear' are"
            )
        if not self.squash and self.height != self.width:
            raise EnvironmentUnfitError(
                f"'shortest' needs a square input, not {self.height}x{self.width}"
            )

    def __str__(self) -> str:
        side = "" if self._side == self.height else f" {self._side}"
        kind = "squash" if self.squash else f"shortest{side}+crop"
        mean, std = ("/".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return (
            f"{self.height}x{self.width} {kind} {self.mode} antialias uint8 mean {mean} std {std}"
        )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Convert `(T, H, W, 3)` uint8 to `(T, 3, height, width)` uint8."""
        t, h, w, _ = pixels.shape
        if t == 0:
            return np.zeros((0, 3, self.height, self.width), np.uint8)
        rows, columns = (self.height, self.width) if self.squash else self._shortest(h, w)
        frames = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        if (rows, columns) != (h, w):
            frames = functional.interpolate(frames, (rows, columns), mode=self.mode, antialias=True)
        top, left = round((rows - self.height) / 2), round((columns - self.width) / 2)
        crops = frames[:, :, top : top + self.height, left : left + self.width]
        return crops.contiguous().numpy()

    def _shortest(self, h: int, w: int) -> tuple[int, int]:
        """Return the size with the shorter side scaled to its length; the longer is rounded down."""
        side = self._side
        return (int(side * h / w), side) if w <= h else (side, int(side * w / h))
