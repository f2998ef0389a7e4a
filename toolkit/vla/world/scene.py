"""A scene of the rendered world: which shapes there are, where they stand, and what happens to them when.

Lengths are fractions of the canvas side, x grows to the right and y downwards, times are seconds. A scene is pure
description: `render.py` draws it, `language.py` tells it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS = ("black", "grey", "sand", "grass", "bricks", "night sky")
DIRECTIONS = ("left", "right", "up", "down")
SOLO_EVENTS = ("move", "grow", "shrink", "spin", "appear", "disappear", "recolor", "jump")
PAIR_EVENTS = ("hit", "follow", "orbit")

RADIUS = {"small": 0.095, "medium": 0.135, "large": 0.185}
STEP = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
_INVERSE_KIND = {"grow": "shrink", "shrink": "grow", "appear": "disappear", "disappear": "appear"}
_GROWTH = 1.75
_SOLO_ODDS = (0.36, 0.1, 0.1, 0.1, 0.07, 0.07, 0.1, 0.1)


@dataclass(frozen=True)
class Thing:
    """One shape and where it stands when the scene opens."""

    shape: str
    color: str
    size: str
    texture: str
    x: float
    y: float


@dataclass(frozen=True)
class Event:
    """What `actor` (an index into the scene's things) does during `[start, end)`, to `target` if it needs one."""

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
    """Things before a background and the events that befall them, in order of time."""

    things: tuple[Thing, ...]
    background: str
    events: tuple[Event, ...]
    duration: float
    seed: int

    @property
    def movers(self) -> frozenset[int]:
        """Indexes of the things that some event changes."""
        return frozenset(e.actor for e in self.events) | frozenset(
            e.target for e in self.events if e.kind in ("hit", "follow")
        )


@dataclass(frozen=True)
class States:
    """Every thing at every asked time; each array is `(things, times)`, `color_to` and `color_from` index COLORS."""

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    angle: np.ndarray
    opacity: np.ndarray
    color_from: np.ndarray
    color_to: np.ndarray
    color_mix: np.ndarray


def is_held_out(color: str, shape: str) -> bool:
    """True for the one (colour, shape) pair in six that nothing is ever trained on, neither encoder nor projector."""
    return (COLORS.index(color) * 5 + SHAPES.index(shape) * 3) % 6 == 0


def states_at(scene: Scene, times: np.ndarray) -> States:
    """Where and how every thing of `scene` is at each of `times` (seconds, any order)."""
    n, t = len(scene.things), np.asarray(times, np.float64)
    x = np.repeat([[thing.x] for thing in scene.things], len(t), 1).astype(float)
    y = np.repeat([[thing.y] for thing in scene.things], len(t), 1).astype(float)
    scale, angle = np.ones((n, len(t))), np.zeros((n, len(t)))
    opacity, mix = np.ones((n, len(t))), np.zeros((n, len(t)))
    start_color = [[COLORS.index(thing.color)] for thing in scene.things]
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
            # The actor travels in the first half and stops at the target, which is pushed on in the second.
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
            begun, done = t >= e.start, p >= 1
            color_from[a] = np.where(begun, color_to[a], color_from[a])
            mix[a] = np.where(begun, smooth, mix[a])
            color_to[a] = np.where(begun, COLORS.index(e.color), color_to[a])
            color_from[a] = np.where(done, color_to[a], color_from[a])
    return States(x, y, scale, angle, opacity, color_from, color_to, mix)


def _shift(x: np.ndarray, y: np.ndarray, thing: int, e: Event, progress: np.ndarray) -> None:
    dx, dy = STEP[e.direction]
    x[thing] += dx * e.distance * progress
    y[thing] += dy * e.distance * progress


def sample_scene(rng: np.random.Generator, *, novel: bool = False, events: tuple[int, int] = (2, 4)) -> Scene:
    """A scene that can be drawn: nothing leaves the canvas and nothing passes through anything else.

    Args:
        rng: the only source of chance.
        novel: at least one thing has a (colour, shape) pair of the held-out set; otherwise none has.
        events: fewest and most events.
    """
    while True:
        things = _sample_things(rng, novel)
        if things is None:
            continue
        # What happens is settled before where: else kinds that need room would be tried, fail, and be rare.
        count = int(rng.integers(events[0], events[1] + 1))
        paired = (rng.random(count) < 0.3) & (len(things) > 1)
        kinds = [str(rng.choice(PAIR_EVENTS) if p else rng.choice(SOLO_EVENTS, p=_SOLO_ODDS)) for p in paired]
        for _ in range(30):
            placed = tuple(
                replace(t, x=float(rng.uniform(0.12, 0.88)), y=float(rng.uniform(0.12, 0.88))) for t in things
            )
            scene = _fit(rng, placed, kinds)
            if scene is not None:
                return scene


def twin(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """The same things before the same background, told apart by time alone; None where no such scene can be drawn.

    One event is turned into its opposite (left for right, grow for shrink) or two events change places. No single
    frame of either scene rules out the other.
    """
    for k in rng.permutation(len(scene.events)):
        e = scene.events[k]
        changed: Event | None = None
        things = scene.things
        if e.kind in ("move", "follow"):
            changed = replace(e, direction=OPPOSITE[e.direction])
            dx, dy = STEP[e.direction]
            moved = {e.actor, e.target} - {-1}
            # The twin starts where the original ends, so both pass the same places.
            things = tuple(
                replace(thing, x=thing.x + dx * e.distance, y=thing.y + dy * e.distance) if i in moved else thing
                for i, thing in enumerate(things)
            )
            if e.kind == "follow":
                changed = replace(changed, actor=e.target, target=e.actor)
        elif e.kind in _INVERSE_KIND:
            changed = replace(e, kind=_INVERSE_KIND[e.kind])
        if changed is None:
            continue
        events = (*scene.events[:k], changed, *scene.events[k + 1 :])
        candidate = replace(scene, things=things, events=events)
        if _is_tellable(candidate) and _is_drawable(candidate):
            return candidate
    order = [e for e in scene.events if e.kind in ("spin", "jump", "grow", "shrink", "recolor")]
    if len(order) >= 2 and order[0].actor != order[-1].actor:
        first, last = order[0], order[-1]
        swapped = {
            first: replace(last, start=first.start, end=first.end),
            last: replace(first, start=last.start, end=last.end),
        }
        candidate = replace(scene, events=tuple(swapped.get(e, e) for e in scene.events))
        if _is_tellable(candidate) and _is_drawable(candidate):
            return candidate
    return None


def _fit(rng: np.random.Generator, things: tuple[Thing, ...], kinds: list[str]) -> Scene | None:
    """`things` with events of `kinds`, each tried until it fits; None where one does not fit after many tries."""
    scene = Scene(things, BACKGROUNDS[rng.integers(len(BACKGROUNDS))], (), 0.1, int(rng.integers(2**31)))
    if not _is_drawable(scene):
        return None
    clock = rng.uniform(0.3, 1.0)
    for kind in kinds:
        length = rng.uniform(1.4, 2.4)
        for _ in range(12):
            event = _sample_event(rng, scene, kind, clock, clock + length)
            if event is not None:
                longer = replace(scene, events=(*scene.events, event), duration=clock + length + 0.1)
                if _is_tellable(longer) and _is_drawable(longer):
                    scene = longer
                    break
        else:
            return None
        clock += length + rng.uniform(0.2, 0.8)
    return replace(scene, duration=float(clock + rng.uniform(0.1, 0.6)))


def _sample_things(rng: np.random.Generator, novel: bool) -> tuple[Thing, ...] | None:
    count = int(rng.choice((1, 2, 3), p=(0.2, 0.5, 0.3)))
    pairs = [(c, s) for c in COLORS for s in SHAPES]
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:count]]
    if any(is_held_out(c, s) for c, s in chosen) != novel:
        return None
    # Colour and shape both differ between things, so that "the red one" and "the star" each name one thing.
    if len({c for c, _ in chosen}) < count or len({s for _, s in chosen}) < count:
        return None
    return tuple(
        Thing(
            shape,
            color,
            str(rng.choice(SIZES)),
            str(rng.choice(TEXTURES, p=(0.55, 0.15, 0.15, 0.15))),
            0.5,
            0.5,
        )
        for color, shape in chosen
    )


def _sample_event(rng: np.random.Generator, scene: Scene, kind: str, start: float, end: float) -> Event | None:
    things = scene.things
    actor = int(rng.integers(len(things)))
    if kind in PAIR_EVENTS:
        target = int(rng.choice([i for i in range(len(things)) if i != actor]))
        if kind == "hit":
            return _aimed(scene, Event(kind, actor, start, end, target=target))
        if kind == "orbit":
            return Event(kind, actor, start, end, target=target)
        return _behind(scene, Event(kind, actor, start, end, target=target, distance=float(rng.uniform(0.25, 0.45))))
    if kind == "move":
        direction = str(rng.choice(DIRECTIONS))
        return Event(kind, actor, start, end, direction, distance=float(rng.uniform(0.3, 0.6)))
    if kind == "jump":
        return Event(kind, actor, start, end, distance=0.2)
    if kind == "recolor":
        taken = {thing.color for thing in things} | {e.color for e in scene.events}
        return Event(kind, actor, start, end, color=str(rng.choice([c for c in COLORS if c not in taken])))
    return Event(kind, actor, start, end)


def _bearing(scene: Scene, e: Event) -> tuple[str, float, float, float]:
    """From actor to target when `e` begins: main direction, distance along it, distance across it, sum of radii."""
    now = states_at(scene, np.array([e.start]))
    dx = float(now.x[e.target, 0] - now.x[e.actor, 0])
    dy = float(now.y[e.target, 0] - now.y[e.actor, 0])
    reach = sum(RADIUS[scene.things[i].size] * float(now.scale[i, 0]) for i in (e.actor, e.target))
    if abs(dx) > abs(dy):
        return ("right" if dx > 0 else "left"), abs(dx), abs(dy), reach
    return ("down" if dy > 0 else "up"), abs(dy), abs(dx), reach


def _behind(scene: Scene, e: Event) -> Event | None:
    """`e` towards where the target lies, so that the actor really comes behind it; None where they are level."""
    direction, along, across, _ = _bearing(scene, e)
    return replace(e, direction=direction) if across < along else None


def _aimed(scene: Scene, e: Event) -> Event | None:
    """`e` with the direction and distance that bring its actor to the edge of its target; None off the axes."""
    direction, along, across, reach = _bearing(scene, e)
    if across > 0.12 or along - reach < 0.1:
        return None
    return replace(e, direction=direction, distance=along - reach)


def _is_tellable(scene: Scene) -> bool:
    """No event befalls a thing that is not there, and nothing happens twice over (grow, grow)."""
    hidden = {e.actor for e in scene.events if e.kind == "appear"}
    seen: set[tuple[str, int, str]] = set()
    for e in scene.events:
        concerned = {e.actor, e.target} - {-1}
        if e.kind == "appear":
            if e.actor not in hidden:
                return False
            hidden.discard(e.actor)
        elif concerned & hidden:
            return False
        if e.kind == "disappear":
            hidden.add(e.actor)
        thing = scene.things[e.actor]
        if e.kind == "spin" and thing.shape in ("circle", "ring") and thing.texture == "plain":
            return False
        if (e.kind, e.actor, e.direction) in seen:
            return False
        seen.add((e.kind, e.actor, e.direction))
    return len({e.kind for e in scene.events if e.kind in ("appear", "disappear")}) < 2


def _is_drawable(scene: Scene) -> bool:
    s = states_at(scene, np.linspace(0, scene.duration, int(scene.duration * 6) + 1))
    radius = np.array([[RADIUS[thing.size]] for thing in scene.things]) * s.scale
    inside = (s.x - radius > 0.01) & (s.x + radius < 0.99) & (s.y - radius > 0.01) & (s.y + radius < 0.99)
    if not inside.all() or (radius < 0.05).any() or (radius > 0.33).any():
        return False
    for i in range(len(scene.things)):
        for j in range(i):
            apart = np.hypot(s.x[i] - s.x[j], s.y[i] - s.y[j])
            if (apart < 0.95 * (radius[i] + radius[j])).any():
                return False
    return True
