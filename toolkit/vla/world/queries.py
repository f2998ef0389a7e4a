"""Search queries about rendered clips, each with all moments that match it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vla.world.clips import Clip
from vla.world.language import event_query, thing_query
from vla.world.scene import COLORS, Event, Scene, states_at

THING, EVENT = "thing", "event"
_STEP = 0.125
_MIN_OPACITY = 0.5

Moment = tuple[str, float, float]
"""Name of a clip, start and end in seconds."""


@dataclass(frozen=True)
class WorldQuery:
    """A query with its ground truth.

    Attributes:
        text: the query, such as `a yellow triangle spins`.
        kind: `thing`, which a single frame shows, or `event`, which needs several.
        moments: all moments of the clips that match.
    """

    text: str
    kind: str
    moments: tuple[Moment, ...]

    @property
    def clips(self) -> frozenset[str]:
        """Names of the clips with a moment that matches."""
        return frozenset(name for name, _, _ in self.moments)

    def matches(self, clip: str, seconds: float) -> bool:
        """Return whether the thing is on screen, or the event happens, at a time of a clip."""
        return any(name == clip and start <= seconds <= end for name, start, end in self.moments)


def thing_queries(clips: Iterable[Clip], rng: np.random.Generator) -> list[WorldQuery]:
    """Return a query for each combination of colour and shape that is on screen in `clips`."""
    moments: dict[tuple[str, str], list[Moment]] = defaultdict(list)
    for clip in clips:
        for key, start, end in _appearances(clip.scene):
            moments[key].append((clip.name, start, end))
    return [
        WorldQuery(thing_query(*key, rng), THING, tuple(moments[key])) for key in sorted(moments)
    ]


def event_queries(clips: Iterable[Clip], rng: np.random.Generator) -> list[WorldQuery]:
    """Return a query for each distinct event of `clips`.

    Events of objects that have changed their colour are left out: captions name an object by its
    first colour.
    """
    moments: dict[tuple[str, ...], list[Moment]] = defaultdict(list)
    examples: dict[tuple[str, ...], tuple[Scene, Event]] = {}
    ambiguous: set[tuple[str, ...]] = set()
    for clip in clips:
        for event in clip.scene.events:
            key = event_key(clip.scene, event)
            moments[key].append((clip.name, event.start, event.end))
            examples.setdefault(key, (clip.scene, event))
            if _has_recolored(clip.scene, event):
                ambiguous.add(key)
    return [
        WorldQuery(event_query(*examples[key], rng), EVENT, tuple(moments[key]))
        for key in sorted(moments)
        if key not in ambiguous
    ]


def event_key(scene: Scene, event: Event) -> tuple[str, ...]:
    """Return the content of a sentence about `event` that mentions neither size nor texture."""
    things = [
        f"{scene.objects[i].color} {scene.objects[i].shape}"
        for i in (event.actor, event.target)
        if i >= 0
    ]
    # Sentences do not mention the direction of a hit.
    return (event.kind, event.color, "" if event.kind == "hit" else event.direction, *things)


def _has_recolored(scene: Scene, event: Event) -> bool:
    """Return whether an object of `event` has another colour than at the start of the scene."""
    return any(
        e.kind == "recolor" and e.end <= event.start and e.actor in (event.actor, event.target)
        for e in scene.events
    )


def _appearances(scene: Scene) -> list[tuple[tuple[str, str], float, float]]:
    """Return colour and shape, start and end of each time for which an object is on screen."""
    times = np.arange(0.0, scene.duration, _STEP)
    states = states_at(scene, times)
    spans = []
    for row, thing in enumerate(scene.objects):
        colors = np.where(states.color_mix[row] < 0.5, states.color_from[row], states.color_to[row])
        colors = np.where(states.opacity[row] >= _MIN_OPACITY, colors, -1)
        bounds = [0, *(np.flatnonzero(np.diff(colors)) + 1), len(colors)]
        for first, last in pairwise(bounds):
            if colors[first] >= 0:
                key = (COLORS[colors[first]], thing.shape)
                spans.append((key, float(times[first]), float(times[last - 1] + _STEP)))
    return spans
