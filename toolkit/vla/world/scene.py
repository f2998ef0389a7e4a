"""Scenes of the rendered world: objects, their positions, and events over time.

Lengths are fractions of the canvas side, x grows to the right and y downwards, times are seconds.
A scene is only a description: `render.py` draws it, `language.py` writes its captions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS = ("black", "grey", "sand", "grass", "bricks", "night sky")
DIRECTIONS = ("left", "right", "up", "down")

RADIUS = {"small": 0.095, "medium": 0.135, "large": 0.185}
STEP = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
_GROWTH = 1.75


@dataclass(frozen=True)
class SceneObject:
    """One shape and its initial position."""

    shape: str
    color: str
    size: str
    texture: str
    x: float
    y: float


@dataclass(frozen=True)
class Event:
    """An action of `actor` (an index into the objects) during `[start, end)`, on `target` if there
    is one.
    """

    kind: str
    actor: int
    start: float
    end: float
    direction: str = ""
    color: str = ""
    target: int = -1
    distance: float = 0.0


@dataclass(frozen=True)
class Scene:
    """Objects on a background and their events, in order of time."""

    objects: tuple[SceneObject, ...]
    background: str
    events: tuple[Event, ...]
    duration: float
    seed: int

    @property
    def movers(self) -> frozenset[int]:
        """Indices of the objects that some event changes."""
        return frozenset(e.actor for e in self.events) | frozenset(
            e.target for e in self.events if e.kind in ("hit", "follow")
        )


@dataclass(frozen=True)
class States:
    """States of all objects at given times; arrays are `(objects, times)`, `color_to` and
    `color_from` index COLORS.
    """

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    opacity: np.ndarray
    color_from: np.ndarray
    color_to: np.ndarray
    color_mix: np.ndarray


def is_novel_combination(color: str, shape: str) -> bool:
    """Return whether a (colour, shape) pair is one of the sixth that never occurs in training data
    (CLEVR-CoGenT).
    """
    return (COLORS.index(color) * 5 + SHAPES.index(shape) * 3) % 6 == 0


def states_at(scene: Scene, times: np.ndarray) -> States:
    """Return the state of every object of `scene` at `times` (seconds, in any order)."""
    n, t = len(scene.objects), np.asarray(times, np.float64)
    x = np.repeat([[thing.x] for thing in scene.objects], len(t), 1).astype(float)
    y = np.repeat([[thing.y] for thing in scene.objects], len(t), 1).astype(float)
    scale, angle = np.ones((n, len(t))), np.zeros((n, len(t)))
    opacity, mix = np.ones((n, len(t))), np.zeros((n, len(t)))
    start_color = [[COLORS.index(thing.color)] for thing in scene.objects]
    color_from = np.repeat(start_color, len(t), 1)
    color_to = color_from.copy()
    for e in scene.events:
        p = np.clip((t - e.start) / (e.end - e.start), 0.0, 1.0)
        smooth = p * p * (3 - 2 * p)
        a, b = e.actor, e.target
        if e.kind == "move":
            _shift(x, y, a, e, smooth)
        elif e.kind == "follow":
            _shift(x, y, a, e, smooth)
            _shift(x, y, b, e, smooth)
        elif e.kind == "hit":
            # The actor travels in the first half and stops at the target, which is pushed on in
            # the second.
            first, second = np.clip(p * 2, 0, 1), np.clip(p * 2 - 1, 0, 1)
            gap = e.distance
            dx, dy = STEP[e.direction]
            x[a] += dx * gap * first
            y[a] += dy * gap * first
            push = 0.2 * (1 - (1 - second) ** 2)
            x[b] += dx * push
            y[b] += dy * push
        elif e.kind == "orbit":
            rx, ry = x[a] - x[b], y[a] - y[b]
            turn = 2 * np.pi * smooth
            x[a] = x[b] + rx * np.cos(turn) - ry * np.sin(turn)
            y[a] = y[b] + rx * np.sin(turn) + ry * np.cos(turn)
        elif e.kind == "grow":
            scale[a] *= _GROWTH**smooth
        elif e.kind == "shrink":
            scale[a] *= _GROWTH**-smooth
        elif e.kind == "spin":
            angle[a] += 1.5 * np.pi * smooth
        elif e.kind == "jump":
            y[a] -= e.distance * np.sin(np.pi * p)
        elif e.kind == "appear":
            opacity[a] *= smooth
        elif e.kind == "disappear":
            opacity[a] *= 1 - smooth
        elif e.kind == "recolor":
            is_started, is_done = t >= e.start, p >= 1
            color_from[a] = np.where(is_started, color_to[a], color_from[a])
            mix[a] = np.where(is_started, smooth, mix[a])
            color_to[a] = np.where(is_started, COLORS.index(e.color), color_to[a])
            color_from[a] = np.where(is_done, color_to[a], color_from[a])
    return States(x, y, scale, angle, opacity, color_from, color_to, mix)


def _shift(x: np.ndarray, y: np.ndarray, thing: int, e: Event, progress: np.ndarray) -> None:
    dx, dy = STEP[e.direction]
    x[thing] += dx * e.distance * progress
    y[thing] += dy * e.distance * progress
