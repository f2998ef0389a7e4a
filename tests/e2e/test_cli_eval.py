"""`vla eval` and `vla report` as a person runs them, on released features and without any encoder."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from e2e.command import vla

THINGS = [
    f"a {colour} {thing}"
    for colour in ("red", "green", "blue")
    for thing in ("door", "dog", "boat", "bell")
]
SPLITS = ["train"] * 7 + ["val"] * 2 + ["test"] * 3
DIM = 16
FIGURE = {"task", "measure", "value", "low", "high", "queries", "videos", "frozen", "floors", "no_floor", "blind", "tricks", "gain",
          "lower_is_better"}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Twelve videos with a caption and a moment each, a run, and an evaluation of it on the test split."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    texts = [*THINGS, *(f"{t} moves" for t in THINGS)]
    vectors = rng.standard_normal((len(texts), DIM)).astype(np.float32)
    (folder / "features").mkdir()
    for number in range(12):
        frames = vectors[number] + 0.3 * rng.standard_normal((8, DIM)).astype(np.float32)
        frames[2:5] += 2 * vectors[12 + number]
        np.savez(folder / "features" / f"v{number}.npz", features=frames)
    np.savez(folder / "texts.npz", text_features=vectors, captions=np.array(texts))
    lines = ["video,caption,start,end,split"]
    lines += [f"v{i},{t},,,{s}" for i, (t, s) in enumerate(zip(THINGS, SPLITS, strict=True))]
    lines += [
        f"v{i},{t} moves,4,10,{s}" for i, (t, s) in enumerate(zip(THINGS, SPLITS, strict=True))
    ]
    (folder / "captions.csv").write_text("\n".join([*lines, "gone,a red dog,,,test"]) + "\n")
    runs = {
        "import": vla(
            "import-features",
            "features",
            "-m",
            "clip",
            "--clip-length",
            2,
            "--texts",
            "texts.npz",
            cwd=folder,
        ),
        "train": vla(
            "train", "--captions", "captions.csv", "--epochs", 2, "--name", "mine", cwd=folder
        ),
        "eval": vla("eval", "-c", "captions.csv", "--split", "test", "--run", "mine", cwd=folder),
        "json": vla(
            "eval", "-c", "captions.csv", "--split", "test", "--run", "mine", "--json", cwd=folder
        ),
        "report": vla("report", "mine", "-o", "mine.html", cwd=folder),
    }
    return folder, runs


def test_the_commands_work_in_sequence(world):
    _, runs = world
    assert {name: run.returncode for name, run in runs.items()} == dict.fromkeys(runs, 0), runs


def test_the_table_has_everything_that_belongs_beside_a_figure(world):
    _, runs = world
    shown = runs["eval"].stdout
    for word in ("run mine", "95 %", "frozen", "floor", "+DSL", "+QB-Norm", "text to video", "video to text", "moment to video",
                 "moment in its video", "moment in the corpus", "moment in the corpus by search", "excluding the queries evaluated here", "SumR", "mIoU", "33.3 chance", "constant window",
                 "what the run was trained on", "no search can", "6 captions and 0 questions of 3 videos, split test"):  # fmt: skip
        assert word in shown, word
    assert "1 annotated videos have no features" in runs["eval"].stderr


def test_the_json_is_stable_and_what_is_kept(world):
    folder, runs = world
    record = json.loads(runs["json"].stdout)
    assert set(record) == {"schema", "run", "digest", "fingerprint", "captions", "split", "counts", "floors_from", "figures",
                           "notes", "seed", "compared", "omissions"}  # fmt: skip
    assert record["schema"] == 1 and record["run"] == "mine" and record["split"] == "test"
    assert record["counts"] == {
        "videos": 3,
        "captions": 6,
        "questions": 0,
        "left out": 1,
        "trained on": 0,
    }
    assert all(set(f) == FIGURE for f in record["figures"])
    for f in record["figures"]:
        assert f["floors"] or f["no_floor"], f
        assert f["low"] - 0.006 <= f["value"] <= f["high"] + 0.006 and f["frozen"] is not None
    (kept,) = (folder / ".vla" / "runs" / "mine").glob("eval-*.json")
    stored = json.loads(kept.read_text())
    del stored["checksum"]
    assert stored == record
    assert (
        vla("verify", "--read-data", cwd=folder).stdout.strip() == "No damage found."
        and "run mine" in vla("info", cwd=folder).stdout
    )


def test_training_never_sees_what_was_measured_with(world):
    folder, _ = world
    before = (folder / ".vla" / "captions.jsonl").read_bytes()
    (folder / "new.csv").write_text("video,caption\nv1,a blue bell\nv2,a red dog\n")
    done = vla(
        "eval",
        "-c",
        "new.csv",
        "--run",
        "none",
        "-t",
        "retrieval",
        "--no-search",
        "--json",
        cwd=folder,
    )
    assert done.returncode == 0 and {f["task"] for f in json.loads(done.stdout)["figures"]} == {
        "text to video",
        "video to text",
    }
    assert (folder / ".vla" / "captions.jsonl").read_bytes() == before


def test_the_page_is_one_well_formed_file(world):
    folder, runs = world
    page = (folder / "mine.html").read_text("utf-8")
    opened = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "br"):
                opened.append(tag)
            assert tag not in ("script", "link", "img")

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    reader = Reader()
    reader.feed(page)
    reader.close()
    assert opened == [] and "Wrote mine.html" in runs["report"].stdout
    assert (
        "captions.csv, split test" in page
        and "loss: global" in page
        and "moment in the corpus" in page
    )


MISTAKES = [
    (("eval", "-c", "nowhere.csv"), 2, "nowhere.csv"),
    (
        ("eval", "--split", "dev"),
        4,
        "no annotations of the split 'dev' for videos with features; splits: train (14)",
    ),
    (("eval", "--run", "nope"), 4, "there is no trained run 'nope'"),
    (("eval", "--tasks", "retrieval,nope"), 2, "unknown group nope"),
    (("eval", "-t", "questions"), 4, "questions need a run"),
    (("eval", "-c", "unknown.csv", "--run", "none"), 4, "has no vector here"),
    (("report", "nope"), 4, "there is no trained run 'nope'"),
    (("report", "mine", "-o", "captions.csv/x.html"), 5, "captions.csv"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), MISTAKES, ids=lambda v: " ".join(map(str, v))[:40] if isinstance(v, tuple) else None)  # fmt: skip
def test_mistakes_get_one_clear_line_and_their_exit_code(world, arguments, code, message):
    folder, _ = world
    (folder / "unknown.csv").write_text("video,caption\nv1,a purple cow\n")
    done = vla(*arguments, cwd=folder)
    assert done.returncode == code, done.stderr
    assert message in done.stderr and done.stdout == ""


def test_hostile_names_reach_neither_the_terminal_nor_the_page(tmp_path):
    names = ["\x1b]0;owned\x07", "<script>x", "\u202egnp", "plain"]
    rng = np.random.default_rng(1)
    texts = [f"thing {i}" for i in range(4)]
    np.savez(
        tmp_path / "t.npz",
        text_features=rng.standard_normal((4, 4)).astype(np.float32),
        captions=np.array(texts),
    )
    (tmp_path / "f").mkdir()
    for name in names:
        np.save(tmp_path / "f" / f"{name}.npy", rng.standard_normal((6, 4)).astype(np.float32))
    kind = "<b>\x1b[31m\u202ekind"
    lines = [json.dumps({"query_id": str(i), "query": t, "video": n, "spans": [[0, 2]], "split": kind, "category": kind}) for i, (n, t) in enumerate(zip(names, texts, strict=True))]  # fmt: skip
    captions = tmp_path / "<i>\x1b\u202e.jsonl"
    captions.write_text("\n".join(lines) + "\n")
    imported = vla(
        "import-features", "f", "-m", "<u>model", "--fps", 1, "--texts", "t.npz", cwd=tmp_path
    )
    trained = vla("train", "-c", captions, "--epochs", 1, cwd=tmp_path)
    measured = vla("eval", "-c", captions, "--run", "default", "--split", kind, cwd=tmp_path)
    page = vla("report", "-o", "r.html", cwd=tmp_path)
    done = (imported, trained, measured, page)
    assert [d.returncode for d in done] == [0, 0, 0, 0], [d.stderr for d in done]
    printed = measured.stdout + measured.stderr + page.stdout
    assert not any(ord(c) < 32 and c != "\n" for c in printed) and "\u202e" not in printed
    written = (tmp_path / "r.html").read_text("utf-8")
    assert not any(ord(c) < 32 and c != "\n" for c in written) and "\u202e" not in written
    assert not any(tag in written for tag in ("<script", "<i>", "<u>", "<b>\\u"))
    assert "&lt;i&gt;\\u001b\\u202e.jsonl" in written
