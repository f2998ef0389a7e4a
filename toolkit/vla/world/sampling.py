"""Random sampling of scenes, and counterfactual scenes that only their temporal order
distinguishes.
"""

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
    is_novel_combination,
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
    num_objects: int | None = None,
    like: Scene | None = None,
) -> Scene:
    """Sample a scene that can be drawn: objects stay on the canvas and do not overlap.

    Args:
        rng: the only source of randomness.
        novel: at least one object has a novel (colour, shape) pair; otherwise no object has one.
        events: minimum and maximum number of events.
        num_objects: number of objects; one to three at random if None.
        like: use the colours, shapes and background of this scene with new positions, sizes,
            textures and events. `novel` is then that of this scene.
    """
    while True:
        objects = (
            _sample_objects(rng, novel, num_objects)
            if like is None
            else _vary_looks(like.objects, rng)
        )
        background = (
            BACKGROUNDS[rng.integers(len(BACKGROUNDS))] if like is None else like.background
        )
        if objects is None:
            continue
        # Kinds are chosen before positions: otherwise kinds that need space would fail often and
        # become rare.
        count = int(rng.integers(events[0], events[1] + 1))
        is_pair = (rng.random(count) < 0.3) & (len(objects) > 1)
        kinds = [
            str(rng.choice(PAIR_EVENTS) if p else rng.choice(SOLO_EVENTS, p=_SOLO_ODDS))
            for p in is_pair
        ]
        for _ in range(30):
            placement = tuple(
                replace(t, x=float(rng.uniform(0.12, 0.88)), y=float(rng.uniform(0.12, 0.88)))
                for t in objects
            )
            scene = _fit(rng, placement, background, kinds)
            if scene is not None:
                return scene


def counterfactual(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """Return a scene with the same objects and background that differs only in time; None if there
    is none.

    One event is replaced by its opposite (left and right, grow and shrink), or two events swap
    their times. No single frame of either scene rules out the other.
    """
    for k in rng.permutation(len(scene.events)):
        e = scene.events[k]
        opposite: Event | None = None
        objects = scene.objects
        if e.kind in ("move", "follow"):
            opposite = replace(e, direction=OPPOSITE[e.direction])
            dx, dy = STEP[e.direction]
            participants = {e.actor, e.target} - {-1}
            # The counterfactual starts where the original ends, so that both pass the same
            # positions.
            objects = tuple(
                replace(thing, x=thing.x + dx * e.distance, y=thing.y + dy * e.distance)
                if i in participants
                else thing
                for i, thing in enumerate(objects)
            )
            if e.kind == "follow":
                opposite = replace(opposite, actor=e.target, target=e.actor)
        elif e.kind in _INVERSE_KIND:
            opposite = replace(e, kind=_INVERSE_KIND[e.kind])
        if opposite is None:
            continue
        events = (*scene.events[:k], opposite, *scene.events[k + 1 :])
        candidate = replace(scene, objects=objects, events=events)
        if _is_consistent(candidate) and _is_drawable(candidate):
            return candidate
    order = [e for e in scene.events if e.kind in ("spin", "jump", "grow", "shrink", "recolor")]
    if len(order) >= 2 and order[0].actor != order[-1].actor:
        first, last = order[0], order[-1]
        swap = {
            first: replace(last, start=first.start, end=first.end),
            last: replace(first, start=last.start, end=last.end),
        }
        candidate = replace(scene, events=tuple(swap.get(e, e) for e in scene.events))
        if _is_consistent(candidate) and _is_drawable(candidate):
            return candidate
    return None


def _fit(
    rng: np.random.Generator, objects: tuple[SceneObject, ...], background: str, kinds: list[str]
) -> Scene | None:
    """Add events of `kinds` to the objects, retrying each; None if one does not fit after several
    attempts.
    """
    scene = Scene(objects, background, (), 0.1, int(rng.integers(2**31)))
    if not _is_drawable(scene):
        return None
    clock = rng.uniform(0.3, 1.0)
    for kind in kinds:
        length = rng.uniform(1.4, 2.4)
        for _ in range(12):
            event = _sample_event(rng, scene, kind, clock, clock + length)
            if event is not None:
                longer = replace(
                    scene, events=(*scene.events, event), duration=clock + length + 0.1
                )
                if _is_consistent(longer) and _is_drawable(longer):
                    scene = longer
                    break
        else:
            return None
        clock += length + rng.uniform(0.2, 0.8)
    return replace(scene, duration=float(clock + rng.uniform(0.1, 0.6)))


def _sample_objects(
    rng: np.random.Generator, novel: bool, num_objects: int | None
) -> tuple[SceneObject, ...] | None:
    count = num_objects or int(rng.choice((1, 2, 3), p=(0.2, 0.5, 0.3)))
    pairs = [(c, s) for c in COLORS for s in SHAPES]
    selection = [pairs[i] for i in rng.permutation(len(pairs))[:count]]
    if any(is_novel_combination(c, s) for c, s in selection) != novel:
        return None
    # Objects differ in both colour and shape, so that "the red one" and "the star" are unambiguous.
    if len({c for c, _ in selection}) < count or len({s for _, s in selection}) < count:
        return None
    return _vary_looks(
        tuple(SceneObject(shape, color, "medium", "plain", 0.5, 0.5) for color, shape in selection),
        rng,
    )


def _vary_looks(
    objects: tuple[SceneObject, ...], rng: np.random.Generator
) -> tuple[SceneObject, ...]:
    """Return the same colours and shapes with new sizes and textures."""
    return tuple(
        replace(
            t,
            size=str(rng.choice(SIZES)),
            texture=str(rng.choice(TEXTURES, p=(0.55, 0.15, 0.15, 0.15))),
        )
        for t in objects
    )


def _sample_event(
    rng: np.random.Generator, scene: Scene, kind: str, start: float, end: float
) -> Event | None:
    objects = scene.objects
    actor = int(rng.integers(len(objects)))
    if kind in PAIR_EVENTS:
        target = int(rng.choice([i for i in range(len(objects)) if i != actor]))
        if kind == "hit":
            return _aim(scene, Event(kind, actor, start, end, target=target))
        if kind == "orbit":
            return Event(kind, actor, start, end, target=target)
        return _behind(
            scene,
            Event(kind, actor, start, end, target=target, distance=float(rng.uniform(0.25, 0.45))),
        )
    if kind == "move":
        direction = str(rng.choice(DIRECTIONS))
        return Event(kind, actor, start, end, direction, distance=float(rng.uniform(0.3, 0.6)))
    if kind == "jump":
        return Event(kind, actor, start, end, distance=0.2)
    if kind == "recolor":
        used_colors = {thing.color for thing in objects} | {e.color for e in scene.events}
        return Event(
            kind,
            actor,
            start,
            end,
            color=str(rng.choice([c for c in COLORS if c not in used_colors])),
        )
    return Event(kind, actor, start, end)


def _bearing(scene: Scene, e: Event) -> tuple[str, float, float, float]:
    """Return, from actor to target when `e` starts: direction, distance along it and across it,
    sum of radii.
    """
    now = states_at(scene, np.array([e.start]))
    dx = float(now.x[e.target, 0] - now.x[e.actor, 0])
    dy = float(now.y[e.target, 0] - now.y[e.actor, 0])
    reach = sum(RADIUS[scene.objects[i].size] * float(now.scale[i, 0]) for i in (e.actor, e.target))
    if abs(dx) > abs(dy):
        return ("right" if dx > 0 else "left"), abs(dx), abs(dy), reach
    return ("down" if dy > 0 else "up"), abs(dy), abs(dx), reach


def _behind(scene: Scene, e: Event) -> Event | None:
    """Return `e` in the direction of the target, so that the actor follows behind; None if neither
    axis dominates.
    """
    direction, along, across, _ = _bearing(scene, e)
    return replace(e, direction=direction) if across < along else None


def _aim(scene: Scene, e: Event) -> Event | None:
    """Return `e` with the direction and distance to the edge of the target; None if the target is
    off the axes.
    """
    direction, along, across, reach = _bearing(scene, e)
    if across > 0.12 or along - reach < 0.1:
        return None
    return replace(e, direction=direction, distance=along - reach)


def _is_consistent(scene: Scene) -> bool:
    """Return whether no event involves a hidden object, and no event repeats (grow, grow)."""
    hidden = {e.actor for e in scene.events if e.kind == "appear"}
    previous: set[tuple[str, int, str]] = set()
    for e in scene.events:
        participants = {e.actor, e.target} - {-1}
        if e.kind == "appear":
            if e.actor not in hidden:
                return False
            hidden.discard(e.actor)
        elif participants & hidden:
            return False
        if e.kind == "disappear":
            hidden.add(e.actor)
        thing = scene.objects[e.actor]
        if e.kind == "spin" and thing.shape in ("circle", "ring") and thing.texture == "plain":
            return False
        if (e.kind, e.actor, e.direction) in previous:
            return False
        previous.add((e.kind, e.actor, e.direction))
    return len({e.kind for e in scene.events if e.kind in ("appear", "disappear")}) < 2


def _is_drawable(scene: Scene) -> bool:
    s = states_at(scene, np.linspace(0, scene.duration, int(scene.duration * 6) + 1))
    radius = np.array([[RADIUS[thing.size]] for thing in scene.objects]) * s.scale
    inside = (
        (s.x - radius > 0.01)
        & (s.x + radius < 0.99)
        & (s.y - radius > 0.01)
        & (s.y + radius < 0.99)
    )
    if not inside.all() or (radius < 0.05).any() or (radius > 0.33).any():
        return False
    for i in range(len(scene.objects)):
        for j in range(i):
            apart = np.hypot(s.x[i] - s.x[j], s.y[i] - s.y[j])
            if (apart < 0.95 * (radius[i] + radius[j])).any():
                return False
    return True
