"""Queries about clips are true of exactly the moments that they name."""

from dataclasses import replace

import numpy as np
import pytest

from vla.world.clips import Clip, plan_clips
from vla.world.language import mentions_appearance
from vla.world.queries import EVENT, THING, event_key, event_queries, thing_queries
from vla.world.scene import Event, Scene, SceneObject


def thing(color, shape, **looks):
    return SceneObject(
        shape, color, looks.get("size", "medium"), looks.get("texture", "plain"), 0.3, 0.5
    )


def clip(name, things, events, duration=8.0):
    return Clip(name, Scene(tuple(things), "sand", tuple(events), duration, 1), "test")


def queries(clips):
    rng = np.random.default_rng(0)
    return thing_queries(clips, rng), event_queries(clips, rng)


def test_a_thing_is_on_screen_from_its_appearance_to_its_end():
    red, blue = thing("red", "star"), thing("blue", "ring")
    scene = clip(
        "a.mp4", [red, blue], [Event("appear", 0, 2.0, 4.0), Event("disappear", 1, 5.0, 7.0)]
    )
    things, _ = queries([scene])
    star, ring = (next(q for q in things if color in q.text) for color in ("red", "blue"))
    assert (star.kind, star.clips) == (THING, {"a.mp4"})
    # Half of the fade, which is at its middle.
    assert (
        not star.matches("a.mp4", 2.5) and star.matches("a.mp4", 3.5) and star.matches("a.mp4", 7.9)
    )
    assert (
        ring.matches("a.mp4", 0.0) and ring.matches("a.mp4", 5.5) and not ring.matches("a.mp4", 6.6)
    )
    assert not star.matches("b.mp4", 5.0)


def test_a_thing_that_changes_its_colour_is_another_thing_from_then_on():
    scene = clip("a.mp4", [thing("red", "star")], [Event("recolor", 0, 2.0, 4.0, color="blue")])
    things, _ = queries([scene])
    by_color = {color: next(q for q in things if color in q.text) for color in ("red", "blue")}
    assert by_color["red"].matches("a.mp4", 1.0) and not by_color["red"].matches("a.mp4", 5.0)
    assert by_color["blue"].matches("a.mp4", 5.0) and not by_color["blue"].matches("a.mp4", 1.0)


def test_the_same_event_of_several_clips_is_one_query_with_all_moments():
    move = Event("move", 0, 1.0, 3.0, direction="left", distance=0.2)
    first = clip("a.mp4", [thing("red", "star", texture="striped")], [move])
    second = clip(
        "b.mp4", [thing("red", "star", size="large")], [replace(move, start=4.0, end=6.0)]
    )
    other = clip("c.mp4", [thing("red", "star")], [replace(move, direction="right")])
    _, events = queries([first, second, other])
    assert len(events) == 2
    (both,) = (q for q in events if len(q.moments) == 2)
    assert both.moments == (("a.mp4", 1.0, 3.0), ("b.mp4", 4.0, 6.0)) and both.kind == EVENT
    assert both.text.startswith("a red star") and "left" in both.text


def test_events_of_recoloured_things_are_left_out():
    events = [Event("recolor", 0, 1.0, 2.0, color="blue"), Event("spin", 0, 3.0, 5.0)]
    scene = clip("a.mp4", [thing("red", "star")], events)
    _, found = queries([scene])
    assert [q.moments[0][1] for q in found] == [1.0]


def test_queries_are_words_of_people_and_mention_neither_size_nor_texture():
    clips = plan_clips("test", 40, 3)
    things, events = queries(clips)
    texts = [q.text for q in (*things, *events)]
    assert len(events) > 60 and len(things) > 30
    for text in texts:
        assert text.split()[0] in ("a", "an") and not text.endswith(".")
        assert not mentions_appearance(text)
        assert (text.split()[0] == "an") == (text.split()[1][0] in "aeiou")
    # Every event of the clips is in some query, but for those of recoloured things.
    covered = {moment for q in events for moment in q.moments}
    keys = {}
    for c in clips:
        for e in c.scene.events:
            keys.setdefault(event_key(c.scene, e), []).append((c.name, e.start, e.end))
    left_out = [k for k, moments in keys.items() if not covered.issuperset(moments)]
    assert len(left_out) < len(keys) / 4
    assert sum(len(q.moments) for q in events) == len(covered)


@pytest.mark.parametrize("seed", [0, 1])
def test_equal_seeds_give_equal_queries(seed):
    clips = plan_clips("test", 8, seed)
    assert queries(clips) == queries(clips)
