"""Rendering of scenes: frames at given times, and whole scenes as short H.264 files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from vla.world.scene import COLORS, RADIUS, Scene, states_at

CANVAS = 128
FRAMES_PER_SECOND = 8

_RGB = {
    "red": (220, 40, 40), "orange": (245, 140, 30), "yellow": (245, 225, 50), "green": (40, 170, 70),
    "cyan": (60, 215, 220), "blue": (45, 80, 220), "purple": (140, 60, 190), "pink": (250, 150, 200),
    "white": (250, 250, 250),
}  # fmt: skip
_PALETTE = np.array([_RGB[c] for c in COLORS], np.float32)


def draw(scene: Scene, times: np.ndarray, side: int = CANVAS) -> np.ndarray:
    """Render frames of `scene` at `times` in seconds: `(T, side, side, 3)` uint8."""
    s = states_at(scene, times)
    ground = _background(scene.background, scene.seed, side)
    frames = np.repeat(_levels(ground)[None], len(times), 0)
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side
    for t in range(len(times)):
        canvas, patches = ground.copy(), []
        for i, thing in enumerate(scene.objects):
            if s.opacity[i, t] <= 0:
                continue
            radius = RADIUS[thing.size] * float(s.scale[i, t])
            cx, cy = float(s.x[i, t]), float(s.y[i, t])
            # Only the square around the object is computed.
            x0, x1 = np.searchsorted(grid, (cx - 1.5 * radius, cx + 1.5 * radius))
            y0, y1 = np.searchsorted(grid, (cy - 1.5 * radius, cy + 1.5 * radius))
            u = (grid[x0:x1][None, :] - cx) / radius
            v = (grid[y0:y1][:, None] - cy) / radius
            angle = float(s.angle[i, t])
            if angle:
                cos, sin = math.cos(angle), math.sin(angle)
                u, v = cos * u + sin * v, cos * v - sin * u
            else:
                u, v = np.broadcast_arrays(u, v)
            distance = _distance(thing.shape, u, v) * (radius * side)
            mix = float(s.color_mix[i, t])
            color = (1 - mix) * _PALETTE[s.color_from[i, t]] + mix * _PALETTE[s.color_to[i, t]]
            # The dark rim keeps a green heart visible on grass.
            paint = _texture(thing.texture, u, v) * (0.15 - distance * 0.6).clip(0.25, 1.0)
            cover = (0.5 - distance).clip(0, 1) * float(s.opacity[i, t])
            patches.append(np.s_[y0:y1, x0:x1])
            patch = canvas[patches[-1]]
            patch += (paint[..., None] * color - patch) * cover[..., None]
        for part in patches:
            frames[t][part] = _levels(canvas[part])
    return frames


def _levels(colors: np.ndarray) -> np.ndarray:
    return (colors + 0.5).clip(0, 255).astype(np.uint8)


DEMO_COMMENT = "rendered by vla demo"
"""Comment in the metadata of every clip: the demo encoder was trained on such clips only."""


def write_clip(
    scene: Scene, path: Path, *, fps: int = FRAMES_PER_SECOND, side: int = CANVAS
) -> None:
    """Write `scene` as an H.264 file at `path`; the suffix selects the container."""
    import av

    frames = draw(scene, np.arange(max(1, round(scene.duration * fps))) / fps, side)
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = DEMO_COMMENT
        stream = container.add_stream(
            "libx264", rate=fps, options={"crf": "18", "preset": "veryfast", "g": "24"}
        )
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for pixels in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the signed distance to the outline in radii, negative inside; exact for the circle,
    approximate otherwise.
    """
    r = np.hypot(u, v)
    if shape == "circle":
        return r - 0.95
    if shape == "ring":
        return np.abs(r - 0.72) - 0.25
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.8
    if shape == "triangle":
        return np.maximum(np.abs(u) * 0.894 - v * 0.447 - 0.447, v - 0.72)
    if shape == "cross":
        a, b = np.abs(u), np.abs(v)
        return np.minimum(np.maximum(a - 0.3, b - 0.95), np.maximum(a - 0.95, b - 0.3))
    if shape == "star":
        wave = np.abs(((np.arctan2(u, -v) * 5 / (2 * np.pi)) % 1.0) * 2 - 1)
        return (r - (0.4 + 0.6 * wave)) * 0.6
    if shape == "crescent":
        return np.maximum(r - 0.95, 0.75 - np.hypot(u - 0.42, v))
    lobes = np.hypot(np.abs(u) - 0.42, v + 0.3) - 0.46
    # The flanks are tangents of the lobes; the box clips them above the point of contact.
    tip = np.maximum(np.maximum((np.abs(u) + v - 0.77) * 0.7071, -(v + 0.3)), np.abs(u) - 0.745)
    return np.minimum(lobes, tip)


def _texture(texture: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the brightness factor at each point of an object."""
    if texture == "striped":
        return _two_tone(0.35, np.sin(u * 9) > 0)
    if texture == "dotted":
        return _two_tone(0.2, np.hypot((u * 2.2) % 1.0 - 0.5, (v * 2.2) % 1.0 - 0.5) >= 0.28)
    if texture == "checkered":
        return _two_tone(0.4, (np.floor(u * 2.6) + np.floor(v * 2.6)) % 2 == 0)
    return np.ones(u.shape, np.float32)


def _two_tone(dark: float, is_bright: np.ndarray) -> np.ndarray:
    return np.where(is_bright, np.float32(1), np.float32(dark))


def _background(name: str, seed: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = {
        "black": (8, 8, 10), "grey": (120, 120, 124), "sand": (205, 180, 130),
        "grass": (70, 115, 50), "bricks": (150, 85, 65), "night sky": (14, 18, 55),
    }[name]  # fmt: skip
    image = np.ones((side, side, 3), np.float32) * base
    rough = {"sand": 14.0, "grass": 22.0, "grey": 4.0}.get(name, 2.0)
    image += rng.normal(0, rough, (side, side, 1)).astype(np.float32)
    if name == "bricks":
        course, width = side // 10, side // 5
        rows = np.arange(side) // course
        columns = (np.arange(side)[None, :] + (rows % 2)[:, None] * width // 2) % width
        mortar = (np.arange(side) % course < 1)[:, None] | (columns < 1)
        image[mortar] = (205, 195, 185)
    if name == "night sky":
        spots = rng.integers(0, side, (side // 2, 2))
        image[spots[:, 0], spots[:, 1]] = (230, 230, 210)
    return image
