"""Features and the identity of their space."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from vla.errors import CacheError, ShapeError, SpecMismatchError
from vla.features import LAYOUT, FeatureSpec, FrameFeatures, TextFeatures
from vla.hints import Hint
from vla.video import Frames, Video

SPEC = FeatureSpec("open_clip", "ViT-B-32 openai", "0123456789abcdef", "224 squash", "fps=2", 512)
OTHERS = {
    "encoder": "toy",
    "model": "m",
    "weights": "w",
    "preprocessing": "p",
    "sampling": "fps=3",
    "dim": 8,
    "layout": 0,
}


def test_the_fingerprint_is_of_the_canonical_json():
    """Fixed for ever: it names folders on people's disks."""
    text = (
        '{"dim":512,"encoder":"open_clip","layout":1,"model":"ViT-B-32 openai","preprocessing":"224 squash",'
        '"sampling":"fps=2","weights":"0123456789abcdef"}'
    )
    assert SPEC.fingerprint == hashlib.sha256(text.encode()).hexdigest()[:12] == "bbeebfcf7680"


@pytest.mark.parametrize(("field", "value"), OTHERS.items())
def test_every_field_changes_the_fingerprint(field, value):
    assert dataclasses.replace(SPEC, **{field: value}).fingerprint != SPEC.fingerprint
    assert set(OTHERS) == {f.name for f in dataclasses.fields(FeatureSpec)}


def test_a_spec_comes_back_from_json():
    assert FeatureSpec.from_json(json.loads(json.dumps(SPEC.to_json()))) == SPEC
    assert SPEC.to_json()["fingerprint"] == SPEC.fingerprint


@pytest.mark.parametrize("field", OTHERS)
def test_an_altered_or_incomplete_spec_is_refused(field):
    record = SPEC.to_json()
    with pytest.raises(CacheError, match="was altered: its fingerprint is"):
        FeatureSpec.from_json({**record, field: OTHERS[field]}, "x")
    del record[field]
    with pytest.raises(CacheError, match=f"x does not describe features: .*{field}"):
        FeatureSpec.from_json(record, "x")


@pytest.mark.parametrize(
    "change",
    [{"dim": "512"}, {"model": 3}, {"layout": "1"}, {"weights": None}, {"dim": 2.5}],
    ids=str,
)
def test_fields_of_the_wrong_type_are_refused(change):
    record = {**SPEC.to_json(), **change}
    del record["fingerprint"]
    with pytest.raises(CacheError, match="does not describe features"):
        FeatureSpec.from_json(record)


@pytest.mark.parametrize("record", [None, [], "x", 3])
def test_rejects_non_specs(record):
    with pytest.raises(CacheError, match="does not describe features"):
        FeatureSpec.from_json(record)


def test_a_newer_layout_is_refused():
    newer = dataclasses.replace(SPEC, layout=LAYOUT + 1)
    with pytest.raises(
        CacheError, match=f"layout {LAYOUT + 1}; this vla supports up to {LAYOUT}: upgrade vla"
    ):
        FeatureSpec.from_json(newer.to_json())


def test_a_mismatch_names_the_fields_and_the_way_out():
    SPEC.require_same(dataclasses.replace(SPEC), "a", "b", Hint("train"))
    other = dataclasses.replace(SPEC, sampling="fps=4", dim=8)
    with pytest.raises(SpecMismatchError) as error:
        SPEC.require_same(other, "the cache", "the run", Hint("train"))
    assert str(error.value) == (
        "the cache and the run lie in different feature spaces and cannot be mixed:\n"
        "  sampling: 'fps=2' in the cache, 'fps=4' in the run\n"
        "  dim: 512 in the cache, 8 in the run"
    )
    assert error.value.hint == Hint("train")


GOOD = np.ones((3, 2), np.float16)


@pytest.mark.parametrize(
    ("values", "times", "message"),
    [
        (np.ones(3), np.arange(3), "disagree"),
        (GOOD, np.arange(2), "disagree"),
        (GOOD, np.zeros((3, 1)), "disagree"),
        (GOOD * np.float16(np.nan), np.arange(3), "not finite"),
        (np.full((3, 2), np.inf), np.arange(3), "not finite"),
        (GOOD, np.array([0, 2, 1]), "timestamps decrease"),
    ],
)
def test_rejects_inconsistent_frame_features(values, times, message):
    with pytest.raises(ShapeError, match=f"v.mp4: .*{message}"):
        FrameFeatures("v.mp4", values, times, 1.0)


def test_frame_features_may_be_empty_and_show_their_shape():
    assert len(FrameFeatures("v", np.zeros((0, 4)), np.zeros(0), 0.0).values) == 0
    assert (
        repr(FrameFeatures("v", GOOD, np.array([0, 0, 1.0]), 2.5))
        == "FrameFeatures('v', 3 x 2 float16, 2.50 s)"
    )


def texts(**changed):
    parts = {
        "texts": ("a", "b"), "pooled": np.ones((2, 3)), "tokens": np.ones((2, 4, 3)),
        "mask": np.array([[1, 1, 0, 0], [1, 1, 1, 1]], bool),
    }  # fmt: skip
    return TextFeatures(**{**parts, **changed})


def test_text_features_show_their_shape():
    assert repr(texts()) == "TextFeatures(2 texts, tokens (2, 4, 3), dim 3)"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": ("a",)}, "disagree"),
        ({"pooled": np.ones((3, 3))}, "disagree"),
        ({"tokens": np.ones((2, 5, 3))}, "disagree"),
        ({"mask": np.ones((2, 3), bool)}, "disagree"),
        ({"pooled": np.ones((2, 4))}, "pooled width 4 is not token width 3"),
        ({"mask": np.array([[0, 1, 1, 1], [1, 1, 1, 1]], bool)}, "True first"),
        ({"mask": np.array([[1, 0, 1, 0], [1, 1, 1, 1]], bool)}, "True first"),
        ({"pooled": np.full((2, 3), np.nan)}, "not finite"),
        ({"tokens": np.full((2, 4, 3), -np.inf)}, "not finite"),
    ],
)
def test_rejects_inconsistent_text_features(changed, message):
    with pytest.raises(ShapeError, match=message):
        texts(**changed)


PIXELS = np.zeros((2, 4, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "times"),
    [
        (PIXELS[0], np.zeros(2)), (PIXELS.astype(np.float32), np.zeros(2)), (PIXELS[..., :2], np.zeros(2)),
        (PIXELS, np.zeros(3)), (PIXELS, np.array([1.0, 0.5])),
    ],
)  # fmt: skip
def test_rejects_inconsistent_frames(pixels, times):
    with pytest.raises(ShapeError):
        Frames(pixels, times)


def test_frames_and_videos():
    frames = Frames(PIXELS, np.array([0.0, 0.5]))
    assert len(frames) == 2 and repr(frames) == "Frames(2 x 4x6, 0.00-0.50 s)"
    assert repr(Frames(PIXELS[:0], np.zeros(0))) == "Frames(0 x 4x6)"
    Video("v.mp4", 0.0, 0.0, 1, 1, "h264")
    for wrong in ((-1.0, 0.0, 1, 1), (0.0, -1.0, 1, 1), (0.0, 0.0, 0, 1), (0.0, 0.0, 1, 0)):
        with pytest.raises(ShapeError, match="a video needs a positive size and no negative times"):
            Video("v.mp4", *wrong, "h264")


@pytest.mark.parametrize(
    ("times", "duration", "message"),
    [
        ([0.0, float("nan")], 5.0, "timestamps are not numbers"),
        ([0.0, float("inf")], float("inf"), "timestamps are not numbers"),
        ([-1e300, 0.0], 5.0, "timestamps are not numbers of at most 1e\\+12 s"),
        ([0.0, 1e13], 1e13, "timestamps are not numbers"),
        ([0.0, 1.0], 0.5, "its duration is 0.5 s, not between its last frame at 1.0 s"),
        ([0.0, 1.0], float("nan"), "its duration is nan"),
        ([0.0, 1.0], 1e300, "its duration is 1e\\+300"),
    ],
    ids=str,
)
def test_rejects_impossible_times(times, duration, message):
    with pytest.raises(ShapeError, match=message):
        FrameFeatures("v", np.zeros((2, 3)), np.array(times), duration)
    FrameFeatures("v", np.zeros((2, 3)), np.array([0.0, 1e12]), 1e12)
