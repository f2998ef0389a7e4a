"""Centers and null scores match loops; false-positive rates are calibrated; files are verified."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load, save

from support import naive_search
from vla.batches.segment_pooling import pool_segments
from vla.datasets.base import Annotation, Question
from vla.encoders.toy import Encoder
from vla.errors import ShapeError, UsageError
from vla.features import FrameFeatures
from vla.indexing.segments import windows_and_frames
from vla.retrieval.calibration import Calibration, CenteredQuery, center_queries, distances
from vla.retrieval.calibration_estimate import COHERENCE_WEIGHT, VideoRows, calibrate
from vla.retrieval.calibration_store import (
    check_calibration,
    delete_calibration,
    identity,
    load_calibration,
    save_calibration,
)
from vla.retrieval.indexed_videos import IndexedVideos
from vla.retrieval.query import from_image
from vla.retrieval.query_bank import default_queries, from_captions
from vla.storage import atomic


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def video_of(frames):
    """Return the frames of a video, and its rows: the whole video, a window, and each frame."""
    frames = np.asarray(frames, np.float32)
    windows = [frames] if len(frames) < 4 else [frames, frames[:3]]
    is_frame = np.arange(len(windows) + len(frames)) >= len(windows)
    rows = np.concatenate([[unit(window.mean(0)) for window in windows], frames])
    if len(frames) == 1:  # no range of frames has two rows
        rows, is_frame = rows[1:], is_frame[1:]
    return SimpleNamespace(frames=frames, rows=VideoRows(rows.astype(np.float32), is_frame))


def world(seed, videos=6, queries=9, dim=8):
    rng = np.random.default_rng(seed)
    found = [
        video_of(unit(rng.standard_normal((rng.integers(1, 7), dim)) + 0.4)) for _ in range(videos)
    ]
    return found, unit(rng.standard_normal((queries, dim)) + 0.3).astype(np.float32)


def calibrated(videos, bank, exclude=None):
    return calibrate(lambda: (video.rows for video in videos), bank, exclude)


def by_loops(videos, bank, exclude=None):
    plain = [SimpleNamespace(frames=v.frames, rows=v.rows.vectors) for v in videos]
    return naive_search.calibrate(plain, bank, exclude)


def calibration_of(null_scores):
    zeros, ones = np.zeros(4, np.float32), np.ones(1, np.float32)
    return Calibration(zeros, zeros, ones, ones, np.sort(np.float32(null_scores)), 0.2)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_captions", [False, True])
def test_statistics_match_loops(seed, has_captions):
    videos, bank = world(seed)
    exclude = [[i, (i + 3) % 9] for i in range(len(videos))] if has_captions else None
    result, expected = calibrated(videos, bank, exclude), by_loops(videos, bank, exclude)
    for name in ("video_center", "query_center", "row_norms", "mean_norms", "null_scores"):
        values = getattr(result, name)
        np.testing.assert_allclose(values, getattr(expected, name), atol=2e-6, err_msg=name)
        assert values.dtype == np.float32
    assert result.video_weight == pytest.approx(expected.video_weight, rel=1e-6)
    assert result.duration_range is None


def test_null_scores_by_hand():
    """Two videos and three queries in the plane.

    Mean frames are (1/2, -1/2) and (0, 1); their mean, times one half, is (1/8, 1/8). Queries are
    (1, 0), (-1, 0) and (0, 1). The squared length of their mean (0, 1/3) is 1/9, so that 17/81 of it
    are removed.
    """
    videos = [video_of([[1, 0], [0, -1]]), video_of([[0, 1]])]
    bank = np.array([[1, 0], [-1, 0], [0, 1]], np.float32)
    result = calibrated(videos, bank)
    np.testing.assert_allclose(result.video_center, [0.125, 0.125])
    center = 17 / 243
    np.testing.assert_allclose(result.query_center, [0, center], rtol=1e-6)
    near, far, whole = np.sqrt([0.78125, 1.28125, 0.58210678**2 + 0.83210678**2])
    np.testing.assert_allclose(result.row_norms, [whole, near, far, near], rtol=1e-6)
    np.testing.assert_allclose(result.mean_norms, [np.sqrt(0.5), 1], rtol=1e-6)
    # Between the videos lies (0.53125 + 0.78125) / 2 of the variance, which is
    # ((0.78125 + 1.28125) / 2 + 0.78125) / 2.
    share = COHERENCE_WEIGHT * 0.65625**2 / 0.90625**2.5
    assert result.video_weight == pytest.approx(share)
    # Right is like the first frame. Left and up are like the other video: left is more like the
    # second frame, but less like the mean frame of its video.
    long = np.hypot(1, center)
    right = (0.875 + 0.125 * center) / near / long + share * (0.375 + 0.625 * center) / long
    lower = (0.125 + 1.125 * center) / far / long + share * (-0.375 + 0.625 * center) / long
    left = (0.125 - 0.875 * center) / near / long + share * (0.125 - 0.875 * center) / long
    assert lower < left
    up = 0.875 / near + share * 0.875
    np.testing.assert_allclose(result.null_scores, sorted([right, left, up]), rtol=1e-6)
    without = calibrated(videos, bank, [[0], []])
    right = (-0.125 - 0.875 * center) / near / long + share * (-0.125 - 0.875 * center) / long
    np.testing.assert_allclose(without.null_scores, sorted([right, left, up]), rtol=1e-6)


def test_a_query_is_not_compared_with_the_videos_that_it_describes():
    videos, bank = world(2)
    videos[3] = video_of([*videos[3].frames, bank[4]])
    plain, without = (
        calibrated(videos, bank, exclude).null_scores
        for exclude in (None, [[4] if i == 3 else [] for i in range(len(videos))])
    )
    assert plain[-1] == plain.max() > 0.9 and without.max() < plain.max()
    assert np.isin(without, plain).sum() == len(bank) - 1, "other queries keep their scores"


def test_a_single_video_is_not_centered():
    videos, bank = world(3, videos=1)
    calibration = calibrated(videos, bank)
    assert not calibration.video_center.any()
    np.testing.assert_allclose(calibration.row_norms, 1, rtol=1e-6)


def test_the_order_of_videos_does_not_matter():
    videos, bank = world(1)
    forward, backward = calibrated(videos, bank), calibrated(videos[::-1], bank)
    np.testing.assert_allclose(forward.null_scores, backward.null_scores, atol=1e-6)
    np.testing.assert_allclose(forward.mean_norms, backward.mean_norms[::-1], atol=1e-6)
    first = len(videos[0].rows.vectors)
    np.testing.assert_allclose(forward.row_norms[:first], backward.row_norms[-first:], atol=1e-6)


def test_the_mean_frame_counts_where_videos_are_about_one_thing():
    """Clips of one thing each have a coherence near 1, long mixtures over one background near 0."""
    rng = np.random.default_rng(0)
    bank = unit(rng.standard_normal((9, 32))).astype(np.float32)
    one_thing = [
        video_of(unit(rng.standard_normal(32) + 0.01 * rng.standard_normal((20, 32))))
        for _ in range(40)
    ]
    mixtures = [video_of(unit(rng.standard_normal((200, 32)))) for _ in range(40)]
    assert calibrated(one_thing, bank).video_weight == pytest.approx(COHERENCE_WEIGHT, rel=0.05)
    assert calibrated(mixtures, bank).video_weight < 0.01
    # A background that all share is removed: the weight is relative to what is left.
    background = 3 * unit(rng.standard_normal(32))
    shared = [video_of(unit(background + v.frames)) for v in one_thing]
    weight = calibrated(shared, bank).video_weight
    assert weight > 2 * COHERENCE_WEIGHT
    assert weight == pytest.approx(by_loops(shared, bank).video_weight, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 300, 1000, 3000])
def test_equal_videos_have_a_finite_weight_that_can_be_stored(tmp_path, count):
    """Of many equal videos, hardly any variance is left around their center."""
    bank = np.eye(4, dtype=np.float32)
    calibration = calibrated([video_of(bank[:1])] * count, bank)
    assert 0 < calibration.video_weight < 10_000 and np.isfinite(calibration.null_scores).all()
    save_calibration(tmp_path, calibration, {})
    assert_equal(load_calibration(tmp_path, {}, count, count, 4), calibration)


def test_centering_removes_a_hub():
    """A video in the direction that all videos and queries share wins most searches without it."""
    rng = np.random.default_rng(0)
    common = unit(rng.standard_normal(16))
    bank = unit(2 * common + unit(rng.standard_normal((200, 16)))).astype(np.float32)
    others = unit(1.5 * common + unit(rng.standard_normal((20, 16)))).astype(np.float32)
    videos = [video_of([frame]) for frame in (common, *others)]
    rows = np.concatenate([video.frames for video in videos])
    wins = []
    for known in (None, calibrated(videos, bank)):
        queries = [CenteredQuery.of(vector, known) for vector in bank]
        numbers = np.arange(21)
        scores = [
            query.score_videos(
                query.score_rows(rows @ query.vector, numbers), rows @ query.vector, numbers
            )
            for query in queries
        ]
        wins.append(sum(int(s.argmax() == 0) for s in scores))
    assert wins[0] > 100 and wins[1] < 30


@pytest.mark.parametrize("weight", [1.0, 2.5, -0.5])
def test_rows_frames_and_videos_are_compared_as_by_hand(weight):
    videos, bank = world(5)
    calibration, expected = calibrated(videos, bank), by_loops(videos, bank)
    rows = np.concatenate([video.rows.vectors for video in videos])
    vector = np.random.default_rng(1).standard_normal(8).astype(np.float32)
    query = CenteredQuery.of(vector, calibration, total_weight=weight)
    similarities = np.array(naive_search.similarities_to(vector, rows, expected, weight))
    chosen = np.array([3, 0, 7])
    np.testing.assert_allclose(
        query.score_rows(rows[chosen] @ query.vector, chosen), similarities[chosen], atol=2e-6
    )
    np.testing.assert_allclose(query.score_frames(rows), similarities, atol=2e-6)
    for number, video in enumerate(videos):
        plain = SimpleNamespace(
            frames=video.frames, rows=video.rows.vectors, times=range(len(video.frames))
        )
        own = query.score_frames(video.rows.vectors)
        score = query.score_videos(
            own[[own.argmax()]], video.rows.vectors[:1] @ query.vector, np.array([number])
        )
        total = naive_search.video_score(vector, plain, expected, weight)
        assert score == pytest.approx(total, abs=5e-6)
        if weight == 1:
            for first, last in ((0, 1), (0, len(video.frames))):
                by_span = naive_search.span_score(vector, plain, (first, last), expected)
                result = query.score_span(video.frames, first, last)
                assert result == pytest.approx(by_span, abs=5e-6)


@pytest.mark.parametrize("seed", range(6))
def test_bound_of_a_video_by_the_similarity_of_its_rows(seed):
    videos, bank = world(seed)
    calibration = calibrated(videos, bank)
    for vector in unit(np.random.default_rng(seed).standard_normal((50, 8))).astype(np.float32):
        query = CenteredQuery.of(vector, calibration)
        for number, video in enumerate(videos):
            best = query.score_frames(video.rows.vectors).max()
            whole = video.rows.vectors[:1] @ query.vector
            score = query.score_videos(np.array([best]), whole, np.array([number]))[0]
            for higher in (0.0, 0.1):
                assert score <= query.bound_score(float(best) + higher) + 1e-6
        assert query.bound_score(-np.inf) == -np.inf


def test_images_and_indexes_without_a_calibration_are_not_centered():
    videos, bank = world(6)
    rows = np.concatenate([video.rows.vectors for video in videos])
    vector, numbers = rows[2] * 3, np.arange(len(rows))
    index = IndexedVideos(None, None, None, calibrated(videos, bank))
    assert index.center(from_image(vector, "x.png")) == CenteredQuery(vector)
    query = CenteredQuery.of(vector, None)
    np.testing.assert_allclose(query.score_frames(rows), rows @ vector)
    products = rows @ query.vector
    np.testing.assert_allclose(query.score_rows(products, numbers), rows @ vector)
    np.testing.assert_allclose(query.score_videos(products, products * 9, numbers), products)
    assert query.score_at_mean_distance(0.5) == query.bound_score(0.5) == 0.5
    assert query.score_span(rows, 1, 3) == pytest.approx((rows[1:3] @ vector).mean())


def test_zero_vectors_have_finite_scores():
    videos, bank = world(7)
    videos[0] = SimpleNamespace(rows=VideoRows(np.zeros((2, 8), np.float32), np.ones(2, bool)))
    calibration = calibrated(videos, bank)
    assert np.isfinite(calibration.null_scores).all()
    center = calibration.video_center
    query = CenteredQuery.of(calibration.query_center, calibration)
    assert np.isfinite(query.score_frames(np.stack([center, 0 * center]))).all()
    assert not center_queries(center[None], center).any() and not distances(center[None], center)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.25, 0.5, 1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 8, 40, 400])
def test_rows_of_frames_contain_no_others(frames, rate):
    """Also where windows are more than frames: below one frame a second."""
    times = np.arange(frames) / rate
    _, _, spans = windows_and_frames(
        FrameFeatures("v", np.zeros((frames, 2), np.float16), times, frames / rate)
    )
    rows = VideoRows.of(np.zeros((len(spans), 2), np.float32), spans)
    seconds = spans[:, 1] - spans[:, 0]
    np.testing.assert_array_equal(rows.is_frame, np.isclose(seconds, 1 / rate))


@pytest.mark.parametrize("rate", [0.25, 0.5, 5, 30])
@pytest.mark.parametrize("seconds", [4, 20, 200])
def test_mean_frame_at_other_frame_rates(seconds, rate):
    """About that of all frames: rows may be means of several frames, or of a window of two."""
    rng, count = np.random.default_rng(0), max(1, int(seconds * rate))
    steps = rng.standard_normal((count, 32)) / np.sqrt(rate) + 0.3 * rng.standard_normal(32)
    frames = unit(steps.cumsum(0) + 3 * rng.standard_normal(32)).astype(np.float32)
    features = FrameFeatures("v", frames.astype(np.float16), np.arange(count) / rate, count / rate)
    segments = pool_segments(frames, features, windows_and_frames(features))
    rows = VideoRows.of(segments.vectors, segments.spans)
    assert np.linalg.norm(rows.mean() - frames.mean(0)) < 0.1 * np.linalg.norm(frames.mean(0))


def test_the_center_of_queries_follows_what_they_have_in_common():
    """All of the mean where texts lie in a narrow cone, hardly any where they lie all around."""
    rng = np.random.default_rng(0)
    videos, _ = world(0, dim=32)
    direction = unit(rng.standard_normal(32))
    for spread, low, high in ((0.3, 0.98, 1.0), (3.0, 0.1, 0.4), (30.0, 0.0, 0.05)):
        bank = unit(direction + spread * unit(rng.standard_normal((500, 32)))).astype(np.float32)
        mean = bank.mean(0)
        share = calibrated(videos, bank).query_center @ mean / (mean @ mean)
        assert low <= share <= high, spread


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
        videos, queries = world(seed, videos=5, queries=38)
        calibration = calibrated(videos, queries[:19])
        for vector in queries[19:]:
            query = CenteredQuery.of(vector, calibration)
            best = np.array([query.score_frames(v.rows.vectors).max() for v in videos])
            whole = np.array([v.rows.vectors[0] @ query.vector for v in videos])
            scores = query.score_videos(best, whole, np.arange(5))
            shares.append(calibration.confidence(scores.max()) >= 0.8)
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
    videos, bank = world(0)
    with pytest.raises(ShapeError, match="at least 2 queries"):
        calibrated(videos, bank[:1])
    with pytest.raises(ShapeError, match="1 queries of the bank describe every video"):
        calibrated(videos, bank, [[4]] * len(videos))


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
    values = (
        [0.0, 0.5, -0.5, 1.0],
        [0.5, 0.25, 0.0, -1.0],
        [1.0, 0.5, 0.25],
        [0.5, 1.0],
        [0.1, 0.2],
    )
    calibration = Calibration(*(np.array(array, np.float32) for array in values), 0.25)
    save_calibration(tmp_path, calibration, key)
    return tmp_path, key, calibration


def assert_equal(one, other):
    for field in dataclasses.fields(Calibration):
        values = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(*values, err_msg=field.name)


def test_stores_and_replaces_a_calibration(stored):
    folder, key, calibration = stored
    assert_equal(load_calibration(folder, key, 3, 2, 4), calibration)
    other = dataclasses.replace(calibration, null_scores=calibration.null_scores + 1)
    for value in (other, dataclasses.replace(other, duration_range=(0.1, 2.5))):
        save_calibration(folder, value, key)
        assert_equal(load_calibration(folder, key, 3, 2, 4), value)
        assert sorted(p.name[:12] for p in folder.iterdir()) == ["calibration-", "calibration."]
    check_calibration(folder)
    delete_calibration(folder)
    assert load_calibration(folder, key, 3, 2, 4) is None
    check_calibration(folder)
    delete_calibration(folder)


def test_a_file_holds_its_arrays_by_name(stored):
    folder, _, calibration = stored
    record = atomic.read_json(folder / "calibration.json")
    arrays = load((folder / record["file"]).read_bytes())
    assert sorted(arrays) == [
        "mean_norms",
        "null_scores",
        "query_center",
        "row_norms",
        "video_center",
    ]
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, getattr(calibration, name))
    assert record["schema"] == 3 and record["lasting"] is None and record["video_weight"] == 0.25
    assert record["sha256"] == atomic.sha256((folder / record["file"]).read_bytes())


def test_files_of_the_schema_before_are_deleted(stored):
    folder, key, calibration = stored
    names = ("background.json", "background-0123456789abcdef.safetensors")
    for name in (*names, "vectors-1.bin", "index.json"):
        (folder / name).write_bytes(b"old")
    assert_equal(load_calibration(folder, key, 3, 2, 4), calibration)
    save_calibration(folder, calibration, key)
    left = {p.name for p in folder.iterdir()}
    assert not left & {*names} and left >= {"vectors-1.bin", "index.json"} and len(left) == 4


@pytest.mark.parametrize("field", ["fingerprint", "run", "cache_state", "rows", "bank"])
def test_calibration_of_other_inputs_is_ignored(stored, field):
    folder, key, _ = stored
    assert load_calibration(folder, {**key, field: "x"}, 3, 2, 4) is None
    assert load_calibration(folder, {k: v for k, v in key.items() if k != field}, 3, 2, 4) is None


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
    "few means": ("mean_norms", [1]),
    "negative mean": ("mean_norms", [1, -1]),
    "not finite mean": ("mean_norms", [1, np.nan]),
    "gone means": ("mean_norms", None),
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
    assert load_calibration(folder, key, 3, 2, 4) is None


def test_arrays_of_another_type_are_ignored(stored):
    folder, key, _ = stored
    record = atomic.read_json(folder / "calibration.json")
    arrays = load((folder / record["file"]).read_bytes())
    content = save({k: v.astype(np.float64) for k, v in arrays.items()})
    (folder / record["file"]).write_bytes(content)
    atomic.write_json(folder / "calibration.json", {**record, "sha256": atomic.sha256(content)})
    assert load_calibration(folder, key, 3, 2, 4) is None


@pytest.mark.parametrize(
    "damage",
    [
        "altered",
        "gone",
        "no json",
        "no safetensors",
        "outside",
        "other rows",
        "other videos",
        "other width",
    ]
    + ["schema", "schema of background", "no lasting", "no video_weight"]
    + [f"weight {value}" for value in ("-0.1", "NaN", "Infinity", '"x"', "null")]
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
    elif damage.startswith("no "):
        name = damage.removeprefix("no ")
        atomic.write_json(path, {k: v for k, v in record.items() if k != name})
    elif damage.startswith("weight"):
        value = json.loads(damage.removeprefix("weight "))
        path.write_text(json.dumps({**record, "video_weight": value}))
    elif damage.startswith("lasting"):
        path.write_text(
            json.dumps({**record, "lasting": json.loads(damage.removeprefix("lasting "))})
        )
    elif damage == "outside":
        atomic.write_json(path, {**record, "file": "../x"})
    sizes = [3, 2, 4]
    if damage.startswith("other"):
        sizes[("other rows", "other videos", "other width").index(damage)] += 1
    assert load_calibration(folder, key, *sizes) is None
