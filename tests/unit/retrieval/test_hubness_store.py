"""Fitting of hubness corrections: choice of the query bank, updates, and searches without one."""

import dataclasses

import numpy as np
import pytest

import vla
from support.refusals import refused
from vla.batches.corpus import pool_chunks
from vla.batches.segment_pooling import pool_segments
from vla.cache.store import active_cache
from vla.errors import MissingError, ResourceError, UsageError
from vla.hints import Hint
from vla.indexing.segments import windows_and_frames
from vla.model import zero_shot_model
from vla.retrieval import hubness_store
from vla.retrieval.hubness import estimate_hubness
from vla.retrieval.query_bank import default_queries


def captions(root, count):
    """A captions file of `count` different sentences, one video after another."""
    lines = [f"videos/v{2 + i % 3}.mp4,number {i} of many things" for i in range(count)]
    (root / "more.csv").write_text("video,caption\n" + "\n".join(lines) + "\n")
    vla.extract([root / "videos"], captions=root / "more.csv", workspace=root, workers=1)


def expected_correction(workspace, searcher, texts, described):
    cache = active_cache(workspace.caches)
    model = zero_shot_model(cache.spec.dim, 1.0)
    vectors = model.align_texts(
        np.stack([pool_chunks(searcher.encoder.encode_text([t]).pooled) for t in texts])
    )
    segments = [
        pool_segments(model.align_frames(f), f, windows_and_frames(f)).vectors
        for f in map(cache.frames, searcher.index.videos)
    ]
    return estimate_hubness(
        segments,
        vectors,
        [[i for i, v in enumerate(described) if v == name] for name in searcher.index.videos],
    )


def test_few_captions_use_default_queries(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    expected = expected_correction(
        toy_workspace, searcher, default_queries().texts, [None] * len(default_queries().texts)
    )
    np.testing.assert_allclose(
        searcher.hubness_correction.null_scores, expected.null_scores, atol=1e-5
    )
    np.testing.assert_allclose(searcher.hubness_correction.hubness, expected.hubness, atol=1e-5)


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
    expected = expected_correction(
        toy_workspace, searcher, [t for t, _ in told], [f"videos/v{n}.mp4" for _, n in told]
    )
    np.testing.assert_allclose(
        searcher.hubness_correction.null_scores, expected.null_scores, atol=2e-3
    )  # cached texts are float16
    np.testing.assert_allclose(
        searcher.hubness_correction.query_mean, expected.query_mean, atol=2e-3
    )
    np.testing.assert_allclose(searcher.hubness_correction.hubness, expected.hubness, atol=2e-3)


def test_refits_only_when_captions_or_index_change(toy_workspace, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "vla.retrieval.hubness.estimate_hubness",
        lambda *args: calls.append(1) or estimate_hubness(*args),
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
    (next((root / ".vla" / "index").glob("background-*"))).write_bytes(b"x")
    vla.search("a dog", workspace=root)
    vla.search("a dog", workspace=root)
    assert len(calls) == 4


def test_read_only_workspace_can_be_searched(toy_workspace, monkeypatch):
    def full(*args):
        raise ResourceError("disk full")

    monkeypatch.setattr(hubness_store, "save_hubness", full)
    vla.index(workspace=toy_workspace.root)
    hits = vla.search("a dog", workspace=toy_workspace.root)
    assert hits and all(h.confidence is not None for h in hits)
    assert not list((toy_workspace.root / ".vla" / "index").glob("background*"))


def test_deleted_videos_have_no_influence(toy_workspace):
    root = toy_workspace.root
    vla.index(workspace=root)
    before = vla.open_workspace(root).searcher
    vla.remove(["videos/v3.mp4"], workspace=root)
    vla.index(workspace=root)
    after = vla.open_workspace(root).searcher
    deleted = np.flatnonzero(after.index.video_of_row < 0)
    assert len(deleted) and len(after.index.video_of_row) == len(before.index.video_of_row)
    assert not after.hubness_correction.hubness[deleted].any()
    texts = default_queries().texts
    expected = expected_correction(toy_workspace, after, texts, [None] * len(texts))
    np.testing.assert_allclose(
        after.hubness_correction.null_scores, expected.null_scores, atol=1e-5
    )
    np.testing.assert_allclose(
        np.delete(after.hubness_correction.hubness, deleted), expected.hubness, atol=1e-5
    )
    assert {h.video_id for h in after.search("a dog")} == {"videos/v2.mp4", "videos/v4.mp4"}


def with_fragment(index, **change):
    return dataclasses.replace(index, parts=(dataclasses.replace(index.parts[0], **change),))


def test_order_of_rows_does_not_matter(toy_workspace):
    """Of each video in the order of its windows, the videos mixed."""
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    index, expected = searcher.index, searcher.hubness_correction
    owner = index.video_of_row
    workspace = np.concatenate([np.arange(np.sum(owner == v)) for v in range(len(index.videos))])
    order = np.lexsort((-owner, workspace))
    part = index.parts[0]
    mixed = with_fragment(
        index, video_of_row=owner[order], spans=part.spans[order], vectors=part.vectors[order]
    )
    correction = hubness_store.load_or_fit_hubness(
        toy_workspace, mixed, searcher.cache, searcher.model, searcher.encoder
    )
    assert (np.diff(mixed.video_of_row) < 0).any()
    np.testing.assert_allclose(correction.hubness, expected.hubness[order], atol=1e-6)
    np.testing.assert_allclose(correction.null_scores, expected.null_scores, atol=1e-6)


def test_index_with_non_finite_vectors_has_none(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    index = vla.open_workspace(toy_workspace.root).searcher.index
    searcher, notes = vla.open_workspace(toy_workspace.root).searcher, []
    invalid = np.full_like(index.parts[0].vectors, np.nan)
    other = with_fragment(
        index, vectors=invalid, spans=index.parts[0].spans + 0.5
    )  # other rows: the stored correction is not valid
    correction = hubness_store.load_or_fit_hubness(
        toy_workspace,
        other,
        searcher.cache,
        searcher.model,
        searcher.encoder,
        lambda p: notes.append(p.message),
    )
    assert correction is None and "the index holds no numbers for 'videos/v2.mp4'" in notes[-1]


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
        return vla.open_workspace(root).searcher.hubness_correction.duration_range

    def duration_notes():
        return [n.message for n in notes if "captioned moments last" in n.message]

    assert estimate(40) is None and not duration_notes()
    assert estimate(60) == pytest.approx((1.0, 2.0))
    (note,) = duration_notes()
    assert note == "captioned moments last 1.0 to 2.0 s; searches prefer moments of this duration"
    assert note.hint == Hint("any_length")
    vla.search("a dog", workspace=root, progress=notes.append)
    assert len(duration_notes()) == 1
