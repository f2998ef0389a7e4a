"""Query vectors match plain sums in float64; invalid queries are refused."""

import math

import numpy as np
import pytest

from support import naive_search
from unit.retrieval.test_searcher import (
    calibration_by_loops,
    filled,
    searcher,
    unit,
    videos_of,
    with_calibration,
)
from vla.encoders.toy import Encoder
from vla.errors import UsageError
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval.query import (
    NEGATIVE_WEIGHT,
    TEMPLATES,
    Query,
    encode_query,
    from_image,
    subtract,
)

ENCODER = Encoder("12")
MODEL = AlignmentModel(ModelConfig(12)).eval()


def vector(text):
    return unit(ENCODER.encode_text([text]).pooled[0])


def encode_one(query):
    (encoded,) = encode_query(query, ENCODER, MODEL)
    return encoded


def test_single_text():
    encoded = encode_one(Query("  a dog\0"))
    np.testing.assert_allclose(encoded.vector, vector("a dog"), atol=1e-6)
    np.testing.assert_array_equal(
        encoded.raw, ENCODER.encode_text(["a dog"]).pooled[0].astype(np.float32)
    )
    assert encoded.text == "a dog" and encoded.is_single_text and encoded.is_text


def test_weighted_mean_minus_negative_texts():
    query = Query(
        "a dog",
        also=(("a hound", 0.5), ("a beast", 2.0)),
        negative=(("snow", NEGATIVE_WEIGHT), ("rain", 0.7)),
    )
    encoded = encode_one(query)
    frames = unit(np.random.default_rng(0).standard_normal((20, 12)))
    cosines = {t: frames @ vector(t) for t in ("a dog", "a hound", "a beast", "snow", "rain")}
    expected = (cosines["a dog"] + 0.5 * cosines["a hound"] + 2 * cosines["a beast"]) / 3.5
    np.testing.assert_allclose(
        frames @ encoded.vector,
        expected - 0.25 * cosines["snow"] - 0.7 * cosines["rain"],
        atol=1e-6,
    )
    np.testing.assert_allclose(
        encoded.positives, [vector(t) for t in ("a dog", "a hound", "a beast")], atol=1e-6
    )
    assert encoded.text == "a dog + a hound^0.5 + a beast^2 - snow - rain^0.7"
    assert encoded.raw is None and not encoded.is_single_text, (
        "heads are not trained on negative texts"
    )


def test_raw_feature_of_a_head_is_the_weighted_direction():
    raws = [ENCODER.encode_text([t]).pooled[0].astype(np.float64) for t in ("a dog", "a hound")]
    lengths = [np.linalg.norm(r) for r in raws]
    expected = raws[0] / lengths[0] + 3 * raws[1] / lengths[1]
    encoded = encode_one(Query("a dog", also=(("a hound", 3.0),))).raw
    np.testing.assert_allclose(
        encoded, expected / np.linalg.norm(expected) * np.mean(lengths), rtol=1e-5
    )


def test_averages_prompt_templates():
    encoded = encode_one(Query("a dog", use_templates=True))
    expected = np.mean([vector(t.format("a dog")) for t in TEMPLATES], 0)
    np.testing.assert_allclose(encoded.vector, unit(expected), atol=1e-6)
    assert encoded.is_single_text, "a single text in several prompts"


def test_sequence_has_a_step_for_each_text():
    steps = encode_query(
        Query("a dog", negative=(("snow", 1.0),), then=("a cat", "rain")), ENCODER, MODEL
    )
    assert [s.text for s in steps] == ["a dog", "a cat", "rain"]
    np.testing.assert_allclose(steps[0].vector, vector("a dog") - vector("snow"), atol=1e-6)
    np.testing.assert_allclose(steps[2].vector, vector("rain"), atol=1e-6)
    assert Query("a dog", then=("a cat", "rain")).title == "a dog > a cat > rain"


def test_rewrites_questions():
    np.testing.assert_allclose(
        encode_one(Query("when does a dog jump?")).vector, vector("a dog jumps"), atol=1e-6
    )
    literal = encode_one(Query("when does a dog jump?", rewrite=False))
    np.testing.assert_allclose(literal.vector, vector("when does a dog jump?"), atol=1e-6)
    assert encode_one(Query("when does a dog jump?")).text == "when does a dog jump?", (
        "hits show the text of the user"
    )


def test_long_texts_are_encoded_completely():
    long = "a dog runs. " * 60 + "a cat sleeps."
    assert not np.allclose(
        encode_one(Query(long)).vector, encode_one(Query("a dog runs. " * 60)).vector, atol=1e-4
    )


def test_image_minus_text():
    picture = from_image(vector("x").astype(np.float32), "x.png")
    encoded = subtract(picture, [encode_one(Query("snow"))], [0.5])
    np.testing.assert_allclose(encoded.vector, vector("x") - 0.5 * vector("snow"), atol=1e-6)
    assert not encoded.is_text and encoded.raw is None and encoded.text == "x.png"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": " "}, "1 to 2000 characters, not 0"),
        ({"text": "x" * 2001}, "1 to 2000 characters, not 2001"),
        ({"text": "a", "also": (("", 1.0),)}, "not 0"),
        ({"text": "a", "then": ("\0",)}, "not 0"),
        ({"text": "a", "negative": (("b", 0.0),)}, "invalid weight 0 of 'b'"),
        ({"text": "a", "also": (("b", math.nan),)}, "invalid weight nan of 'b'"),
        ({"text": "a", "also": (("b", math.inf),)}, "invalid weight inf of 'b'"),
        ({"text": "a", "then": ("b",), "within": 0.0}, "invalid time 0 between events"),
        ({"text": "a", "then": ("b",), "within": math.nan}, "invalid time nan between events"),
        ({"text": "a", "within": 5.0}, "needs an event that follows"),
        (
            {"text": "a", "duration": (5.0, 2.0)},
            "invalid duration range 5-2: the minimum exceeds the maximum",
        ),
        ({"text": "a", "duration": (-1.0, 2.0)}, "invalid duration range -1-2"),
        ({"text": "a", "duration": (0.0, 0.0)}, "invalid duration range 0-0"),
        ({"text": "a", "duration": (0.0, math.nan)}, "invalid duration range 0-nan"),
        ({"text": "a", "then": ("b",), "duration": (1.0, 2.0)}, "not to a sequence of events"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Query(**options)


def test_confidence_of_several_texts_is_that_of_the_least_sure(tmp_path):
    """By the mean frame of the hit and a share of that of the video; negative texts are ignored."""
    find = with_calibration(searcher(filled(tmp_path / "c", [30, 40, 25]), tmp_path))
    plain = find.search("a dog", 1)[0].confidence
    expected = calibration_by_loops(find)
    several = Query("a dog", also=(("a cat", 0.5),), negative=(("snow", 0.3),))
    hits = find.search(several, 9)
    assert len(hits) > 3
    videos = {video.name: video for video in videos_of(find.cache)}
    for hit in hits:
        scores = [
            naive_search.span_score(vector(t), videos[hit.video_id], (hit.start, hit.end), expected)
            for t in ("a dog", "a cat")
        ]
        confidence = naive_search.confidence(min(scores), expected.null_scores)
        assert hit.confidence == pytest.approx(confidence, abs=1 / 61 + 1e-9)
    assert find.search(Query("a dog"), 1)[0].confidence == plain


def test_total_weight_is_that_of_all_texts():
    assert encode_one(Query("a dog")).total_weight == 1
    several = Query("a dog", also=(("a cat", 0.5),), negative=(("snow", 0.3), ("fog", 0.25)))
    assert encode_one(several).total_weight == pytest.approx(0.45)
    assert encode_one(Query("a dog", also=(("a cat", 3.0),))).total_weight == 1
