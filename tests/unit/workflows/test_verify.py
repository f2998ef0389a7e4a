"""Verification sees every file of a workspace, repair removes what is damaged, and no damaged record ends a command."""

import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import vla
from support.refusals import refused
from vla.cache.store import FeatureCache, active_cache
from vla.captions import store as caption_store
from vla.errors import CacheError, VlaError
from vla.hints import Hint
from vla.indexing.store import open_index
from vla.storage import atomic, locks, records
from vla.training.checkpoint import load_model, save_run
from vla.workflows.verify import verify

TOY = vla.EncoderChoice(encoder="toy")


def trained(workspace, seed=0):
    return vla.train(
        workspace=workspace.root,
        settings={"epochs": 1, "val_fraction": 0.4, "seed": seed},
        device="cpu",
        overwrite=True,
    )


@pytest.fixture
def full(toy_workspace):
    """A workspace with features, captions, a run with an evaluation, an index made with it, and a calibration."""
    trained(toy_workspace)
    vla.evaluate(workspace=toy_workspace.root, run="default", search=False, device="cpu")
    vla.index(workspace=toy_workspace.root, run="default")
    vla.search("a dog", workspace=toy_workspace.root)
    return toy_workspace


def names(workspace, **how):
    return sorted(d.name for d in verify(workspace=workspace.root, read_data=True, **how))


def files_of(workspace):
    return sorted(p for p in workspace.home.rglob("*") if p.is_file() and "lock" not in p.name)


def everything(workspace):
    """What commands say of a workspace, to compare."""
    hits = [
        (h.video_id, h.start, h.end, h.score, h.confidence)
        for h in vla.search("a dog runs", workspace=workspace.root)
    ]
    videos = [e.to_json() for e in vla.list_videos(workspace=workspace.root)]
    return hits, videos, [a.to_json() for a in caption_store.load(workspace)]


def test_detects_flipped_bits(full, record_property):
    """200 bits at random over all files of a small workspace; 11 were not noticed once, all in the captions."""
    assert names(full) == []
    before, rng, unseen, seen = everything(full), random.Random(7), [], 0
    paths = files_of(full)
    for _ in range(200):
        path = rng.choice(paths)
        good = path.read_bytes()
        if not good:
            continue
        content = bytearray(good)
        bit = rng.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        if names(full):
            seen += 1
        elif records_of(path) != records_of(path, good):
            unseen.append((path.name, bit))
        path.write_bytes(good)
    record_property("counts", f"bit flips: {seen} of 200 noticed, {len(unseen)} unseen")
    assert unseen == [] and seen > 150
    assert everything(full) == before


def records_of(path, content=None):
    content = path.read_bytes() if content is None else content
    return json.loads(content) if path.suffix == ".json" else content


@pytest.mark.parametrize("name", ["v*.json", "t*.json", "spec.json", "run.json", "eval-*", "index.json", "calibration.json",
                                  "captions.jsonl", "current.json", "workspace.json", "scale.json"])  # fmt: skip
def test_verifies_and_repairs_each_kind_of_record(full, name):
    folders = {"v*.json": "cache/*/videos/*", "t*.json": "cache/*/texts/*"}
    path = next(iter(full.home.glob(folders.get(name, f"**/{name}"))))
    path.write_bytes(path.read_bytes()[:-9] + b"\x80")
    assert len(names(full)) >= 1
    for command in (
        vla.list_videos,
        vla.info,
        vla.gc,
        lambda workspace: vla.search("a dog", workspace=workspace),
    ):
        try:
            command(workspace=full.root)
        except VlaError as error:
            assert "damaged" in str(error) or "altered" in str(error) or "index" in str(error)
    names(full, repair=True)
    assert names(full) == []


def test_damaged_receipt_does_not_stop_commands(full):
    path = next((active_cache(full.caches).folder / "videos").iterdir())
    path.write_text("{")
    assert len(vla.list_videos(workspace=full.root)) == 2
    assert vla.gc(workspace=full.root) == (0, 0)
    messages = []
    vla.search("a dog", workspace=full.root, progress=lambda p: messages.append(p.message))
    assert any("1 damaged receipt is ignored" in message for message in messages)
    report = vla.extract([full.root / "videos"], workspace=full.root, choice=TOY, workers=1)
    assert report.extracted == 1 and names(full) == []


def test_lists_damage_in_all_caches(full):
    vla.extract(
        [full.root / "videos"],
        workspace=full.root,
        choice=vla.EncoderChoice("9", encoder="toy"),
        change_encoder=True,
        workers=1,
    )
    for cache in full.caches.glob("*/"):
        for receipt in list((cache / "videos").iterdir())[:2]:
            receipt.write_text("[]")
        (cache / "shards" / "0123-abc.h5").write_bytes(bytes(10))
    assert len(names(full)) == 4
    # Waste of either cache goes, what a damaged receipt may name stays.
    files, freed = vla.gc(workspace=full.root)
    assert (files, freed) == (2, 20)


def mutations(value):
    yield from (
        None,
        True,
        -1,
        10**30,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "../x",
        "\0",
        [],
        {},
        [[]],
        {"x": 1},
        "9" * 5000,
    )


def places(value, path=()):
    if isinstance(value, dict):
        for key in value:
            yield (*path, key)
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(min(2, len(value))):
            yield (*path, number)
            yield from places(value[number], (*path, number))


def test_rejects_records_with_invalid_values(full, record_property):
    """As older versions wrote them, without a checksum: then types and ranges are all there is."""
    tried = refused = 0
    rng = random.Random(3)
    for path in [p for p in files_of(full) if p.suffix == ".json"]:
        good = path.read_bytes()
        record = atomic.read_json(path)
        for place in places(record):
            for value in rng.sample(list(mutations(0)), 3):
                other = json.loads(json.dumps(record))
                inner = other
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = value
                path.write_text(json.dumps(other))
                tried += 1
                try:
                    opened(full, path)
                except VlaError as error:
                    refused += 1
                    assert len(str(error)) < 4000
        path.write_bytes(good)
    record_property(
        "counts", f"records: {refused} of {tried} values of other kinds refused, no crash"
    )
    assert tried > 300


def opened(place, path):
    """Read what `path` is of, as commands do."""
    if "runs" in path.parts:
        load_model(path.parent)
        vla.report(workspace=place.root, output=place.root / "r.html")
    elif "index" in path.parts:
        open_index(place.index)
    elif "cache" in path.parts:
        cache = (
            FeatureCache.open(
                path.parent
                if path.name in ("spec.json", "scale.json", "text-tower.json")
                else path.parent.parent
            )
            if path.name != "current.json"
            else active_cache(place.caches)
        )
        cache.state(), cache.cached_texts()
    verify(workspace=place.root)


# Runs


def test_missing_weights_are_reported_with_a_remedy(full):
    weights = next(full.runs.glob("default/model-*"))
    weights.unlink()
    for command in (
        lambda: vla.search("a dog", workspace=full.root),
        lambda: vla.index(workspace=full.root, run="default"),
    ):
        with refused(CacheError, "retrain", "is gone", run="default"):
            command()
    messages = []
    settings = {"epochs": 1, "val_fraction": 0.4, "seed": 0}
    vla.train(
        workspace=full.root,
        settings=settings,
        device="cpu",
        progress=lambda p: messages.append(p.message),
    )
    assert any("training anew" in message for message in messages) and weights.is_file()
    assert vla.search("a dog", workspace=full.root)


def test_retrained_run_needs_a_new_index(full):
    opened_before = vla.open_workspace(full.root)
    before = [(h.video_id, h.score) for h in opened_before.search("a dog")]
    trained(full, seed=5)
    with pytest.raises(CacheError, match="trained anew since the index was built"):
        vla.search("a dog", workspace=full.root)
    with pytest.raises(CacheError, match="trained anew"):
        vla.open_workspace(full.root).search_like("videos/v2.mp4", 0.5)
    assert vla.info(workspace=full.root)["index"]["state"].startswith("out of date")
    # One that was open goes on with what it holds, index and run together.
    assert [(h.video_id, h.score) for h in opened_before.search("a dog")] == before
    assert any(
        "trained anew" in note for note in vla.index(workspace=full.root, run="default").notes
    )
    assert vla.search("a dog", workspace=full.root)


def _move_texts_and_frames(folder):
    """Two runs of one epoch on few videos may both be the frozen encoder: this one is not."""
    model, run = load_model(folder)
    with torch.no_grad():
        for parameter in model.projector.parameters():
            parameter.add_(0.5)
    model.projector.alpha.fill_(1.0)
    save_run(folder, model, run.spec, run.identity, run.record)


def test_calibration_of_the_previous_run_is_not_used(full):
    first = vla.open_workspace(full.root).searcher.calibration
    record = atomic.read_json(full.index / "calibration.json")
    trained(full, seed=5)
    _move_texts_and_frames(full.runs / "default")
    vla.index(workspace=full.root, run="default")
    assert atomic.read_json(full.index / "calibration.json") == record
    second = vla.open_workspace(full.root).searcher.calibration
    assert atomic.read_json(full.index / "calibration.json")["of"] != record["of"]
    assert not np.array_equal(first.video_center, second.video_center)
    assert not np.array_equal(first.row_norms, second.row_norms)


@pytest.mark.parametrize("pattern", ["calibration.json", "calibration-*"])
def test_verifies_and_repairs_a_calibration(full, pattern):
    before = vla.search("a dog", workspace=full.root)
    path = next(full.index.glob(pattern))
    path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)
    assert names(full) == names(full, repair=True) == ["index/calibration.json"]
    assert names(full) == []
    assert vla.search("a dog", workspace=full.root) == before
    assert (full.index / "calibration.json").is_file()


def test_open_workspace_survives_removal_of_a_video(full):
    """The shard is gone, the index still has the video: what it holds is searched, without a CacheError."""
    opened_workspace = vla.open_workspace(full.root)
    assert opened_workspace.searcher is not None
    code = f"import pathlib; import vla; vla.remove(['videos/v3.mp4'], workspace=pathlib.Path({str(full.root)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    hits = opened_workspace.search("a dog runs over the grass", 10)
    assert hits
    vla.index(workspace=full.root, run="default")
    opened_workspace.refresh()
    assert "videos/v3.mp4" not in {h.video_id for h in opened_workspace.search("a dog", 10)}


# Files that are gone


def test_moments_of_missing_files_are_skipped_and_counted(full):
    assert "videos/v3.mp4" in {h.video_id for h in vla.search("a dog", k=20, workspace=full.root)}
    (full.root / "videos" / "v3.mp4").unlink()
    hits = vla.search("a dog", k=20, workspace=full.root)
    assert {h.video_id for h in hits} == {"videos/v2.mp4", "videos/v4.mp4"} and not any(
        h.is_missing for h in hits
    )
    assert [h.rank for h in hits] == list(range(1, len(hits) + 1))
    assert hits.omissions.to_json() == [
        {"reason": "missing-file", "count": 1, "examples": ["videos/v3.mp4"]}
    ]
    gone = vla.index(workspace=full.root, run="default").omissions
    assert gone.to_json() == [{"reason": "missing-file", "count": 1, "examples": ["videos/v3.mp4"]}]
    shutil.rmtree(full.root / "videos")
    # Without any of them the folder is elsewhere, as on a disk that is not plugged in: what is known is told, and marked.
    hits = vla.search("a dog", workspace=full.root)
    assert len(hits) >= 3 and all(h.is_missing for h in hits) and not hits.omissions


# Reading needs no writing


def test_reading_takes_no_lock(full, monkeypatch):
    def refuse(path, *rest, **more):
        raise AssertionError(f"{path} is locked")

    monkeypatch.setattr(locks, "lock", refuse)
    assert verify(workspace=full.root, read_data=True) == []
    vla.export(full.root / "out", workspace=full.root)
    with pytest.raises(AssertionError):
        verify(workspace=full.root, repair=True)
    monkeypatch.undo()
    locked_paths = []
    real = locks.lock
    monkeypatch.setattr(
        locks,
        "lock",
        lambda path, *rest, **more: locked_paths.append(path) or real(path, *rest, **more),
    )
    vla.evaluate(workspace=full.root, run="none", device="cpu")
    assert locked_paths == []


def test_reports_records_without_checksums(full):
    path = next((active_cache(full.caches).folder / "videos").iterdir())
    path.write_text(json.dumps(atomic.read_json(path)))
    messages = []
    assert verify(workspace=full.root, progress=lambda p: messages.append(p.message)) == []
    assert any(
        message.startswith("1 records of an older version have no checksum") for message in messages
    )


def test_accepts_videos_with_huge_timestamps(tmp_path, monkeypatch):
    """Frames at 0 and up to 10^12 s, imported beside others: index, train, search, eval and report."""
    rng = np.random.default_rng(0)
    (tmp_path / "f").mkdir()
    for number, last in enumerate([4.0, 1e6, 1e9, 9e11, 5.0, 6.0]):
        np.savez(
            tmp_path / "f" / f"v{number}.npz", features=rng.standard_normal((6, 8)).astype(np.float32),
            timestamps=np.array([0.0, 0.5, 1.0, 1.5, 2.0, last]),
        )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    vla.import_features([tmp_path / "f"], model="m", workspace=tmp_path)
    assert vla.index(workspace=tmp_path).videos == 6
    videos = {
        v: active_cache(tmp_path / ".vla" / "cache").frames(v).timestamps_seconds[-1]
        for v in ("v2", "v3")
    }
    assert videos == {"v2": 1e9, "v3": 9e11}


def test_record_errors_name_the_field_and_value():
    from vla.indexing.index_record import IndexRecord

    with refused(CacheError, "index", r"x is damaged \(schema is missing\)"):
        records.decode(IndexRecord, {}, "x", Hint("index"))


def test_detects_receipts_with_too_many_frames(toy_workspace):
    """The shard is whole by its own checksum: only the two together tell."""
    cache = active_cache(toy_workspace.caches)
    path = cache._receipt_path("videos/v3.mp4")
    record = atomic.read_json(path)
    assert record["frames"] == 6
    atomic.write_json(path, {**record, "frames": 60})
    with refused(
        CacheError, "repair_features", r"videos/v3\.mp4.*holds 6 frames, its receipt says 60"
    ):
        active_cache(toy_workspace.caches).frames("videos/v3.mp4")
    assert names(toy_workspace) == ["videos/v3.mp4"]
    with pytest.raises(CacheError, match="its receipt says 60"):
        vla.index(workspace=toy_workspace.root)
    assert names(toy_workspace, repair=True) == ["videos/v3.mp4"] and names(toy_workspace) == []
    vla.index(workspace=toy_workspace.root)
    assert open_index(toy_workspace.index).videos == ["videos/v2.mp4", "videos/v4.mp4"]
