"""An index that grows: after any history it holds what the cache holds, as if it had been built at once."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla
from vla.batches.segment_pooling import pool_segments
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache
from vla.encoders.toy import Encoder
from vla.errors import CacheError, MissingError
from vla.features import FrameFeatures
from vla.indexes import registry
from vla.indexing import compaction, sync
from vla.indexing.config import IndexConfig
from vla.indexing.diff import diff_index
from vla.indexing.segments import SEGMENTATION, windows_and_frames
from vla.indexing.store import open_index, save_index, unused_files
from vla.indexing.sync import RunModel, build_index, sync_index
from vla.model import AlignmentModel, ModelConfig
from vla.storage import atomic

DIM = 12
SPEC = Encoder("12").identity.spec("fps=2")
MODEL = RunModel(AlignmentModel(ModelConfig(DIM)).eval())
FLAT = IndexConfig()
QUERY = np.random.default_rng(99).standard_normal((3, DIM)).astype(np.float32)


def cache_in(folder):
    return FeatureCache.create(folder, SPEC, EncoderSource("toy", "12", ""))


def add(cache, name, seed, frames=30):
    """Extract a video: `seed` is its content."""
    values = (
        np.random.default_rng([seed, frames])
        .standard_normal((frames, DIM))
        .cumsum(0)
        .astype(np.float16)
    )
    receipt = Receipt(name, "ok", "", 1, 1, f"c{seed}", duration_seconds=frames / 2)
    cache.add_video(FrameFeatures(name, values, np.arange(frames) / 2, frames / 2), receipt)


def expected(cache, names=None):
    """`{(video, start, end): vector}` of every segment that ought to be found."""
    found = {}
    for name in cache.video_ids() if names is None else names:
        features = cache.frames(name)
        segments = pool_segments(
            MODEL.model.align_frames(features), features, windows_and_frames(features)
        )
        found |= {
            (name, *span): v
            for span, v in zip(segments.spans.tolist(), segments.vectors, strict=True)
        }
    return found


def listed(index, query, k):
    """`[(video, start, end, score)]` as a search has them."""
    scores, rows = index.vectors.search(query[None], k)
    rows, scores = rows[0][rows[0] >= 0], scores[0][rows[0] >= 0]
    videos = [index.videos[index.video_of_row[row]] for row in rows]
    return [
        (v, *index.spans[row].tolist(), float(s))
        for v, row, s in zip(videos, rows, scores, strict=True)
    ]


def holds(index, wanted, tolerance=2e-6):
    """It holds the segments `wanted` and no others, and finds them with their true scores, best first."""
    assert len(index.vectors) == len(wanted)
    for query in QUERY:
        for k in (3, len(wanted) + 5):
            found = listed(index, query, k)
            scores = [f[3] for f in found]
            assert len({f[:3] for f in found}) == len(found) == min(
                k, len(wanted)
            ) and scores == sorted(scores, reverse=True)
            true = [
                float(wanted[f[:3]].astype(np.float64) @ query.astype(np.float64)) for f in found
            ]
            np.testing.assert_allclose(scores, true, rtol=1e-5, atol=tolerance)
        all_true = sorted(
            (float(v.astype(np.float64) @ query.astype(np.float64)) for v in wanted.values()),
            reverse=True,
        )
        np.testing.assert_allclose(scores, all_true, rtol=1e-5, atol=tolerance)


def update(folder, cache, asked=FLAT, **how):
    try:
        held = open_index(folder, load=False)
    except MissingError:
        held = None
    return sync_index(folder, held, cache, MODEL, asked, **how)


ACTIONS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from("abcdef"), st.integers(0, 3)),
    st.tuples(st.just("forget"), st.sampled_from("abcdef"), st.just(0)),
    st.tuples(st.just("rename"), st.sampled_from("abcdef"), st.sampled_from("abcdefgh")),
    st.tuples(st.just("update"), st.just(""), st.just(0)),
    st.tuples(st.just("compact"), st.just(""), st.just(0)),
)


@pytest.mark.parametrize("backend", ["auto", *registry.names()])
@given(st.lists(ACTIONS, max_size=12), st.sampled_from([1, 10_000, 50_000_000]))
@settings(deadline=None, max_examples=20)
def test_after_any_history_it_is_as_if_built_at_once(tmp_path_factory, backend, history, batch):
    """`batch`: bytes of vectors of a part; few of them make many parts, and make large ones of small ones."""
    folder = tmp_path_factory.mktemp("history")
    cache, index = cache_in(folder / "c"), folder / "i"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync, "FLAT_BYTES", batch)
        patch.setattr(compaction, "_MAX_SMALL_FRAGMENTS", 2)
        for action, name, what in [*history, ("add", "z", 9), ("update", "", 0)]:
            if action == "add":
                add(cache, name, what, frames=20 + what)
            elif action == "forget":
                cache.delete_video(name)
            elif action == "rename" and name in cache.receipts and what not in cache.receipts:
                cache.rename(name, dataclasses.replace(cache.receipts[name], video_id=what))
            elif action in ("update", "compact") and cache.video_ids():
                brought, wanted = (
                    update(index, cache, IndexConfig(backend), compact=action == "compact"),
                    expected(cache),
                )
                for found in (brought.index, open_index(index)):
                    assert (
                        sorted(found.videos) == sorted(cache.video_ids())
                        and found.cache_state == cache.state()
                    )
                    holds(found, wanted)
                assert unused_files(index) == [] and diff_index(brought.index, cache).is_empty
                assert action != "compact" or len(brought.index.parts) == 1


def count_frames(cache, monkeypatch):
    """A list to which the name of each video that is read is added."""
    read, real = [], type(cache).frames
    monkeypatch.setattr(
        type(cache), "frames", lambda self, name: (read.append(name), real(self, name))[1]
    )
    return read


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for number in range(4):
        add(cache, f"v{number}", number)
    update(index, cache)
    read = count_frames(cache, monkeypatch)
    before = {p.name: p.stat().st_mtime_ns for p in index.iterdir()}
    assert update(index, cache).diff.is_empty and read == []
    assert {
        p.name: p.stat().st_mtime_ns for p in index.iterdir()
    } == before  # not even the description is written
    add(cache, "new", 7)
    add(cache, "v1", 8)
    cache.rename("v2", dataclasses.replace(cache.receipts["v2"], video_id="other name"))
    cache.delete_video("v3")
    brought = update(index, cache)
    assert sorted(read) == ["new", "v1"]
    found = brought.diff
    assert (sorted(found.new), list(found.renamed.values()), len(found.deleted), found.absent) == (
        ["new", "v1"],
        ["other name"],
        2,
        ["v3"],
    )
    assert {p.name for p in index.iterdir()} > set(before)
    holds(open_index(index), expected(cache))


def test_two_videos_that_change_names_are_not_read(tmp_path, monkeypatch):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    add(cache, "a", 1)
    add(cache, "b", 2)
    update(index, cache)
    a, b = cache.receipts["a"], cache.receipts["b"]
    cache.add_receipt(dataclasses.replace(a, video_id="x"))
    cache.add_receipt(dataclasses.replace(b, video_id="a"))
    cache.add_receipt(dataclasses.replace(a, video_id="b"))
    cache.delete_video("x")
    read = count_frames(cache, monkeypatch)
    assert len(update(index, cache).diff.renamed) == 2 and read == []
    monkeypatch.undo()
    holds(open_index(index), expected(cache))


def test_a_copy_of_a_video_has_segments_of_its_own(tmp_path):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    add(cache, "a", 1)
    update(index, cache)
    cache.add_receipt(dataclasses.replace(cache.receipts["a"], video_id="copy"))
    assert update(index, cache).diff.new == ["copy"]
    holds(open_index(index), expected(cache))
    cache.delete_video("a")
    assert update(index, cache).diff.absent == ["a"]
    holds(open_index(index), expected(cache))


def test_what_was_indexed_before_a_stop_is_searched_and_not_read_again(tmp_path, monkeypatch):
    """The first build commits as it goes."""
    monkeypatch.setattr(sync, "FLAT_BYTES", 1)
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for number in range(5):
        add(cache, f"v{number}", number)

    def stop(progress):
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update(index, cache, progress=stop)
    found = open_index(index)
    assert found.videos == ["v0", "v1", "v2"] and found.cache_state == ""
    holds(found, expected(cache, found.videos))
    assert diff_index(found, cache).coverage == "it covers 3 of the 5 videos that have features"
    read = count_frames(cache, monkeypatch)
    update(index, cache)
    assert read == ["v3", "v4"]


def test_an_index_that_is_built_anew_is_searched_until_the_new_one_is_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(sync, "FLAT_BYTES", 1)
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for number in range(4):
        add(cache, f"v{number}", number)
    update(index, cache)
    before = expected(cache)
    add(cache, "v0", 9)

    def stop(progress):
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sync_index(index, None, cache, MODEL, IndexConfig(), progress=stop)
    holds(open_index(index), before)
    assert unused_files(index)  # what was written in vain
    update(index, cache)
    assert unused_files(index) == []
    holds(open_index(index), expected(cache))


def test_a_video_that_an_extraction_replaces_meanwhile_is_left_for_the_next_time(tmp_path):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for number in range(3):
        add(cache, f"v{number}", number)
    stale = FeatureCache.open(cache.folder)
    assert len(stale.receipts) == 3
    add(cache, "v1", 7)  # its old shard is gone now
    brought = update(index, stale)
    assert brought.index.videos == ["v0", "v2"] and brought.index.cache_state == ""
    assert "1 video changed during the update" in brought.notes[0]
    assert update(index, FeatureCache.open(cache.folder)).diff.new == ["v1"]
    holds(open_index(index), expected(cache))


def test_damaged_features_are_an_error_as_ever(tmp_path):
    cache = cache_in(tmp_path / "c")
    add(cache, "a", 1)
    next((cache.folder / "shards").iterdir()).write_bytes(b"else")
    with pytest.raises(CacheError, match="was altered"):
        update(tmp_path / "i", cache)


def test_more_dead_rows_than_live_ones_are_cleared_away(tmp_path):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for number in range(5):
        add(cache, f"v{number}", number)
    update(index, cache)
    cache.delete_video("v0")
    assert update(index, cache).num_merges == 0
    for name in ("v1", "v2"):
        cache.delete_video(name)
    assert update(index, cache).num_merges == 1
    found = open_index(index)
    assert len(found.spans) == len(found.vectors)
    holds(found, expected(cache))


def test_who_asks_for_lists_no_more_has_few_rows_flat_again(tmp_path):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for number in range(12):
        add(cache, f"v{number}", number, 60)
    update(index, cache, IndexConfig("faiss_ivf_sq8"))
    assert open_index(index).backend == "faiss_ivf_sq8"
    assert update(index, cache, IndexConfig()).num_merges == 1
    found = open_index(index)
    assert found.backend == "faiss_flat" and not found.benchmarks
    holds(found, expected(cache))


def test_memory_that_few_rows_do_not_keep_to_is_told(tmp_path):
    cache = cache_in(tmp_path / "c")
    add(cache, "v", 1, 60)
    told = update(tmp_path / "i", cache, IndexConfig(memory=100)).notes
    assert len(told) == 1 and "MB, more than the limit of 0.0001 MB" in told[0]
    assert update(tmp_path / "i", cache, IndexConfig(memory=1 << 20)).notes == []


def test_damaged_vectors_are_not_merged(tmp_path):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for name in "ab":
        add(cache, name, ord(name))
        update(index, cache)
    path = next(index.glob("vectors-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CacheError, match="was altered"):
        update(index, cache, compact=True)


def test_a_reader_that_is_overtaken_reads_the_new_index(tmp_path, monkeypatch):
    """The files of the old index go while they are being read."""
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for name in "ab":
        add(cache, name, ord(name))
        update(index, cache)
    real, overtaken = atomic.read_bytes, []

    def read_checked(path, digest, *more):
        if not overtaken:
            overtaken.append(1)
            update(index, cache, compact=True)
        return real(path, digest)

    monkeypatch.setattr(atomic, "read_bytes", read_checked)
    found = open_index(index)
    assert overtaken and len(found.parts) == 1
    holds(found, expected(cache))


def test_an_open_index_goes_on_when_another_takes_its_place(tmp_path):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for name in "abc":
        add(cache, name, ord(name))
    update(index, cache, IndexConfig("faiss_ivf_sq8"))
    held, before = open_index(index), expected(cache)
    cache.delete_video("a")
    add(cache, "b", 5)
    update(index, cache, IndexConfig("faiss_ivf_sq8"), compact=True)
    holds(held, before)


def test_what_is_asked_is_remembered_and_changes_the_kind(toy_workspace):
    root = toy_workspace.root
    assert vla.index(workspace=root, backend="exact").backend == "exact"
    assert vla.index(workspace=root).backend == "exact"
    assert (
        json.loads((toy_workspace.index / "index.json").read_text())["asked"]["backend"] == "exact"
    )
    report = vla.index(workspace=root, backend="faiss_flat")
    assert report.backend == "faiss_flat" and report.added == 0


def test_an_index_of_another_run_is_built_anew_and_says_why(toy_workspace):
    root = toy_workspace.root
    assert vla.index(workspace=root, run="none").notes == []
    path = toy_workspace.index / "index.json"
    record = json.loads(path.read_text())
    del record["checksum"]
    other = dataclasses.replace(open_index(toy_workspace.index).spec, sampling="fps=1")
    for fields, why in (
        (
            {"run": "mine", "run_digest": "d"},
            "built anew with the frozen encoder, because the index was made with run 'mine'",
        ),
        ({"run_digest": "d"}, "trained anew since the index was made"),
        ({"spec": other.to_json()}, "other features (sampling: 'fps=1', now 'fps=2')"),
        ({"schema": 1}, "could not be read"),
        ({"parts": 3}, "could not be read"),
        ({"cut": "other"}, f"other segments now ({SEGMENTATION!r}; in the index 'other')"),
        (
            {"cut": None},
            f"other segments now ({SEGMENTATION!r}; in the index 'windows')",
        ),  # older versions said nothing
    ):
        changed = {**record, **fields}
        path.write_text(json.dumps({k: v for k, v in changed.items() if v is not None}))
        report = vla.index(workspace=root, run="none")
        assert why in " ".join(report.notes) and report.added == 3
        assert atomic.read_json(path) == record


def test_reports_count_what_was_done(toy_workspace, clip):
    root = toy_workspace.root
    first = vla.index(workspace=root)
    assert (first.videos, first.added, first.renamed, first.removed, first.parts) == (3, 3, 0, 0, 1)
    clip("videos/new.mp4", frames=10)
    (root / "videos" / "v2.mp4").rename(root / "videos" / "w.mp4")
    vla.remove(["videos/v3.mp4"], workspace=root)
    (root / "videos" / "v3.mp4").unlink()
    vla.extract([root / "videos"], workspace=root, workers=1)
    notes = vla.open_workspace(root).notes()
    assert notes == [
        "the index is out of date (1 video is missing in it, 1 is gone or changed, 1 has another name); "
        "it covers 2 of the 3 videos that have features"
    ]
    assert notes[0].hint == vla.Hint("index")
    then = vla.index(workspace=root)
    assert (then.videos, then.added, then.renamed, then.removed, then.parts) == (3, 1, 1, 1, 2)
    again = vla.index(workspace=root, compact=True)
    assert (again.videos, again.added, again.renamed, again.removed, again.parts) == (3, 0, 0, 0, 1)
    assert {h.video_id for h in vla.search("a dog", workspace=root, k=50)} == {
        "videos/new.mp4",
        "videos/w.mp4",
        "videos/v4.mp4",
    }


def test_indexing_and_searching_do_not_wait_for_an_extraction(toy_workspace):
    """Whoever extracts holds the workspace; an index is of what is there so far."""
    with toy_workspace.lock(lambda p: None):
        assert vla.index(workspace=toy_workspace.root).videos == 3
        opened = vla.open_workspace(toy_workspace.root)
        assert len(opened.search("a dog", 3, 1)) == 3
        assert opened.notes() == [
            "another vla is working in this workspace; it covers 3 of the 3 videos that have features so far"
        ]
    assert opened.notes() == []


def test_waste_of_a_kill_is_collected(toy_workspace):
    vla.index(workspace=toy_workspace.root)
    (toy_workspace.index / "vectors-0123.bin").write_bytes(b"left")
    (toy_workspace.index / f"{atomic.TEMPORARY}1").write_bytes(b"half")
    assert vla.gc(workspace=toy_workspace.root) == (2, 8)
    assert len(list(toy_workspace.index.iterdir())) == 3


def test_verify_finds_a_damaged_index_and_mends_it(toy_workspace):
    root = toy_workspace.root
    assert vla.verify(workspace=root, read_data=True) == []
    vla.index(workspace=root)
    path = next(toy_workspace.index.glob("vectors-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert [d.name for d in vla.verify(workspace=root, read_data=True, repair=True)] == [
        "the index"
    ]
    assert vla.verify(workspace=root, read_data=True) == []
    assert vla.index(workspace=root).added == 3


def test_a_part_that_lost_all_videos_is_left_out(tmp_path):
    cache, index = cache_in(tmp_path / "c"), tmp_path / "i"
    for name in "ab":
        add(cache, name, ord(name))
        update(index, cache)
    cache.delete_video("a")
    found = update(index, cache).index
    assert len(found.parts) == 1 and len(list(index.iterdir())) == 3
    holds(found, expected(cache))


def test_what_is_saved_twice_is_written_once(tmp_path):
    cache = cache_in(tmp_path / "c")
    add(cache, "a", 1)
    first = save_index(tmp_path / "i", build_index(cache, MODEL.model))
    before = {
        p.name: p.stat().st_mtime_ns for p in (tmp_path / "i").iterdir() if p.suffix != ".json"
    }
    save_index(tmp_path / "i", first)
    assert {
        p.name: p.stat().st_mtime_ns for p in (tmp_path / "i").iterdir() if p.suffix != ".json"
    } == before
