"""`vla captions` as a person uses it, and a workspace whose name is mistyped."""

import json
import shutil

import pytest

from e2e.command import vla

TOY = ("--encoder", "toy", "--decoder", "pyav")


@pytest.fixture
def folder(tmp_path, clip):
    for number, name in enumerate(("v/a.mp4", "v/b.mp4")):
        clip(name, frames=8 + number)
    (tmp_path / "c.csv").write_text(
        "video,caption,split\nv/a.mp4,a dog,train\nb,a cat,\n2023/b.mp4,a cow,\n"
    )
    return tmp_path


def test_captions_are_listed_and_forgotten(folder):
    done = vla("extract", "v", "-c", "c.csv", *TOY, cwd=folder)
    assert (
        done.returncode == 0
        and "left out: 1 name in the captions without a video (2023/b.mp4)" in done.stdout
    )
    shutil.move(folder / "c.csv", folder / "d.csv")
    again = json.loads(vla("extract", "v", "-c", "./d.csv", "--json", cwd=folder).stdout)
    assert again["captions"] == 2 and again["omissions"] == [
        {"reason": "no-such-video", "count": 1, "examples": ["2023/b.mp4"]}
    ]
    (source,) = json.loads(vla("captions", "--json", cwd=folder).stdout)
    assert source == {
        "source": "d.csv", "videos": 2, "captions": 2, "questions": 0, "splits": {"train": 1, "": 1}, "stale": 0,
        "is_beside": False, "is_missing": False,
    }  # fmt: skip
    assert "d.csv" in vla("captions", cwd=folder).stdout
    told = vla("captions", "--video", "a", cwd=folder / "v")
    assert "whole video" in told.stdout and "a dog" in told.stdout and "a cat" not in told.stdout
    assert vla("captions", "--video", "z", cwd=folder).returncode == 4
    assert vla("captions", "--remove", "z.csv", cwd=folder).returncode == 4
    assert (
        "Removed 2 captions of d.csv."
        in vla("captions", "--remove", "../d.csv", cwd=folder / "v").stdout
    )
    assert vla("captions", cwd=folder).returncode == 1 and (folder / "d.csv").is_file()


def test_a_mistyped_workspace_forgets_nothing(folder):
    assert vla("extract", "v", *TOY, cwd=folder).returncode == 0
    for name in ("typo", "v"):
        done = vla("rm", "*", "--yes", "-w", name, cwd=folder)
        assert done.returncode == 4 and f"there is one in {folder}" in done.stderr
        assert vla("rm", "*", "--yes", cwd=folder, env={"VLA_WORKSPACE": name}).returncode == 4
    empty = vla("rm", "*", "--yes", "-w", "", cwd=folder)
    assert empty.returncode == 2 and "empty" in empty.stderr
    assert len(json.loads(vla("ls", "--json", "-w", ".vla", cwd=folder).stdout)) == 2
    assert not (folder / "typo").exists()
