"""The rendered world is what it says: scenes that can be drawn, words that are true, twins that only time tells apart."""

import numpy as np
import pytest

from vla.world.clips import plan_clips, write_captions
from vla.world.language import appearance, description, moments, questions
from vla.world.render import CANVAS, draw
from vla.world.sampling import OPPOSITE, counterfactual, sample_scene
from vla.world.scene import (
    COLORS,
    RADIUS,
    SHAPES,
    Event,
    Scene,
    SceneObject,
    is_novel_combination,
    states_at,
)


def scenes(count, seed=0, **options):
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, **options) for _ in range(count)]


def test_equal_seeds_give_equal_scenes_and_pixels():
    first, second = scenes(3, 5), scenes(3, 5)
    assert first == second
    np.testing.assert_array_equal(
        draw(first[0], np.array([0.0, 1.0])), draw(second[0], np.array([0.0, 1.0]))
    )
    assert scenes(3, 6) != first


def test_novel_pairs_are_one_in_six_and_opt_in():
    pairs = [(c, s) for c in COLORS for s in SHAPES]
    assert sum(is_novel_combination(*p) for p in pairs) == len(pairs) // 6
    for scene in scenes(40):
        assert not any(is_novel_combination(t.color, t.shape) for t in scene.objects)
    for scene in scenes(40, novel=True):
        assert any(is_novel_combination(t.color, t.shape) for t in scene.objects)


def test_objects_stay_on_the_canvas_without_overlap():
    for scene in scenes(40):
        s = states_at(scene, np.linspace(0, scene.duration, 50))
        radius = np.array([[RADIUS[t.size]] for t in scene.objects]) * s.scale
        assert (s.x - radius > 0).all() and (s.x + radius < 1).all()
        assert (s.y - radius > 0).all() and (s.y + radius < 1).all()
        for i in range(len(scene.objects)):
            for j in range(i):
                gap = np.hypot(s.x[i] - s.x[j], s.y[i] - s.y[j])
                assert (gap > 0.9 * (radius[i] + radius[j])).all()


@pytest.mark.parametrize(
    ("direction", "axis", "sign"),
    [("left", "x", -1), ("right", "x", 1), ("up", "y", -1), ("down", "y", 1)],
)
def test_move_directions(direction, axis, sign):
    thing = SceneObject("circle", "red", "small", "plain", 0.5, 0.5)
    scene = Scene((thing,), "black", (Event("move", 0, 1.0, 2.0, direction, distance=0.3),), 3.0, 0)
    s = getattr(states_at(scene, np.array([0.0, 1.0, 1.5, 2.0, 3.0])), axis)[0]
    np.testing.assert_allclose(s, [0.5, 0.5, 0.5 + sign * 0.15, 0.5 + sign * 0.3, 0.5 + sign * 0.3])
    words = moments(scene, np.random.default_rng(0))[0].text.lower()
    synonyms = {
        "left": ("left",),
        "right": ("right",),
        "up": ("up", "rises", "climbs"),
        "down": ("down", "sinks", "descends"),
    }
    assert any(w in words for w in synonyms[direction])
    assert "red" in words


def test_hit_stops_at_the_target_and_pushes_it():
    a, b = (
        SceneObject("circle", "red", "small", "plain", 0.2, 0.5),
        SceneObject("star", "blue", "small", "plain", 0.6, 0.5),
    )
    gap = 0.4 - 2 * RADIUS["small"]
    scene = Scene(
        (a, b), "black", (Event("hit", 0, 0.0, 2.0, "right", target=1, distance=gap),), 2.0, 0
    )
    s = states_at(scene, np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(s.x[0], [0.2, 0.2 + gap, 0.2 + gap])
    np.testing.assert_allclose(s.x[1], [0.6, 0.6, 0.8])


def test_drawn_objects_have_their_colour_and_position():
    thing = SceneObject("square", "green", "large", "plain", 0.3, 0.7)
    frame = draw(Scene((thing,), "black", (), 1.0, 0), np.array([0.0]))[0].astype(int)
    centre = frame[round(0.7 * CANVAS), round(0.3 * CANVAS)]
    assert centre[1] > centre[0] + 80 and centre[1] > centre[2] + 60
    assert frame[round(0.2 * CANVAS), round(0.8 * CANVAS)].max() < 40


def test_counterfactuals_differ_only_in_events():
    rng = np.random.default_rng(1)
    pairs = [(s, counterfactual(s, rng)) for s in scenes(60, 2)]
    found = [(a, b) for a, b in pairs if b is not None]
    assert len(found) > 25
    for a, b in found:
        assert a.background == b.background and a.duration == b.duration and a.seed == b.seed
        assert [(t.shape, t.color, t.size, t.texture) for t in a.objects] == [
            (t.shape, t.color, t.size, t.texture) for t in b.objects
        ]
        assert a.events != b.events


def test_reversed_move_passes_the_same_positions():
    rng = np.random.default_rng(3)
    checked = 0
    for scene in scenes(80, 4, events=(1, 1)):
        other = counterfactual(scene, rng) if scene.events[0].kind == "move" else None
        if other is None:
            continue
        e, f = scene.events[0], other.events[0]
        assert f.direction == OPPOSITE[e.direction]
        start, end = np.array([0.0]), np.array([scene.duration])
        np.testing.assert_allclose(
            states_at(scene, start).x[e.actor], states_at(other, end).x[e.actor], atol=1e-9
        )
        np.testing.assert_allclose(
            states_at(scene, end).y[e.actor], states_at(other, start).y[e.actor], atol=1e-9
        )
        checked += 1
    assert checked > 5


def test_scenes_are_diverse():
    rng = np.random.default_rng(7)
    some = scenes(250, 8)
    assert len({description(s, rng) for s in some}) > 243
    kinds = {e.kind for s in some for e in s.events}
    assert kinds == {
        "move",
        "grow",
        "shrink",
        "spin",
        "appear",
        "disappear",
        "recolor",
        "jump",
        "hit",
        "follow",
        "orbit",
    }


def test_moments_name_colours_and_have_event_times():
    rng = np.random.default_rng(9)
    for scene in scenes(30, 10):
        for moment, event in zip(moments(scene, rng), scene.events, strict=True):
            assert (moment.start, moment.end) == (event.start, event.end)
            assert scene.objects[event.actor].color in moment.text.lower()
        assert all(t.color in appearance(scene, rng).lower() for t in scene.objects)


def test_answers_and_counts_are_correct():
    rng = np.random.default_rng(11)
    for scene in scenes(30, 12):
        for q in questions(scene, rng):
            if q.kind == "choice":
                assert q.answer in q.choices
            if q.text == "How many shapes are there?":
                assert q.answer == str(len(scene.objects))


def test_plans_have_exact_counts_and_mutual_counterfactuals():
    clips = plan_clips("test", 25, 0)
    assert len(clips) == 25 and len({c.name for c in clips}) == 25
    by_name = {c.name: c for c in clips}
    assert any(c.counterfactual for c in clips)
    for clip in clips:
        if clip.counterfactual:
            assert by_name[clip.counterfactual].counterfactual == clip.name


def test_captions_are_readable_by_the_table_reader(tmp_path):
    from vla.datasets._open import read_annotations

    clips = plan_clips("val", 6, 3)
    write_captions(clips, tmp_path / "c.jsonl", 0, descriptions=2)
    read = read_annotations(tmp_path / "c.jsonl")
    assert {a.video for a in read} == {c.name for c in clips}
    assert {a.split for a in read} == {"val"}
    assert sum(bool(a.spans) for a in read) == sum(len(c.scene.events) for c in clips)
