"""One holder at a time: between processes and threads, after a kill, and where the file system has no locks."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vla.errors import ResourceError
from vla.storage import locks
from vla.storage.workspace import Workspace

ERRORS = ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL"]


def _no_flock(name):
    def flock(file, operation):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    import fcntl

    fcntl.flock = flock


def _hold(path, held, release, error=None):
    if error:
        _no_flock(error)
    with locks.lock(Path(path)):
        held.set()
        release.wait(20)


@pytest.mark.parametrize("error", [None, *ERRORS])
def test_lock_is_released_when_its_process_dies(tmp_path, monkeypatch, error):
    path = tmp_path / "sub" / "lock"
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(path), held, release, error))
    other.start()
    assert held.wait(60)
    if error:
        import fcntl

        monkeypatch.setattr(fcntl, "flock", fcntl.flock)
        _no_flock(error)
    assert locks.holder(path).pid == other.pid
    waits, got = [], []

    def take():
        with locks.lock(path, lambda holder: waits.append(holder.pid)):
            got.append(1)

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(0.5)
    assert (waits, got) == ([other.pid], [])
    os.kill(other.pid, 9)
    other.join(10)
    thread.join(15)
    assert got == [1]
    with locks.lock(path, lambda holder: waits.append(0)):
        pass
    assert waits == [other.pid] and locks.holder(path) is None


def test_threads_of_one_process_exclude_each_other(tmp_path):
    inside, most, lock = [], [], threading.Lock()

    def take():
        for _ in range(5):
            with locks.lock(tmp_path / "lock"):
                with lock:
                    inside.append(1)
                    most.append(len(inside))
                time.sleep(0.002)
                with lock:
                    inside.pop()

    threads = [threading.Thread(target=take) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert len(most) == 30 and max(most) == 1


def test_lock_is_released_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locks.lock(tmp_path / "lock"):
        raise ZeroDivisionError
    with locks.lock(tmp_path / "lock", lambda holder: pytest.fail("still held")):
        assert json.dumps([]) == "[]"


def test_holder_is_readable_while_the_lock_is_held(tmp_path):
    path = tmp_path / "lock"
    assert locks.holder(path) is None
    with locks.lock(path):
        result = locks.holder(path)
        assert result.pid == os.getpid() and f"PID {os.getpid()}, `" in str(result)
    assert locks.holder(path) is None and path.is_file()


@pytest.mark.parametrize(
    "record",
    [b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": 1e400, "command": "", "host": ""}', b"[" * 100_000,
     json.dumps({"pid": 4_000_000_000, "command": "vla", "host": locks.socket.gethostname()}).encode()],
)  # fmt: skip
def test_holder_of_a_damaged_or_stale_record_is_none(tmp_path, record):
    (tmp_path / "lock.holder").write_bytes(record)
    assert locks.holder(tmp_path / "lock") is None
    with locks.lock(tmp_path / "lock", lambda holder: pytest.fail("not held")):
        pass


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_readers_need_no_lock_on_a_read_only_workspace(tmp_path, monkeypatch, number):
    (tmp_path / ".vla").mkdir()
    workspace, real = Workspace(tmp_path), os.open

    def refuse(path, flags, *rest, **named):
        if str(path).endswith("lock") and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "open", lambda self, *given: refuse(self, os.O_WRONLY))
    with (
        workspace.lock(lambda p: None, reading=True),
        workspace.lock_index(lambda p: None, reading=True),
    ):
        pass
    with (
        pytest.raises(ResourceError, match=r"cannot lock .*lock: "),
        workspace.lock(lambda p: None),
    ):
        pytest.fail("locked")


def test_optional_lock_reports_other_errors(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    with (
        pytest.raises(ResourceError, match="cannot lock"),
        locks.lock(tmp_path / "f" / "lock", optional=True),
    ):
        pytest.fail("locked")


def test_wait_message_names_the_holder(tmp_path):
    workspace, said = Workspace(tmp_path), []

    def take():
        with workspace.lock(said.append):
            pass

    with workspace.lock(said.append):
        assert workspace.is_busy()
        thread = threading.Thread(target=take)
        thread.start()
        for _ in range(100):
            if said:
                break
            time.sleep(0.05)
    thread.join(10)
    (note,) = said
    assert note.message.startswith(
        f"Waiting for another vla process to release the workspace lock (PID {os.getpid()}, `"
    )
    assert note.level == "note" and not workspace.is_busy()


def test_windows_without_fcntl_still_locks(tmp_path):
    """Simulated: there is no fcntl here, as on Windows; msvcrt itself cannot be tried."""
    code = f"""
import sys
sys.modules["fcntl"] = None
import pathlib, threading
from vla.storage import locks
path, waits = pathlib.Path({str(tmp_path)!r}) / "lock", []
def take():
    with locks.lock(path, waits.append):
        pass
with locks.lock(path):
    thread = threading.Thread(target=take)
    thread.start()
    thread.join(.5)
    assert thread.is_alive() and len(waits) == 1, waits
thread.join(10)
assert not thread.is_alive()
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
