"""The command as a person runs it, each time in a process of its own, without the seconds in which torch is imported anew.

A server that has imported what the command imports is forked for each run. What `vla` loads, and how fast it starts, is
tested with processes from scratch.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SERVER = (
    multiprocessing.get_context("forkserver")
    if "forkserver" in multiprocessing.get_all_start_methods()
    else None
)
if _SERVER is not None:
    _SERVER.set_forkserver_preload(
        ["torch", "open_clip", "faiss", "vla_cli.main", "vla", "vla.encoders.open_clip"]
    )


@dataclass(frozen=True)
class Done:
    """How a run ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """The command, started in `cwd`."""

    def __init__(self, *arguments, cwd, env=None):
        environment = {**os.environ, "COLUMNS": "200", **(env or {})}
        self.what = " ".join(map(str, arguments))
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name, name) for name in ("out", "err")]
        context = _SERVER or multiprocessing.get_context("spawn")
        self.process = context.Process(
            target=_run, args=([*map(str, arguments)], str(cwd), environment, *map(str, self._said))
        )
        self.process.start()

    def ends_within(self, seconds):
        """Wait so long for it to end; True if it did."""
        self.process.join(seconds)
        return self.process.exitcode is not None

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self._end()

    def wait(self, timeout):
        """How it ended; it is killed if that takes more than `timeout` seconds."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.kill()
            raise TimeoutError(f"vla {self.what} took more than {timeout} s")
        out, err = (path.read_text("utf-8", "surrogateescape") for path in self._said)
        done = Done(self.process.exitcode, out, err)
        self._end()
        return done

    def _end(self):
        self.process.join()
        self.process.close()
        self._folder.cleanup()


def vla(*arguments, cwd, env=None, timeout=120):
    """Run the command in `cwd`; nothing of ours may ever end in a traceback."""
    done = Running(*arguments, cwd=cwd, env=env).wait(timeout)
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def acknowledged(folder):
    """Everything acknowledged: name and checksum of every shard that a receipt in `folder` names; the file must have it."""
    found = {}
    for path in sorted((folder / ".vla" / "cache").glob("*/*/*.json")):
        record = json.loads(path.read_text())
        if record.get("shard"):
            content = (path.parents[1] / "shards" / record["shard"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == record["sha256"]
            found[record.get("video_id", path.name)] = record["sha256"]
    return found


def _run(arguments, cwd, environment, out, err):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT),
        (2, err, os.O_WRONLY | os.O_CREAT),
    ):
        handle = os.open(path, flags)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin, sys.stdout, sys.stderr = (
        open(n, mode, encoding="utf-8", errors="surrogateescape", closefd=False)
        for n, mode in enumerate("rww")
    )
    # Nobody pulls the plug here: a kill loses nothing that was written, and disks that others use are slow.
    os.fsync = lambda handle: None
    sys.argv = ["vla", *arguments]
    from vla_cli.main import main

    main()
