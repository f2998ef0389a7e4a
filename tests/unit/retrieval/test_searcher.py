"""Searches match loops over all videos and moments; altered index files are refused."""

import dataclasses
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import vla
from support import naive_search
from support.naive_search import overlap
from support.refusals import refused
from vla.batches.collate import build_batch
from vla.batches.corpus import Corpus, Query
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache
from vla.encoders.toy import Encoder
from vla.errors import CacheError, MissingError, UsageError
from vla.features import FrameFeatures
from vla.heads.base import LocalizationBatch
from vla.hints import Hint
from vla.indexes import registry as indexes
from vla.indexing.segments import windows_and_frames
from vla.indexing.store import SCHEMA, open_index, save_index
from vla.indexing.sync import build_index
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval.calibration_estimate import calibrate_index
from vla.retrieval.query import Query as TextQuery
from vla.retrieval.query_bank import QueryBank, default_queries
from vla.retrieval.scorers import RankingConfig
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace

ENCODER = Encoder("12")
SPEC = ENCODER.identity.spec("fps=2")


def filled(folder, lengths, seed=0):
    """A cache of videos whose frames drift at random."""
    cache = FeatureCache.create(folder, SPEC, EncoderSource("toy", "12", ""))
    for number, frames in enumerate(lengths):
        rng = np.random.default_rng([seed, number])
        values = (rng.standard_normal((frames, 12)).cumsum(0) + rng.standard_normal(12)).astype(
            np.float16
        )
        times = np.arange(frames) / 2
        name = f"v/{number}.mp4"
        cache.add_video(
            FrameFeatures(name, values, times, frames / 2),
            Receipt(name, "ok", "", 1, 1, "", duration_seconds=frames / 2),
        )
    return cache


def searcher(cache, root, backend="faiss_flat", model=None, **config):
    model = model or AlignmentModel(ModelConfig(12)).eval()
    index = build_index(cache, model, backend=backend)
    return Searcher(index, ENCODER, model, cache, Workspace(root), config=RankingConfig(**config))


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.sqrt((rows**2).sum(-1, keepdims=True))


def videos_of(cache, align=None):
    """Return rows, frames and times of each video, for loops over all of them."""
    videos = []
    for video_id in cache.video_ids():
        features = cache.frames(video_id)
        frames = unit(features.values.astype(np.float64) if align is None else align(features))
        first, last, _ = windows_and_frames(features)
        rows = [unit(frames[a:b].mean(0)) for a, b in zip(first, last, strict=True)]
        times, duration = features.timestamps_seconds.tolist(), features.duration_seconds
        video = {"name": video_id, "rows": rows, "frames": frames, "times": times}
        videos.append(SimpleNamespace(**video, duration=duration))
    return videos


def text_vector(text):
    return unit(ENCODER.encode_text([text]).pooled[0])


def naive(
    cache, query, k, per_video=None, calibration=None, vector=None, predictions=None, align=None, **options
):  # fmt: skip
    """Return the best moments of all videos as score, video, start, end, peak.

    Args:
        cache: the videos.
        query: a text.
        k: number of moments.
        per_video: maximum number of moments of one video; None for 3, or for any number where that
            makes fewer than `k`.
        calibration: the centers; None to center nothing.
        vector: in place of the text.
        predictions: by video, start, end and probability of moments of a head.
        align: makes the frames of a model of features.
        options: of `naive_search.moments_of_video`.
    """
    vector = text_vector(query) if vector is None else vector
    if per_video is None:
        arguments = calibration, vector, predictions, align
        few = naive(cache, query, k, 3, *arguments, **options)
        return few if len(few) == k else naive(cache, query, k, k, *arguments, **options)
    hits = []
    for video in videos_of(cache, align):
        own = None if predictions is None else predictions[video.name]
        moments = naive_search.moments_of_video(
            vector, video, calibration, per_video, predictions=own, **options
        )
        hits += [(score, video.name, *moment) for score, *moment in moments]
    return sorted(hits, key=lambda hit: -hit[0])[:k]


@pytest.mark.parametrize("backend", indexes.names())
@pytest.mark.parametrize(
    ("k", "per_video"), [(1, 1), (5, None), (5, 3), (10, 2), (40, 50), (500, None)]
)
def test_search_matches_brute_force(tmp_path, backend, k, per_video):
    cache = filled(tmp_path / "c", [9, 40, 1, 25, 120, 60])
    search = searcher(cache, tmp_path, backend).search
    for query in ("a red dog", "rain on a roof", "someone opens the door and leaves"):
        assert_same(search(query, k, per_video), naive(cache, query, k, per_video))


def assert_same(hits, expected):
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in expected], atol=2e-5)
    assert [(h.video_id, h.start, h.end) for h in hits] == [w[1:4] for w in expected]
    assert [h.peak for h in hits] == [w[4] for w in expected]


def with_calibration(find, queries=60, seed=0):
    """Return the searcher with a calibration for random queries."""
    bank = unit(np.random.default_rng(seed).standard_normal((queries, 12)) + 0.3).astype(np.float32)
    texts = tuple(f"query {i}" for i in range(queries))
    query_bank = QueryBank(texts, (frozenset(),) * queries)
    return dataclasses.replace(find, calibration=calibrate_index(find.index, query_bank, bank))


def calibration_by_loops(find, queries=60, seed=0):
    """Return what `with_calibration` computes, by loops."""
    bank = unit(np.random.default_rng(seed).standard_normal((queries, 12)) + 0.3)
    videos = videos_of(find.cache, find.model.align_frames)
    return naive_search.calibrate(videos, bank)


def assert_confidences_follow_scores(hits, null_scores, tolerance=1e-5):
    """Each is the share of null scores below the score, so that none contradicts the ranks."""
    for hit in hits:
        confidences = [
            naive_search.confidence(hit.score + shift, null_scores)
            for shift in (-tolerance, tolerance)
        ]
        assert confidences[0] - 1e-12 <= hit.confidence <= confidences[1] + 1e-12
    confidences = [hit.confidence for hit in hits]
    assert confidences == sorted(confidences, reverse=True)
    assert 0 <= min(confidences) <= max(confidences) < 1


@pytest.mark.parametrize("backend", indexes.names())
@pytest.mark.parametrize(("k", "per_video"), [(1, 1), (8, 2), (30, None), (500, None)])
def test_search_with_a_calibration_matches_brute_force(tmp_path, backend, k, per_video):
    cache = filled(tmp_path / "c", [9, 40, 1, 25, 120, 60])
    find = with_calibration(searcher(cache, tmp_path, backend))
    expected = calibration_by_loops(find)
    for query in ("a red dog", "rain on a roof"):
        hits = find.search(query, k, per_video)
        assert_same(hits, naive(cache, query, k, per_video, expected))
        assert_confidences_follow_scores(hits, expected.null_scores)


def test_a_calibration_changes_what_is_found(tmp_path):
    """Else the tests above would not see whether anything is centered."""
    cache = filled(tmp_path / "c", [9, 40, 25, 120, 60])
    plain = searcher(cache, tmp_path)
    calibrated = with_calibration(plain)
    queries = [f"thing {i} happens" for i in range(12)]
    orders = [
        [[h.video_id for h in find.search(q, 5, 1)] for q in queries]
        for find in (plain, calibrated)
    ]
    assert orders[0] != orders[1]


def test_several_texts_are_centered_by_their_weights(tmp_path):
    cache = filled(tmp_path / "c", [9, 40, 1, 25, 60])
    find = with_calibration(searcher(cache, tmp_path))
    also, negative = (("a cat", 0.5),), (("snow", 0.3), ("fog", 0.25))
    hits = find.search(TextQuery("a dog", also=also, negative=negative), 20)
    vector = (text_vector("a dog") + 0.5 * text_vector("a cat")) / 1.5
    vector = vector - 0.3 * text_vector("snow") - 0.25 * text_vector("fog")
    expected = calibration_by_loops(find)
    assert_same(hits, naive(cache, "", 20, None, expected, vector=vector, total_weight=0.45))


def test_there_is_no_limit_for_a_video_unless_it_is_requested(tmp_path):
    find = searcher(filled(tmp_path / "c", [300, 3, 3]), tmp_path)
    hits = find.search("a dog", 12)
    assert hits == find.search("a dog", 12, 12)
    own = [h for h in hits if h.video_id == "v/0.mp4"]
    assert len(own) > 3
    for number, hit in enumerate(own):
        assert all(hit.end <= h.start or h.end <= hit.start for h in own[:number]), "disjoint"


def test_threads_share_a_searcher(tmp_path):
    find = with_calibration(searcher(filled(tmp_path / "c", [9, 40, 25, 120, 60]), tmp_path))
    queries = [f"thing {i} happens" for i in range(16)]
    expected = [find.search(query, 6) for query in queries]
    fresh = dataclasses.replace(find)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda query: fresh.search(query, 6), queries)) == expected


def test_max_fpr_hides_hits_of_low_confidence(tmp_path):
    find = with_calibration(searcher(filled(tmp_path / "c", [30] * 8, seed=3), tmp_path))
    all_hits = find.search("a dog", 20)
    for rate in (0.02, 0.3, 0.9, 1.0):
        assert find.search("a dog", 20, max_fpr=rate) == [
            h for h in all_hits if h.confidence >= 1 - rate - 1e-9
        ]
    for rate in (0.2, 0.5, 1.0):
        passing = find.search("a dog", 20, max_fpr=rate)
        rejected = [hit for hit in all_hits if hit not in passing]
        expected = sorted(rejected, key=lambda hit: -hit.confidence)[:1]
        assert [passing.near_miss] == (expected or [None])
    assert all_hits.near_miss is None
    assert find.search("a dog", 20, max_fpr=1.0) == all_hits
    with pytest.raises(
        UsageError, match=r"60 reference queries can estimate rates from 0.0164 to 1"
    ):
        find.search("a dog", max_fpr=0.01)
    with pytest.raises(MissingError, match="no false-positive rate is known here"):
        dataclasses.replace(find, calibration=None).search("a dog", max_fpr=0.5)


def test_moments_of_a_video_do_not_depend_on_other_videos(tmp_path):
    alone = searcher(filled(tmp_path / "a", [70]), tmp_path).search("a dog", 3)
    among = searcher(filled(tmp_path / "b", [70, 50, 90, 20]), tmp_path).search("a dog", 99)
    own = [h for h in among if h.video_id == "v/0.mp4"]
    assert [(h.start, h.end, h.peak) for h in own] == [(h.start, h.end, h.peak) for h in alone]
    np.testing.assert_allclose([h.score for h in own], [h.score for h in alone], atol=1e-6)


def test_duplicates_are_one_hit(tmp_path):
    """The first of three names with a file is the hit; the others are its duplicates."""
    cache = filled(tmp_path / "c", [40, 50])
    features = cache.frames("v/1.mp4")
    for name in ("w/copy.mp4", "a/copy.mp4"):
        cache.add_video(
            dataclasses.replace(features, video_id=name),
            dataclasses.replace(cache.receipts["v/1.mp4"], video_id=name),
        )
    hits = searcher(cache, tmp_path).search("a dog", 50, 2)
    assert {h.video_id for h in hits} == {"v/0.mp4", "v/1.mp4"} and len(hits) <= 4
    assert {h.duplicates for h in hits if h.video_id == "v/1.mp4"} == {("w/copy.mp4", "a/copy.mp4")}
    assert {h.duplicates for h in hits if h.video_id == "v/0.mp4"} == {()}
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "copy.mp4").touch()
    again = searcher(cache, tmp_path).search("a dog", 50, 2)
    assert {h.duplicates for h in again if h.video_id == "w/copy.mp4" and not h.is_missing} == {
        ("v/1.mp4", "a/copy.mp4")
    }


@pytest.mark.parametrize(("k", "per_video"), [(1, 1), (6, 3), (30, None)])
@pytest.mark.parametrize("is_calibrated", [False, True])
def test_head_finds_moments_and_ranks_them_in_their_video(tmp_path, k, per_video, is_calibrated):
    """Compare with loops, for a random head; videos keep their scores."""
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(12, heads={"moments": {"width": 8, "levels": 4}})).eval()
    cache = filled(tmp_path / "c", [40, 70])
    raw = ENCODER.encode_text(["a dog"]).pooled[0]
    predictions = {
        name: predict_alone(model, cache.frames(name), raw) for name in cache.video_ids()
    }
    find = searcher(cache, tmp_path, model=model)
    find = with_calibration(find) if is_calibrated else find
    calibration = calibration_by_loops(find) if is_calibrated else None
    hits = find.search("a dog", k, per_video)
    assert_same(hits, naive(cache, "a dog", k, per_video, calibration, predictions=predictions))
    best = dataclasses.replace(find, model=AlignmentModel(ModelConfig(12)).eval())
    videos = {h.video_id: h.score for h in best.search("a dog", 9, 1)}
    first = {h.video_id: h.score for h in reversed(hits)}
    assert first == pytest.approx({name: videos[name] for name in first}, abs=1e-6)


def test_confidence_with_a_head_follows_the_score(tmp_path):
    model, cache = with_a_head(), filled(tmp_path / "c", [40, 70, 30, 50, 60])
    find = with_calibration(searcher(cache, tmp_path, model=model), queries=400)
    hits = find.search("a dog", 15, 3)
    assert len({h.confidence for h in hits}) > len({h.video_id for h in hits})
    assert_confidences_follow_scores(hits, find.calibration.null_scores.tolist())


@pytest.mark.parametrize("backend", ["exact", "faiss_flat"])
def test_rejects_index_with_non_finite_vectors(tmp_path, backend):
    """In a row beyond the best ones, of a video with hits."""
    find = searcher(filled(tmp_path / "c", [40, 60]), tmp_path, backend)
    (part,) = find.index.parts
    vectors = np.array(part.vectors)
    vectors[-1] = np.nan
    index = dataclasses.replace(
        find.index, parts=(dataclasses.replace(part, vectors=vectors, make=lambda: part.index),)
    )
    with refused(CacheError, "index"):
        dataclasses.replace(find, index=index).search("a dog", 10, 3)


def with_a_head():
    """Return a model with a random projector and head for moments, at alpha 0.5."""
    torch.manual_seed(1)
    model = AlignmentModel(
        ModelConfig(12, "temporal", heads={"moments": {"width": 8, "levels": 4}})
    ).eval()
    with torch.no_grad():
        for values in model.parameters():
            if values.ndim > 1:
                values.add_(0.3 * torch.randn_like(values))
    model.projector.alpha.fill_(0.5)
    return model


def predict_alone(model, features, raw):
    """Return the predictions of the head for one video in a batch of its own."""
    corpus = Corpus([features], [Query("q", ("q",), ("q",), 0, np.array([[0.0, 1.0]]))], {"q": raw})
    with torch.no_grad(), model.with_alpha(1.0):
        batch = build_batch(corpus, np.arange(1), corpus.queries)
        return (
            model.heads["moments"]
            .localize(LocalizationBatch.from_batch(model(batch), batch))[0]
            .moments.tolist()
        )


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_predictions_do_not_depend_on_the_batch(tmp_path, batch_size):
    model, cache = with_a_head(), filled(tmp_path / "c", [40, 70, 9, 2, 300, 41, 38, 65, 1])
    raw = ENCODER.encode_text(["a dog"]).pooled[0]
    predictions = {
        name: predict_alone(model, cache.frames(name), raw) for name in cache.video_ids()
    }
    vector = model.align_texts(raw[None])[0]
    expected = naive(
        cache, "a dog", 20, 3, vector=vector, predictions=predictions, align=model.align_frames
    )
    hits = searcher(cache, tmp_path, model=model).search("a dog", 20, 3)
    np.testing.assert_allclose([h.score for h in hits], [w[0] for w in expected], atol=1e-5)
    assert [h.video_id for h in hits] == [w[1] for w in expected]
    np.testing.assert_allclose(
        [(h.start, h.end) for h in hits], [w[2:4] for w in expected], atol=1e-4
    )


def test_head_runs_on_the_videos_with_the_best_segments(tmp_path):
    model, cache = with_a_head(), filled(tmp_path / "c", [40, 70, 30, 50, 60])
    raw = ENCODER.encode_text(["a dog"]).pooled[0]
    vector = model.align_texts(raw[None])[0]

    videos = videos_of(cache, model.align_frames)
    scores = {v.name: naive_search.video_score(vector, v) for v in videos}
    find = searcher(cache, tmp_path, model=model, max_head_videos=3)
    first = sorted(scores, key=lambda name: -scores[name])[:3]
    assert {h.video_id for h in find.search("a dog", 3, 50)} <= set(first)
    assert {h.video_id for h in find.search("a dog", 2, 1)} <= set(first)
    # more requested hits run the head on more videos
    assert {h.video_id for h in find.search("a dog", 500, 1)} == set(cache.video_ids())


@pytest.mark.parametrize("frames", [30, 60])
@pytest.mark.parametrize(("k", "per_video"), [(1, 1), (10, 2), (30, 3)])
def test_invariants_of_hits(tmp_path, frames, k, per_video):
    cache = filled(tmp_path / "c", [frames] * 12, seed=3)
    hits = searcher(cache, tmp_path).search("  a dog\0 runs ", k, per_video)
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1)) and len(hits) <= min(
        k, 12 * per_video
    )
    assert len(hits) >= min(k, 12)
    scores = [h.score for h in hits]
    assert scores == sorted(scores, reverse=True)
    assert max(sum(h.video_id == v for h in hits) for v in cache.video_ids()) <= per_video
    for h in hits:
        assert (
            0 <= h.start <= h.peak < h.end <= frames / 2
            and -1.5 <= h.score <= 1
            and h.confidence is None
        )
        assert h.query == "a dog  runs" and h.path == str(tmp_path / h.video_id) and h.is_missing
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "0.mp4").touch()
    again = searcher(cache, tmp_path).search("a dog", 12, 1)
    assert {h.video_id for h in again if not h.is_missing} == {"v/0.mp4"}


def test_adds_rows_until_there_are_enough_videos(tmp_path):
    """One long video holds all of the best segments; `per_video` must still let the others through."""

    cache = filled(tmp_path / "c", [600, 3, 3, 3], seed=1)
    vector = ENCODER.encode_text(["a dog"]).pooled[0]
    values = np.tile(vector.astype(np.float16), (600, 1))
    cache.add_video(
        FrameFeatures("v/0.mp4", values, np.arange(600) / 2, 300.0),
        Receipt("v/0.mp4", "ok", "", 1, 1, "", duration_seconds=300.0),
    )
    hits = searcher(cache, tmp_path, min_rows=20).search("a dog", 4, 1)
    assert len(hits) == 4 and hits[0].video_id == "v/0.mp4" and len({h.video_id for h in hits}) == 4


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_initial_number_of_rows_does_not_matter(tmp_path, rows):
    cache = filled(tmp_path / "c", [9, 40, 1, 25, 120, 60, 33])
    expected = searcher(cache, tmp_path).search("a red dog", 4, 2)
    assert (
        searcher(cache, tmp_path, min_rows=rows, rows_per_hit=0).search("a red dog", 4, 2)
        == expected
    )


@pytest.mark.parametrize("rows", [1, 7, 50])
def test_few_rows_of_a_calibrated_index_find_what_all_rows_find(tmp_path, rows):
    """Rows are listed by inner products, so a video may be missed, but no hit has another score."""
    cache = filled(tmp_path / "c", [9, 40, 1, 25, 120, 60, 33])
    every = with_calibration(searcher(cache, tmp_path))
    few = dataclasses.replace(every, config=RankingConfig(min_rows=rows, rows_per_hit=0))
    same = 0
    for query in (f"thing {i} happens" for i in range(20)):
        expected, hits = every.search(query, 500), few.search(query, 4)
        known = {(h.video_id, h.start, h.end, h.score, h.confidence) for h in expected}
        assert {(h.video_id, h.start, h.end, h.score, h.confidence) for h in hits} <= known
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
        same += hits == expected[:4]
    assert same >= 18


def test_finds_a_planted_moment(tmp_path):
    """Frames 20 to 27 of the third video look like the query: 10 to 14 seconds."""
    cache = filled(tmp_path / "c", [60] * 5, seed=2)
    features = cache.frames("v/2.mp4")
    values = features.values.copy()
    values[20:28] = ENCODER.encode_text(["a blue bird sings"]).pooled[0] * 3
    noise = np.random.default_rng(0).standard_normal((8, 12)) * 3
    values[20:28] += (noise - noise.mean(0)).astype(
        np.float16
    )  # only the mean of all eight equals the query
    cache.add_video(dataclasses.replace(features, values=values), cache.receipts["v/2.mp4"])
    best = searcher(cache, tmp_path).search("a blue bird sings", 1)[0]
    assert best.video_id == "v/2.mp4" and overlap((best.start, best.end), (10.0, 14.0)) >= 0.7
    assert best.score == pytest.approx(1.0, abs=1e-3) and 10 <= best.peak < 14


def test_long_query_is_the_mean_of_its_chunks(tmp_path):
    cache = filled(tmp_path / "c", [3, 2])
    find = searcher(cache, tmp_path)
    parts = [
        "first a man opens the door and looks round the room for a long time.",
        "rain falls on the roof.",
    ]
    query = " ".join(parts)
    assert not ENCODER.fits(query)
    vector = unit(unit(ENCODER.encode_text(parts).pooled).mean(0))
    assert_same(find.search(query, 3), naive(cache, "", 3, vector=vector))


@pytest.mark.parametrize("query", ["", "   ", "\0", "\n\t", "x" * 2001])
def test_rejects_invalid_queries(tmp_path, query):
    with pytest.raises(UsageError, match="a query has 1 to 2000 characters"):
        searcher(filled(tmp_path / "c", [3]), tmp_path).search(query)


def test_three_moments_of_a_video_are_listed_before_those_of_others(tmp_path):
    """More only where all videos together have fewer hits than requested."""
    find = searcher(filled(tmp_path / "c", [400, 60, 60]), tmp_path)
    searches = (
        lambda k, per_video=None: find.search("a dog", k, per_video),
        lambda k, per_video=None: find.search_like("v/1.mp4", 3.0, k, per_video),
    )
    for search in searches:
        few, many = search(5), search(60)
        assert len(few) == 5 < len(many)
        assert max(Counter(hit.video_id for hit in few).values()) == 3
        assert many == search(60, 60) and max(Counter(h.video_id for h in many).values()) > 3


@pytest.mark.parametrize(("k", "per_video"), [(0, 1), (1, 0), (-1, 3)])
def test_rejects_invalid_k(tmp_path, k, per_video):
    with pytest.raises(UsageError, match="must be at least 1"):
        searcher(filled(tmp_path / "c", [3]), tmp_path).search("a", k, per_video)


def test_video_without_features_keeps_its_moment(tmp_path):
    cache = filled(tmp_path / "c", [8])
    find, score = searcher(cache, tmp_path), naive(cache, "a dog", 1)[0][0]
    cache.add_receipt(
        dataclasses.replace(cache.receipts["v/0.mp4"], status="failed", shard="", sha256="")
    )
    hit = find.search("a dog", 1)[0]
    assert hit.peak == hit.start and hit.score == pytest.approx(score, abs=1e-6)


def test_nothing_to_index(tmp_path):
    cache = FeatureCache.create(tmp_path, SPEC, EncoderSource("toy", "12", ""))
    with pytest.raises(MissingError, match="no features to index"):
        build_index(cache, AlignmentModel(ModelConfig(12)))


def test_hit_as_json():
    from vla.retrieval.hits import Hit

    assert Hit(1, 0.5, "a.mp4", "/x/a.mp4", 1.0, 2.0, 1.5, "dog").to_json() == {
        "rank": 1, "score": 0.5, "video": "a.mp4", "path": "/x/a.mp4", "start": 1.0, "end": 2.0, "peak": 1.5,
        "query": "dog", "missing": False, "confidence": None, "duplicates": [],
        "near_duplicates": [], "steps": [],
    }  # fmt: skip


# The index on disk


@pytest.fixture
def saved_index(tmp_path):
    """Return the folder of a saved index, and the index."""
    cache = filled(tmp_path / "c", [9, 30, 4])
    index = build_index(cache, AlignmentModel(ModelConfig(12)).eval(), run="r", run_digest="d" * 16)
    save_index(tmp_path / "index", index)
    return tmp_path / "index", index


@pytest.mark.parametrize("backend", indexes.names())
def test_saves_and_opens_an_index(tmp_path, backend):
    cache = filled(tmp_path / "c", [9, 30, 4])
    model = AlignmentModel(ModelConfig(12)).eval()
    index = build_index(cache, model, run="r", run_digest="d" * 16, backend=backend)
    save_index(tmp_path / "i", index)
    back = open_index(tmp_path / "i")
    for name in ("videos", "spec", "run", "run_digest", "cache_state", "backend"):
        assert getattr(back, name) == getattr(index, name), name
    assert back.cache_state == cache.state() and back.videos == ["v/0.mp4", "v/1.mp4", "v/2.mp4"]
    np.testing.assert_array_equal(back.video_of_row, index.video_of_row)
    np.testing.assert_array_equal(back.spans, index.spans)
    workspace = Workspace(tmp_path)
    assert Searcher(back, ENCODER, model, cache, workspace).search("a dog", 9) == Searcher(
        index, ENCODER, model, cache, workspace
    ).search("a dog", 9)
    assert len(list((tmp_path / "i").iterdir())) == (3 if indexes.get(backend).is_exact else 4)


def test_saving_again_leaves_only_the_new_files(tmp_path, saved_index):
    folder, index = saved_index
    save_index(folder, index)
    assert len(list(folder.iterdir())) == 3
    smaller = build_index(filled(tmp_path / "d", [5]), AlignmentModel(ModelConfig(12)).eval())
    save_index(folder, smaller)
    assert len(list(folder.iterdir())) == 3 and open_index(folder).videos == ["v/0.mp4"]


@pytest.mark.parametrize("pattern", ["vectors-*", "rows-*"])
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "gone"])
def test_refuses_altered_files(saved_index, pattern, damage):
    path = next(saved_index[0].glob(pattern))
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 1])
        path.write_bytes({"flip": flipped, "cut": content[:-1], "longer": content + b"\0"}[damage])
    with pytest.raises(CacheError, match=r"was altered|is gone"):
        open_index(saved_index[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schema": SCHEMA + 1}, "newer vla"),
        ({"schema": None}, "damaged"),
        ({"schema": 1}, "written by an older vla"),
        ({"parts": None}, "damaged"),
        ({"parts": [{}]}, "damaged"),
        ({"dim": 13}, "was altered"),
        ({"dim": 0}, "damaged"),
        ({"asked": {}}, "damaged"),
        ({"asked": {"backend": "auto", "memory": "much", "recall": 0.9}}, "damaged"),
        ({"asked": {"backend": "auto", "memory": None, "recall": 7}}, "damaged"),
        ({"measured": [{"speed": 3}]}, "damaged"),
        ({"spec": {}}, "does not describe features"),
    ],
    ids=str,
)
def test_refuses_altered_records(saved_index, fields, message):
    path = saved_index[0] / "index.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **fields}))
    with pytest.raises(CacheError, match="was altered"):
        open_index(saved_index[0])
    del record["checksum"]  # as an older version wrote it
    path.write_text(json.dumps({**record, **fields}))
    with pytest.raises(CacheError, match=message):
        open_index(saved_index[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"vectors": "../secret"},
            r"parts\[0\].vectors is '../secret', not the name of a file in the same folder",
        ),
        ({"vectors": 3}, r"vectors is 3, not a text"),
        ({"rows": "/etc/passwd"}, "rows is '/etc/passwd', not the name of a file"),
        ({"rows": ".."}, "rows is '..', not the name of a file"),
        ({"lists": "/etc/passwd"}, "lists is '/etc/passwd', not the name of a file"),
        ({"lists_sha256": 3}, "lists_sha256 is 3"),
        ({"segments": 1}, "was altered"),
        ({"segments": 2**60}, "was altered"),
        ({"segments": True}, "segments is True, not a whole number"),
        ({"depth": 1.5}, "depth is 1.5, not a whole number"),
        ({"kind": "float64"}, "kind is 'float64', not one of 'float32', 'float16'"),
        ({"kind": "object"}, "kind is 'object'"),
        ({"gone": [99]}, "do not fit together"),
        ({"gone": [-1]}, r"gone\[0\] is -1, not a number from 0"),
        ({"gone": ["v/0.mp4"]}, r"gone\[0\] is 'v/0.mp4', not a whole number"),
        ({"gone": 1}, "damaged"),
        ({"renamed": {"99": "x"}}, "do not fit together"),
        ({"renamed": {"first": "x"}}, "damaged"),
        ({"renamed": []}, "damaged"),
        ({"backend": "nothing"}, "needs the index plug-in 'nothing', which is not here"),
        ({"vectors_sha256": "0" * 64}, "altered"),
    ],
    ids=str,
)
def test_refuses_altered_fragment_records(saved_index, fields, message):
    path = saved_index[0] / "index.json"
    record = json.loads(path.read_text())
    del record["checksum"]  # as an older version wrote it
    path.write_text(json.dumps({**record, "parts": [{**record["parts"][0], **fields}]}))
    with pytest.raises(CacheError, match=message):
        open_index(saved_index[0])


def test_refuses_rows_of_another_index(tmp_path, saved_index):
    """Each file may be valid and the two still not belong together."""
    from vla.storage import atomic

    folder, index = saved_index
    part = index.parts[0]
    other = dataclasses.replace(
        part, vectors=part.vectors[:-1], video_of_row=part.video_of_row[:-1], spans=part.spans[:-1]
    )
    save_index(tmp_path / "other", dataclasses.replace(index, parts=(other,)))
    record, theirs = (
        json.loads((f / "index.json").read_text()) for f in (folder, tmp_path / "other")
    )
    rows = {key: theirs["parts"][0][key] for key in ("rows", "rows_sha256")}
    (folder / rows["rows"]).write_bytes((tmp_path / "other" / rows["rows"]).read_bytes())
    record.pop("checksum")
    atomic.write_json(folder / "index.json", {**record, "parts": [{**record["parts"][0], **rows}]})
    with pytest.raises(CacheError, match="do not fit together"):
        open_index(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}"])
def test_refuses_invalid_records(saved_index, text):
    (saved_index[0] / "index.json").write_text(text)
    with pytest.raises(CacheError, match="damaged"):
        open_index(saved_index[0])


def test_no_index_yet(tmp_path):
    with refused(MissingError, "index"):
        open_index(tmp_path)


# From the outside


def test_index_and_search_of_a_workspace(toy_workspace, monkeypatch):
    root = toy_workspace.root
    with refused(MissingError, "index"):
        vla.search("a dog", workspace=root)
    report = vla.index(workspace=root, backend="exact")
    assert (report.videos, report.run, report.backend) == (3, "", "exact")
    hits = vla.search("someone pours tea", workspace=root, k=5, per_video=1)
    assert {h.video_id for h in hits} == {
        "videos/v2.mp4",
        "videos/v3.mp4",
        "videos/v4.mp4",
    } and not any(h.is_missing for h in hits)
    opened = vla.open_workspace(root)
    assert opened.search("someone pours tea", 5, 1) == hits and opened.notes() == []
    (root / "videos" / "v2.mp4").unlink()
    assert "videos/v2.mp4" not in {h.video_id for h in opened.search("x", 3, 1)}
    monkeypatch.chdir(root / "videos")  # found upwards
    assert [h.video_id for h in vla.search("someone pours tea", k=5, per_video=1)] == [
        h.video_id for h in hits if h.video_id != "videos/v2.mp4"
    ]


def test_reports_an_outdated_index(toy_workspace, clip):
    root = toy_workspace.root
    vla.index(workspace=root)
    clip("videos/new.mp4", frames=10)
    vla.extract([root / "videos"], workspace=root, workers=1)
    notes = []
    vla.search("a dog", workspace=root, progress=lambda p: notes.append(p.message))
    (note,) = (
        n for n in notes if "out of date (1 video is missing in it, 0 are gone or changed)" in n
    )
    assert note.hint == Hint("index")
    hits = vla.search(
        "a dog", [root / "videos"], workspace=root, k=20, per_video=1
    )  # with paths, it is updated
    assert "videos/new.mp4" in {h.video_id for h in hits}


def test_calibration_counts_its_two_passes_once(tmp_path):
    index = searcher(filled(tmp_path / "c", [5, 6, 7]), tmp_path).index
    bank, seen = default_queries(), []
    vectors = np.random.default_rng(0).standard_normal((len(bank.texts), 12))
    calibrate_index(index, bank, vectors, seen.append)
    assert [(p.done, p.total) for p in seen] == [(i, 6) for i in range(1, 7)]
