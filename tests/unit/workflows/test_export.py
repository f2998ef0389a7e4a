"""Features go out as they are, to files that others read, never beside the folder, never over what is there."""

import importlib.util
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vla
from support.refusals import refused
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache, active_cache, set_active_cache
from vla.captions import store
from vla.datasets.base import Annotation, Question
from vla.encoders.toy import Encoder
from vla.errors import MissingError, UsageError
from vla.features import FrameFeatures
from vla.formats import registry
from vla.storage.workspace import Workspace

WRITTEN = [
    pytest.param(
        n,
        marks=pytest.mark.skipif(
            n == "parquet" and importlib.util.find_spec("pyarrow") is None,
            reason="pyarrow is not installed",
        ),
    )
    for n in registry.names()
    if hasattr(registry.get(n), "write")
]
every = pytest.mark.parametrize("format", WRITTEN)
SUFFIX = {"npy": ".npy", "parquet": ".parquet", "webdataset": ".tar"}


@pytest.fixture
def workspace(tmp_path):
    """Three videos of 2, 3 and 4 seconds with a caption each, as the toy encoder would have made them."""
    place = Workspace.open_or_create(tmp_path)
    encoder = Encoder("48")
    cache = FeatureCache.create(
        place.caches, encoder.identity.spec("fps=2"), EncoderSource("toy", "48", "")
    )
    set_active_cache(place.caches, cache)
    told = {
        "a red door opens": (),
        "a dog runs over the grass": ((0.5, 2.0),),
        "someone pours green tea": ((1.0, 3.0),),
    }
    for seconds, (text, spans) in enumerate(told.items(), 2):
        video = f"videos/v{seconds}.mp4"
        values = (
            np.random.default_rng(seconds).standard_normal((2 * seconds, 48)).astype(np.float16)
        )
        features = FrameFeatures(video, values, np.arange(2 * seconds) / 2, seconds + 0.1)
        cache.add_video(
            features,
            Receipt(video, "ok", "", 1, 2, "c", duration_seconds=seconds + 0.1, coverage=1.0),
        )
        store.add(
            place,
            [Annotation(f"c:{seconds}", text, video, spans, "", f"{tmp_path}/c{seconds}.csv:1")],
        )
    cache.add_texts(list(told), encoder)
    return place


def cache_of(folder):
    return active_cache(Workspace.open(folder).caches)


def whole(folder):
    """All that a cache holds of its videos."""
    cache = cache_of(folder)
    return {
        v: (f.values.tobytes(), f.values.shape, f.timestamps_seconds.tobytes(), f.duration_seconds)
        for v in cache.video_ids()
        for f in [cache.frames(v)]
    }


@every
def test_export_and_import_preserve_bits(workspace, tmp_path, format):
    report = vla.export(
        tmp_path / "out",
        format=format,
        workspace=tmp_path,
        per_shard=5 if format == "parquet" else 2,
    )
    assert (
        report.videos == ["videos/v2.mp4", "videos/v3.mp4", "videos/v4.mp4"] and report.texts == 3
    )
    assert sorted(report.files) == sorted(p.name for p in (tmp_path / "out").iterdir())
    assert not report.failures
    back = vla.import_features(
        [tmp_path / "out"],
        model="back",
        texts=tmp_path / "out" / "texts.npz",
        workspace=tmp_path / "b",
    )
    assert back.problems == [] and back.num_videos == 3 and back.texts == 3
    assert whole(tmp_path / "b") == whole(tmp_path)
    ours, theirs = cache_of(tmp_path), cache_of(tmp_path / "b")
    texts = ours.cached_texts()
    np.testing.assert_array_equal(theirs.texts(texts).pooled, ours.texts(texts).pooled)
    if format != "parquet":  # each reading takes a process
        # And out again: the same numbers under the same names, of a space of its own.
        vla.export(tmp_path / "again", format=format, workspace=tmp_path / "b", per_shard=2)
        third = vla.import_features([tmp_path / "again"], model="back", workspace=tmp_path / "c")
        assert whole(tmp_path / "c") == whole(tmp_path) and third.spec.weights != back.spec.weights


@every
def test_export_is_deterministic(workspace, tmp_path, format):
    for name in ("x", "y"):
        vla.export(tmp_path / name, format=format, workspace=tmp_path)
    files = sorted(p.name for p in (tmp_path / "x").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "y").iterdir())
    for name in files:
        assert (tmp_path / "x" / name).read_bytes() == (tmp_path / "y" / name).read_bytes()


def test_npy_names_and_records(workspace, tmp_path):
    vla.export(tmp_path / "out", workspace=tmp_path)
    cache = cache_of(tmp_path)
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {f"videos_v{n}.mp4.{s}" for n in (2, 3, 4) for s in ("npy", "json")} | {
        "texts.npz",
        "texts.jsonl",
    }
    record = json.loads((tmp_path / "out" / "videos_v3.mp4.json").read_text())
    features = cache.frames("videos/v3.mp4")
    values = np.load(tmp_path / "out" / "videos_v3.mp4.npy")
    np.testing.assert_array_equal(values, features.values)
    assert values.dtype == np.float16
    assert record == {
        "video": "videos/v3.mp4", "duration_seconds": features.duration_seconds,
        "timestamps_seconds": features.timestamps_seconds.tolist(), "spec": cache.spec.to_json(), "run": None,
    }  # fmt: skip


def test_exports_texts_and_captions(workspace, tmp_path):
    vla.export(tmp_path / "out", workspace=tmp_path)
    with np.load(tmp_path / "out" / "texts.npz", allow_pickle=False) as texts:
        expected = Encoder("48").encode_text(texts["texts"].tolist()).pooled.astype(np.float16)
        assert set(texts["texts"].tolist()) == {
            "a red door opens",
            "a dog runs over the grass",
            "someone pours green tea",
        }
        np.testing.assert_array_equal(texts["pooled"], expected)
    rows = [
        json.loads(line) for line in (tmp_path / "out" / "texts.jsonl").read_text().splitlines()
    ]
    assert [(r["video"], r["query"], r["spans"]) for r in rows] == [
        ("videos/v2.mp4", "a red door opens", []),
        ("videos/v3.mp4", "a dog runs over the grass", [[0.5, 2.0]]),
        ("videos/v4.mp4", "someone pours green tea", [[1.0, 3.0]]),
    ]
    assert (
        str(tmp_path) not in (tmp_path / "out" / "texts.jsonl").read_text()
    )  # where they were read stays here


def test_captions_of_several_files_are_preserved(workspace, tmp_path):
    """Two files may use one id; whatever an annotation holds besides its words goes along."""
    from vla.datasets._open import read_annotations

    texts_written = [
        Annotation(
            "1",
            "a door",
            "videos/v2.mp4",
            ((0.5, 1.0),),
            "val",
            "one.csv:1",
            2.0,
            question=Question(("a", "b"), 1),
        ),
        Annotation("1", "a dog", "videos/v2.mp4", (), "train", "two.csv:1"),
    ]
    store.add(Workspace.open(tmp_path), texts_written)
    vla.export(tmp_path / "out", ["*v2*"], workspace=tmp_path)
    annotations = read_annotations(tmp_path / "out" / "texts.jsonl")
    for originals in texts_written:
        (back,) = (a for a in annotations if a.query == originals.query)
        assert replace(back, query_id="1", source=originals.source) == originals
    assert len({a.query_id for a in annotations}) == len(annotations) == 3


def test_exports_selected_videos_with_their_captions(workspace, tmp_path):
    report = vla.export(tmp_path / "out", ["*v3.mp4"], workspace=tmp_path, format="webdataset")
    assert report.videos == ["videos/v3.mp4"] and report.texts == 1
    with tarfile.open(tmp_path / "out" / "00000.tar") as archive:
        assert archive.getnames() == [
            "videos_v3_mp4.npy",
            "videos_v3_mp4.json",
            "videos_v3_mp4.txt",
        ]
        assert archive.extractfile("videos_v3_mp4.txt").read() == b"a dog runs over the grass\n"
    with pytest.raises(MissingError, match="no extracted video matches nothing"):
        vla.export(tmp_path / "out2", ["nothing"], workspace=tmp_path)


def test_limits_videos_per_shard(workspace, tmp_path):
    vla.export(tmp_path / "out", workspace=tmp_path, format="webdataset", per_shard=2)
    videos_of = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        with tarfile.open(path) as archive:
            videos_of[path.name] = sum(n.endswith(".npy") for n in archive.getnames())
    assert videos_of == {"00000.tar": 2, "00001.tar": 1}
    with pytest.raises(UsageError, match="per_shard must be at least 1, not 0"):
        vla.export(tmp_path / "out", workspace=tmp_path, format="webdataset", per_shard=0)


@pytest.fixture
def trained(workspace, tmp_path):
    vla.train(
        workspace=tmp_path, settings={"epochs": 2, "val_fraction": 0.34, "projector": "residual"}
    )
    return tmp_path


def test_exports_features_aligned_by_a_run(trained, tmp_path):
    from vla.training.checkpoint import load_model

    place, cache = Workspace.open(trained), cache_of(trained)
    for run in ("none", "default"):
        report = vla.export(tmp_path / run, run=run, workspace=trained)
        assert report.run == run
        values = np.load(tmp_path / run / "videos_v3.mp4.npy")
        raw = cache.frames("videos/v3.mp4").values.astype(np.float64)
        expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        if run != "none":
            model, checkpoint = load_model(place.runs / run)
            expected = model.align_frames(cache.frames("videos/v3.mp4"))
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, atol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(values, axis=1), 1, atol=1e-5)
        with np.load(tmp_path / run / "texts.npz") as texts:
            np.testing.assert_allclose(np.linalg.norm(texts["pooled"], axis=1), 1, atol=1e-5)
        record = json.loads((tmp_path / run / "videos_v3.mp4.json").read_text())
        assert record["run"] == {"name": run, "digest": "" if run == "none" else checkpoint.digest}
    # What was aligned is of another space than what was not: not even one name brings them together.
    vla.export(tmp_path / "raw", workspace=trained)
    vla.import_features([tmp_path / "raw"], model="m", workspace=tmp_path / "b")
    mixed = vla.import_features([tmp_path / "none"], model="m", workspace=tmp_path / "b")
    assert len(mixed.problems) == 3 and all("of another space" in r.reason for r in mixed.problems)
    with pytest.raises(MissingError, match="no trained run 'other'"):
        vla.export(tmp_path / "x", run="other", workspace=trained)


@every
def test_existing_files_need_overwrite(workspace, tmp_path, format):
    first = vla.export(tmp_path / "out", ["*v3.mp4"], workspace=tmp_path, format=format)
    before = {p: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    with refused(UsageError, "overwrite", "are in .*out already, e.g. "):
        vla.export(tmp_path / "out", workspace=tmp_path, format=format)
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    again = vla.export(
        tmp_path / "out", ["*v3.mp4"], workspace=tmp_path, format=format, overwrite=True
    )
    assert again.files == first.files
    assert {p: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before


def test_rejects_shards_of_a_larger_export(workspace, tmp_path):
    vla.export(tmp_path / "out", workspace=tmp_path, format="webdataset", per_shard=1)
    with pytest.raises(UsageError, match=r"shards of a larger export, e\.g\. 00001\.tar"):
        vla.export(tmp_path / "out", workspace=tmp_path, format="webdataset", overwrite=True)


def test_rejects_invalid_output_folders(workspace, tmp_path):
    (tmp_path / "file").touch()
    cases = {
        tmp_path / "file": "is not a folder",
        tmp_path / ".vla": "is inside the workspace",
        tmp_path / ".vla" / "cache" / "x": "is inside the workspace",
    }
    for dest, message in cases.items():
        with pytest.raises(UsageError, match=message):
            vla.export(dest, workspace=tmp_path)
    with pytest.raises(
        UsageError,
        match="format 'hdf5' is read-only; features can be written as npy, parquet, webdataset",
    ):
        vla.export(tmp_path / "out", workspace=tmp_path, format="hdf5")
    assert not (tmp_path / "out").exists()


HOSTILE = [
    "../../up",
    "/somewhere/else",
    "a/../../b",
    "A",
    "a",
    "con",
    "\udcff\udcfe",
    "x\ny",
    ".hidden",
    "-rf",
    "n" * 300,
    "a.b.c",
]


@every
def test_hostile_names_stay_in_the_folder(tmp_path, format):
    names = HOSTILE
    (tmp_path / "f").mkdir()
    for i, name in enumerate(names):
        np.save(tmp_path / "f" / f"{i}.npy", np.full((2, 3), i, np.float16))
        record = {"video": name, "timestamps_seconds": [0, 1], "duration_seconds": 2}
        (tmp_path / "f" / f"{i}.json").write_text(json.dumps(record))
    assert vla.import_features([tmp_path / "f"], model="m", workspace=tmp_path / "w").problems == []
    before = {p for p in tmp_path.rglob("*") if ".vla" not in p.parts}
    report = vla.export(
        tmp_path / "w" / "out", workspace=tmp_path / "w", format=format, per_shard=20
    )
    assert set(report.failures) == (
        {"\udcff\udcfe"} if format == "parquet" else set()
    )  # Parquet's texts are UTF-8
    new = {p for p in tmp_path.rglob("*") if ".vla" not in p.parts} - before
    assert {p.parent for p in new} == {tmp_path / "w", tmp_path / "w" / "out"}
    assert len({p.name.casefold() for p in new}) == len(new) == len(report.files) + 1
    assert not any(c in p.name for p in new for c in '\n\\:*?"<>|')
    vla.import_features([tmp_path / "w" / "out"], model="m", workspace=tmp_path / "b")
    back = cache_of(tmp_path / "b")
    assert sorted(back.video_ids()) == sorted(set(names) - set(report.failures))
    for name in back.video_ids():
        assert (back.frames(name).values == names.index(name)).all()


def test_replaces_links_instead_of_following_them(workspace, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out" / "videos_v3.mp4.npy").symlink_to(tmp_path / "mine")
    vla.export(tmp_path / "out", workspace=tmp_path, overwrite=True)
    assert (tmp_path / "mine").read_text() == "mine"
    assert np.load(tmp_path / "out" / "videos_v3.mp4.npy").dtype == np.float16


@pytest.mark.parametrize("format", ["npy", "webdataset"])
def test_damaged_shard_skips_one_video(workspace, tmp_path, format):
    cache = cache_of(tmp_path)
    shard = cache.folder / "shards" / cache.receipts["videos/v3.mp4"].shard
    shard.write_bytes(shard.read_bytes()[:-9])
    report = vla.export(tmp_path / "out", workspace=tmp_path, format=format, per_shard=2)
    assert list(report.failures) == ["videos/v3.mp4"] and len(report.videos) == 2
    assert not list((tmp_path / "out").glob("videos_v3*"))
    back = vla.import_features([tmp_path / "out"], model="m", workspace=tmp_path / "b")
    assert back.num_videos == 2 and not back.problems


@pytest.mark.parametrize("format", ["npy", "webdataset"])
def test_full_disk_leaves_no_partial_files(workspace, tmp_path, format, monkeypatch):
    from vla.errors import ResourceError
    from vla.storage import atomic

    real, outcomes = Path.replace, iter([True, True, False])

    def replace(self, target):
        if self.name.startswith(atomic.TEMPORARY) and not next(outcomes, False):
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(ResourceError, match="cannot write .*out"):
        vla.export(tmp_path / "out", workspace=tmp_path, format=format, per_shard=1)
    monkeypatch.undo()
    files = sorted(os.listdir(tmp_path / "out"))
    assert len(files) == 2 and not any(f.startswith(atomic.TEMPORARY) for f in files)
    for path in (tmp_path / "out").glob("*.tar"):
        tarfile.open(path).close()


def test_removes_files_of_an_interrupted_export(toy_workspace, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / ".tmp-0123456789ab").write_bytes(b"half")
    os.utime(out / ".tmp-0123456789ab", (1e9, 1e9))
    (out / ".tmp-ba9876543210").write_bytes(b"what another export writes just now")
    (out / ".tmp-mine").write_bytes(b"somebody's own")
    vla.export(out, workspace=toy_workspace.root)
    assert sorted(p.name for p in out.glob(".tmp-*")) == [".tmp-ba9876543210", ".tmp-mine"]
