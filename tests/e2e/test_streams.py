"""Standard streams that are closed, full, of another encoding, or read by nobody: never a defect, never an answer cut off in silence."""

import csv
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from e2e.test_cli import TOY
from vla_cli import streams

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="named: a POSIX shell is needed"),
]
NAME = "日本 é\x1b[31m\u202e.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from conftest import ClipMaker
    from e2e.command import vla

    place = tmp_path_factory.mktemp("streams")
    ClipMaker(place)(NAME, frames=10, fps=5)
    odd = os.fsdecode(b"=caf\xe9.mp4")
    # Other pictures: near-duplicates of the first video would be no hits of their own.
    noise = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3)).astype(np.uint8)
    pixels = noise.repeat(16, axis=1).repeat(16, axis=2)
    ClipMaker(place)("plain.mp4", fps=5, pixels=pixels).rename(place / odd)
    assert vla("extract", ".", *TOY, cwd=place).returncode == 0
    assert vla("index", cwd=place).returncode == 0
    return place


def shell(folder, line, **environment):
    """The exit code of a line of bash in which `vla` is the command, and what it said."""
    done = subprocess.run(
        ["bash", "-c", line.replace("vla ", f"{sys.executable} -m vla_cli ")], cwd=folder, capture_output=True, check=False,
        env={**os.environ, **environment}, timeout=120,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


# A fast command with its own table, help (which rich writes), and one that writes bytes.
COMMANDS = ["ls", "info", "models --json", "--help", "--version"]


@pytest.mark.parametrize("command", COMMANDS)
def test_full_and_closed_streams(folder, command):
    code, _, said = shell(folder, f"vla {command} > /dev/full")
    assert code == 5 and b"No space left" in said
    assert shell(folder, f"vla {command} >&-")[0] == 0
    assert shell(folder, f"vla {command} 2>&- <&-")[0] == 0
    assert shell(folder, f"vla {command} 2>/dev/full")[0] == 0
    code, _, said = shell(folder, f"vla {command} | true; exit ${{PIPESTATUS[0]}}")
    assert code in (0, 141) and not said  # a short output may be gone before the pipe is closed


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-16", "cp437"])
def test_encodings_lose_no_row(folder, encoding):
    code, table, _ = shell(folder, "vla ls", PYTHONIOENCODING=encoding)
    text = table.decode(encoding)
    assert code == 0 and len(text.splitlines()) == 3 and "\x1b" not in text and "\u202e" not in text
    assert "\\x1b[31m\\u202e.mp4" in text


def test_csv_is_utf_8_and_holds_no_formula(folder):
    code, table, _ = shell(folder, "vla search x --csv --per-video 1", PYTHONIOENCODING="cp1252")
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8", "surrogateescape"))))
    assert code == 0 and len(rows) == 2
    assert {row["video"] for row in rows} == {NAME, "'" + os.fsdecode(b"=caf\xe9.mp4")}
    assert all(float(row["score"]) == float(row["score"]) for row in rows)  # numbers stay numbers
    code, paths, _ = shell(
        folder, "vla search x --paths -0 --per-video 1", PYTHONIOENCODING="ascii"
    )
    assert code == 0 and set(paths.split(b"\0")[:-1]) == {
        os.fsencode(p) for p in folder.glob("*.mp4")
    }


def test_results_on_a_closed_pipe_are_not_nothing_found(folder):
    code, _, said = shell(folder, "vla search x --jsonl | true; exit ${PIPESTATUS[0]}")
    assert code == 141 and b"error" not in said


def test_page_on_standard_output_and_devices_are_left_alone(folder):
    code, _, said = shell(folder, "vla report nosuch -o -")
    assert code == 4 and b"nosuch" in said
    null = os.stat(os.devnull)
    shell(folder, f"vla report -o {os.devnull}")
    assert os.stat(os.devnull).st_rdev == null.st_rdev


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_say_that_what_is_finished_is_kept(folder, name):
    import signal

    number = getattr(signal, name)
    with subprocess.Popen(
        [sys.executable, "-m", "vla_cli", "search", "--queries", "-"], cwd=folder, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONFAULTHANDLER": ""},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:  # fmt: skip
        import time

        time.sleep(4)  # it waits for standard input by then
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (
        process.returncode == 128 + number and f"ended by {name}; completed work is saved" in said
    )


def test_messages_that_cannot_be_written_are_lost_and_results_are_not():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

        def flush(self):
            raise OSError(28, "No space left on device")

    stream = streams.BestEffortStream(Full())
    assert stream.write("message") == 7
    stream.flush()


def test_windows_says_einval_for_a_closed_pipe(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(streams.os, "name", "nt")
        with pytest.raises(streams.ClosedPipeError):
            streams.raise_for_pipe(OSError(22, "Invalid argument"))
    streams.raise_for_pipe(OSError(22, "Invalid argument"))
    with pytest.raises(streams.ClosedPipeError):
        streams.raise_for_pipe(BrokenPipeError())


@pytest.mark.parametrize(
    "statement",
    ["import vla_cli.main, vla_cli.render", "import vla.workflows.maintenance", "from vla.storage.workspace import Workspace",
     "import vla_cli.grammar, vla_cli.streams, vla.storage.locks", "import vla.decoders.pyav, vla.decoders",
     "import vla.formats.parquet", "from vla_cli.interrupt import install_handlers; install_handlers()"],
)  # fmt: skip
def test_imports_without_what_windows_lacks(statement):
    """Simulated: no fcntl, resource, fork, SIGHUP, SIGALRM, O_NONBLOCK, statvfs, posix_fallocate, memfd_create, getuid."""
    code = f"""
import os, signal, sys
import subprocess, shutil, tempfile, threading, pathlib, multiprocessing, random, uuid  # Python's own choose by them
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("fork", "O_NONBLOCK", "statvfs", "posix_fallocate", "memfd_create", "getuid", "geteuid", "killpg", "setsid",
             "sched_getaffinity", "sysconf"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGALRM", "SIGKILL", "SIGUSR1", "SIGXCPU", "setitimer", "alarm"):
    if hasattr(signal, name):
        delattr(signal, name)
{statement}
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("ls",), 0), (("info",), 0), (("verify",), 0), (("gc",), 0), (("rm", "plain"), 4), (("models",), 0),
     (("search", "x", "-w", "nosuch"), 4), (("train", "-w", "nosuch"), 4), (("index", "-w", "nosuch"), 4)],
)  # fmt: skip
def test_small_commands_and_missing_workspaces_load_no_torch(folder, tmp_path, arguments, code):
    arguments = [str(tmp_path / a) if a == "nosuch" else a for a in arguments]
    source = f"""
import sys
sys.argv = ["vla", *{arguments!r}]
from vla_cli.main import main
try:
    main()
except SystemExit as leaving:
    print([m for m in ("torch", "open_clip", "pandas", "av", "faiss") if m in sys.modules], leaving.code, file=sys.__stderr__)
"""
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1].startswith("[] "), done.stderr
    assert int(done.stderr.split()[-1].replace("None", "0")) == code, done.stderr


@pytest.mark.parametrize(
    "command",
    [["ls"], ["ls", "--json"], ["search", "x", "--jsonl"], ["info"], ["models"], ["--help"]],
)
def test_a_reader_that_is_gone_before_the_first_line_ends_it_without_a_word(folder, command):
    """As `vla ls | head` does once `head` has seen enough; here no buffer can have taken the rest."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vla_cli", *command], cwd=folder, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.returncode == 141 and b"rror" not in done.stderr and b"Broken" not in done.stderr


def test_head_shows_the_first_line_and_nothing_is_said(folder):
    for command in ("ls", "ls --json", "info"):
        code, shown, said = shell(folder, f"vla {command} | head -n 1; exit ${{PIPESTATUS[0]}}")
        assert code in (0, 141) and len(shown.splitlines()) == 1 and not said
