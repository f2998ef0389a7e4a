"""Centers and null scores match loops; false-positive rates are calibrated; files are verified."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load, save

from support import naive_search
from vla.datasets.base import Annotation, Question
from vla.encoders.toy import Encoder
from vla.errors import ShapeError, UsageError
from vla.retrieval.calibration import (
    VIDEO_WEIGHT,
    Calibration,
    CenteredQuery,
    calibrate,
    center_queries,
    distances,
    video_score,
)
from vla.retrieval.calibration_store import (
    check_calibration,
    delete_calibration,
    identity,
    load_calibration,
    save_calibration,
)
from vla.retrieval.query_bank import default_queries, from_captions
from vla.storage import atomic


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def world(seed, videos=6, queries=9, dim=8):
    rng = np.random.default_rng(seed)
    segments = [
        unit(rng.standard_normal((rng.integers(1, 7), dim)) + 0.4).astype(np.float32)
        for _ in range(videos)
    ]
    return segments, unit(rng.standard_normal((queries, dim)) + 0.3).astype(np.float32)


def calibration_of(null_scores):
    zeros = np.zeros(4, np.float32)
    return Calibration(zeros, zeros, np.ones(1, np.float32), np.sort(np.float32(null_scores)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_captions", [False, True])
def test_statistics_match_loops(seed, has_captions):
    segments, bank = world(seed)
    exclude = [[i, (i + 3) % 9] for i in range(len(segments))] if has_captions else None
    result = calibrate(lambda: iter(segments), bank, exclude)
    expected = naive_search.calibrate(segments, bank, exclude)
    for name in ("video_center", "query_center", "row_norms", "null_scores"):
        values = getattr(result, name)
        np.testing.assert_allclose(values, getattr(expected, name), atol=2e-6, err_msg=name)
        assert values.dtype == np.float32
    assert result.duration_range is None


def test_null_scores_by_hand():
    """Two videos and three queries in the plane.

    The whole videos are (1, 0) and (0, 1); their mean, times one half, is (1/4, 1/4). Queries are
    (1, 0), (-1, 0) and (0, 1) around their mean (0, 1/3).
    """
    first = np.array([[1, 0], [0, -1]], np.float32)
    second = np.array([[0, 1]], np.float32)
    bank = np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    result = calibrate(lambda: [first, second], bank)
    np.testing.assert_allclose(result.video_center, [0.25, 0.25])
    np.testing.assert_allclose(result.query_center, [0, 1 / 3], atol=1e-7)
    far, near = np.hypot(1.25, 0.25), np.hypot(0.75, 0.25)
    np.testing.assert_allclose(result.row_norms, [near, far, near], rtol=1e-6)
    # Right: the whole first video. Left: its second row (-1/4, -5/4), and the whole second video.
    long = np.hypot(1, 1 / 3)
    right = 1.15 * (0.75 + 0.25 / 3) / near / long
    lower = (0.25 + 1.25 / 3) / far / long + 0.15 * (-0.75 + 0.25 / 3) / near / long
    left = max(lower, 1.15 * (0.25 - 0.75 / 3) / near / long)
    up = 1.15 * 0.75 / near
    np.testing.assert_allclose(result.null_scores, sorted([right, left, up]), rtol=1e-6)
    without = calibrate(lambda: [first, second], bank, [[0], []])
    right = 1.15 * (-0.25 - 0.75 / 3) / near / long
    np.testing.assert_allclose(without.null_scores, sorted([right, left, up]), rtol=1e-6)


def test_a_query_is_not_compared_with_the_videos_that_it_describes():
    segments, bank = world(2)
    segments[3][-1] = bank[4]
    plain, without = (
        calibrate(lambda: iter(segments), bank, exclude).null_scores
        for exclude in (None, [[4] if i == 3 else [] for i in range(len(segments))])
    )
    assert plain[-1] == plain.max() > 0.9 and without.max() < plain.max()
    assert np.isin(without, plain).sum() == len(bank) - 1, "other queries keep their scores"


def test_a_single_video_is_not_centered():
    segments, bank = world(3, videos=1)
    assert not calibrate(lambda: segments, bank).video_center.any()


def test_the_order_of_videos_does_not_matter():
    segments, bank = world(1)
    forward = calibrate(lambda: iter(segments), bank)
    backward = calibrate(lambda: iter(segments[::-1]), bank)
    np.testing.assert_allclose(forward.null_scores, backward.null_scores, atol=1e-6)
    np.testing.assert_allclose(
        np.split(forward.row_norms, np.cumsum([len(s) for s in segments]))[0],
        backward.row_norms[-len(segments[0]) :],
        atol=1e-6,
    )


def test_centering_removes_a_hub():
    """A video in the direction that all videos and queries share wins most searches without it."""
    rng = np.random.default_rng(0)
    common = unit(rng.standard_normal(16))
    bank = unit(2 * common + unit(rng.standard_normal((200, 16)))).astype(np.float32)
    others = unit(1.5 * common + unit(rng.standard_normal((20, 16)))).astype(np.float32)
    videos = [common[None].astype(np.float32), *others[:, None]]
    calibration = calibrate(lambda: videos, bank)
    rows = np.concatenate(videos)
    wins = []
    for known in (None, calibration):
        queries = [CenteredQuery.of(vector, known) for vector in bank]
        scores = [query.score_rows(rows @ query.vector, np.arange(21)) for query in queries]
        wins.append(sum(int(s.argmax() == 0) for s in scores))
    assert wins[0] > 100 and wins[1] < 30


@pytest.mark.parametrize("weight", [1.0, 2.5, -0.5])
def test_rows_and_frames_are_compared_as_by_hand(weight):
    segments, bank = world(5)
    calibration = calibrate(lambda: iter(segments), bank)
    rows = np.concatenate(segments)
    vector = np.random.default_rng(1).standard_normal(8).astype(np.float32)
    query = CenteredQuery.of(vector, calibration, total_weight=weight)
    center = calibration.query_center.astype(np.float64)
    direction = naive_search.unit(naive_search.minus(vector, center, weight))
    expected = [
        naive_search.dot(direction, naive_search.unit(row - calibration.video_center))
        for row in rows.astype(np.float64)
    ]
    chosen = np.array([3, 0, 7])
    np.testing.assert_allclose(
        query.score_rows(rows[chosen] @ query.vector, chosen), np.array(expected)[chosen], atol=2e-6
    )
    np.testing.assert_allclose(query.score_frames(rows), expected, atol=2e-6)
    assert query.video_weight == VIDEO_WEIGHT == 0.15


def test_images_and_indexes_without_a_calibration_are_not_centered():
    segments, bank = world(6)
    calibration = calibrate(lambda: iter(segments), bank)
    rows = np.concatenate(segments)
    vector = rows[2] * 3
    for known, is_text, weight in ((calibration, False, 0.0), (None, True, 0.15), (None, False, 0)):
        query = CenteredQuery.of(vector, known, is_text)
        assert query.video_weight == weight
        np.testing.assert_allclose(query.score_frames(rows), rows @ vector)
        products = rows @ query.vector
        np.testing.assert_allclose(query.score_rows(products, np.arange(len(rows))), rows @ vector)
        assert query.score_at_mean_distance(0.5) == 0.5


def test_zero_vectors_have_finite_scores():
    segments, bank = world(7)
    segments[0] = np.zeros_like(segments[0])
    calibration = calibrate(lambda: iter(segments), bank)
    assert np.isfinite(calibration.null_scores).all()
    center = calibration.video_center
    query = CenteredQuery.of(calibration.query_center, calibration)
    assert np.isfinite(query.score_frames(np.stack([center, 0 * center]))).all()
    assert not center_queries(center[None], center).any() and not distances(center[None], center)


def test_score_of_a_video():
    np.testing.assert_allclose(video_score([0.5, 0.2], [0.1, -0.2]), [0.515, 0.17])
    assert video_score(0.5, 0.4, 0.0) == 0.5


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_confidence_is_calibrated_for_queries_like_the_bank(rate):
    """Averaged over many banks, the share of unrelated queries that pass is the rate, or up to 1/100 less."""
    rng = np.random.default_rng(5)
    shares = []
    for _ in range(400):
        calibration = calibration_of(rng.gumbel(size=99))
        shares.append((calibration.confidence(rng.gumbel(size=50)) >= 1 - rate - 1e-9).mean())
    # 400 banks of 99: the mean's standard deviation is below 0.003 at every rate.
    assert rate - 0.012 < np.mean(shares) < rate + 0.009


def test_confidence_of_left_out_queries_is_calibrated():
    """Half of the queries are the bank, and the others are searched: an index of random videos."""
    shares = []
    for seed in range(40):
        segments, queries = world(seed, videos=5, queries=38)
        calibration = calibrate(lambda rows=segments: rows, queries[:19])
        for vector in queries[19:]:
            query = CenteredQuery.of(vector, calibration)
            scores = [video_score((s := query.score_frames(rows)).max(), s[0]) for rows in segments]
            shares.append(calibration.confidence(np.max(scores)) >= 0.8)
    # The query center is that of the bank, so that the rate is only about 1 in 5.
    assert 0.13 < np.mean(shares) < 0.27


def test_confidence_counts_the_bank():
    calibration = calibration_of([0.3, 0.1, 0.2])
    scores = np.array([0.05, 0.1, 0.15, 0.25, 0.3, 0.4])
    np.testing.assert_allclose(calibration.confidence(scores), [0, 0, 0.25, 0.5, 0.5, 0.75])
    assert [naive_search.confidence(s, [np.float32(n) for n in (0.1, 0.2, 0.3)])
            for s in np.float32(scores)] == calibration.confidence(scores).tolist()  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "is_valid"),
    [(0.25, True), (1.0, True), (0.24, False), (0.0, False), (-1.0, False), (1.1, False)],
)
def test_lowest_rate_depends_on_the_size_of_the_bank(rate, is_valid):
    calibration = calibration_of(np.zeros(3))
    if is_valid:
        calibration.check_max_fpr(rate)
    else:
        with pytest.raises(UsageError, match="false-positive rate"):
            calibration.check_max_fpr(rate)


def test_rejects_invalid_banks():
    segments, bank = world(0)
    with pytest.raises(ShapeError, match="at least 2 queries"):
        calibrate(lambda: segments, bank[:1])
    with pytest.raises(ShapeError, match="1 queries of the bank describe every video"):
        calibrate(lambda: segments, bank, [[4]] * len(segments))


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
    values = ([0.0, 0.5, -0.5, 1.0], [0.5, 0.25, 0.0, -1.0], [1.0, 0.5, 0.25], [0.1, 0.2])
    calibration = Calibration(*(np.array(array, np.float32) for array in values))
    save_calibration(tmp_path, calibration, key)
    return tmp_path, key, calibration


def assert_equal(one, other):
    for field in dataclasses.fields(Calibration):
        values = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(*values, err_msg=field.name)


def test_stores_and_replaces_a_calibration(stored):
    folder, key, calibration = stored
    assert_equal(load_calibration(folder, key, 3, 4), calibration)
    other = dataclasses.replace(calibration, null_scores=calibration.null_scores + 1)
    for value in (other, dataclasses.replace(other, duration_range=(0.1, 2.5))):
        save_calibration(folder, value, key)
        assert_equal(load_calibration(folder, key, 3, 4), value)
        assert sorted(p.name[:12] for p in folder.iterdir()) == ["calibration-", "calibration."]
    check_calibration(folder)
    delete_calibration(folder)
    assert load_calibration(folder, key, 3, 4) is None
    check_calibration(folder)
    delete_calibration(folder)


def test_a_file_holds_its_arrays_by_name(stored):
    folder, _, calibration = stored
    record = atomic.read_json(folder / "calibration.json")
    arrays = load((folder / record["file"]).read_bytes())
    assert sorted(arrays) == ["null_scores", "query_center", "row_norms", "video_center"]
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, getattr(calibration, name))
    assert record["schema"] == 3 and record["lasting"] is None
    assert record["sha256"] == atomic.sha256((folder / record["file"]).read_bytes())


def test_files_of_the_schema_before_are_deleted(stored):
    folder, key, calibration = stored
    names = ("background.json", "background-0123456789abcdef.safetensors")
    for name in (*names, "vectors-1.bin", "index.json"):
        (folder / name).write_bytes(b"old")
    assert_equal(load_calibration(folder, key, 3, 4), calibration)
    save_calibration(folder, calibration, key)
    left = {p.name for p in folder.iterdir()}
    assert not left & {*names} and left >= {"vectors-1.bin", "index.json"} and len(left) == 4


@pytest.mark.parametrize("field", ["fingerprint", "run", "cache_state", "rows", "bank"])
def test_calibration_of_other_inputs_is_ignored(stored, field):
    folder, key, _ = stored
    assert load_calibration(folder, {**key, field: "x"}, 3, 4) is None
    assert load_calibration(folder, {k: v for k, v in key.items() if k != field}, 3, 4) is None


ARRAY_DAMAGE = {
    "not finite center": ("video_center", [0, np.nan, 0, 0]),
    "infinite center of queries": ("query_center", [0, np.inf, 0, 0]),
    "not finite distance": ("row_norms", [1, np.nan, 1]),
    "negative distance": ("row_norms", [1, -0.5, 1]),
    "not sorted": ("null_scores", [0.2, 0.1]),
    "not finite null score": ("null_scores", [0.1, np.nan]),
    "one null score": ("null_scores", [0.1]),
    "no null scores": ("null_scores", []),
    "square": ("null_scores", [[0.1, 0.2], [0.1, 0.2]]),
    "short center": ("video_center", [0, 0, 0]),
    "short center of queries": ("query_center", [0, 0, 0]),
    "few distances": ("row_norms", [1, 1]),
    "gone array": ("row_norms", None),
}


@pytest.mark.parametrize("damage", ARRAY_DAMAGE)
def test_invalid_arrays_are_ignored(stored, damage):
    """Also with the checksum of the file as it is."""
    folder, key, _ = stored
    record = atomic.read_json(folder / "calibration.json")
    arrays = load((folder / record["file"]).read_bytes())
    name, values = ARRAY_DAMAGE[damage]
    arrays[name] = np.array(values or [], np.float32)
    content = save({k: v for k, v in arrays.items() if k != name or values is not None})
    (folder / record["file"]).write_bytes(content)
    atomic.write_json(folder / "calibration.json", {**record, "sha256": atomic.sha256(content)})
    assert load_calibration(folder, key, 3, 4) is None


def test_arrays_of_another_type_are_ignored(stored):
    folder, key, _ = stored
    record = atomic.read_json(folder / "calibration.json")
    arrays = load((folder / record["file"]).read_bytes())
    content = save({k: v.astype(np.float64) for k, v in arrays.items()})
    (folder / record["file"]).write_bytes(content)
    atomic.write_json(folder / "calibration.json", {**record, "sha256": atomic.sha256(content)})
    assert load_calibration(folder, key, 3, 4) is None


@pytest.mark.parametrize(
    "damage",
    ["altered", "gone", "no json", "no safetensors", "outside", "other rows", "other width"]
    + ["schema", "schema of background", "no lasting"]
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
def test_damaged_calibration_is_ignored(stored, damage):
    folder, key, _ = stored
    path = folder / "calibration.json"
    record = atomic.read_json(path)
    arrays = folder / record["file"]
    if damage == "altered":
        arrays.write_bytes(arrays.read_bytes()[:-1] + b"\1")
    elif damage == "gone":
        arrays.unlink()
    elif damage == "no json":
        path.write_text("{")
    elif damage == "no safetensors":
        arrays.write_bytes(b"x")
        atomic.write_json(path, {**record, "sha256": atomic.sha256(b"x")})
    elif damage.startswith("schema"):
        atomic.write_json(path, {**record, "schema": 99 if damage == "schema" else 2})
    elif damage == "no lasting":
        atomic.write_json(path, {k: v for k, v in record.items() if k != "lasting"})
    elif damage.startswith("lasting"):
        path.write_text(
            json.dumps({**record, "lasting": json.loads(damage.removeprefix("lasting "))})
        )
    elif damage == "outside":
        atomic.write_json(path, {**record, "file": "../x"})
    num_rows, width = 4 if damage == "other rows" else 3, 5 if damage == "other width" else 4
    assert load_calibration(folder, key, num_rows, width) is None
