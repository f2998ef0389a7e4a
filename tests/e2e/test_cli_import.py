"""`vla import` as a person runs it, and what the other commands make of its file."""

import json

import pytest

from e2e.command import vla
from e2e.test_cli import TOY
from vla.datasets import registry

LINES = "a 0.0 1.5##a thing moves.\nb 0.5 2##another thing.\nc 0 1##not here.\n"


@pytest.fixture
def folder(tmp_path, clip):
    for name in ("a.mp4", "b.mp4"):
        clip(f"clips/{name}", frames=10 if name == "a.mp4" else 12, fps=5)
    (tmp_path / "charades_sta_train.txt").write_text(LINES)
    return tmp_path


def test_import_then_extract(folder):
    done = vla("import", "charades_sta", "charades_sta_train.txt", "--videos", "clips", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (
        "Wrote 3 annotations of 3 videos to charades_sta.jsonl." in done.stdout
        and "split train" in done.stdout
    )
    assert "3 spans in 3 annotations (0 with several), 1 to 1.5 s" in done.stdout
    assert "2 of 3 videos are in clips" in done.stdout and "1 missing: c" in done.stdout
    extracted = vla("extract", "clips", "-c", "charades_sta.jsonl", *TOY, cwd=folder)
    assert extracted.returncode == 0 and "2 captions in the workspace" in extracted.stdout
    # The same without the detour: another source, so its captions come to the others.
    direct = vla(
        "extract", "clips", "-c", "charades_sta_train.txt", "--format", "charades_sta", cwd=folder
    )
    assert direct.returncode == 0 and "4 captions in the workspace" in direct.stdout
    assert json.loads(vla("info", "--json", cwd=folder).stdout)["captions"] == {
        "total": 4,
        "timed": 4,
        "videos": 2,
        "damaged": 0,
    }
    inside = json.loads(
        vla(
            "import",
            "charades_sta",
            "charades_sta_train.txt",
            "-o",
            "o.jsonl",
            "--json",
            cwd=folder,
        ).stdout
    )
    assert inside["coverage"] == {
        "where": str(folder),
        "there": 2,
        "missing": ["c"],
        "ambiguous": [],
    }


def test_two_videos_with_questions_are_too_few_to_train_on(folder):
    (folder / "val.csv").write_text(
        "video,question,answer,qid,type\na,what moves,thing,0,DO\nb,what else,thing,0,DO\n"
    )
    assert vla("import", "nextqa", "val.csv", "-q", cwd=folder).stdout == ""
    assert vla("extract", "clips", "-c", "nextqa.jsonl", *TOY, cwd=folder).returncode == 0
    refused = vla("train", cwd=folder)
    assert refused.returncode == 4 and "captions of at least 3 videos are needed" in refused.stderr


def test_the_list_of_formats(tmp_path):
    assert "MSRVTT_data.json" in vla("import", "--list", cwd=tmp_path).stdout
    assert set(json.loads(vla("import", "--list", "--json", cwd=tmp_path).stdout)) == set(
        registry.names()
    )


def test_exit_codes_and_what_is_said(tmp_path):
    row = {"vid_name": "f", "ts": [1, 2], "desc": "a", "desc_id": 1}
    (tmp_path / "val.jsonl").write_text(f"{json.dumps({**row, 'ts': 1})}\n{{\n{json.dumps(row)}\n")
    faults = "val.jsonl has 2 faults; correct the file and try again:\n  line 1: 'ts' must be [start, end]"
    sound = ("tvr", "val.jsonl", "--skip-invalid")
    for arguments, code, message in (
        (("tvr",), 2, "--list"),
        (("tvrr", "val.jsonl"), 2, "Did you mean 'tvr'"),
        (("tvr", "val.jsonl"), 2, faults),
        ((*sound, "-w", "."), 4, "no workspace"),
        ((*sound, "-o", "/proc/no/where.jsonl"), 5, "cannot write"),
        (sound, 0, "left out what is faulty: val.jsonl has 2 faults"),
        (sound, 2, "tvr.jsonl is there already"),
        ((*sound, "--overwrite", "-q"), 0, ""),
    ):
        written = sorted(tmp_path.iterdir())
        done = vla("import", *arguments, cwd=tmp_path)
        assert code == 0 or sorted(tmp_path.iterdir()) == written
        assert done.returncode == code and message in done.stderr, (arguments, done)
