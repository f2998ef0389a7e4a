"""Killed at any moment, or let down by the disk: what was acknowledged is there, nothing is half there, and doing it again ends
the same.

The work is struck at its Nth operation on the disk, for every N: a child process that does it is killed (SIGKILL), or the
operation fails with an error of the disk; a write has then written half. Afterwards what is left is opened.
"""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vla.batches.segment_pooling import pool_segments
from vla.cache.maintenance import unused_shards
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache, active_cache, set_active_cache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.encoders.toy import Encoder
from vla.errors import MissingError, VlaError
from vla.features import FrameFeatures
from vla.indexing import autotune, benchmark, sync
from vla.indexing.config import IndexConfig
from vla.indexing.segments import windows_and_frames
from vla.indexing.store import open_index, save_index, unused_files
from vla.indexing.sync import RunModel, build_index, sync_index
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval.searcher import Searcher
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.training.checkpoint import load_model, load_state, open_run, save_run, save_state
from vla.workflows.verify import verify

ENCODER = Encoder("6")
SPEC = ENCODER.identity.spec("fps=2")
SOURCE = EncoderSource("toy", "6", "")


FAULTS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR, errno.EROFS)


def killed(work, point):
    """Run `work(acknowledge)` in a child that is killed at its disk operation number `point`.

    Returns what it acknowledged, and whether it was killed (False: it finished with fewer operations).
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # newer Pythons warn of forks in programs with threads; the child uses none
        child = os.fork()
    if not child:
        try:
            os.close(reader)
            with struck(point, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                work(lambda name: os.write(writer, f"{name}\n".encode()))
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        acknowledged = pipe.read().split("\n")[:-1]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return acknowledged, True
    assert os.WEXITSTATUS(status) == 0
    return acknowledged, False


def failed(work, point, code):
    """Run `work(acknowledge)`, whose disk operation number `point` fails with `code`; returns as `killed` does."""
    acknowledged = []

    def fail():
        raise OSError(code, os.strerror(code))

    hit = []
    try:
        with struck(point, lambda: (hit.append(1), fail())):
            work(acknowledged.append)
    except VlaError:  # and nothing else: whoever calls gets one clear error
        assert hit
        return acknowledged, True
    # Tidying up may fail without harm: then the work is done all the same.
    return acknowledged, bool(hit)


@contextmanager
def struck(point, blow):
    """Within this, `blow()` comes instead of operation number `point` of all that `durable` and its callers do on the disk;
    a write has then written half."""
    count = iter(range(10**9))

    def mortal(real, torn=False):
        def operation(*given, **named):
            if next(count) == point:
                if torn:
                    real(given[0], bytes(given[1])[: len(given[1]) // 2])
                blow()
            return real(*given, **named)

        return operation

    class Os:
        open, fsync = staticmethod(mortal(os.open)), staticmethod(mortal(os.fsync))
        write = staticmethod(mortal(os.write, torn=True))

        def __getattr__(self, name):
            return getattr(os, name)

    before = {name: getattr(Path, name) for name in ("replace", "unlink", "mkdir")}
    atomic.os = Os()
    for name, real in before.items():
        setattr(Path, name, mortal(real))
    try:
        yield
    finally:
        atomic.os = os
        for name, real in before.items():
            setattr(Path, name, real)


@pytest.fixture
def sweep(tmp_path, record_property, request):
    """`sweep(prepare, work, check)` strikes `work` at every point in every way; `prepare(folder)` goes before,
    `check(folder, acknowledged)` comes after. Returns the number of points."""

    def run(prepare, work, check):
        counts = []
        for fault in ("kill", *FAULTS):
            point, alive = 0, True
            while alive:
                folder = tmp_path / "here"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                prepare(folder)
                start = partial(work, folder)
                acknowledged, alive = (
                    killed(start, point) if fault == "kill" else failed(start, point, fault)
                )
                check(folder, acknowledged)
                point += 1
            counts.append(point - 1)
        name = request.node.name.removeprefix("test_")
        record_property(
            "counts", f"{name}: {counts[0]} points x kill, {sum(counts[1:])} x disk errors; lost 0"
        )
        return counts[0]

    return run


def features(video_id, seed, frames=5):
    values = np.random.default_rng(seed).standard_normal((frames, 6)).astype(np.float16)
    return FrameFeatures(video_id, values, np.arange(frames) / 2, frames / 2)


def receipt(video_id, seed, frames=5):
    return Receipt(
        video_id,
        "ok",
        "",
        100 + seed,
        seed,
        f"c{seed}",
        duration_seconds=frames / 2,
        coverage=1.0,
        codec="x",
    )


VIDEOS = [("a", "a.mp4", 1), ("again", "a.mp4", 3)]
"""Name of the step, video, seed; the last replaces what the first wrote."""


def add_videos(folder, acknowledge):
    cache = FeatureCache.create(folder, SPEC, SOURCE)
    acknowledge("created")
    for step, video, seed in VIDEOS:
        cache.add_video(features(video, seed), receipt(video, seed))
        acknowledge(step)


def state_of(cache):
    return {
        v: (cache.receipts[v].content, cache.frames(v).values.tolist()) for v in cache.video_ids()
    }


def test_videos_survive_a_kill_at_any_point(tmp_path, sweep):
    possible = {(v, f"c{s}", str(features(v, s).values.tolist())) for _, v, s in VIDEOS}

    def check(folder, acknowledged):
        home = folder / SPEC.fingerprint
        if "created" not in acknowledged:
            assert not (home / "spec.json").exists() or FeatureCache.open(home).spec == SPEC
        else:
            result = state_of(FeatureCache.open(home))
            # Whatever is there is one of the things that were written, whole.
            assert {
                (v, content, str(values)) for v, (content, values) in result.items()
            } <= possible
            for step, video, seed in VIDEOS:
                if step in acknowledged:
                    assert result[video][0] in (f"c{seed}", "c3")
            if "again" in acknowledged:
                assert result["a.mp4"][0] == "c3"
        add_videos(folder, lambda _: None)
        again = FeatureCache.open(home)
        assert again.state() == expected.state() and state_of(again) == state_of(expected)
        assert again.receipts == expected.receipts

    add_videos(tmp_path / "plain", lambda _: None)
    expected = FeatureCache.open(tmp_path / "plain" / SPEC.fingerprint)
    assert sweep(lambda folder: None, add_videos, check) > 25


TEXTS = ["a red dog runs", "rain", " ".join(f"word{i}" for i in range(40)), "green tea is poured"]


def add_texts(folder, acknowledge):
    cache = FeatureCache.create(folder, SPEC, SOURCE)
    cache.add_texts(TEXTS, ENCODER, batch=2, on_batch=lambda n: acknowledge(str(n)))


def test_texts_survive_a_kill_at_any_point(tmp_path, sweep):
    parts = [" ".join(f"word{i}" for i in range(a, b)) for a, b in ((0, 16), (16, 32), (32, 40))]
    plain = ENCODER.encode_text([t for t in TEXTS if len(t) < 50] + parts)
    vectors = dict(zip(plain.texts, plain.pooled.astype(np.float16), strict=True))

    def complete(cache):
        assert cache.missing_texts(TEXTS) == []
        assert cache.pieces(TEXTS[2]) == parts
        result = cache.texts([p for t in TEXTS for p in cache.pieces(t)])
        for text, row in zip(result.texts, result.pooled, strict=True):
            np.testing.assert_array_equal(row, vectors[text])

    def check(folder, acknowledged):
        if acknowledged:
            cache = FeatureCache.open(folder / SPEC.fingerprint)
            there = TEXTS[: int(acknowledged[-1])]
            assert cache.missing_texts(there) == []
            cache.texts([p for t in there for p in cache.pieces(t)])
        add_texts(folder, lambda _: None)
        complete(FeatureCache.open(folder / SPEC.fingerprint))

    assert sweep(lambda folder: None, add_texts, check) > 20


def model(seed):
    built = AlignmentModel(ModelConfig(6, "residual", {"width": 4}))
    rng = np.random.default_rng(seed)
    state = {
        k: rng.standard_normal(v.shape).astype(np.float32) for k, v in built.state_dict().items()
    }
    import torch

    built.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in state.items()})
    return built.eval()


QUERY = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)


def test_a_run_survives_a_kill_at_any_point(tmp_path, sweep):
    old, new = model(1), model(2)
    answers = {"old": old.align_texts(QUERY).tolist(), "new": new.align_texts(QUERY).tolist()}
    tensors = {"x": old.log_scale.detach()}

    def prepare(folder):
        save_run(folder / "run", old, SPEC, "old", {"better": True})
        save_state(folder / "run", "new", tensors, {"epoch": 3})

    def work(folder, acknowledge):
        save_run(folder / "run", new, SPEC, "new", {"better": False})
        acknowledge("new")

    def check(folder, acknowledged):
        loaded, run = load_model(folder / "run")
        assert run.identity == ("new" if acknowledged else run.identity)
        assert loaded.align_texts(QUERY).tolist() == answers[run.identity]
        assert run.record["better"] == (run.identity == "old")
        state = load_state(folder / "run", "new")  # either still there, whole, or gone
        assert state is None or state[1] == {"epoch": 3}
        assert state is not None or run.identity == "new"
        work(folder, lambda _: None)
        again, run = load_model(folder / "run")
        assert run.identity == "new" and again.align_texts(QUERY).tolist() == answers["new"]
        kept = sorted(
            p.name for p in (folder / "run").iterdir() if not p.name.startswith(atomic.TEMPORARY)
        )
        assert kept == sorted(["run.json", f"model-{run.digest}.safetensors"])

    assert sweep(prepare, work, check) > 12


def test_first_run_is_complete_or_absent(tmp_path, sweep):
    new = model(2)

    def work(folder, acknowledge):
        save_run(folder / "run", new, SPEC, "new", {})
        acknowledge("new")

    def check(folder, acknowledged):
        try:
            assert open_run(folder / "run").identity == "new"
        except MissingError:
            assert not acknowledged

    sweep(lambda folder: None, work, check)


def test_the_state_of_training_survives_a_kill_at_any_point(tmp_path, sweep):
    tensors = {name: model(seed).log_scale.detach() for name, seed in (("one", 1), ("two", 2))}

    def prepare(folder):
        save_state(folder, "id", {"x": tensors["one"]}, {"epoch": 1})

    def work(folder, acknowledge):
        save_state(folder, "id", {"x": tensors["two"]}, {"epoch": 2})
        acknowledge("2")

    def check(folder, acknowledged):
        result, record = load_state(folder, "id")
        assert record["epoch"] in ((2,) if acknowledged else (1, 2))
        assert float(result["x"]) == float(tensors["one" if record["epoch"] == 1 else "two"])
        assert load_state(folder, "other settings") is None

    assert sweep(prepare, work, check) > 10


@pytest.mark.parametrize("backend", ["exact", "faiss_flat"])
def test_an_index_survives_a_kill_at_any_point(tmp_path, backend, sweep):
    cache = FeatureCache.create(tmp_path / "cache", SPEC, SOURCE)
    cache.add_video(features("a.mp4", 1), receipt("a.mp4", 1))
    frozen = AlignmentModel(ModelConfig(6)).eval()
    old = build_index(cache, frozen, backend=backend)
    cache.add_video(features("b.mp4", 2, 9), receipt("b.mp4", 2, 9))
    new = build_index(cache, frozen, backend=backend)
    workspace = Workspace(tmp_path)

    def hits(index):
        return Searcher(index, ENCODER, frozen, cache, workspace).search("a red dog", 5)

    answers = {1: hits(old), 2: hits(new)}
    assert answers[1] != answers[2]

    def work(folder, acknowledge):
        save_index(folder, new)
        acknowledge("new")

    def check(folder, acknowledged):
        result = open_index(folder)
        assert len(result.videos) in ((2,) if acknowledged else (1, 2))
        assert hits(result) == answers[len(result.videos)]
        work(folder, lambda _: None)
        assert hits(open_index(folder)) == answers[2]
        assert len([p for p in folder.iterdir() if not p.name.startswith(atomic.TEMPORARY)]) == 3

    assert sweep(lambda folder: save_index(folder, old), work, check) > 15


FROZEN = RunModel(AlignmentModel(ModelConfig(6)).eval())


def segments(cache):
    """`{video: {(start, end): vector}}` of all that an index of `cache` holds."""
    result = {}
    for name in cache.video_ids():
        frames = cache.frames(name)
        cut = pool_segments(FROZEN.model.align_frames(frames), frames, windows_and_frames(frames))
        result[name] = {
            tuple(span): v for span, v in zip(cut.spans.tolist(), cut.vectors, strict=True)
        }
    return result


def is_an_index_of(index, states):
    """Every segment of every video that `index` names is found with its true score, and belongs to one of `states`, whole."""
    scores, rows = index.vectors.search(QUERY[:1], len(index.vectors))
    result = {name: {} for name in index.videos}
    for score, row in zip(scores[0].tolist(), rows[0].tolist(), strict=True):
        result[index.videos[index.video_of_row[row]]][tuple(index.spans[row].tolist())] = score
    for state in states:
        known = {
            name: {span: float(v @ QUERY[0]) for span, v in state.get(name, {}).items()}
            for name in result
        }
        if all(
            result[n].keys() == known[n].keys() and result[n] == pytest.approx(known[n], abs=1e-5)
            for n in result
        ):
            return True
    return False


@pytest.mark.parametrize(
    ("how", "backend"),
    [
        ("grown", "faiss_flat"),
        ("grown bit by bit", "faiss_flat"),
        ("first", "faiss_flat"),
        pytest.param("compacted", "faiss_ivf", marks=pytest.mark.slow),
        ("compacted", "faiss_ivf_sq8"),
        pytest.param("compacted", "faiss_ivf_rabitq", marks=pytest.mark.slow),
    ],
)
def test_an_index_that_grows_survives_a_kill_at_any_point(
    tmp_path, sweep, monkeypatch, how, backend
):
    """Videos come, go, change and are renamed; a search finds what was there before, or after, or, bit by bit, between."""
    monkeypatch.setattr(sync, "FLAT_BYTES", 1 if "bit" in how else 50_000_000)
    # What is measured is no matter here.
    monkeypatch.setattr(autotune, "_QUERIES", 10)
    monkeypatch.setattr(benchmark, "_NUM_TIMINGS", 1)
    monkeypatch.setattr(benchmark, "_DEPTHS", (50,))
    cache = FeatureCache.create(tmp_path / "cache", SPEC, SOURCE)
    for seed, name in enumerate(("gone", "changed", "old name", "same")):
        cache.add_video(features(name, seed, 40), receipt(name, seed, 40))
    before = segments(cache)
    if how != "first":
        sync_index(tmp_path / "before", None, cache, FROZEN, IndexConfig(backend))
    cache.delete_video("gone")
    cache.add_video(features("changed", 7, 40), receipt("changed", 7, 40))
    cache.rename("old name", dataclasses.replace(cache.receipts["old name"], video_id="new name"))
    for seed, name in ((8, "new"), (9, "newer")):
        cache.add_video(features(name, seed, 40), receipt(name, seed, 40))
    after = segments(cache)

    def prepare(folder):
        if how != "first":
            shutil.copytree(tmp_path / "before", folder / "index")

    def work(folder, acknowledge):
        held = (
            None
            if how == "first" and not (folder / "index" / "index.json").exists()
            else open_index(folder / "index")
        )
        sync_index(
            folder / "index", held, cache, FROZEN, IndexConfig(backend), compact=how == "compacted"
        )
        acknowledge("new")

    def check(folder, acknowledged):
        try:
            result = open_index(folder / "index")
        except MissingError:
            assert how == "first" and not acknowledged
        else:
            assert is_an_index_of(
                result, (after,) if acknowledged or how == "first" else (before, after)
            )
            if acknowledged or how in ("grown", "compacted"):  # there is nothing between
                assert set(result.videos) in (
                    [set(after)] if acknowledged else [set(before), set(after)]
                )
        work(folder, lambda _: None)
        result = open_index(folder / "index")
        assert set(result.videos) == set(after) and is_an_index_of(result, (after,))
        assert result.cache_state == cache.state() and unused_files(folder / "index") == []

    assert sweep(prepare, work, check) > 12


def kept_whole(cache, expected):
    """Every receipt of `cache` has its features, as `expected` has them: `{video: (seed)}`."""
    for video in cache.video_ids():
        np.testing.assert_array_equal(
            cache.frames(video).values, features("x", expected[video]).values
        )
    return set(cache.video_ids())


SEEDS = {"a.mp4": 1, "copy of a.mp4": 1, "b.mp4": 2, "other.mp4": 3}


def prepare_videos(folder):
    cache = FeatureCache.create(folder, SPEC, SOURCE)
    for video, seed in SEEDS.items():
        if not video.startswith("copy"):
            cache.add_video(features(video, seed), receipt(video, seed))
    cache.add_receipt(dataclasses.replace(cache.receipts["a.mp4"], video_id="copy of a.mp4"))


def test_deleting_survives_a_kill_at_any_point(sweep):
    """A copy keeps the features that it shares, until it is forgotten too; what nobody named stays."""
    order = ["a.mp4", "copy of a.mp4", "b.mp4"]

    def work(folder, acknowledge):
        cache = FeatureCache.open(folder / SPEC.fingerprint)
        for video in order:
            cache.delete_video(video)
            acknowledge(video)

    def check(folder, acknowledged):
        result = kept_whole(FeatureCache.open(folder / SPEC.fingerprint), SEEDS)
        gone = set(SEEDS) - result
        assert set(acknowledged) <= gone <= set(order[: len(acknowledged) + 1])
        work(folder, lambda _: None)
        again = FeatureCache.open(folder / SPEC.fingerprint)
        assert kept_whole(again, SEEDS) == {"other.mp4"} and not again.damaged
        assert (
            len(unused_shards(again)) <= 1
        )  # waste that 'vla gc' removes, of the one forgotten when it happened

    assert sweep(prepare_videos, work, check) >= 5


@pytest.mark.parametrize(
    ("video", "over"), [("other.mp4", None), ("a.mp4", "b.mp4")], ids=["alone", "with a copy"]
)
def test_renaming_survives_a_kill_at_any_point(sweep, video, over):
    """Its features are under the old name, the new one, or both; a shard is dropped only if nobody has it."""
    new = over or "new.mp4"
    seeds = {**SEEDS, "new.mp4": SEEDS[video]}

    def work(folder, acknowledge):
        cache = FeatureCache.open(folder / SPEC.fingerprint)
        if video in cache.receipts:
            cache.rename(video, dataclasses.replace(cache.receipts[video], video_id=new))
        acknowledge("renamed")

    def check(folder, acknowledged):
        cache = FeatureCache.open(folder / SPEC.fingerprint)
        moved = new in cache.receipts and cache.receipts[new].content == f"c{SEEDS[video]}"
        result = kept_whole(cache, {**seeds, new: SEEDS[video] if moved else seeds[new]})
        assert result >= set(SEEDS) - {video} and (video in result or moved)
        assert moved and video not in result if acknowledged else True
        work(folder, lambda _: None)
        again = FeatureCache.open(folder / SPEC.fingerprint)
        result = kept_whole(again, {**seeds, new: SEEDS[video]})
        assert result == (set(SEEDS) - {video}) | {new} and not again.damaged

    assert sweep(prepare_videos, work, check) >= 4


@pytest.fixture(scope="module")
def damaged_workspace(tmp_path_factory):
    """Six videos with captions, of which one has a damaged shard, one a damaged receipt; and a damaged line of captions."""
    workspace = Workspace.open_or_create(tmp_path_factory.mktemp("damaged"))
    cache = FeatureCache.create(workspace.caches, SPEC, SOURCE)
    set_active_cache(workspace.caches, cache)
    for seed in range(6):
        (workspace.root / f"{seed}.mp4").write_bytes(b"x")
        cache.add_video(features(f"{seed}.mp4", seed), receipt(f"{seed}.mp4", seed))
    caption_store.add(
        workspace,
        [Annotation(f"q{n}", f"caption {n}", f"{n}.mp4", source="c.csv") for n in range(6)],
    )
    shard = cache.folder / "shards" / cache.receipts["1.mp4"].shard
    shard.write_bytes(shard.read_bytes()[:-1])
    path = cache._receipt_path("2.mp4")
    path.write_bytes(path.read_bytes()[:-9])
    lines = caption_store.lines(workspace)
    caption_store.write_lines(workspace, [lines[0][:5] + lines[0][25:], *lines[1:]])
    return workspace.root


def test_repair_survives_a_kill_at_any_point(sweep, damaged_workspace):
    whole = {f"{n}.mp4": n for n in (0, 3, 4, 5)}

    def prepare(folder):
        shutil.copytree(damaged_workspace, folder, dirs_exist_ok=True)

    def work(folder, acknowledge):
        result = verify(workspace=folder, read_data=True, repair=True)
        acknowledge(str(len(result)))

    def state(folder):
        cache = active_cache(Workspace(folder).caches)
        assert {v: cache.frames(v).values.tolist() for v in whole} == {
            v: features(v, n).values.tolist() for v, n in whole.items()
        }
        captions = [a.video for a in caption_store.load(Workspace(folder), lambda told: None)]
        assert captions == [f"{n}.mp4" for n in range(1, 6)]
        return set(cache.video_ids())

    def check(folder, acknowledged):
        assert state(folder) <= {*whole, "1.mp4"}
        if acknowledged:
            assert verify(workspace=folder, read_data=True) == []
        work(folder, lambda _: None)
        assert verify(workspace=folder, read_data=True) == []
        assert state(folder) == set(whole)

    assert len(verify(workspace=damaged_workspace, read_data=True)) == 3
    assert sweep(prepare, work, check) >= 5


def test_temporary_files_of_a_kill_are_never_read(tmp_path):
    """What begins with `.tmp-` is passed over, whatever its name ends with."""
    add_videos(tmp_path, lambda _: None)
    add_texts(tmp_path, lambda _: None)
    home = tmp_path / SPEC.fingerprint
    for folder in ("videos", "texts", "shards"):
        (home / folder / f"{atomic.TEMPORARY}1.json").write_bytes(b"{half")
    cache = FeatureCache.open(home)
    assert cache.video_ids() == ["a.mp4"] and cache.missing_texts(TEXTS) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
from vla.storage import atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    atomic.write_bytes(Path(sys.argv[1]), bytes(int(sys.argv[2])))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="named: no such limit on Windows")
@pytest.mark.parametrize(
    ("size", "said"),
    [(3000, ""), (3001, "3.0 kB needed"), (45_678, "45.7 kB needed"), (2_500_000, "2.5 MB needed")],
)
def test_file_size_limit_error_gives_the_bytes_needed(tmp_path, size, said):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "shard.h5"), str(size)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (
        bool(said) == done.stdout.startswith("ResourceError cannot write") and said in done.stdout
    )
    assert not said or "file size limit (ulimit -f)" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ([] if said else ["shard.h5"])
