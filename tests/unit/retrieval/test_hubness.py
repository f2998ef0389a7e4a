"""Hubs and chance: what loops over a bank find, and rates that are kept."""

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

NO_MEAN = np.zeros(4, np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def world(seed, videos=6, queries=9, dim=8):
    rng = np.random.default_rng(seed)
    segments = [unit(rng.standard_normal((rng.integers(1, 7), dim))).astype(np.float32) for _ in range(videos)]
    return segments, unit(rng.standard_normal((queries, dim))).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("told", [False, True])
def test_bias_and_chance_are_those_of_loops(seed, told):
    segments, bank = world(seed)
    left_out = [[i, (i + 3) % 9] if told else [] for i in range(len(segments))]
    found = estimate_hubness(segments, bank, left_out if told else None)
    bias, best = [], [-np.inf] * len(bank)
    for video, rows in enumerate(segments):
        asked = [q for q in range(len(bank)) if q not in left_out[video]]
        for row in rows.astype(np.float64):
            cosines = {q: float(row @ bank[q].astype(np.float64)) for q in asked}
            bias.append(naive_search.popularity(list(cosines.values())))
            best = [max(b, cosines.get(q, -np.inf)) for q, b in enumerate(best)]
    middle = np.mean(bias)
    np.testing.assert_allclose(found.bias, np.array(bias) - middle, atol=2e-6)
    np.testing.assert_allclose(found.null_scores, np.sort(best), atol=2e-6)
    np.testing.assert_allclose(found.mean, [np.mean([float(q[i]) for q in bank]) for i in range(8)], atol=1e-7)


def test_the_order_of_videos_does_not_matter():
    segments, bank = world(1)
    there, back = estimate_hubness(segments, bank), estimate_hubness(segments[::-1], bank)
    np.testing.assert_allclose(there.chance, back.null_scores, atol=1e-6)
    np.testing.assert_allclose(
        np.split(there.bias, np.cumsum([len(s) for s in segments]))[0], back.hubness[-len(segments[0]) :], atol=1e-6
    )


def test_popularity_of_what_nothing_was_compared_with_is_0():
    assert hubness(np.full((2, 3), -np.inf)).tolist() == [0.0, 0.0]
    assert hubness(np.array([[0.25, -np.inf, 0.25]])) == pytest.approx(0.25)


def test_a_hub_is_found_out():
    """One segment points where all queries of the bank do: without its bias it wins every search."""
    rng = np.random.default_rng(0)
    common = unit(rng.standard_normal(16))
    bank = unit(common + 0.8 * unit(rng.standard_normal((50, 16))))
    others = unit(rng.standard_normal((20, 16)))
    found = estimate_hubness([common[None], others], bank)
    assert found.bias[0] == found.bias.max() and found.bias[0] > 0.3


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_queries_like_the_banks_are_found_at_the_rate_that_was_asked_for(rate):
    """The mean over many banks of what is let through of what nothing matches: the rate, or less by one of the bank's size."""
    rng = np.random.default_rng(5)
    through = []
    for _ in range(400):
        background = HubnessCorrection(
            np.zeros(1, np.float32), np.sort(rng.gumbel(size=99)).astype(np.float32), NO_MEAN
        )
        through.append((background.confidence(rng.gumbel(size=50)) >= 1 - rate - 1e-9).mean())
    # 400 banks of 99: the mean's standard deviation is below 0.003 at every rate.
    assert rate - 0.012 < np.mean(through) < rate + 0.009


def test_confidence_counts_the_bank():
    background = HubnessCorrection(np.zeros(1, np.float32), np.array([0.1, 0.2, 0.3], np.float32), NO_MEAN)
    scores = np.array([0.05, 0.1, 0.15, 0.25, 0.3, 0.4])
    np.testing.assert_allclose(background.confidence(scores), [0, 0, 0.25, 0.5, 0.5, 0.75])


@pytest.mark.parametrize(
    ("rate", "fine"), [(0.25, True), (1.0, True), (0.24, False), (0.0, False), (-1.0, False), (1.1, False)]
)
def test_rates_that_a_bank_can_tell(rate, fine):
    background = HubnessCorrection(np.zeros(1, np.float32), np.zeros(3, np.float32), NO_MEAN)
    if fine:
        background.check_rate(rate)
    else:
        with pytest.raises(UsageError, match="false-positive rate"):
            background.check_rate(rate)


def test_banks_that_are_none():
    segments, bank = world(0)
    with pytest.raises(ShapeError, match="2 queries or more"):
        estimate_hubness(segments, bank[:1])
    with pytest.raises(ShapeError, match="1 queries of the bank tell of every video"):
        estimate_hubness(segments, bank, [[4]] * len(segments))


def told(video, text, **more):
    return Annotation(query_id=text, video=video, query=text, source="x", **more)


def test_a_bank_of_captions():
    some = [
        told("a.mp4", "A dog runs."),
        told("b.mp4", "a  dog runs"),
        told("b.mp4", "a cat"),
        told("b.mp4", "who?", question=Question()),
    ]
    bank = from_captions(some)
    assert bank.texts == ("a cat", "A dog runs.")
    assert bank.queries_of(["b.mp4", "c.mp4", "a.mp4"]) == [[0, 1], [], [1]]
    many = [told(f"{i}.mp4", f"caption {i}") for i in range(50)]
    assert len(from_captions(many, most=20).texts) == 20 and from_captions(many, most=20) == from_captions(
        many[::-1], most=20
    )


def test_everyday_queries_are_several_hundred_different_short_ones():
    texts = default_queries().texts
    assert len(texts) >= 300 and len({t.lower() for t in texts}) == len(texts)
    assert all(t == t.strip() and 1 < len(t) <= 60 and t.isascii() for t in texts)
    assert not any(default_queries().described_videos)


# On disk


@pytest.fixture
def kept(tmp_path):
    index = SimpleNamespace(
        video_of_row=np.array([0, 0, 1], np.int32), spans=np.array([[0.0, 1], [0, 2], [0, 3]]), videos=["a", "b"],
        spec=Encoder("4").identity.spec("fps=2"), run_digest="d" * 16, cache_state="s" * 16,
    )  # fmt: skip
    of = identity(index, "b" * 64)
    three = ([0.5, -0.25, -0.25], [0.1, 0.2], [0.0, 0.5, -0.5, 1.0])
    background = HubnessCorrection(*(np.array(values, np.float32) for values in three))
    save_hubness(tmp_path, background, of)
    return tmp_path, of, background


def test_a_background_comes_back_and_replaces_the_one_before(kept):
    folder, of, background = kept
    back = load_hubness(folder, of, 3, 4)
    np.testing.assert_array_equal(back.hubness, background.hubness)
    np.testing.assert_array_equal(back.null_scores, background.null_scores)
    np.testing.assert_array_equal(back.query_mean, background.query_mean)
    save_hubness(folder, HubnessCorrection(background.hubness, background.null_scores + 1, background.query_mean), of)
    assert len(list(folder.iterdir())) == 2 and load_hubness(folder, of, 3, 4).chance[0] == np.float32(1.1)
    assert back.duration_range is None
    save_hubness(
        folder, HubnessCorrection(background.hubness, background.null_scores, background.query_mean, (0.1, 2.5)), of
    )
    assert load_hubness(folder, of, 3, 4).duration_range == (0.1, 2.5)


@pytest.mark.parametrize("field", ["fingerprint", "run", "cache_state", "rows", "bank"])
def test_a_background_of_something_else_is_none(kept, field):
    folder, of, _ = kept
    assert load_hubness(folder, {**of, field: "x"}, 3, 4) is None


@pytest.mark.parametrize(
    "how",
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
        f"lasting {given}"
        for given in ("[2]", "[1, 2, 3]", "[3, 2]", "[-1, 2]", '["x", 2]', "5", "[0, NaN]", "[0, Infinity]")
    ],
)
def test_a_background_that_is_not_whole_is_none(kept, how):
    folder, of, _ = kept
    path = folder / "background.json"
    record = atomic.read_json(path)
    arrays = folder / record["file"]
    if how == "altered":
        arrays.write_bytes(arrays.read_bytes()[:-1] + b"\1")
    elif how == "gone":
        arrays.unlink()
    elif how == "no json":
        path.write_text("{")
    elif how in ("not finite", "not sorted"):
        held = load(arrays.read_bytes())
        held["bias" if how == "not finite" else "chance"][0] = np.nan if how == "not finite" else 9.0
        arrays.write_bytes(save(held))
        atomic.write_json(path, {**record, "sha256": atomic.sha256(arrays.read_bytes())})
    elif how == "mean not finite":
        held = load(arrays.read_bytes())
        held["mean"][1] = np.inf
        arrays.write_bytes(save(held))
        atomic.write_json(path, {**record, "sha256": atomic.sha256(arrays.read_bytes())})
    elif how == "schema":
        atomic.write_json(path, {**record, "schema": 99})
    elif how == "no lasting":
        atomic.write_json(path, {k: v for k, v in record.items() if k != "lasting"})
    elif how.startswith("lasting"):
        path.write_text(json.dumps({**record, "lasting": json.loads(how.removeprefix("lasting "))}))
    elif how == "outside":
        atomic.write_json(path, {**record, "file": "../x"})
    assert load_hubness(folder, of, 4 if how == "other rows" else 3, 5 if how == "other width" else 4) is None
