"""The folder a user works in: found upwards, made once, names that do not depend on where one stands."""

import errno
import json
import os
from pathlib import Path

import pytest

from support.refusals import refused
from vla.errors import CacheError, MissingError, ResourceError, UsageError
from vla.storage.workspace import FOLDER, SCHEMA, VARIABLE, Workspace


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No workspace from outside."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def test_workspace_is_created_once_and_found_from_subfolders(tmp_path, monkeypatch):
    made = Workspace.open_or_create(tmp_path)
    assert (
        made.root == tmp_path
        and json.loads((tmp_path / FOLDER / "workspace.json").read_text())["schema"] == SCHEMA
    )
    stamp = (tmp_path / FOLDER / "workspace.json").stat().st_mtime_ns
    assert Workspace.open_or_create(tmp_path) == made
    assert (tmp_path / FOLDER / "workspace.json").stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / FOLDER).iterdir()] == ["workspace.json"]
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Workspace.find() == Workspace.open() == made


def test_nearest_workspace_wins(tmp_path, monkeypatch):
    inner = Workspace.open_or_create(tmp_path / "a")
    Workspace.open_or_create(tmp_path)
    (tmp_path / "a" / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert Workspace.find() == Workspace.open_or_create() == inner
    assert not (tmp_path / "a" / "b" / FOLDER).exists()


def test_named_workspace_is_created_below_another(tmp_path):
    Workspace.open_or_create(tmp_path)
    assert Workspace.open_or_create(tmp_path / "sub").root == tmp_path / "sub"


def test_environment_variable_names_the_workspace(tmp_path, monkeypatch):
    other = Workspace.open_or_create(tmp_path / "other")
    here = Workspace.open_or_create(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "other"))
    assert Workspace.find() == Workspace.open_or_create() == other
    assert Workspace.find(tmp_path / "here") == here  # what is named wins over the variable
    monkeypatch.setenv(VARIABLE, str(tmp_path / "new"))
    assert Workspace.find() is None  # not searched upwards: it was named
    assert Workspace.open_or_create().root == tmp_path / "new"


def test_folder_without_workspace(tmp_path):
    assert Workspace.find(tmp_path) is None
    (tmp_path / FOLDER).mkdir()  # without a description it is none
    assert Workspace.find(tmp_path) is None
    with refused(MissingError, "make_workspace", r"no workspace \(.vla/\) in .* above it"):
        Workspace.open()
    with refused(MissingError, "make_workspace", r"no workspace \(.vla/\) in "):
        Workspace.open(tmp_path)


def test_a_named_folder_is_never_searched_upwards(tmp_path, monkeypatch):
    """`vla rm '*' --yes -w typo` forgot all videos of the parent."""
    Workspace.open_or_create(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("typo", "sub", "sub/../typo", "sub/deep/deeper"):
        assert Workspace.find(tmp_path / name) is None and Workspace.find(name) is None
        with refused(MissingError, "name_workspace", rf"there is one in {tmp_path}", folder=FOLDER):
            Workspace.open(name)
        monkeypatch.setenv(VARIABLE, name)
        assert Workspace.find() is None
        with pytest.raises(MissingError, match="there is one in"):
            Workspace.open()
        monkeypatch.delenv(VARIABLE)
    assert not (tmp_path / "typo").exists()


def test_spellings_of_a_workspace(tmp_path, monkeypatch):
    made = Workspace.open_or_create(tmp_path / "w")
    (tmp_path / "link").symlink_to(tmp_path / "w")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("w", "./w/", str(tmp_path / "w"), "w/.vla", "w/.vla/", "~/w", "w/x/..", Path("w")):
        assert Workspace.open(name) == Workspace.open_or_create(name) == made, name
        monkeypatch.setenv(VARIABLE, str(name))
        assert Workspace.open() == made, name
        monkeypatch.delenv(VARIABLE)
    assert Workspace.open("link").root == tmp_path / "link"
    assert not (tmp_path / "w" / FOLDER / FOLDER).exists()
    (tmp_path / "file").write_text("x")
    for use in (Workspace.find, Workspace.open, Workspace.open_or_create):
        with pytest.raises(UsageError, match="empty name"):
            use("")
        with pytest.raises(UsageError, match="but .*file is a file"):
            use("file")
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path / "w")
    assert Workspace.open() == made, "an empty variable is none"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"schema": {SCHEMA + 1}}}', "upgrade vla"), ('{"schema": "x"}', "damaged"), ("{}", "damaged"),
        ("", "damaged"), ("[]", "damaged"), ("3", "damaged"),
    ],
)  # fmt: skip
def test_rejects_newer_or_damaged_workspace(tmp_path, text, message):
    Workspace.open_or_create(tmp_path)
    (tmp_path / FOLDER / "workspace.json").write_text(text)
    for use in (Workspace.find, Workspace.open, Workspace.open_or_create):
        with pytest.raises(CacheError, match=message):
            use(tmp_path)


def test_workspace_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="the workspace must be a folder, but .*file is a file"):
        Workspace.open_or_create(tmp_path / "file")
    with pytest.raises(ResourceError, match="cannot write"):
        Workspace.open_or_create(tmp_path / "file" / "below")


def test_the_layout_is_fixed(tmp_path):
    workspace = Workspace(tmp_path)
    names = {
        n: getattr(workspace, n).relative_to(tmp_path).as_posix()
        for n in ("home", "captions", "caches", "runs", "index")
    }
    assert names == {
        "home": ".vla", "captions": ".vla/captions.jsonl", "caches": ".vla/cache", "runs": ".vla/runs", "index": ".vla/index",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "video_id"),
    [
        ("a.mp4", "a.mp4"),
        ("sub/../a.mp4", "a.mp4"),
        ("sub/b.mp4", "sub/b.mp4"),
        ("/elsewhere/c.mp4", "/elsewhere/c.mp4"),
        ("odd\n|name.mp4", "odd\n|name.mp4"),
    ],
)
def test_video_ids_are_relative_to_the_workspace(tmp_path, monkeypatch, path, video_id):
    workspace = Workspace.open_or_create(tmp_path)
    assert workspace.video_id(tmp_path / path) == video_id
    assert workspace.video_id(Path(path)) == video_id
    (tmp_path / "deep").mkdir()
    monkeypatch.chdir(tmp_path / "deep")
    if not path.startswith("/"):
        assert workspace.video_id(Path("..") / path) == video_id
    assert workspace.video_path(video_id) == Path(os.path.normpath(tmp_path / path))


def test_a_link_keeps_its_own_name(tmp_path):
    workspace = Workspace.open_or_create(tmp_path)
    (tmp_path / "real.mp4").write_text("x")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    assert workspace.video_id(tmp_path / "link.mp4") == "link.mp4"


def test_a_sibling_folder_of_similar_name_is_outside(tmp_path):
    workspace = Workspace(tmp_path / "work")
    assert (
        workspace.video_id(tmp_path / "work2" / "a.mp4")
        == (tmp_path / "work2" / "a.mp4").as_posix()
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EIO, errno.ELOOP])
def test_unreadable_workspace_is_a_resource_error(tmp_path, monkeypatch, number):
    real = Path.stat

    def stat(self, **named):
        if self.name == "workspace.json":
            raise OSError(number, os.strerror(number), str(self))
        return real(self, **named)

    monkeypatch.setattr(Path, "stat", stat)
    for look in (Workspace.find, Workspace.open, Workspace.choose, Workspace.open_or_create):
        with pytest.raises(ResourceError, match=r"workspace.json cannot be read: "):
            look(tmp_path)
