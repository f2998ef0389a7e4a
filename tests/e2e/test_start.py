"""What a command imports before it says something, each in a process from scratch; no clock is read."""

import os
import subprocess
import sys

import pytest

from e2e.command import vla
from vla.world.clips import plan_clips, write_captions
from vla.world.render import write_clip

HEAVY = ("torch", "numpy", "pandas", "h5py", "av", "faiss", "open_clip", "PIL", "jinja2")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two clips with captions, a run and an index."""
    folder = tmp_path_factory.mktemp("start")
    clips = plan_clips("train", 12, 0)
    for clip in clips:
        write_clip(clip.scene, folder / clip.name)
    write_captions(clips, folder / "captions.jsonl", 0)
    steps = [
        vla("extract", ".", "-c", "captions.jsonl", "--model", "demo", cwd=folder),
        vla("train", "--epochs", 1, cwd=folder),
        vla("index", cwd=folder),
    ]
    assert [step.returncode for step in steps] == [0, 0, 0], steps
    return folder


def imports(arguments, cwd):
    """The exit code of a command and which of `HEAVY` it imported."""
    code = (
        "import sys\nfrom vla_cli.main import main\n"
        f"sys.argv = ['vla', *{[*map(str, arguments)]!r}]\ncode = None\n"
        "try:\n    main()\nexcept SystemExit as error:\n    code = error.code\n"
        f"print('LOADED', code, *[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False
    )
    code, *names = done.stdout.rpartition("LOADED ")[2].split()
    return 0 if code == "None" else int(code), names


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("help", "search"), 0),
        (("search", "--help"), 0),
        (("--version",), 0),
        (("ls",), 0),
        (("info",), 0),
        (("rm", "nosuch"), 4),
        (("rm", "train-00000.mp4"), 2),  # not a terminal, so it only asks for --yes
        (("gc",), 0),
        (("captions",), 0),
        (("models",), 0),
        (("config",), 0),
        (("search", "a", "dog"), 2),
        (("train", "-w", "nowhere"), 4),
        (("serach",), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_quick_commands_import_no_heavy_library(workspace, arguments, code):
    assert imports(arguments, workspace) == (code, [])


@pytest.mark.parametrize("arguments", [("search", "x"), ("index",), ("train",), ("eval",), ("ls",)])
def test_a_missing_workspace_is_reported_at_once(tmp_path, arguments):
    assert imports(arguments, tmp_path) == (4, [])


def test_verify_reads_arrays_without_torch(workspace):
    code, names = imports(("verify",), workspace)
    assert code == 0 and set(names) <= {"numpy"}
    code, names = imports(("verify", "--read-data"), workspace)
    assert code == 0 and "torch" not in names


EARLY = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.write(2, b"TORCH\\n")
            os._exit(0)
sys.meta_path.insert(0, Watch())
from vla_cli.main import main
sys.argv = ["vla", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="named: no pseudo-terminals on Windows")
@pytest.mark.parametrize(
    "arguments",
    [
        ("extract", ".", "--overwrite"),
        ("index",),
        ("search", "a star"),
        ("train", "--overwrite"),
        ("eval",),
        ("ask", "what?", "train-00000.mp4"),
        ("demo", "folder"),
        ("doctor",),
        ("report",),
        ("export", "out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_long_commands_say_something_before_torch_is_imported(workspace, tmp_path, arguments):
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "VLA_WORKSPACE": str(workspace), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", EARLY, *arguments], cwd=tmp_path, env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # Linux, at the end
                break
            if not part:
                break
            shown += part
        process.wait(timeout=60)
    os.close(ours)
    before, mark, _ = shown.partition(b"TORCH")
    assert mark, shown
    assert b"loading libraries ..." in before or b"Checking this machine" in before


def next_line(done):
    lines = [line for line in done.stderr.splitlines() if line.startswith("next: ")]
    assert len(lines) <= 1
    return lines[0] if lines else None


def test_the_next_command_is_named_where_there_is_one(tmp_path):
    for number, clip in enumerate(plan_clips("train", 3, 1)):
        write_clip(clip.scene, tmp_path / f"{number}.mp4")
    model = ("--model", "demo")
    assert next_line(vla("extract", "nosuch", *model, cwd=tmp_path)) is None
    assert next_line(vla("extract", ".", *model, "--dry-run", cwd=tmp_path)) is None
    assert next_line(vla("extract", "0.mp4", *model, cwd=tmp_path)) == "next: vla index"
    below = tmp_path / "a b"
    below.mkdir()
    # From elsewhere, the folder is part of the command.
    elsewhere = vla("extract", tmp_path / "1.mp4", "-w", tmp_path, cwd="/")
    assert next_line(elsewhere) == f"next: vla index -w {tmp_path}"
    assert next_line(vla("extract", "../1.mp4", "-w", "..", cwd=below)) == "next: vla index"
    for quiet in ("-q", "--json"):
        assert next_line(vla("extract", ".", quiet, "--overwrite", cwd=tmp_path)) is None
    assert next_line(vla("-q", "extract", ".", cwd=tmp_path)) is None
    assert next_line(vla("index", cwd=tmp_path)) == 'next: vla search "TEXT"'
    assert next_line(vla("extract", ".", cwd=tmp_path)) == 'next: vla search "TEXT"'
    assert next_line(vla("rm", "0.mp4", "--yes", cwd=tmp_path)) == "next: vla index"
    lines = "".join(f"1.mp4,caption {n}\n" for n in range(100))
    (tmp_path / "c.csv").write_text(f"video,caption\n{lines}")
    assert next_line(vla("extract", ".", "-c", "c.csv", cwd=tmp_path)) == "next: vla train"
    assert next_line(vla("search", "a star", cwd=tmp_path)) is None


def test_quiet_and_verbose_before_and_after_the_command(workspace):
    for arguments in (("-v", "ls"), ("ls", "-v"), ("ls", "--verbose"), ("--verbose", "ls")):
        done = vla(*arguments, cwd=workspace)
        assert done.returncode == 0
        assert "vla 0." in done.stderr and f"workspace: {workspace}" in done.stderr
        assert done.stderr.rstrip().endswith(" s") and "vla 0." not in done.stdout
    for arguments in (("-q", "ls", "--status", "failed"), ("ls", "--status", "failed", "-q")):
        done = vla(*arguments, cwd=workspace)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert "No videos" in vla("ls", "--status", "failed", cwd=workspace).stderr


def test_a_forgotten_quote_of_a_question(workspace):
    done = vla("ask", "what", "colour", "is", "it", cwd=workspace)
    assert done.returncode == 2 and 'vla ask "what colour is it"' in done.stderr


def test_help_command_equals_the_option(tmp_path):
    for arguments in ((), ("help",)):
        assert vla(*arguments, cwd=tmp_path).stdout == vla("--help", cwd=tmp_path).stdout
    for name in ("search", "import-features"):
        assert vla("help", name, cwd=tmp_path).stdout == vla(name, "--help", cwd=tmp_path).stdout
    done = vla("help", "serach", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean `vla search`?" in done.stderr
