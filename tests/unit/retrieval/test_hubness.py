"""Hubness and null scores match loops over the query bank; false-positive rates are calibrated."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load, save

from support import naive_search
from vla.datasets.base import Annotation, Question
from vla.encoders.toy import Encoder
from vla.errors import ShapeError, UsageError
from vla.retrieval.hubness import HubnessCorrection, estimate_hubness, hubness
from vla.retrieval.hubness_store import identity, load_hubness, save_hubness
from vla.retrieval.query_bank import default_queries, from_captions
from vla.storage import atomic

ZERO_MEAN = np.zeros(4, np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def world(seed, videos=6, queries=9, dim=8):
    rng = np.random.default_rng(seed)
    segments = [
        unit(rng.standard_normal((rng.integers(1, 7), dim))).astype(np.float32)
        for _ in range(videos)
    ]
    return segments, unit(rng.standard_normal((queries, dim))).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_captions", [False, True])
def test_statistics_match_loops(seed, has_captions):
    segments, bank = world(seed)
    excluded = [[i, (i + 3) % 9] if has_captions else [] for i in range(len(segments))]
    found = estimate_hubness(segments, bank, excluded if has_captions else None)
    bias, best = [], [-np.inf] * len(bank)
    for video, rows in enumerate(segments):
        queries_left = [q for q in range(len(bank)) if q not in excluded[video]]
        for row in rows.astype(np.float64):
            cosines = {q: float(row @ bank[q].astype(np.float64)) for q in queries_left}
            bias.append(naive_search.hubness(list(cosines.values())))
            best = [max(b, cosines.get(q, -np.inf)) for q, b in enumerate(best)]
    middle = np.mean(bias)
    np.testing.assert_allclose(found.hubness, np.array(bias) - middle, atol=2e-6)
    np.testing.assert_allclose(found.null_scores, np.sort(best), atol=2e-6)
    np.testing.assert_allclose(
        found.query_mean, [np.mean([float(q[i]) for q in bank]) for i in range(8)], atol=1e-7
    )


def test_the_order_of_videos_does_not_matter():
    segments, bank = world(1)
    forward, backward = estimate_hubness(segments, bank), estimate_hubness(segments[::-1], bank)
    np.testing.assert_allclose(forward.null_scores, backward.null_scores, atol=1e-6)
    np.testing.assert_allclose(
        np.split(forward.hubness, np.cumsum([len(s) for s in segments]))[0],
        backward.hubness[-len(segments[0]) :],
        atol=1e-6,
    )


def test_hubness_without_comparisons_is_zero():
    assert hubness(np.full((2, 3), -np.inf)).tolist() == [0.0, 0.0]
    assert hubness(np.array([[0.25, -np.inf, 0.25]])) == pytest.approx(0.25)


def test_hub_has_the_highest_hubness():
    """One segment has the mean direction of the bank: without correction, it wins every search."""
    rng = np.random.default_rng(0)
    common = unit(rng.standard_normal(16))
    bank = unit(common + 0.8 * unit(rng.standard_normal((50, 16))))
    others = unit(rng.standard_normal((20, 16)))
    found = estimate_hubness([common[None], others], bank)
    assert found.hubness[0] == found.hubness.max() and found.hubness[0] > 0.3


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_confidence_is_calibrated_for_queries_like_the_bank(rate):
    """Averaged over many banks, the share of unrelated queries that pass is the rate, or up to 1/100 less."""
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(400):
        correction = HubnessCorrection(
            np.zeros(1, np.float32), np.sort(rng.gumbel(size=99)).astype(np.float32), ZERO_MEAN
        )
        shares.append((correction.confidence(rng.gumbel(size=50)) >= 1 - rate - 1e-9).mean())
    # 400 banks of 99: the mean's standard deviation is below 0.003 at every rate.
    assert rate - 0.012 < np.mean(shares) < rate + 0.009


def test_confidence_counts_the_bank():
    correction = HubnessCorrection(
        np.zeros(1, np.float32), np.array([0.1, 0.2, 0.3], np.float32), ZERO_MEAN
    )
    scores = np.array([0.05, 0.1, 0.15, 0.25, 0.3, 0.4])
    np.testing.assert_allclose(correction.confidence(scores), [0, 0, 0.25, 0.5, 0.5, 0.75])


@pytest.mark.parametrize(
    ("rate", "is_valid"),
    [(0.25, True), (1.0, True), (0.24, False), (0.0, False), (-1.0, False), (1.1, False)],
)
def test_lowest_rate_depends_on_the_size_of_the_bank(rate, is_valid):
    correction = HubnessCorrection(np.zeros(1, np.float32), np.zeros(3, np.float32), ZERO_MEAN)
    if is_valid:
        correction.check_max_fpr(rate)
    else:
        with pytest.raises(UsageError, match="false-positive rate"):
            correction.check_max_fpr(rate)


def test_rejects_invalid_banks():
    segments, bank = world(0)
    with pytest.raises(ShapeError, match="at least 2 queries"):
        estimate_hubness(segments, bank[:1])
    with pytest.raises(ShapeError, match="1 queries of the bank describe every video"):
        estimate_hubness(segments, bank, [[4]] * len(segments))


def caption(video, text, **more):
    return Annotation(query_id=text, video=video, query=text, source="x", **more)


def test_bank_of_captions_merges_equal_texts():
    captions = [
        caption("a.mp4", "A dog runs."),
        caption("b.mp4", "a  dog runs"),
        caption("b.mp4", "a cat"),
        caption("b.mp4", "who?", question=Question()),
    ]
    bank = from_captions(captions)
    assert bank.texts == ("a cat", "A dog runs.")
    assert bank.queries_of(["b.mp4", "c.mp4", "a.mp4"]) == [[0, 1], [], [1]]
    many = [caption(f"{i}.mp4", f"caption {i}") for i in range(50)]
    assert len(from_captions(many, max_size=20).texts) == 20 and from_captions(
        many, max_size=20
    ) == from_captions(many[::-1], max_size=20)


def test_default_queries_are_short_and_distinct():
    texts = default_queries().texts
    assert len(texts) >= 300 and len({t.lower() for t in texts}) == len(texts)
    assert all(t == t.strip() and 1 < len(t) <= 60 and t.isascii() for t in texts)
    assert not any(default_queries().described_videos)


# On disk


@pytest.fixture
def stored(tmp_path):
    index = SimpleNamespace(
        video_of_row=np.array([0, 0, 1], np.int32), spans=np.array([[0.0, 1], [0, 2], [0, 3]]), videos=["a", "b"],
        spec=Encoder("4").identity.spec("fps=2"), run_digest="d" * 16, cache_state="s" * 16,
    )  # fmt: skip
    key = identity(index, "b" * 64)
    values = ([0.5, -0.25, -0.25], [0.1, 0.2], [0.0, 0.5, -0.5, 1.0])
    correction = HubnessCorrection(*(np.array(array, np.float32) for array in values))
    save_hubness(tmp_path, correction, key)
    return tmp_path, key, correction


def test_stores_and_replaces_a_correction(stored):
    folder, key, correction = stored
    back = load_hubness(folder, key, 3, 4)
    np.testing.assert_array_equal(back.hubness, correction.hubness)
    np.testing.assert_array_equal(back.null_scores, correction.null_scores)
    np.testing.assert_array_equal(back.query_mean, correction.query_mean)
    save_hubness(
        folder,
        HubnessCorrection(correction.hubness, correction.null_scores + 1, correction.query_mean),
        key,
    )
    assert len(list(folder.iterdir())) == 2 and load_hubness(folder, key, 3, 4).null_scores[
        0
    ] == np.float32(1.1)
    assert back.duration_range is None
    save_hubness(
        folder,
        HubnessCorrection(
            correction.hubness, correction.null_scores, correction.query_mean, (0.1, 2.5)
        ),
        key,
    )
    assert load_hubness(folder, key, 3, 4).duration_range == (0.1, 2.5)


@pytest.mark.parametrize("field", ["fingerprint", "run", "cache_state", "rows", "bank"])
def test_correction_of_other_inputs_is_ignored(stored, field):
    folder, key, _ = stored
    assert load_hubness(folder, {**key, field: "x"}, 3, 4) is None


@pytest.mark.parametrize(
    "damage",
    [
        "altered",
        "gone",
        "no json",
        "outside",
        "other rows",
        "not finite",
        "not sorted",
        "schema",
        "no lasting",
        "other width",
        "mean not finite",
    ]
    + [
        f"lasting {value}"
        for value in (
            "[2]",
            "[1, 2, 3]",
            "[3, 2]",
            "[-1, 2]",
            '["x", 2]',
            "5",
            "[0, NaN]",
            "[0, Infinity]",
        )
    ],
)
def test_damaged_correction_is_ignored(stored, damage):
    folder, key, _ = stored
    path = folder / "background.json"
    record = atomic.read_json(path)
    arrays = folder / record["file"]
    if damage == "altered":
        arrays.write_bytes(arrays.read_bytes()[:-1] + b"\1")
    elif damage == "gone":
        arrays.unlink()
    elif damage == "no json":
        path.write_text("{")
    elif damage in ("not finite", "not sorted"):
        contents = load(arrays.read_bytes())
        contents["bias" if damage == "not finite" else "chance"][0] = (
            np.nan if damage == "not finite" else 9.0
        )
        arrays.write_bytes(save(contents))
        atomic.write_json(path, {**record, "sha256": atomic.sha256(arrays.read_bytes())})
    elif damage == "mean not finite":
        contents = load(arrays.read_bytes())
        contents["mean"][1] = np.inf
        arrays.write_bytes(save(contents))
        atomic.write_json(path, {**record, "sha256": atomic.sha256(arrays.read_bytes())})
    elif damage == "schema":
        atomic.write_json(path, {**record, "schema": 99})
    elif damage == "no lasting":
        atomic.write_json(path, {k: v for k, v in record.items() if k != "lasting"})
    elif damage.startswith("lasting"):
        path.write_text(
            json.dumps({**record, "lasting": json.loads(damage.removeprefix("lasting "))})
        )
    elif damage == "outside":
        atomic.write_json(path, {**record, "file": "../x"})
    assert (
        load_hubness(
            folder, key, 4 if damage == "other rows" else 3, 5 if damage == "other width" else 4
        )
        is None
    )
