"""What a search compares: vectors of several texts, against plain sums in float64; what cannot be asked is refused."""

import math

import numpy as np
import pytest

from unit.retrieval.test_searcher import compared, filled, searcher, unit
from vla.encoders.toy import Encoder
from vla.errors import UsageError
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval.query import NEGATIVE_WEIGHT, TEMPLATES, Query, encode_query, from_image, subtract

ENCODER = Encoder("12")
MODEL = AlignmentModel(ModelConfig(12)).eval()


def vector(text):
    return unit(ENCODER.encode_text([text]).pooled[0])


def one(query):
    (found,) = encode_query(query, ENCODER, MODEL)
    return found


def test_one_text_is_its_own_vector():
    found = one(Query("  a dog\0"))
    np.testing.assert_allclose(found.vector, vector("a dog"), atol=1e-6)
    np.testing.assert_array_equal(found.raw, ENCODER.encode_text(["a dog"]).pooled[0].astype(np.float32))
    assert found.text == "a dog" and found.is_single_text and found.is_text


def test_several_texts_score_the_weighted_mean_of_their_cosines_less_what_is_not_wanted():
    query = Query(
        "a dog", also=(("a hound", 0.5), ("a beast", 2.0)), negative=(("snow", NEGATIVE_WEIGHT), ("rain", 0.7))
    )
    found = one(query)
    frames = unit(np.random.default_rng(0).standard_normal((20, 12)))
    cosines = {t: frames @ vector(t) for t in ("a dog", "a hound", "a beast", "snow", "rain")}
    wanted = (cosines["a dog"] + 0.5 * cosines["a hound"] + 2 * cosines["a beast"]) / 3.5
    np.testing.assert_allclose(
        frames @ found.vector, wanted - 0.25 * cosines["snow"] - 0.7 * cosines["rain"], atol=1e-6
    )
    np.testing.assert_allclose(found.wanted, [vector(t) for t in ("a dog", "a hound", "a beast")], atol=1e-6)
    assert found.text == "a dog + a hound^0.5 + a beast^2 - snow - rain^0.7"
    assert found.raw is None and not found.is_single_text, "no head was trained on what is not there"


def test_a_head_sees_the_weighted_direction_of_what_is_wanted():
    raws = [ENCODER.encode_text([t]).pooled[0].astype(np.float64) for t in ("a dog", "a hound")]
    lengths = [np.linalg.norm(r) for r in raws]
    wanted = raws[0] / lengths[0] + 3 * raws[1] / lengths[1]
    found = one(Query("a dog", also=(("a hound", 3.0),))).raw
    np.testing.assert_allclose(found, wanted / np.linalg.norm(wanted) * np.mean(lengths), rtol=1e-5)


def test_templates_are_averaged():
    found = one(Query("a dog", use_templates=True))
    wanted = np.mean([vector(t.format("a dog")) for t in TEMPLATES], 0)
    np.testing.assert_allclose(found.vector, unit(wanted), atol=1e-6)
    assert found.is_single_text, "it is one text, said in several ways"


def test_a_sequence_has_a_step_for_each_text():
    steps = encode_query(Query("a dog", negative=(("snow", 1.0),), then=("a cat", "rain")), ENCODER, MODEL)
    assert [s.text for s in steps] == ["a dog", "a cat", "rain"]
    np.testing.assert_allclose(steps[0].vector, vector("a dog") - vector("snow"), atol=1e-6)
    np.testing.assert_allclose(steps[2].vector, vector("rain"), atol=1e-6)
    assert Query("a dog", then=("a cat", "rain")).title == "a dog > a cat > rain"


def test_questions_are_said_as_captions_unless_they_are_literal():
    np.testing.assert_allclose(one(Query("when does a dog jump?")).vector, vector("a dog jumps"), atol=1e-6)
    literal = one(Query("when does a dog jump?", is_literal=True))
    np.testing.assert_allclose(literal.vector, vector("when does a dog jump?"), atol=1e-6)
    assert one(Query("when does a dog jump?")).text == "when does a dog jump?", "hits say what was asked"


def test_long_texts_are_read_to_their_end():
    long = "a dog runs. " * 60 + "a cat sleeps."
    assert not np.allclose(one(Query(long)).vector, one(Query("a dog runs. " * 60)).vector, atol=1e-4)


def test_a_picture_less_a_text():
    picture = from_image(vector("x").astype(np.float32), "x.png")
    found = subtract(picture, [one(Query("snow"))], [0.5])
    np.testing.assert_allclose(found.vector, vector("x") - 0.5 * vector("snow"), atol=1e-6)
    assert not found.is_text and found.raw is None and found.text == "x.png"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"text": " "}, "1 to 2000 characters, not 0"),
        ({"text": "x" * 2001}, "1 to 2000 characters, not 2001"),
        ({"text": "a", "also": (("", 1.0),)}, "not 0"),
        ({"text": "a", "then": ("\0",)}, "not 0"),
        ({"text": "a", "negative": (("b", 0.0),)}, "above 0, not 0 as of 'b'"),
        ({"text": "a", "also": (("b", math.nan),)}, "above 0, not nan"),
        ({"text": "a", "also": (("b", math.inf),)}, "above 0, not inf"),
        ({"text": "a", "then": ("b",), "within": 0.0}, "above 0, not 0"),
        ({"text": "a", "then": ("b",), "within": math.nan}, "above 0, not nan"),
        ({"text": "a", "within": 5.0}, "needs something that follows"),
        ({"text": "a", "lasting": (5.0, 2.0)}, "at least and at most, not 5 to 2"),
        ({"text": "a", "lasting": (-1.0, 2.0)}, "at least and at most, not -1 to 2"),
        ({"text": "a", "lasting": (0.0, 0.0)}, "at least and at most, not 0 to 0"),
        ({"text": "a", "lasting": (0.0, math.nan)}, "at least and at most, not 0 to nan"),
        ({"text": "a", "then": ("b",), "lasting": (1.0, 2.0)}, "not of what comes after another"),
    ],
)
def test_what_cannot_be_asked_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        Query(**given)


def test_confidence_of_several_texts_is_that_of_the_least_sure(tmp_path):
    """By the cosine of the hit's mean frame with each text that is wanted; what is not wanted has no part in it."""
    find = compared(searcher(filled(tmp_path / "c", [30, 40, 25]), tmp_path))
    plain = find.search("a dog", 1)[0].confidence
    for hit in find.search(Query("a dog", also=(("a cat", 0.5),), negative=(("snow", 0.3),)), 5):
        features = find.cache.frames(hit.video_id)
        inside = (features.timestamps_seconds >= hit.start) & (features.timestamps_seconds < hit.end)
        mean = unit(unit(features.values.astype(np.float64))[inside].mean(0))
        reached = max(int((find.background.chance >= mean @ vector(t)).sum()) for t in ("a dog", "a cat"))
        assert hit.confidence == pytest.approx(1 - (1 + reached) / 61, abs=1 / 61 + 1e-9)
    assert find.search(Query("a dog"), 1)[0].confidence == plain
