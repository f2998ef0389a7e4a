"""Calibrations of workspaces: choice of the query bank, updates, and searches without one."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

import vla
from support import naive_search
from support.refusals import refused
from vla.batches.corpus import pool_chunks
from vla.batches.segment_pooling import pool_segments
from vla.cache.store import active_cache
from vla.errors import MissingError, ResourceError, UsageError
from vla.hints import Hint
from vla.indexing.segments import windows_and_frames
from vla.model import zero_shot_model
from vla.retrieval import calibration_store
from vla.retrieval.calibration_estimate import calibrate_index
from vla.retrieval.query_bank import default_queries


def captions(root, count):
    """A captions file of `count` different sentences, one video after another."""
    lines = [f"videos/v{2 + i % 3}.mp4,number {i} of many things" for i in range(count)]
    (root / "more.csv").write_text("video,caption\n" + "\n".join(lines) + "\n")
    vla.extract([root / "videos"], captions=root / "more.csv", workspace=root, workers=1)


def expected_calibration(workspace, searcher, texts, described):
    """Return the calibration by loops; `described` is the video of each text, or None."""
    cache = active_cache(workspace.caches)
    model = zero_shot_model(cache.spec.dim, 1.0)
    vectors = model.align_texts(
        np.stack([pool_chunks(searcher.encoder.encode_text([t]).pooled) for t in texts])
    )
    videos = []
    for features in map(cache.frames, searcher.index.videos):
        frames = model.align_frames(features)
        rows = pool_segments(frames, features, windows_and_frames(features)).vectors
        videos.append(SimpleNamespace(frames=frames, rows=rows))
    exclude = [[i for i, v in enumerate(described) if v == n] for n in searcher.index.videos]
    return naive_search.calibrate(videos, vectors, exclude)


def assert_close(calibration, expected, tolerance, live=slice(None)):
    np.testing.assert_allclose(calibration.row_norms[live], expected.row_norms, atol=tolerance)
    assert calibration.video_weight == pytest.approx(expected.video_weight, abs=tolerance)
    for name in ("video_center", "query_center", "mean_norms", "null_scores"):
        values = getattr(calibration, name), getattr(expected, name)
        np.testing.assert_allclose(*values, atol=tolerance, err_msg=name)


def test_few_captions_use_default_queries(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    texts = default_queries().texts
    expected = expected_calibration(toy_workspace, searcher, texts, [None] * len(texts))
    assert_close(searcher.calibration, expected, 1e-5)


def test_captions_are_not_compared_with_their_own_videos(toy_workspace):
    captions(toy_workspace.root, 120)
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    told = [
        ("a red door opens", 2),
        ("a dog runs over the grass", 3),
        ("someone pours green tea", 4),
    ]
    told += [(f"number {i} of many things", 2 + i % 3) for i in range(120)]
    texts, videos = [t for t, _ in told], [f"videos/v{n}.mp4" for _, n in told]
    expected = expected_calibration(toy_workspace, searcher, texts, videos)
    assert_close(searcher.calibration, expected, 4e-3)  # cached texts are float16
    regardless = expected_calibration(toy_workspace, searcher, texts, [None] * len(texts))
    assert np.abs(np.subtract(regardless.null_scores, expected.null_scores)).max() > 0.01


def test_refits_only_when_captions_or_index_change(toy_workspace, monkeypatch):
    calls = []
    monkeypatch.setattr(
        calibration_store,
        "calibrate_index",
        lambda *args: calls.append(1) or calibrate_index(*args),
    )
    root = toy_workspace.root
    vla.index(workspace=root)
    first = vla.search("a dog", workspace=root)
    assert vla.search("a dog", workspace=root) == first and len(calls) == 1
    assert all(0 <= h.confidence < 1 for h in first)
    captions(root, 5)
    assert vla.search("a dog", workspace=root) == first and len(calls) == 2
    captions(root, 120)
    assert vla.search("a dog", workspace=root) != first and len(calls) == 3
    (next((root / ".vla" / "index").glob("calibration-*"))).write_bytes(b"x")
    vla.search("a dog", workspace=root)
    vla.search("a dog", workspace=root)
    assert len(calls) == 4


def test_read_only_workspace_can_be_searched(toy_workspace, monkeypatch):
    def full(*args):
        raise ResourceError("disk full")

    monkeypatch.setattr(calibration_store, "save_calibration", full)
    vla.index(workspace=toy_workspace.root)
    hits = vla.search("a dog", workspace=toy_workspace.root)
    assert hits and all(h.confidence is not None for h in hits)
    assert not list((toy_workspace.root / ".vla" / "index").glob("calibration*"))


def test_deleted_videos_have_no_influence(toy_workspace):
    root = toy_workspace.root
    vla.index(workspace=root)
    before = vla.open_workspace(root).searcher
    vla.remove(["videos/v3.mp4"], workspace=root)
    vla.index(workspace=root)
    after = vla.open_workspace(root).searcher
    deleted = np.flatnonzero(after.index.video_of_row < 0)
    assert len(deleted) and len(after.index.video_of_row) == len(before.index.video_of_row)
    assert (after.calibration.row_norms[deleted] == 1).all()
    texts = default_queries().texts
    expected = expected_calibration(toy_workspace, after, texts, [None] * len(texts))
    assert_close(after.calibration, expected, 1e-5, np.flatnonzero(after.index.video_of_row >= 0))
    assert {h.video_id for h in after.search("a dog")} == {"videos/v2.mp4", "videos/v4.mp4"}


def with_fragment(index, **change):
    return dataclasses.replace(index, parts=(dataclasses.replace(index.parts[0], **change),))


def test_order_of_rows_does_not_matter(toy_workspace):
    """Of each video in the order of its windows, the videos mixed."""
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    index, expected = searcher.index, searcher.calibration
    owner = index.video_of_row
    positions = np.concatenate([np.arange(np.sum(owner == v)) for v in range(len(index.videos))])
    order = np.lexsort((-owner, positions))
    part = index.parts[0]
    mixed = with_fragment(
        index, video_of_row=owner[order], spans=part.spans[order], vectors=part.vectors[order]
    )
    calibration = calibration_store.load_or_calibrate(
        toy_workspace, mixed, searcher.cache, searcher.model, searcher.encoder
    )
    assert (np.diff(mixed.video_of_row) < 0).any()
    moved = dataclasses.replace(expected, row_norms=expected.row_norms[order])
    assert_close(calibration, moved, 1e-6)
    hits = dataclasses.replace(searcher, index=mixed, calibration=calibration).search("a dog", 20)
    for hit, other in zip(hits, searcher.search("a dog", 20), strict=True):
        assert hit == dataclasses.replace(other, score=pytest.approx(other.score, abs=1e-6))


def test_index_with_non_finite_vectors_has_none(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    index = vla.open_workspace(toy_workspace.root).searcher.index
    searcher, notes = vla.open_workspace(toy_workspace.root).searcher, []
    invalid = np.full_like(index.parts[0].vectors, np.nan)
    other = with_fragment(
        index, vectors=invalid, spans=index.parts[0].spans + 0.5
    )  # other rows: the stored calibration is not valid
    calibration = calibration_store.load_or_calibrate(
        toy_workspace,
        other,
        searcher.cache,
        searcher.model,
        searcher.encoder,
        lambda p: notes.append(p.message),
    )
    assert calibration is None and "the index holds no numbers for 'videos/v2.mp4'" in notes[-1]


def test_outdated_index_has_none(toy_workspace, clip):
    root = toy_workspace.root
    vla.index(workspace=root)
    clip("videos/new.mp4", frames=10)
    vla.extract([root / "videos"], workspace=root, workers=1)
    assert {h.confidence for h in vla.search("a dog", workspace=root)} == {None}
    with refused(MissingError, "index_or_caption"):
        vla.search("a dog", workspace=root, max_fpr=0.1)


def test_imported_features_without_encoder_use_captions_only(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    for i in range(3):
        np.save(tmp_path / "features" / f"v{i}.npy", rng.standard_normal((6, 8)).astype(np.float32))
    texts = [f"text {i}" for i in range(12)]
    np.savez(
        tmp_path / "texts.npz",
        texts=np.array(texts),
        vectors=rng.standard_normal((12, 8)).astype(np.float32),
    )
    vla.import_features(
        [tmp_path / "features"],
        model="x",
        clip_length=1.0,
        texts=tmp_path / "texts.npz",
        workspace=tmp_path,
    )
    vla.index(workspace=tmp_path)
    assert {h.confidence for h in vla.search("text 0", workspace=tmp_path)} == {None}
    with pytest.raises(MissingError, match="no false-positive rate is known here"):
        vla.search("text 0", workspace=tmp_path, max_fpr=0.1)


@pytest.mark.parametrize("max_fpr", [0.0, -0.1, 1.5, 0.001])
def test_rejects_rates_below_the_resolution_of_the_bank(toy_workspace, max_fpr):
    vla.index(workspace=toy_workspace.root)
    with pytest.raises(
        UsageError, match="330 reference queries can estimate rates from 0.0030 to 1"
    ):
        vla.search("a dog", workspace=toy_workspace.root, max_fpr=max_fpr)


def test_duration_range_from_captions_is_reported_once(toy_workspace):
    root, notes = toy_workspace.root, []

    def estimate(count):
        lines = [
            f"videos/v{2 + i % 3}.mp4,thing {i} of many,{i % 5 / 10},{i % 5 / 10 + 1 + i % 2}"
            for i in range(count)
        ]
        (root / "more.csv").write_text("video,caption,start,end\n" + "\n".join(lines) + "\n")
        vla.extract([root / "videos"], captions=root / "more.csv", workspace=root, workers=1)
        vla.index(workspace=root)
        vla.search("a dog", workspace=root, progress=notes.append)
        return vla.open_workspace(root).searcher.calibration.duration_range

    def duration_notes():
        return [n.message for n in notes if "captioned moments last" in n.message]

    assert estimate(40) is None and not duration_notes()
    assert estimate(60) == pytest.approx((1.0, 2.0))
    (note,) = duration_notes()
    assert note == "captioned moments last 1.0 to 2.0 s; searches prefer moments of this duration"
    assert note.hint == Hint("any_length")
    vla.search("a dog", workspace=root, progress=notes.append)
    assert len(duration_notes()) == 1


def test_files_of_the_schema_before_go_at_the_next_search(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    for name in ("background.json", "background-0123456789abcdef.safetensors"):
        (toy_workspace.index / name).write_bytes(b"{}")
    assert vla.search("a dog", workspace=toy_workspace.root)
    assert not list(toy_workspace.index.glob("background*"))
    assert len(list(toy_workspace.index.glob("calibration*"))) == 2


def test_fragments_are_calibrated_as_one_index(toy_workspace, clip):
    """Videos added later are in a part of their own; a deleted one leaves rows in the first."""
    root = toy_workspace.root
    vla.index(workspace=root)
    clip("videos/new.mp4", frames=30)
    vla.extract([root / "videos"], workspace=root, workers=1)
    vla.remove(["videos/v2.mp4"], workspace=root)
    vla.index(workspace=root)
    searcher, texts = vla.open_workspace(root).searcher, default_queries().texts
    live = np.flatnonzero(searcher.index.video_of_row >= 0)
    assert len(searcher.index.parts) == 2 and len(live) < len(searcher.index.video_of_row)
    expected = expected_calibration(toy_workspace, searcher, texts, [None] * len(texts))
    assert_close(searcher.calibration, expected, 1e-5, live)
    before = searcher.search("a dog", 20)
    vla.index(workspace=root, compact=True)
    after = vla.open_workspace(root).searcher
    assert len(after.index.parts) == 1
    assert_close(after.calibration, expected, 1e-5)
    for hit, other in zip(after.search("a dog", 20), before, strict=True):
        close = pytest.approx(other.score, abs=1e-5)
        assert hit == dataclasses.replace(other, score=close, confidence=hit.confidence)
