"""`vla extract` as a person runs it: what it says of files that are passed over, and how it ends."""

import json
import os

import pytest

from e2e.command import vla
from e2e.test_cli import TOY


@pytest.fixture
def folder(tmp_path, clip):
    """A video, a song, links, a text, program code, and a caption file."""
    import av
    import numpy as np

    clip("v/a.mp4", frames=10, fps=5)
    with av.open(str(tmp_path / "v" / "song.mp4"), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 2048), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 8000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    (tmp_path / "v" / "gone.mp4").symlink_to("nowhere")
    (tmp_path / "v" / "up").symlink_to("..")
    (tmp_path / "v" / "b.jpg").touch()
    (tmp_path / "v" / "code.ts").write_text("let a = 1\n" * 99)
    (tmp_path / "v" / "a.txt").write_text("a thing")
    return tmp_path


LEFT_OUT = {"other-suffix": 2, "linked-folder": 1, "broken-link": 1, "no-video": 1}


def test_what_is_passed_over_is_said_and_is_no_failure(folder):
    dry = vla("extract", "v", *TOY, "-n", cwd=folder)
    assert dry.returncode == 0 and "left out: " in dry.stdout and "1 video to extract" in dry.stdout
    counted = json.loads(vla("extract", "v", *TOY, "-n", "--json", cwd=folder).stdout)["omissions"]
    assert {o["reason"]: o["count"] for o in counted} == LEFT_OUT and not (folder / ".vla").exists()
    for _ in range(2):
        done = vla("extract", "v", *TOY, cwd=folder)
        assert (
            done.returncode == 0
            and "1 video" in done.stdout
            and ("1 of 1 video ok" in done.stdout or "Extracted 1 video (" in done.stdout)
        )
        line = next(line for line in done.stdout.splitlines() if line.startswith("left out: "))
        for words in ("2 files with other suffixes (", ".jpg", ".ts", "1 link to a folder not followed (up)",
                      "1 broken link (gone.mp4)", "1 file without video (v/song.mp4)"):  # fmt: skip
            assert words in line
    found = json.loads(vla("extract", "v", "--json", cwd=folder).stdout)
    assert {o["reason"]: o["count"] for o in found["omissions"]} == LEFT_OUT
    assert {v["video_id"]: v["cause"] for v in found["videos"]} == {
        "v/a.mp4": "",
        "v/song.mp4": "user",
    }


def test_a_broken_video_is_a_failure_each_time(folder):
    (folder / "v" / "text.mp4").write_text("no video" * 9)
    for _ in range(2):
        done = vla("extract", "v", *TOY, cwd=folder)
        assert (
            done.returncode == 3
            and "1 video with problems" in done.stdout
            and "text.mp4" in done.stdout
        )


@pytest.mark.parametrize("given", ["nosuch", "v/gone.mp4", "*.xyz", ""])
def test_a_path_that_leads_nowhere_leaves_nothing_behind(folder, given):
    done = vla("extract", given, *TOY, cwd=folder)
    assert done.returncode == 2 and "no such file, folder or pattern" in done.stderr
    assert not (folder / ".vla").exists()


def test_nothing_at_all(folder):
    (folder / "empty").mkdir()
    done = vla("extract", "empty", *TOY, cwd=folder)
    assert (done.returncode, done.stdout.strip()) == (0, "No videos.") and not (
        folder / ".vla"
    ).exists()


def test_several_captions_files(folder):
    os.mkdir(folder / "c")
    (folder / "one.csv").write_text("video,caption\nv/a.mp4,a red door\n")
    (folder / "c" / "two.csv").write_text(
        "video,caption\n../v/a.mp4,a green door\nv/x.mp4,nobody\n"
    )
    done = vla(
        "extract", "v", "-c", "one.csv", "-c", "c/two.csv", "--no-sidecars", *TOY, cwd=folder
    )
    assert (
        done.returncode == 0
        and "2 captions in the workspace" in done.stdout
        and "1 name in the captions without a video" in done.stdout
    )
    for command in ("train", "eval"):
        refused = vla(command, "-c", "one.csv", "-c", "c/two.csv", cwd=folder)
        assert refused.returncode == 2 and "only one caption file" in refused.stderr


def test_nothing_found_is_said(folder):
    assert (
        vla("extract", "v", *TOY, cwd=folder).returncode == 0
        and vla("index", cwd=folder).returncode == 0
    )
    for shape in ((), ("--json",), ("--paths",)):
        none = vla("search", "x", "--include", "elsewhere/*", *shape, cwd=folder)
        assert none.returncode == 1 and "No hits." in none.stderr
    assert "No hits." not in vla("search", "x", "--include", "elsewhere/*", "-q", cwd=folder).stderr
