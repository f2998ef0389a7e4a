"""What a person sees of an error with a way out: what happened, and what to do, on lines of their own."""

import io

import numpy as np
import pytest
from rich.console import Console  # noqa: TID251 - what people see is measured as the terminal does

from e2e.command import vla
from vla.hints import Hint, Note
from vla_cli.formatting import write_message

HERE = "run `vla extract PATH...` here first, or pass the folder of a workspace with `--workspace` or VLA_WORKSPACE"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("search", "x"), 4, "error: no workspace (.vla/) in {here} or above it\nhint: " + HERE),
        (("index", "-w", "{here}"), 4, "error: no workspace (.vla/) in {here}\nhint: " + HERE),
        (
            ("extract", ".", "--model", "demo", "--device", "cuda:7"),
            4,
            "error: torch finds no device 'cuda:7'\nhint: use `--device cpu` or `--device auto`",
        ),
        (
            ("extract", ".", "--model", "demo", "--fps", "0"),
            2,
            "error: --fps must be above 0 (at least 0.0001) and at most 240, not 0",
        ),
        (
            ("import-features", "a.npy", "--model", "x", "--stride", "2"),
            2,
            "error: a stride counts frames of the video: it goes with their rate, and the other way round\n"
            "hint: pass `--stride N` with `--video-fps RATE`",
        ),
        (
            ("import-features", "a.npy", "--fps", "2"),
            2,
            "error: invalid name of a feature space: ''; it must be 1 to 200 printable characters, and "
            "tells features of different encoders apart\n"
            "hint: pass `--model NAME`, e.g. `--model clip-vit-b32`",
        ),
    ],
    ids=lambda v: " ".join(v)[:40] if isinstance(v, tuple) else None,
)
def test_errors_and_hints(tmp_path, arguments, code, said):
    np.save(tmp_path / "a.npy", np.ones((3, 4), np.float32))
    done = vla(*(a.format(here=tmp_path) for a in arguments), cwd=tmp_path)
    assert (done.returncode, done.stderr.rstrip("\n")) == (code, said.format(here=tmp_path))


def test_a_run_and_an_index_that_are_missing(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4), np.float32))
    assert (
        vla("import-features", "a.npy", "--fps", "2", "--model", "x", "-q", cwd=tmp_path).returncode
        == 0
    )
    done = vla("search", "x", "-q", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        4,
        "error: there is no index yet\nhint: run `vla index`\n",
    )
    done = vla("index", "--run", "mine", "-q", cwd=tmp_path)
    assert (
        done.stderr
        == "error: there is no trained run 'mine'\nhint: run `vla train --name mine` first\n"
    )


def test_a_terminal_gets_lines_that_fit_it():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80, color_system=None)
    write_message(Note("it is gone", Hint("retrain", run="default")), ["it is gone"], console)
    assert screen.getvalue() == (
        "it is gone\n"
        "hint: train it again with `vla train --overwrite --name default` and the same\n"
        "      captions and settings, or use the frozen encoder with `--run none`\n"
    )
