"""Tone mapping of high dynamic range and wide gamut (PQ, HLG, BT.2020) to BT.709, as players do."""

from __future__ import annotations

from functools import cache

import av
import numpy as np

_PQ, _HLG = 16, 18  # transfer characteristics (H.273 codes)
_BT2020, _P3 = 9, 12  # primaries (H.273 codes)
_WHITE = 203.0  # nits of a white sheet of paper (BT.2408)
_HLG_PEAK = 1000.0
_KNEE = 0.5  # of white; darker values are unchanged
_GAMMA = 2.4  # of a display (BT.1886)
_CODES = 1 << 16
_TO_BT709: dict[int, np.ndarray] = {
    _BT2020: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
        np.float32,
    ),
    _P3: np.array(
        [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]], np.float32
    ),
}


def needs_mapping(frame: av.VideoFrame) -> bool:
    """Return whether the frame would look pale if its values were taken for BT.709."""
    return int(frame.color_trc) in (_PQ, _HLG) or int(frame.color_primaries) == _BT2020


def tone_map(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """Return the `(H, W, 3)` uint8 pixels for a BT.709 display.

    Light up to white keeps its brightness. Brighter light is compressed into the range above
    `_KNEE` of white, so that the brightest pixel is white.

    Args:
        pixels: `(H, W, 3)` uint16 R'G'B'.
        transfer: transfer characteristics (H.273 code).
        primaries: colour primaries (H.273 code); all but BT.2020 and P3 count as BT.709.
    """
    light = _light(transfer)[pixels]
    if transfer == _HLG:  # scene-referred values
        scene = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= (np.maximum(scene, 1e-6) ** np.float32(0.2) * np.float32(_HLG_PEAK / _WHITE))[
            ..., None
        ]
    if primaries in _TO_BT709:
        light = np.maximum(light @ _TO_BT709[primaries].T, 0)
    brightest = light.max(-1)
    peak = float(brightest[::4, ::4].max()) if transfer in (_PQ, _HLG) else 1.0
    if peak > 1:
        max_above = np.float32((peak - _KNEE) / (1 - _KNEE))
        above = np.maximum(brightest - np.float32(_KNEE), 0) / np.float32(1 - _KNEE)
        # Reinhard's curve above the knee, where its slope is 1.
        reinhard = np.float32(_KNEE) + np.float32(1 - _KNEE) * above * (
            1 + above / max_above**2
        ) / (1 + above)
        light *= np.where(brightest > _KNEE, reinhard / np.maximum(brightest, 1e-6), 1)[..., None]
    return _display()[
        (np.minimum(light, 1) * np.float32(_CODES - 1) + np.float32(0.5)).astype(np.uint16)
    ]


@cache
def _light(transfer: int) -> np.ndarray:
    """Return the `(65536,)` float32 light of each 16-bit code; 1 is white, or HLG's scene peak."""
    code = np.linspace(0, 1, _CODES)
    if transfer == _PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = code ** (1 / m2)
        light = 10_000 / _WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    elif transfer == _HLG:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    else:
        light = code**_GAMMA
    return light.astype(np.float32)


@cache
def _display() -> np.ndarray:
    """Return the 8-bit code of each of 65,536 levels of light."""
    return np.round(255 * np.linspace(0, 1, _CODES) ** (1 / _GAMMA)).astype(np.uint8)
