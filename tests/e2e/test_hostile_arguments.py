"""Every option of every command with values that make no sense: one clear refusal each, and never a defect."""

import io
import sys
import typing

import pytest
import typer  # noqa: TID251 - every option of the command line is tried

from conftest import ClipMaker
from vla_cli import main

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]
DOCUMENTED = {0, 1, 2, 3, 4, 5}
WORDS = [
    "", " ", ".", "..", ".x", "a/b", "../../x", "a\\b", "CON", "aux.txt", "x.", "x ", "a" * 300, "\x1b[31mred", "\x9bm",
    "\u202egnp.exe", "nan", "-1", "1e400", "fp8", "hf-hub:a/../../b", "local-dir:nowhere", "frames=0", "\udcff", "%s{0}", "-",
]  # fmt: skip
FEW = ["", "../../x", "\x1b[31m\u202e\x9bm"]
NAMES = {
    "name",
    "run",
    "model",
    "query",
    "format",
    "dtype",
    "within",
    "duration",
    "min_video_duration",
    "modified_after",
    "encoder",
}
"""Options whose words mean something; the other texts are names of columns, keys and files, tried with a few."""
INTEGERS = ["0", "-1", str(10**12), str(10**20), "1.5", ""]
FLOATS = ["nan", "inf", "-1", "1e-300", "1e300", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A workspace with one video, two captions and an index."""
    import vla

    place = tmp_path_factory.mktemp("hostile")
    ClipMaker(place / "videos")("v.mp4", frames=10, fps=5)
    (place / "captions.csv").write_text("video,caption\nvideos/v.mp4,a dog\n")
    choice = vla.EncoderChoice(encoder="toy")
    vla.extract(
        [place / "videos"],
        captions=place / "captions.csv",
        workspace=place,
        choice=choice,
        workers=1,
    )
    vla.index(workspace=place)
    return place


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Runs the command line in this process; returns its exit code and what it said."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(main.interrupt, "install_handlers", lambda: None)
    monkeypatch.setattr(main.streams, "prepare", lambda: None)
    monkeypatch.setattr(main.streams, "detach", lambda: None)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["vla", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        with pytest.raises(SystemExit) as leaving:
            main.main()
        said = capsys.readouterr()
        return leaving.value.code or 0, said.out + said.err

    return call


def cases():
    group = typer.main.get_command(main.app)
    kinds = {c.name: typing.get_type_hints(c.callback) for c in main.app.registered_commands}
    for name, command in group.commands.items():
        if name == "doctor":  # it tries the machine each time, and has a device and nothing else
            continue
        for parameter in command.params:
            if parameter.name in ("help", "workspace", "output") or getattr(
                parameter, "is_flag", False
            ):
                continue
            kind = str(kinds[name].get(parameter.name))
            values = (
                INTEGERS
                if "int" in kind.replace("Annotated", "")
                else FLOATS
                if "float" in kind
                else WORDS
                if parameter.name in NAMES
                else FEW
            )
            yield pytest.param(name, parameter, values, id=f"{name}-{parameter.name}")


BASE = {
    "search": ["a dog"], "ask": ["what?", "--all"], "export": ["out"], "rm": ["--missing", "--yes"],
    "train": ["--epochs", "1"], "extract": ["videos/v.mp4", "--dry-run"], "import": ["captions", "captions.csv"],
    "import-features": ["videos/none.npy", "--model", "m"], "report": [], "demo": ["captions.csv"],
}  # fmt: skip


@pytest.mark.parametrize(("command", "parameter", "values"), list(cases()))
def test_hostile_values_end_in_a_documented_code(run, command, parameter, values):
    bad = []
    for value in values:
        if not parameter.opts[0].startswith("-"):
            arguments = (
                [command, *(["--clips=11"] if command == "demo" else []), "--", value]
                if parameter.name != "paths" or command != "search"
                else [command, "x", value]
            )
        else:
            option = max(parameter.opts, key=len)
            arguments = [command, *BASE.get(command, []), f"{option}={value}"]
            if command == "train" and parameter.name == "epochs":
                arguments = (
                    [command, f"{option}={value}"]
                    if value in ("x", "", "nan", "1.5", "0", "-1")
                    else []
                )
        if not arguments:
            continue
        code, said = run(*arguments)
        unsafe = [
            c
            for c in said
            if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c in "\u202e\udcff"
        ]
        if code not in DOCUMENTED or "unexpected" in said or "Traceback" in said or unsafe:
            bad.append((arguments, code, said[-300:]))
    assert not bad, "\n".join(map(str, bad))
