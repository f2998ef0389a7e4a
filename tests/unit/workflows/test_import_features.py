"""Released features become a cache: as they are, only what is new, one bad file never stops the others."""

import json
import os

import h5py
import numpy as np
import pytest

import vla
from support.refusals import refused
from support.shared_data import SHARED
from vla.cache.store import active_cache
from vla.encoders import registry as encoders
from vla.encoders.toy import Encoder
from vla.errors import AnnotationError, FormatError, MissingError, SpecMismatchError, UsageError
from vla.storage.workspace import Workspace
from vla_cli.hints import with_hint


def array(frames=6, dim=4, seed=0):
    return np.random.default_rng(seed).standard_normal((frames, dim)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four videos in three formats, in `f/`; the workspace is the folder itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").mkdir()
    np.save(tmp_path / "f" / "a.npy", array(seed=1))
    np.savez(tmp_path / "f" / "b.npz", features=array(4, seed=2))
    with h5py.File(tmp_path / "f" / "more.h5", "w") as file:
        file["c"], file["d.mp4"] = array(3, seed=3), array(5, seed=4)
    return tmp_path


def load(folder):
    return active_cache(Workspace.open(folder).caches)


def imported(*paths, **options):
    return vla.import_features(paths or ("f",), **{"model": "m", "fps": 2, **options})


def state(folder):
    return {
        p: (p.stat().st_mtime_ns, p.read_bytes())
        for p in (folder / ".vla").rglob("*")
        if p.is_file()
    }


def statuses(report):
    return {r.video_id: r.status for r in report.receipts}


def test_caches_features_unchanged(folder):
    report = imported()
    assert statuses(report) == dict.fromkeys(("a", "b", "c", "d.mp4"), "ok")
    assert (report.num_videos, report.frames, report.problems) == (4, 18, [])
    cache = load(folder)
    assert (cache.spec.encoder, cache.spec.model, cache.spec.sampling, cache.spec.dim) == (
        "imported",
        "m",
        "fps=2",
        4,
    )
    for name, (frames, seed) in {"a": (6, 1), "b": (4, 2), "c": (3, 3), "d.mp4": (5, 4)}.items():
        features = cache.frames(name)
        np.testing.assert_array_equal(features.values, array(frames, seed=seed).astype(np.float16))
        assert features.timestamps_seconds.tolist() == [i / 2 for i in range(frames)]
        assert features.duration_seconds == frames / 2
    assert {r.codec for r in cache.receipts.values()} == {"npy", "npz", "hdf5"}


def test_second_import_does_nothing(folder):
    imported()
    before = state(folder)
    again = imported(model=None)  # the name is as before
    assert again.num_videos == 0 and len(again.receipts) == 4
    assert state(folder) == before


def test_reads_only_changed_files_again(folder):
    imported()
    before = state(folder)
    np.save(folder / "f" / "a.npy", array(seed=9))
    np.save(folder / "f" / "new.npy", array(seed=8))
    report = imported()
    assert (report.num_videos, report.updates) == (2, ["a"])
    cache = load(folder)
    np.testing.assert_array_equal(cache.frames("a").values, array(seed=9).astype(np.float16))
    shards = [cache.folder / "shards" / cache.receipts[v].shard for v in ("b", "c", "d.mp4")]
    after = state(folder)
    assert all(after[p] == before[p] for p in shards)
    assert len(list((cache.folder / "shards").iterdir())) == 5


def test_detects_changes_in_the_middle_of_a_large_file(folder):
    large = np.ones((1000, 400), np.float32)
    np.save(folder / "f" / "a.npy", large)
    for name in ("b.npz", "more.h5"):
        (folder / "f" / name).unlink()
    imported()
    large[500] = 2
    np.save(folder / "f" / "a.npy", large)
    assert imported().num_videos == 1
    assert load(folder).frames("a").values[500, 0] == 2


def test_touched_file_is_not_imported_again(folder):
    imported()
    os.utime(folder / "f" / "a.npy", ns=(1, 1))
    assert imported().num_videos == 0
    assert load(folder).receipts["a"].mtime_ns == 1


@pytest.mark.parametrize("more", [{"duration": 50.0}, {"key": "y"}])
def test_other_settings_read_files_again(folder, more):
    for name in ("a.npy", "more.h5"):
        (folder / "f" / name).unlink()
    np.savez(folder / "f" / "b.npz", x=array(seed=1), y=array(seed=2))
    imported(key="x")
    assert imported(key="x").num_videos == 0
    assert imported(**{"key": "x", **more}).num_videos == 1


def test_detects_changed_timestamp_files(folder):
    (folder / "g").mkdir()
    np.save(folder / "g" / "v_clip.npy", array())
    np.save(folder / "g" / "v_timestamps_ms.npy", np.arange(6) * 500.0)
    imported("g", fps=None)
    np.save(folder / "g" / "v_timestamps_ms.npy", np.arange(6) * 250.0)
    assert imported("g", fps=None).num_videos == 1
    assert load(folder).frames("v").timestamps_seconds[-1] == 1.25


# Times


@pytest.mark.parametrize(
    ("rule", "sampling", "times"),
    [
        ({"fps": 3}, "fps=3", [0, 1 / 3, 2 / 3, 1.0, 4 / 3, 5 / 3]),
        ({"stride": 16, "video_fps": 32}, "fps=2", [0, 0.5, 1, 1.5, 2, 2.5]),
        ({"clip_length": 2}, "fps=0.5", [0, 2, 4, 6, 8, 10]),
        ({"stride": 1, "video_fps": 29.97}, "fps=29.97", [i / 29.97 for i in range(6)]),
    ],
)
def test_timing_rules(folder, rule, sampling, times):
    imported("f/a.npy", **{"fps": None, **rule})
    cache = load(folder)
    features = cache.frames("a")
    assert cache.spec.sampling == sampling
    np.testing.assert_allclose(features.timestamps_seconds, times, rtol=0, atol=1e-12)
    assert features.duration_seconds == pytest.approx(times[-1] + times[1])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"fps": 2, "clip_length": 2}, "by one rule, not by 2"),
        ({"fps": 2, "stride": 2, "video_fps": 25}, "by one rule, not by 2"),
        ({"stride": 16}, "a stride counts frames of the video: it goes with their rate"),
        ({"video_fps": 16}, "a stride counts frames of the video: it goes with their rate"),
        ({"fps": 0}, "fps= must be above 0, not 0"),
        ({"fps": float("nan")}, "fps= must be above 0"),
        ({"fps": 1e6}, "exceed the maximum of 240"),
        ({"clip_length": -1}, "clip_length= must be above 0"),
        ({"stride": 0, "video_fps": 25}, "stride= must be above 0"),
        ({"duration": float("inf")}, "duration= must be above 0"),
    ],
)
def test_rejects_invalid_timing_rules(folder, rule, message):
    with pytest.raises(UsageError, match=message):
        imported(**{"fps": None, **rule})
    assert not (folder / ".vla").exists()


def test_times_in_the_file_take_precedence(folder):
    np.savez(folder / "f" / "b.npz", features=array(4), timestamps=[0.0, 0.1, 0.5, 2.0])
    report = imported(fps=None)
    assert statuses(report) == {"a": "failed", "b": "ok", "c": "failed", "d.mp4": "failed"}
    assert all(r.reason.hint == vla.Hint("name_sampling") for r in report.problems)
    features = load(folder).frames("b")
    assert features.timestamps_seconds.tolist() == [0.0, 0.1, 0.5, 2.0]
    assert features.duration_seconds == 2.4  # as long as the others in the middle
    assert load(folder).spec.sampling == "as released"


def test_failed_import_creates_no_workspace(folder):
    report = imported(fps=None)
    assert set(statuses(report).values()) == {"failed"} and report.spec is None
    assert not (folder / ".vla").exists()
    assert imported().problems == []


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("d.csv", "video,duration\na.mp4,100\nclips/b,3.5\nd.mp4,9\nother,1\n"),
        ("d.jsonl", '{"vid": "a", "duration": 100, "query": "x"}\n{"vid": "b", "duration": 3.5}\n{"vid": "a", "duration": 100}\n'
                    '{"vid": "d", "duration": 9}\n'),
    ],
)  # fmt: skip
def test_durations_of_single_videos(folder, table, text):
    (folder / table).write_text(text)
    imported(durations=folder / table, duration=50)
    assert {v: r.duration_seconds for v, r in load(folder).receipts.items()} == {
        "a": 100,
        "b": 3.5,
        "c": 50,
        "d.mp4": 9,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("video,length_of\na,1\n", "columns video and duration"), ("video,duration\na,1\na,2\n", "line 3.*'a' has two durations: 1 s and 2 s"),
     ("video,duration\na,-1\n", "line 2"), ("video,duration\na,x\n", "line 2"), ("", "empty")],
)  # fmt: skip
def test_rejects_invalid_durations(folder, text, message):
    (folder / "d.csv").write_text(text)
    with pytest.raises(AnnotationError, match=f"(?s){message}"):
        imported(durations=folder / "d.csv")


def test_duration_before_the_last_frame(folder):
    report = imported("f/a.npy", duration=2.3)  # the last frame is at 2.5 s
    assert (
        report.receipts[0].duration_seconds == 2.5
        and "declared duration 2.3 s" in report.receipts[0].reason
    )
    report = imported("f/a.npy", duration=1.9)
    assert report.problems and "after the end of the video at 1.9 s" in report.problems[0].reason


# Faults


def corrupt_copy(values, how):
    values = values.copy()
    values[1, 1] = how
    return values


FAULTS = {
    "nan.npy": (
        lambda p: np.save(p, corrupt_copy(array(), np.nan)),
        "1 of 24 values are not finite",
    ),
    "inf.npz": (
        lambda p: np.savez(p, feats=corrupt_copy(array(), np.inf)),
        "1 of 24 values are not finite",
    ),
    "large.npy": (lambda p: np.save(p, corrupt_copy(array(), 1e5)), "too large for float16"),
    "huge.npy": (lambda p: np.save(p, array().astype(np.float64) * 1e300), "too large for float16"),
    "row.npy": (lambda p: np.save(p, array()[0]), "shape (4,)"),
    "block.npy": (lambda p: np.save(p, np.stack([array()] * 2)), "shape (2, 6, 4)"),
    "wide.npy": (lambda p: np.save(p, array(dim=5)), "5 dimensions, those of 'm' have 4"),
    "empty.npy": (lambda p: np.save(p, array(0)), "empty"),
    "nothing.npy": (lambda p: p.touch(), ""),
    "none.pt": (lambda p: p.touch(), "save it again"),
    "text.h5": (lambda p: p.write_text("not HDF5"), ""),
    "objects.npy": (
        lambda p: np.save(p, np.array([{}], object), allow_pickle=True),
        "Python objects",
    ),
    "back.npz": (lambda p: np.savez(p, feats=array(2), times=[1, 0]), "times decrease"),
    "short.npz": (lambda p: np.savez(p, feats=array(2), times=[1]), "2 frames need 2 times"),
    "which.npz": (lambda p: np.savez(p, clip=array(), resnet=array()), "--features-key"),
    "whole.npy": (lambda p: np.save(p, np.ones((3, 4), np.uint8)), "uint8"),
    "cut.npy": (lambda p: p.write_bytes(_bytes(array(100))[:700]), "declares an array"),
    "folder.npy": (lambda p: p.mkdir(), None),  # a folder is looked into, not read
}


def _bytes(values):
    import io

    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def test_invalid_files_are_reported_and_skipped(folder):
    for name, (make, _) in FAULTS.items():
        make(folder / "f" / name)
    report = imported()
    expected_reasons = {n.rsplit(".", 1)[0]: m for n, (_, m) in FAULTS.items() if m is not None}
    assert {r.video_id for r in report.problems} == set(expected_reasons)
    for receipt in report.problems:
        assert receipt.status == "failed" and expected_reasons[receipt.video_id] in with_hint(
            receipt.reason
        )
    assert (
        {v for v, s in statuses(report).items() if s == "ok"}
        == {"a", "b", "c", "d.mp4"}
        == set(load(folder).video_ids())
    )
    # They are tried again, and what was mended is found.
    np.save(folder / "f" / "nan.npy", array())
    again = imported()
    assert again.num_videos == 1 and len(again.problems) == len(report.problems) - 1
    assert load(folder).receipts["nan"].status == "ok"


def test_invalid_file_does_not_replace_features(folder):
    imported()
    before = state(folder)
    for name in ("a.npy", "b.npz", "more.h5"):
        (folder / "f" / name).write_bytes(b"spoiled")
    report = imported()
    assert {r.video_id for r in report.problems} == {"a", "b", "more"}
    assert sorted(load(folder).video_ids()) == ["a", "b", "c", "d.mp4"]
    after = state(folder)
    assert all(after[p] == before[p] for p in before)


@pytest.mark.parametrize("first", ["a.npy", "z.npy"])
def test_width_is_that_of_the_first_valid_file_or_workspace(folder, first):
    np.save(folder / "f" / "z.npy", array(dim=5))
    assert [r.video_id for r in imported().problems] == ["z"]
    assert [r.video_id for r in imported("f/z.npy", "f/a.npy").problems] == ["z"]
    with pytest.raises(
        SpecMismatchError, match="dim: 4 in this workspace, 5 in what is to be imported"
    ):
        imported("f/z.npy", model="other")


def test_rejects_two_files_of_one_video(folder):
    np.savez(folder / "f" / "a.npz", features=array())
    with pytest.raises(UsageError, match=r"features of 'a': f/a\.npy and f/a\.npz"):
        imported()
    with h5py.File(folder / "f" / "a.npz", "w") as file:  # and so if one of them cannot be read
        file["x"] = 1
    with pytest.raises(UsageError, match=r"features of 'a': f/a\.npy and f/a\.npz"):
        imported()
    assert not (folder / ".vla").exists()


@pytest.mark.parametrize(
    ("paths", "options", "message", "action"),
    [
        (("f",), {"model": None}, "invalid name of a feature space: ''", "name_space"),
        (("f",), {"model": " "}, "invalid name of a feature space: ' '", "name_space"),
        (("f",), {"model": "a\nb"}, r"invalid name of a feature space: 'a\\nb'", "name_space"),
        (("nowhere",), {}, "no such file, folder or pattern: nowhere", None),
        (("c.csv",), {}, r"not from '\.csv'", None),
        (("g",), {}, "no features in g", None),
        ((), {}, "nothing to import", "name_import"),
        ((), {"encoder_model": "x"}, "no features named 'm'", None),
        (("f",), {"pretrained": "openai"}, "weights are named, and no model", "name_encoder"),
    ],
)
def test_rejects_invalid_arguments_before_importing(folder, paths, options, message, action):
    (folder / "c.csv").touch()
    (folder / "g").mkdir()
    with pytest.raises(UsageError, match=message) as error:
        vla.import_features(paths, **{"model": "m", "fps": 2, **options})
    assert (error.value.hint and error.value.hint.action) == action
    assert not (folder / ".vla").exists()


def test_dry_run_reports_without_writing(folder):
    np.save(folder / "f" / "bad.npy", array(dim=5))
    report = imported(dry_run=True)
    assert (report.num_videos, report.frames, [r.video_id for r in report.problems]) == (
        4,
        18,
        ["bad"],
    )
    assert not (folder / ".vla").exists()
    imported()
    before = state(folder)
    np.save(folder / "f" / "new.npy", array())
    assert imported(dry_run=True).num_videos == 1
    assert state(folder) == before


# Spaces


def test_spaces_with_two_names_never_mix(folder):
    imported()
    with pytest.raises(
        SpecMismatchError, match="model: 'm' in this workspace, 'other' in what is to be imported"
    ) as error:
        imported(model="other")
    assert error.value.hint == vla.Hint("switch_to_imported")
    with pytest.raises(SpecMismatchError, match="sampling: 'fps=2' in this workspace, 'fps=1'"):
        imported(fps=1)
    imported(model="other", change_encoder=True)
    assert load(folder).spec.model == "other"
    imported(change_encoder=True)
    assert len(load(folder).video_ids()) == 4


def test_extracted_and_imported_features_never_mix(toy_workspace, tmp_path):
    np.save(tmp_path / "a.npy", array(dim=48))
    with pytest.raises(SpecMismatchError, match="encoder: 'toy' in this workspace, 'imported'"):
        imported(tmp_path / "a.npy", workspace=tmp_path)
    imported(tmp_path / "a.npy", workspace=tmp_path, change_encoder=True)
    with refused(
        SpecMismatchError, "leave_imported", r"features of this workspace were imported \('m'\)"
    ):
        vla.extract([tmp_path / "videos"], workspace=tmp_path)
    with pytest.raises(SpecMismatchError, match="were imported"):
        vla.search("a dog", [tmp_path / "videos"], workspace=tmp_path)
    vla.extract(
        [tmp_path / "videos"],
        workspace=tmp_path,
        choice=vla.EncoderChoice(encoder="toy"),
        change_encoder=True,
    )
    assert load(tmp_path).spec.encoder == "toy"


# Texts

WORDS = [
    "a red door",
    "a dog runs",
    "green tea",
    "rain falls on  the roof",
    "she said.  He laughed.",
]


@pytest.fixture
def no_encoder(monkeypatch):
    """Whoever asks for an encoder gets an error that no user should see."""
    monkeypatch.setattr(encoders, "build", lambda *given, **named: 1 / 0)


def texts_file(folder, dim=4, texts=WORDS):
    vectors = np.random.default_rng(5).standard_normal((len(texts), dim)).astype(np.float32)
    np.savez(folder / "t.npz", texts=np.array(texts), pooled=vectors)
    return dict(zip(texts, vectors, strict=True))


def test_imports_texts_with_vectors(folder, no_encoder):
    vectors = texts_file(folder)
    report = imported(texts=folder / "t.npz")
    assert report.texts == 5
    cache = load(folder)
    for text, vector in vectors.items():
        (part,) = cache.pieces(text)
        np.testing.assert_array_equal(cache.texts([part]).pooled[0], vector.astype(np.float16))
        assert part == " ".join(text.split())
    again = vla.import_features(texts=folder / "t.npz")
    assert again.texts == 0 and again.other_texts == [] and again.receipts == []


def test_search_with_an_imported_text(folder, no_encoder):
    vectors = texts_file(folder)
    imported(texts=folder / "t.npz")
    np.save(folder / "f" / "wanted.npy", np.tile(vectors["a dog runs"], (4, 1)))
    imported()
    vla.index()
    hits = vla.search("a dog runs", k=3)
    assert hits[0].video_id == "wanted" and hits[0].score == pytest.approx(1, abs=1e-3)
    assert (hits[0].path, hits[0].is_missing) == ("", False)
    assert vla.search(
        "rain falls on the   roof", k=1
    )  # white space is evened out, as it is for any encoder


def test_unknown_text_is_an_error(folder, no_encoder):
    texts_file(folder)
    imported(texts=folder / "t.npz")
    vla.index()
    with pytest.raises(MissingError) as error:
        vla.search("a blue door")
    message = str(error.value)
    assert "'a blue door' has no vector here" in message and "'m', 4 wide" in message
    assert error.value.hint == vla.Hint("name_encoder_or_texts")


def captions(folder, rows):
    (folder / "c.jsonl").write_text(
        "".join(json.dumps({"video": v, "caption": c}) + "\n" for v, c in rows)
    )
    return folder / "c.jsonl"


def test_training_lists_captions_without_vectors(folder, no_encoder):
    """The last of them has two sentences, for which nobody made vectors."""
    texts_file(folder)
    imported(texts=folder / "t.npz")
    rows = [
        ("a.mp4", WORDS[0]),
        ("clips/b.avi", WORDS[1]),
        ("c", WORDS[3]),
        ("d", WORDS[4]),
        ("elsewhere", "x"),
    ]
    run = vla.train(captions=captions(folder, rows), settings={"epochs": 1})
    assert run.spec == load(folder).spec
    assert vla.train(settings={"epochs": 1}).digest == run.digest
    with pytest.raises(MissingError, match="'a blue door'.*has no vector here"):
        vla.train(
            captions=captions(folder, [*rows[:4], ("a", "a blue door")]), settings={"epochs": 1}
        )


def test_rejects_invalid_texts_before_importing(folder):
    texts_file(folder, dim=5)
    with pytest.raises(FormatError, match="vectors are 5 wide, the features are 4"):
        imported(texts=folder / "t.npz")
    (folder / "t.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(FormatError, match=r"t\.jsonl"):
        imported(texts=folder / "t.jsonl")
    assert not (folder / ".vla").exists()


def test_reports_texts_with_a_different_vector(folder):
    before = texts_file(folder)
    imported(texts=folder / "t.npz")
    changed = np.stack(list(before.values()))
    changed[2] *= -1
    np.savez(
        folder / "t.npz",
        texts=np.array([*WORDS, "new"]),
        pooled=np.concatenate([changed, changed[:1]]),
    )
    report = vla.import_features(texts=folder / "t.npz")
    assert (report.texts, report.other_texts) == (1, ["green tea"])
    np.testing.assert_array_equal(
        load(folder).texts(["green tea"]).pooled[0], before["green tea"].astype(np.float16)
    )


# The encoder of new texts


def test_named_encoder_encodes_only_new_texts(folder, monkeypatch):
    vectors = texts_file(folder)
    built = []
    real = encoders.build
    monkeypatch.setattr(
        encoders, "build", lambda *given, **named: built.append(given) or real(*given, **named)
    )
    imported(texts=folder / "t.npz", encoder_model="4", encoder="toy")
    expected = Encoder("4").encode_text(["a blue door"]).pooled[0]
    np.save(folder / "f" / "known.npy", np.tile(vectors["green tea"], (3, 1)))
    np.save(folder / "f" / "new.npy", np.tile(expected, (3, 1)))
    imported()  # the encoder stays known
    vla.index()
    assert vla.search("green tea", k=1)[0].video_id == "known" and built == []
    assert vla.search("a blue door", k=1)[0].video_id == "new" and built == [
        ("toy", {"model": "4"})
    ]


def test_rejects_an_encoder_of_another_width(folder):
    texts_file(folder)
    imported(texts=folder / "t.npz")
    vla.import_features(encoder_model="7", encoder="toy")
    vla.index()
    assert vla.search("green tea")
    with pytest.raises(SpecMismatchError, match="'m' are 4 wide, and '7'.*makes vectors 7 wide"):
        vla.search("a blue door")


def test_rejects_an_unknown_encoder(folder):
    with pytest.raises(vla.VlaError, match="no encoder is called 'nope'"):
        imported(encoder="nope", encoder_model="x")


# Care


def test_imported_videos_need_not_exist(folder):
    imported()
    assert [e.is_missing for e in vla.list_videos()] == [False] * 4
    assert vla.remove((), missing=True) == []
    summary = vla.info()["features"]
    assert (
        summary["missing"] == 0
        and summary["imported"]
        and (summary["model"], summary["text_encoder"]) == ("m", None)
    )
    assert vla.verify(read_data=True) == []
    assert vla.remove(["a"]) == ["a"] and vla.gc()[0] == 0


def test_strips_suffixes_of_names(folder):
    np.save(folder / "f" / "v_1_clip.npy", array())
    np.save(folder / "f" / "_clip.npy", array())
    report = imported(strip="_clip")
    assert set(statuses(report)) == {"a", "b", "c", "d.mp4", "v_1", "_clip"} and not report.problems
    assert imported(strip="_clip").num_videos == 0


REAL = SHARED / "features"


@pytest.mark.skipif(not REAL.is_dir(), reason="shared data: not here")
def test_imports_published_features_and_texts(folder, no_encoder):
    """Frames of a video at 5 a second; of the texts, 51 are in both files, made in other batches."""
    report = vla.import_features(
        [REAL / "v_GGSY1Qvo990_clip_vitb32.npz"], model="clip", key="feats_5fps", times_key="timestamps_ms_5fps",
        strip="_clip_vitb32", texts=REAL / "text_lvis1203_a_clip_vitb32.npz",
    )  # fmt: skip
    assert (report.frames, report.texts, report.problems) == (90, 1203, [])
    more = vla.import_features(texts=REAL / "text_coco80_a_clip_vitb32.npz")
    assert (more.texts, more.other_texts) == (29, [])
    with (
        np.load(REAL / "v_GGSY1Qvo990_clip_vitb32.npz") as published,
        np.load(REAL / "text_coco80_a_clip_vitb32.npz") as texts,
    ):
        frames, words = (
            published["feats_5fps"],
            texts["feats"][texts["prompts"].tolist().index("a surfboard")],
        )
    vla.index(run="none")
    hit = vla.search("a surfboard", k=1)[0]
    assert 0 <= hit.start <= hit.peak < hit.end <= 18
    # A video is found by the best of its segments.
    unit, times = frames / np.linalg.norm(frames, axis=1, keepdims=True), np.arange(90) / 5
    spans = vla.open_workspace().searcher.index.spans
    means = np.stack(
        [unit[(times >= start - 1e-9) & (times < end - 1e-9)].mean(0) for start, end in spans]
    )
    cosines = means @ words / np.linalg.norm(means, axis=1) / np.linalg.norm(words)
    assert hit.score == pytest.approx(float(cosines.max()), abs=1e-3)


@pytest.mark.parametrize(
    ("encoder", "model", "expected"),
    [
        (None, "ViT-B-32", "open_clip"),
        (None, "fast", "open_clip"),
        (None, "offline", "conse"),
        ("toy", "offline", "toy"),
    ],
)
def test_a_preset_names_the_encoder_of_its_texts(folder, encoder, model, expected):
    vla.import_features(folder / "f", model="x", fps=1, encoder_model=model, encoder=encoder)
    assert load(folder).source.encoder == expected
