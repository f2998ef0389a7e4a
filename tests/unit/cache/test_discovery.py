"""Which files are meant, and that everything passed over is counted."""

import errno
import os
import shutil
import socket
import subprocess
import sys

import pytest

import vla
from vla.cache.discovery import discover_videos, find_videos
from vla.errors import ResourceError, UsageError

TOY = vla.EncoderChoice(encoder="toy", sampling="fps=5")


@pytest.fixture
def tree(tmp_path):
    for name in ("a.mp4", "a.txt", "a.en.srt", "b.MKV", "c.jpg", "d.JPG", "Makefile", ".e.mp4", "._a.mp4", ".f.txt",
                 ".git/x.mp4", ".vla/x.mp4", "sub/g.mov", "sub/h.png"):  # fmt: skip
        path = tmp_path / "v" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "v"


def test_other_files_are_counted_by_suffix(tree):
    files = discover_videos([tree])
    files.count_others()
    assert files.omissions.counts == {"hidden": 3, "other-suffix": 6}
    assert set(files.omissions.examples["hidden"]) == {".e.mp4", "._a.mp4", ".git"}
    assert files.omissions.examples["other-suffix"][0] == ".jpg"
    assert set(files.omissions.examples["other-suffix"]) == {
        ".jpg",
        ".txt",
        ".srt",
        "no suffix",
        ".png",
    }


def test_captions_files_are_not_omissions(tree):
    files = discover_videos([tree])
    files.count_others({tree / "a.txt", tree / "a.en.srt"})
    assert files.omissions.counts["other-suffix"] == 4


def test_typescript_files_are_not_videos(tmp_path):
    for name in ("index.ts", "types.d.ts", "module.mts"):
        (tmp_path / name).write_text("export const a = 1;\n" * 50)
    (tmp_path / "real.ts").write_bytes((b"\x47" + bytes(187)) * 20)
    files = discover_videos([tmp_path])
    files.count_others()
    assert [p.name for p in files.paths] == ["real.ts"] and files.omissions.counts == {
        "other-suffix": 3
    }


@pytest.mark.skipif(sys.platform == "win32", reason="named: links need a privilege on Windows")
def test_links(tree):
    (tree / "round").symlink_to(tree)
    (tree / "sub" / "up").symlink_to("..")
    (tree / "outside").symlink_to(tree.parent, target_is_directory=True)
    (tree / "gone.mp4").symlink_to("nowhere.mp4")
    (tree / "self.mkv").symlink_to("self.mkv")
    (tree / "through.avi").symlink_to("a.mp4/x.avi")
    (tree / "good.webm").symlink_to("a.mp4")
    files = discover_videos([tree])
    assert (
        files.omissions.counts["linked-folder"] == 3 and files.omissions.counts["broken-link"] == 3
    )
    assert os.path.join("sub", "up") in files.omissions.examples["linked-folder"]
    assert [p.name for p in files.paths] == ["a.mp4", "b.MKV", "good.webm", "g.mov"]
    with pytest.raises(
        UsageError, match=r"gone.mp4 \(a link to nowhere.mp4, which does not exist\), .*self.mkv"
    ):
        find_videos([tree / "gone.mp4", tree / "a.mp4", tree / "self.mkv"])
    assert find_videos([f"{tree}/go*"]) == [tree / "good.webm"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named: no pipes here")
def test_pipes_sockets_and_devices(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.mp4")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as ear:
        ear.bind("socket.mp4")
    (tmp_path / "null.mp4").symlink_to(os.devnull)
    files = discover_videos([tmp_path])
    assert files.paths == [] and files.omissions.counts == {"special-file": 3}
    for name in ("pipe.mp4", "socket.mp4", "null.mp4"):
        with pytest.raises(UsageError, match="a pipe, socket or device, not a regular file"):
            find_videos([name])


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_folder_that_cannot_be_read(tree, monkeypatch, number):
    """What `chmod` does to anyone but root: a folder within is counted, a named one is an error."""
    real = os.scandir

    def scandir(path="."):
        if os.fspath(path).endswith("sub"):
            raise OSError(number, os.strerror(number), os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    files = discover_videos([tree])
    assert [p.name for p in files.paths] == ["a.mp4", "b.MKV"]
    assert files.omissions.counts["unreadable-folder"] == 1 and files.omissions.examples[
        "unreadable-folder"
    ] == ["sub"]
    assert discover_videos([f"{tree}/s*"]).omissions.counts == {"unreadable-folder": 1}
    with pytest.raises(
        ResourceError, match=f"the folder .*sub cannot be read: {os.strerror(number)}"
    ):
        find_videos([tree / "sub"])


def test_unreadable_path(tree, monkeypatch):
    real = os.lstat

    def lstat(path, *given, **named):
        if "sub" in os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path, *given, **named)

    monkeypatch.setattr(os, "lstat", lstat)
    monkeypatch.setattr(type(tree), "lstat", lambda self: lstat(self))
    with pytest.raises(ResourceError, match="cannot be read: Permission denied"):
        find_videos([tree / "sub" / "g.mov"])


@pytest.mark.parametrize("given", ["", "nosuch", "nosuch/*.mp4", "x" * 300, "a\0b"])
def test_missing_path_writes_nothing(tmp_path, given):
    with pytest.raises(UsageError, match="no such file, folder or pattern"):
        vla.extract([given], workspace=tmp_path, choice=TOY)
    assert list(tmp_path.iterdir()) == []


def test_missing_captions_write_nothing(tmp_path, clip):
    clip("a.mp4", frames=5)
    with pytest.raises(Exception, match="c.csv"):
        vla.extract([tmp_path], captions=tmp_path / "c.csv", workspace=tmp_path, choice=TOY)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_empty_folder_writes_nothing(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.jpg").touch()
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, choice=TOY)
    assert report.receipts == [] and report.omissions.counts == {"other-suffix": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["v"]


def test_a_video_that_was_deleted_is_counted(tmp_path, clip):
    for name in ("v/a.mp4", "v/b.mp4", "w/c.mp4"):
        clip(name, frames=5 + ord(name[2]) - ord("a"), fps=5)
    vla.extract(
        [tmp_path / "v", tmp_path / "w"], workspace=tmp_path, choice=TOY, workers=1, decoder="pyav"
    )
    (tmp_path / "v" / "a.mp4").unlink()
    (tmp_path / "w" / "c.mp4").unlink()
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, workers=1)
    assert report.omissions.counts == {"missing-file": 1} and report.omissions.examples[
        "missing-file"
    ] == ["v/a.mp4"]
    assert vla.estimate([tmp_path], workspace=tmp_path).omissions.counts["missing-file"] == 2
    assert vla.index(workspace=tmp_path).omissions.to_json() == [
        {"reason": "missing-file", "count": 2, "examples": ["v/a.mp4", "w/c.mp4"]}
    ]
    (tmp_path / "v" / "b.mp4").rename(tmp_path / "v" / "new.mp4")
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, workers=1)
    assert report.omissions.examples["missing-file"] == ["v/a.mp4"] and report.renamed == {
        "v/b.mp4": "v/new.mp4"
    }


@pytest.mark.skipif(
    not shutil.which("setpriv") or not hasattr(os, "geteuid") or os.geteuid() != 0,
    reason="named: root reads everything, unless setpriv takes that away",
)
def test_unreadable_folders_without_root_capabilities(tmp_path, clip):
    """The same with permissions of the system, for root without the capabilities that override them."""
    clip("v/a.mp4", frames=5, fps=5)
    clip("v/shut/b.mp4", frames=6, fps=5)
    clip("v/c.mp4", frames=7, fps=5).chmod(0)
    (tmp_path / "v" / "shut").chmod(0)
    script = (
        "import json, sys, vla\n"
        "report = vla.extract([sys.argv[1]], workspace=sys.argv[2], choice=vla.EncoderChoice(encoder='toy'), workers=1)\n"
        "print(json.dumps([report.omissions.counts, {r.video_id: [r.status, r.cause] for r in report.receipts}]))\n"
    )
    script = script.replace(
        "workspace=sys.argv[2]", "workspace=__import__('pathlib').Path(sys.argv[2])"
    )
    less = "-dac_override,-dac_read_search"
    command = [
        "setpriv",
        f"--bounding-set={less}",
        f"--inh-caps={less}",
        sys.executable,
        "-c",
        script,
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    run = subprocess.run(
        [*command, str(tmp_path / "v"), str(tmp_path)], capture_output=True, text=True, env=env
    )
    assert '{"unreadable-folder": 1}' in run.stdout, run.stderr
    assert (
        '"v/c.mp4": ["failed", "machine"]' in run.stdout and '"v/a.mp4": ["ok", ""]' in run.stdout
    )
    run = subprocess.run(
        [*command, str(tmp_path / "v" / "shut"), str(tmp_path)],
        capture_output=True,
        text=True,
        env=env,
    )
    assert "ResourceError" in run.stderr and "cannot be read: Permission denied" in run.stderr
    (tmp_path / "v" / "shut").chmod(0o755)
    (tmp_path / "v" / "c.mp4").chmod(0o644)
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, workers=1)
    assert (
        {r.status for r in report.receipts} == {"ok"}
        and report.extracted == 2
        and not report.omissions
    )
