"""The command as a person runs it, each time in a process of its own, without the seconds in which torch is imported anew.

A server that has imported what the command imports is forked for each run. What `vla` loads, and how fast it starts, is
tested with processes from scratch.
"""

import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver") if "forkserver" in multiprocessing.get_all_start_methods() else None
if _SERVER is not None:
    _SERVER.set_forkserver_preload(["torch", "open_clip", "faiss", "vla_cli.main", "vla.api", "vla.encoders.open_clip"])


@dataclass(frozen=True)
class Done:
    """How a run ended and what it said."""

    returncode: int
    stdout: str
    stderr: str


def vla(*arguments, cwd, env=None, timeout=120):
    """Run the command in `cwd`; nothing of ours may ever end in a traceback."""
    environment = {**os.environ, "COLUMNS": "200", **(env or {})}
    with tempfile.TemporaryDirectory() as folder:
        said = [Path(folder, name) for name in ("out", "err")]
        context = _SERVER or multiprocessing.get_context("spawn")
        process = context.Process(target=_run, args=([*map(str, arguments)], str(cwd), environment, *map(str, said)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"vla {' '.join(map(str, arguments))} took more than {timeout} s")
        out, err = (path.read_text("utf-8", "surrogateescape") for path in said)
        done = Done(process.exitcode, out, err)
        process.close()
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


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
        open(n, mode, encoding="utf-8", errors="surrogateescape", closefd=False) for n, mode in enumerate("rww")
    )
    sys.argv = ["vla", *arguments]
    from vla_cli.main import main

    main()
