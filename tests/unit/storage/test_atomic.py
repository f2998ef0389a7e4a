"""Writing: whole or not at all, whatever the system answers."""

import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.refusals import refused
from vla.errors import CacheError, ResourceError, VlaError
from vla.storage import atomic

OLD, NEW = b"old content", b"new content, " * 1000


class Faults:
    """Stands in for `os` in `durable`: counts operations, and lets the one called `fail` go wrong."""

    def __init__(self, fail, number=0, code=errno.EIO, before=False):
        self.fail, self.number, self.code, self.before, self.seen = fail, number, code, before, []

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in ("open", "write", "fsync", "close"):
            return real

        def operation(*given):
            here = self.seen.count(name) == self.number and name == self.fail
            self.seen.append(name)
            if here and (self.before or name != "close"):
                raise OSError(self.code, os.strerror(self.code))
            result = real(*given)
            if here:  # a close that fails has closed all the same
                raise OSError(self.code, os.strerror(self.code))
            return result

        return operation


@pytest.mark.parametrize("old", [None, OLD])
def test_write_bytes_leaves_only_the_file(tmp_path, old):
    path = tmp_path / "a" / "b" / "file.bin"
    if old is not None:
        path.parent.mkdir(parents=True)
        path.write_bytes(old)
    atomic.write_bytes(path, NEW)
    assert path.read_bytes() == NEW
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("old", [None, OLD])
def test_open_atomic_shows_the_file_when_complete(tmp_path, old):
    path = tmp_path / "a" / "file.bin"
    if old is not None:
        path.parent.mkdir()
        path.write_bytes(old)
    with atomic.open_atomic(path) as file:
        for start in range(0, len(NEW), 100):
            file.write(NEW[start : start + 100])
        assert (path.read_bytes() if path.exists() else None) == old
    assert path.read_bytes() == NEW
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("old", [None, OLD])
@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), ValueError("x"), CacheError("gone"), OSError(errno.ENOSPC, "full")],
)
def test_open_atomic_keeps_the_old_file_on_error(tmp_path, old, error):
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    # Errors of ours and others pass; those of the disk are told as what cannot be written.
    with (
        pytest.raises(ResourceError if type(error) is OSError else type(error)),
        atomic.open_atomic(path) as file,
    ):
        file.write(NEW)
        raise error
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [old] * (old is not None)


@pytest.mark.parametrize("fail", ["open", "fsync"])
def test_open_atomic_reports_disk_errors(tmp_path, monkeypatch, fail):
    monkeypatch.setattr(atomic, "os", Faults(fail))
    with (
        pytest.raises(ResourceError, match="cannot write"),
        atomic.open_atomic(tmp_path / "file.bin") as file,
    ):
        file.write(NEW)
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=3000), st.integers(1, 700))
@settings(deadline=None, max_examples=30)
def test_write_bytes_continues_after_short_writes(tmp_path_factory, content, most):
    """A write may take fewer bytes than it was given."""
    path = tmp_path_factory.mktemp("short") / "file"
    real = os.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic.os, "write", lambda handle, view: real(handle, bytes(view[:most])))
        atomic.write_bytes(path, content)
    assert path.read_bytes() == content


def test_file_is_synced_before_the_rename_and_folder_after(tmp_path, monkeypatch):
    """The order that survives a power cut: content, then name, then folder."""
    seen = []
    real_open, real_fsync, real_replace = os.open, os.fsync, Path.replace
    names = {}

    def opened(path, *rest):
        handle = real_open(path, *rest)
        names[handle] = "folder" if Path(path).is_dir() else "file"
        return handle

    monkeypatch.setattr(atomic.os, "open", opened)
    monkeypatch.setattr(
        atomic.os, "fsync", lambda h: (seen.append(f"sync {names[h]}"), real_fsync(h))[1]
    )
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (seen.append("rename"), real_replace(self, to))[1]
    )
    atomic.write_bytes(tmp_path / "f", NEW)
    assert seen == ["sync file", "rename", "sync folder"]


@pytest.mark.parametrize("old", [None, OLD])
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EINTR, errno.EROFS, errno.EDQUOT]
)
@pytest.mark.parametrize(
    ("operation", "number"),
    [
        ("open", 0),
        ("write", 0),
        ("fsync", 0),
        ("close", 0),
        ("replace", 0),
        ("open", 1),
        ("fsync", 1),
        ("mkdir", 0),
    ],
)
def test_an_error_leaves_the_old_or_the_new(tmp_path, monkeypatch, operation, number, code, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    if operation in ("replace", "mkdir"):
        monkeypatch.setattr(Path, operation, fail)
    else:
        monkeypatch.setattr(atomic, "os", Faults(operation, number, code))
    with pytest.raises(ResourceError) as error:
        atomic.write_bytes(path, NEW)
    monkeypatch.undo()
    renamed = number == 1  # only the folder's sync failed
    assert (path.read_bytes() if path.exists() else None) == (NEW if renamed else old)
    assert [p.name for p in tmp_path.iterdir()] == (["file"] if path.exists() else [])
    message = str(error.value)
    assert str(path) in message
    if code in (errno.ENOSPC, errno.EDQUOT):
        assert (
            "13.0 kB needed" in message
            and " free" in message
            and "Completed work is kept" in message
        )
    else:
        assert os.strerror(code) in message
    assert isinstance(error.value, OSError) and isinstance(error.value, VlaError)
    atomic.write_bytes(path, NEW)  # once the trouble is over, it works
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError, SystemExit])
def test_interruption_leaves_no_temporary_file(tmp_path, monkeypatch, stop):
    path = tmp_path / "file"
    path.write_bytes(OLD)

    def interrupted(*_):
        raise stop

    monkeypatch.setattr(atomic.os, "fsync", interrupted)
    with pytest.raises(stop):
        atomic.write_bytes(path, NEW)
    monkeypatch.undo()
    assert path.read_bytes() == OLD and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_first_error_is_reported(tmp_path, monkeypatch):
    """Even where the temporary file cannot be removed either."""
    monkeypatch.setattr(atomic, "os", Faults("write", code=errno.ENOSPC))
    monkeypatch.setattr(
        Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EIO, "second"))
    )
    with pytest.raises(ResourceError, match=r"13\.0 kB needed"):
        atomic.write_bytes(tmp_path / "f", NEW)


def test_closes_all_handles(tmp_path, monkeypatch):
    before = len(os.listdir("/proc/self/fd"))
    for operation, number in [("write", 0), ("fsync", 0), ("fsync", 1), ("close", 0)]:
        with monkeypatch.context() as patch, pytest.raises(ResourceError):
            patch.setattr(atomic, "os", Faults(operation, number))
            atomic.write_bytes(tmp_path / "f", NEW)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "f").write_bytes(OLD)
    with pytest.raises(ResourceError, match="cannot write"):
        atomic.write_bytes(tmp_path / "f" / "g", NEW)
    (tmp_path / "d").mkdir()
    with pytest.raises(ResourceError, match="cannot write"):
        atomic.write_bytes(tmp_path / "d", NEW)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "f"]


def test_concurrent_writers_leave_one_complete_file(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([i]) * 50_000 for i in range(8)]
    threads = [threading.Thread(target=atomic.write_bytes, args=(path, c)) for c in contents]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert path.read_bytes() in contents and len(list(tmp_path.iterdir())) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "checksum"), JSON, max_size=6))
@settings(deadline=None, max_examples=40)
def test_json_round_trip(tmp_path_factory, record):
    path = tmp_path_factory.mktemp("json") / "r.json"
    atomic.write_json(path, record)
    assert atomic.read_json(path) == record
    path.read_bytes().decode("ascii")


def test_non_utf8_names_round_trip(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    atomic.write_json(tmp_path / "r.json", {"video_id": name})
    assert atomic.read_json(tmp_path / "r.json") == {"video_id": name}


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff\xfe{}", b"\x80"])
def test_rejects_damaged_json(tmp_path, content):
    (tmp_path / "r.json").write_bytes(content)
    with refused(CacheError, "make_again", r"r.json is damaged "):
        atomic.read_json(tmp_path / "r.json")


def test_read_bytes_verifies_the_digest(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of FIPS 180-2
    assert atomic.sha256(b"abc") == digest
    assert atomic.read_bytes(path, digest) == b"abc"
    path.write_bytes(b"abd")
    with pytest.raises(CacheError, match="was altered since it was written"):
        atomic.read_bytes(path, digest)
    path.unlink()
    with pytest.raises(CacheError, match="is gone"):
        atomic.read_bytes(path, digest)
    for read in (atomic.read_json, lambda p: atomic.read_bytes(p, digest)):
        with pytest.raises(CacheError, match="cannot be read: Is a directory"):
            read(tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        "fifo",
        "socket",
        "device",
        "folder",
        "link to a fifo",
        "link to a device",
        "link to a folder",
    ],
)
def test_never_replaces_special_files(tmp_path, kind):
    path, target = tmp_path / "out", tmp_path / "target"
    made = target if kind.startswith("link") else path
    if "fifo" in kind:
        os.mkfifo(made)
    elif "folder" in kind:
        made.mkdir()
    elif "socket" in kind:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(made))
    else:
        made = target = Path("/dev/null")
        if kind == "device":
            path = made
    if kind.startswith("link"):
        path.symlink_to(target)
    before = os.lstat(path)
    for write in (lambda: atomic.write_bytes(path, NEW), lambda: _written(path, NEW)):
        with pytest.raises(ResourceError, match="cannot write .* not a regular file"):
            write()
    assert os.lstat(path).st_ino == before.st_ino and os.lstat(path).st_mode == before.st_mode


def _written(path, content):
    with atomic.open_atomic(path) as file:
        file.write(content)


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (13_000, "13.0 kB"), (2_500_000, "2.5 MB"), (67.6e9, "67.6 GB"),
     (3e15, "3000 TB")],
)  # fmt: skip
def test_format_bytes(count, words):
    assert atomic.format_bytes(count) == words


def test_works_without_posix_calls(tmp_path):
    """Simulated: no statvfs, no EDQUOT, no fcntl; folders cannot be synced there."""
    code = f"""
import errno, os, shutil, sys, types
sys.modules["fcntl"] = sys.modules["resource"] = None
del errno.EDQUOT, os.statvfs
shutil.disk_usage = lambda folder: types.SimpleNamespace(free=7)
from pathlib import Path
from vla.storage import atomic
path, other = Path({str(tmp_path)!r}) / "f", Path("f")
os.name = "nt"
atomic.write_bytes(path, b"x")
print(atomic._resource_error(other, 5, OSError(errno.ENOSPC, "full")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "cannot write f: 5 bytes needed, 7 bytes free" in done.stdout, (
        done.stderr
    )
