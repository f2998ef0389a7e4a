"""`vla import-features` and `vla export` as a person runs them: released features in, the whole job without any encoder, and out."""

import json
import tarfile

import h5py
import numpy as np
import pytest

from e2e.command import acknowledged, vla
from vla.cache.store import active_cache
from vla.storage.workspace import Workspace

THINGS = [
    f"a {colour} {thing}"
    for colour in ("red", "green", "blue")
    for thing in ("door", "dog", "boat", "bell")
]
DIM = 16


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder as a paper's authors release it: a feature every two seconds, text vectors, captions, and one bad file."""
    folder = tmp_path_factory.mktemp("released")
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((len(THINGS), DIM)).astype(np.float32)
    (folder / "features").mkdir()
    for number, vector in enumerate(vectors):
        frames = vector + 0.3 * rng.standard_normal((8, DIM)).astype(np.float32)
        np.savez(folder / "features" / f"v{number}.npz", features=frames)
    (folder / "features" / "bad.npz").write_bytes(b"PK")
    np.savez(folder / "texts.npz", text_features=vectors, captions=np.array(THINGS))
    lines = [
        json.dumps({"vid": f"v{i}", "query": t, "relevant_windows": [[2, 9]]}) + "\n"
        for i, t in enumerate(THINGS)
    ]
    (folder / "captions.jsonl").write_text("".join(lines))
    runs = {
        "import": vla(
            "import-features", "features", "-m", "clip", "--clip-length", 2, "--texts", "texts.npz", cwd=folder
        ),
        "train": vla("train", "--captions", "captions.jsonl", "--epochs", 1, cwd=folder),
        "index": vla("index", "--run", "none", cwd=folder),
        "search": vla("search", "a green boat", "--json", cwd=folder),
        "export": vla("export", "out", "--json", cwd=folder),
    }  # fmt: skip
    return folder, runs, vectors


def test_the_whole_job_needs_no_encoder(released):
    _, runs, vectors = released
    assert runs["import"].returncode == 3  # one file is bad
    assert (
        "bad" in runs["import"].stdout
        and "Imported 12 videos (96 frames, 0 replaced). 12 of 13 videos ok"
        in runs["import"].stdout
    )
    assert "Imported 12 texts." in runs["import"].stdout
    assert runs["train"].returncode == 0 and "frozen" in runs["train"].stdout
    assert runs["index"].returncode == 0 and "segments of 12 videos" in runs["index"].stdout
    hits = json.loads(runs["search"].stdout)
    assert hits[0]["video"] == f"v{THINGS.index('a green boat')}" and hits[0]["score"] > 0.8
    assert not any(h["missing"] or h["path"] for h in hits)


def test_what_an_encoder_is_needed_for_is_one_clear_line(released):
    folder, _, _ = released
    done = vla("search", "a purple cow", cwd=folder)
    assert done.returncode == 4 and done.stdout == ""
    assert "'a purple cow' has no vector here" in done.stderr and "--encoder-model" in done.stderr
    (folder / "more.csv").write_text("video,caption\nv1.mp4,a purple cow\nv2,a red dog\n")
    trained = vla("train", "--captions", "more.csv", "--name", "more", cwd=folder)
    assert trained.returncode == 4 and "has no vector here" in trained.stderr
    extracted = vla("extract", "captions.jsonl", cwd=folder)
    assert (
        extracted.returncode == 4
        and "were imported" in extracted.stderr
        and "--change-encoder" in extracted.stderr
    )


def test_doing_it_again_does_nothing_new(released):
    folder, _, _ = released
    before = acknowledged(folder)
    dry = vla(
        "import-features", "features", "--clip-length", 2, "--overwrite", "--dry-run", cwd=folder
    )
    assert dry.returncode == 3 and "Would import 12 videos (" in dry.stdout
    again = vla("import-features", "features", "--clip-length", 2, cwd=folder)
    assert again.returncode == 3 and "Nothing new to import. 12 of 13 videos ok" in again.stdout
    assert acknowledged(folder) == before
    other = vla("import-features", "features", "--fps", 1, cwd=folder)
    assert (
        other.returncode == 4 and "sampling: 'fps=0.5' in this workspace, 'fps=1'" in other.stderr
    )


def test_what_went_out_is_what_came_in(released, tmp_path):
    folder, runs, vectors = released
    report = json.loads(runs["export"].stdout)
    assert runs["export"].returncode == 0 and len(report["videos"]) == 12 and report["texts"] == 12
    for number in range(12):
        with np.load(folder / "features" / f"v{number}.npz") as came:
            np.testing.assert_array_equal(
                np.load(folder / "out" / f"v{number}.npy"), came["features"].astype(np.float16)
            )
    back = vla(
        "import-features",
        folder / "out",
        "-m",
        "clip",
        "--texts",
        folder / "out" / "texts.npz",
        "--json",
        cwd=tmp_path,
    )
    assert back.returncode == 0 and json.loads(back.stdout)["imported"] == 12
    ours, theirs = (active_cache(Workspace(f).caches) for f in (folder, tmp_path))
    for video in ours.video_ids():
        a, b = ours.frames(video), theirs.frames(video)
        assert a.values.tobytes() == b.values.tobytes() and a.duration_seconds == b.duration_seconds
        assert (
            a.timestamps_seconds.tolist()
            == b.timestamps_seconds.tolist()
            == [2.0 * i for i in range(8)]
        )
    assert (
        vla("train", "-c", folder / "out" / "texts.jsonl", "--epochs", 1, cwd=tmp_path).returncode
        == 0
    )
    assert vla("index", cwd=tmp_path).returncode == 0
    found = json.loads(vla("search", "a blue bell", "-k", 1, "--json", cwd=tmp_path).stdout)
    assert found[0]["video"] == "v11"


def test_info_and_ls_know_what_was_imported(released):
    folder, _, _ = released
    said = vla("info", cwd=folder).stdout
    assert "clip (imported; encoder of new texts: none), 16 dimensions, fps=0.5" in said
    listed = vla("ls", cwd=folder).stdout
    assert "missing" not in listed and "npz" in listed and "failed" in listed
    assert vla("verify", "--read-data", cwd=folder).stdout.strip() == "No damage found."


def test_shards_for_training_elsewhere(released, tmp_path):
    folder, _, _ = released
    done = vla(
        "export",
        tmp_path / "tar",
        "v1*",
        "-f",
        "webdataset",
        "--per-shard",
        2,
        "--run",
        "none",
        cwd=folder,
    )
    assert (
        done.returncode == 0
        and "Exported 3 videos (24 frames) and 3 texts to 4 files." in done.stdout
    )
    with tarfile.open(tmp_path / "tar" / "00000.tar") as archive:
        assert archive.getnames() == [
            "v1.npy",
            "v1.json",
            "v1.txt",
            "v10.npy",
            "v10.json",
            "v10.txt",
        ]
        assert archive.extractfile("v10.txt").read().decode() == THINGS[10] + "\n"
    again = vla("export", tmp_path / "tar", "-f", "webdataset", cwd=folder)
    assert again.returncode == 2 and "--overwrite" in again.stderr


MISTAKES = [
    (("import-features", "f"), 2, "--model NAME"),
    (("import-features",), 2, "nothing to import"),
    (
        ("import-features", "f", "-m", "x", "--fps", 1, "--clip-length", 2),
        2,
        "one of `--fps`, `--stride` with `--video-fps`, and `--clip-length`",
    ),
    (("import-features", "f", "-m", "x", "--fps", 1, "--texts", "t.txt"), 2, "not from '.txt'"),
    (("export", "out"), 4, "no workspace"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES, ids=lambda v: " ".join(map(str, v))[:40] if isinstance(v, tuple) else None)  # fmt: skip
def test_mistakes_get_one_clear_line_and_their_exit_code(tmp_path, arguments, code, message):
    (tmp_path / "f").mkdir()
    (tmp_path / "t.txt").touch()
    np.save(tmp_path / "f" / "v.npy", np.ones((2, 3), np.float32))
    done = vla(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and done.stdout == ""
    assert not (tmp_path / ".vla").exists()


def test_hostile_names_do_not_reach_the_terminal(tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for name in ("\x1b]0;owned\x07", "a\nb", "[red]x[bold]"):
            file[name] = np.ones((2, 3), np.float32)
        file["\u202egnp"] = np.ones(3)
    done = vla("import-features", "all.h5", "-m", "x", "--fps", 1, cwd=tmp_path)
    exported = vla("export", "out", cwd=tmp_path)
    listed = vla("ls", cwd=tmp_path)
    assert (done.returncode, exported.returncode) == (
        0,
        0,
    ) and "1 array that is not a video's features" in done.stdout
    printed = done.stdout + done.stderr + listed.stdout + listed.stderr
    assert not any(ord(c) < 32 and c != "\n" for c in printed) and "\u202e" not in printed
    assert len(list((tmp_path / "out").glob("*.npy"))) == 3
