"""Scenes by chance: what can be drawn and told, and the twins that only time tells apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla.world.scene import (
    BACKGROUNDS,
    COLORS,
    DIRECTIONS,
    RADIUS,
    SHAPES,
    SIZES,
    STEP,
    TEXTURES,
    Event,
    Scene,
    SceneObject,
    is_held_out,
    states_at,
)

SOLO_EVENTS = ("move", "grow", "shrink", "spin", "appear", "disappear", "recolor", "jump")
PAIR_EVENTS = ("hit", "follow", "orbit")
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
_INVERSE_KIND = {"grow": "shrink", "shrink": "grow", "appear": "disappear", "disappear": "appear"}
_SOLO_ODDS = (0.36, 0.1, 0.1, 0.1, 0.07, 0.07, 0.1, 0.1)


def sample_scene(
    rng: np.random.Generator,
    *,
    novel: bool = False,
    events: tuple[int, int] = (2, 4),
    things: int | None = None,
    like: Scene | None = None,
) -> Scene:
    """A scene that can be drawn: nothing leaves the canvas and nothing passes through anything else.

    Args:
        rng: the only source of chance.
        novel: at least one thing has a (colour, shape) pair of the held-out set; otherwise none has.
        events: fewest and most events.
        things: how many; one to three by chance when None.
        like: show the colours, shapes and background of this scene; places, sizes, textures and events are new. `novel`
            is then this scene's.
    """
    while True:
        chosen = _sample_things(rng, novel, things) if like is None else _resized(like.things, rng)
        background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))] if like is None else like.background
        if chosen is None:
            continue
        # What happens is settled before where: else kinds that need room would be tried, fail, and be rare.
        count = int(rng.integers(events[0], events[1] + 1))
        paired = (rng.random(count) < 0.3) & (len(chosen) > 1)
        kinds = [str(rng.choice(PAIR_EVENTS) if p else rng.choice(SOLO_EVENTS, p=_SOLO_ODDS)) for p in paired]
        for _ in range(30):
            placed = tuple(
                replace(t, x=float(rng.uniform(0.12, 0.88)), y=float(rng.uniform(0.12, 0.88))) for t in chosen
            )
            scene = _fit(rng, placed, background, kinds)
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


def _fit(rng: np.random.Generator, things: tuple[SceneObject, ...], background: str, kinds: list[str]) -> Scene | None:
    """`things` with events of `kinds`, each tried until it fits; None where one does not fit after many tries."""
    scene = Scene(things, background, (), 0.1, int(rng.integers(2**31)))
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


def _sample_things(rng: np.random.Generator, novel: bool, things: int | None) -> tuple[SceneObject, ...] | None:
    count = things or int(rng.choice((1, 2, 3), p=(0.2, 0.5, 0.3)))
    pairs = [(c, s) for c in COLORS for s in SHAPES]
    chosen = [pairs[i] for i in rng.permutation(len(pairs))[:count]]
    if any(is_held_out(c, s) for c, s in chosen) != novel:
        return None
    # Colour and shape both differ between things, so that "the red one" and "the star" each name one thing.
    if len({c for c, _ in chosen}) < count or len({s for _, s in chosen}) < count:
        return None
    return _resized(tuple(SceneObject(shape, color, "medium", "plain", 0.5, 0.5) for color, shape in chosen), rng)


def _resized(things: tuple[SceneObject, ...], rng: np.random.Generator) -> tuple[SceneObject, ...]:
    """The same colours and shapes with new sizes and textures."""
    return tuple(
        replace(t, size=str(rng.choice(SIZES)), texture=str(rng.choice(TEXTURES, p=(0.55, 0.15, 0.15, 0.15))))
        for t in things
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
