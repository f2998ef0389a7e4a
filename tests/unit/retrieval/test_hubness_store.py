"""What an index is compared with: which queries, when anew, and that a search goes on without."""

import dataclasses

import numpy as np
import pytest

import vla
from support.refusals import refused
from vla.batches.corpus import pool_chunks
from vla.cache.store import active_cache
from vla.errors import MissingError, ResourceError, UsageError
from vla.indexing.segments import windows_and_changes
from vla.model import pool_segments, zero_shot_model
from vla.retrieval import hubness_store
from vla.retrieval.hubness import estimate_hubness
from vla.retrieval.query_bank import default_queries


def captions(root, count):
    """A captions file of `count` different sentences, one video after another."""
    lines = [f"videos/v{2 + i % 3}.mp4,number {i} of many things" for i in range(count)]
    (root / "more.csv").write_text("video,caption\n" + "\n".join(lines) + "\n")
    vla.extract([root / "videos"], captions=root / "more.csv", workspace=root, workers=1)


def by_hand(place, searcher, texts, told_of):
    cache = active_cache(place.caches)
    model = zero_shot_model(cache.spec.dim, 1.0)
    vectors = model.align_texts(np.stack([pool_chunks(searcher.encoder.encode_text([t]).pooled) for t in texts]))
    segments = [
        pool_segments(model.align_frames(f), f, windows_and_changes(f)).vectors
        for f in map(cache.frames, searcher.index.videos)
    ]
    return estimate_hubness(
        segments, vectors, [[i for i, v in enumerate(told_of) if v == name] for name in searcher.index.videos]
    )


def test_with_few_captions_it_is_everyday_queries(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    wanted = by_hand(toy_workspace, searcher, default_queries().texts, [None] * len(default_queries().texts))
    np.testing.assert_allclose(searcher.background.chance, wanted.chance, atol=1e-5)
    np.testing.assert_allclose(searcher.background.bias, wanted.bias, atol=1e-5)


def test_with_enough_captions_it_is_these_and_none_meets_its_own_video(toy_workspace):
    captions(toy_workspace.root, 120)
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    told = [("a red door opens", 2), ("a dog runs over the grass", 3), ("someone pours green tea", 4)]
    told += [(f"number {i} of many things", 2 + i % 3) for i in range(120)]
    wanted = by_hand(toy_workspace, searcher, [t for t, _ in told], [f"videos/v{n}.mp4" for _, n in told])
    np.testing.assert_allclose(searcher.background.chance, wanted.chance, atol=2e-3)  # cached texts are float16
    np.testing.assert_allclose(searcher.background.mean, wanted.mean, atol=2e-3)
    np.testing.assert_allclose(searcher.background.bias, wanted.bias, atol=2e-3)


def test_it_is_measured_once_and_again_when_captions_or_index_change(toy_workspace, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "vla.retrieval.hubness.estimate_hubness", lambda *given: calls.append(1) or estimate_hubness(*given)
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


def test_where_nothing_can_be_written_one_searches_all_the_same(toy_workspace, monkeypatch):
    def full(*given):
        raise ResourceError("disk full")

    monkeypatch.setattr(hubness_store, "save_hubness", full)
    vla.index(workspace=toy_workspace.root)
    hits = vla.search("a dog", workspace=toy_workspace.root)
    assert hits and all(h.confidence is not None for h in hits)
    assert not list((toy_workspace.root / ".vla" / "index").glob("background*"))


def test_rows_of_videos_that_are_gone_change_nothing(toy_workspace):
    root = toy_workspace.root
    vla.index(workspace=root)
    before = vla.open_workspace(root).searcher
    vla.remove(["videos/v3.mp4"], workspace=root)
    vla.index(workspace=root)
    after = vla.open_workspace(root).searcher
    lost = np.flatnonzero(after.index.video_of_row < 0)
    assert len(lost) and len(after.index.video_of_row) == len(before.index.video_of_row)
    assert not after.background.bias[lost].any()
    texts = default_queries().texts
    wanted = by_hand(toy_workspace, after, texts, [None] * len(texts))
    np.testing.assert_allclose(after.background.chance, wanted.chance, atol=1e-5)
    np.testing.assert_allclose(np.delete(after.background.bias, lost), wanted.bias, atol=1e-5)
    assert {h.video_id for h in after.search("a dog")} == {"videos/v2.mp4", "videos/v4.mp4"}


def with_part(index, **change):
    return dataclasses.replace(index, parts=(dataclasses.replace(index.parts[0], **change),))


def test_the_rows_of_an_index_may_lie_in_any_order(toy_workspace):
    """Of each video in the order of its windows, the videos mixed."""
    vla.index(workspace=toy_workspace.root)
    searcher = vla.open_workspace(toy_workspace.root).searcher
    index, given = searcher.index, searcher.background
    owner = index.video_of_row
    place = np.concatenate([np.arange(np.sum(owner == v)) for v in range(len(index.videos))])
    order = np.lexsort((-owner, place))
    part = index.parts[0]
    mixed = with_part(index, video_of_row=owner[order], spans=part.spans[order], vectors=part.vectors[order])
    found = hubness_store.load_or_fit_hubness(toy_workspace, mixed, searcher.cache, searcher.model, searcher.encoder)
    assert (np.diff(mixed.video_of_row) < 0).any()
    np.testing.assert_allclose(found.bias, given.bias[order], atol=1e-6)
    np.testing.assert_allclose(found.chance, given.chance, atol=1e-6)


def test_an_index_that_holds_no_numbers_has_none(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    index = vla.open_workspace(toy_workspace.root).searcher.index
    searcher, notes = vla.open_workspace(toy_workspace.root).searcher, []
    spoiled = np.full_like(index.parts[0].vectors, np.nan)
    other = with_part(index, vectors=spoiled, spans=index.parts[0].spans + 0.5)  # other rows: what is kept does not fit
    found = hubness_store.load_or_fit_hubness(
        toy_workspace, other, searcher.cache, searcher.model, searcher.encoder, lambda p: notes.append(p.message)
    )
    assert found is None and "the index holds no numbers for 'videos/v2.mp4'" in notes[-1]


def test_an_index_that_is_out_of_date_has_none(toy_workspace, clip):
    root = toy_workspace.root
    vla.index(workspace=root)
    clip("videos/new.mp4", frames=10)
    vla.extract([root / "videos"], workspace=root, workers=1)
    assert {h.confidence for h in vla.search("a dog", workspace=root)} == {None}
    with refused(MissingError, "index"):
        vla.search("a dog", workspace=root, fpr=0.1)


def test_imported_features_without_an_encoder_have_what_captions_there_are(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    for i in range(3):
        np.save(tmp_path / "features" / f"v{i}.npy", rng.standard_normal((6, 8)).astype(np.float32))
    texts = [f"text {i}" for i in range(12)]
    np.savez(tmp_path / "texts.npz", texts=np.array(texts), vectors=rng.standard_normal((12, 8)).astype(np.float32))
    vla.import_features(
        [tmp_path / "features"], model="x", clip_length=1.0, texts=tmp_path / "texts.npz", workspace=tmp_path
    )
    vla.index(workspace=tmp_path)
    assert {h.confidence for h in vla.search("text 0", workspace=tmp_path)} == {None}
    with pytest.raises(MissingError, match="no false-positive rate is known here"):
        vla.search("text 0", workspace=tmp_path, fpr=0.1)


@pytest.mark.parametrize("fpr", [0.0, -0.1, 1.5, 0.001])
def test_rates_that_cannot_be_told(toy_workspace, fpr):
    vla.index(workspace=toy_workspace.root)
    with pytest.raises(UsageError, match="330 queries to compare with can tell no rate below 0.0030"):
        vla.search("a dog", workspace=toy_workspace.root, fpr=fpr)


def test_how_long_moments_last_is_told_by_captions_and_said_once(toy_workspace):
    root, notes = toy_workspace.root, []

    def told(count):
        lines = [
            f"videos/v{2 + i % 3}.mp4,thing {i} of many,{i % 5 / 10},{i % 5 / 10 + 1 + i % 2}" for i in range(count)
        ]
        (root / "more.csv").write_text("video,caption,start,end\n" + "\n".join(lines) + "\n")
        vla.extract([root / "videos"], captions=root / "more.csv", workspace=root, workers=1)
        vla.index(workspace=root)
        vla.search("a dog", workspace=root, progress=notes.append)
        return vla.open_workspace(root).searcher.background.lasting

    def said():
        return [n.message for n in notes if "that last" in n.message]

    assert told(40) is None and not said()
    assert told(60) == pytest.approx((1.0, 2.0))
    assert said() == [
        "moments are looked for that last 1.0 to 2.0 s, as those do that captions tell of (--lasting any: all)"
    ]
    vla.search("a dog", workspace=root, progress=notes.append)
    assert len(said()) == 1
