"""A run that is asked to end by SIGTERM or SIGHUP keeps its last step, as after Ctrl-C; the same command goes on to the same bits."""

import json
import os
import signal
import subprocess
import sys

import pytest

from conftest import ClipMaker
from e2e.command import vla
from e2e.test_cli import TOY

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform == "win32", reason="named: no such signals to send on Windows"),
]
TRAIN = ("train", "--epochs", "3000", "--validate-every", "3000", "--lr", "1e-6", "--seed", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("signals")
    make = ClipMaker(place)
    for number in range(6):
        make(f"v{number}.mp4", frames=10 + number, fps=5)
    rows = [
        f"v{number}.mp4,{word} thing"
        for number, word in enumerate("red blue green small large odd".split())
    ]
    (place / "c.csv").write_text("\n".join(["video,caption", *rows]) + "\n")
    assert vla("extract", ".", "-c", "c.csv", *TOY, cwd=place).returncode == 0
    return place


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_state_is_kept_and_the_code_is_the_signals(folder, name):
    number = getattr(signal, name)
    run = f"by-{name}"
    with subprocess.Popen(
        [sys.executable, "-m", "vla_cli", *TRAIN, "--name", run], cwd=folder, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200", "PYTHONFAULTHANDLER": ""},
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:  # fmt: skip
        seen = ""
        while "epoch" not in seen:
            seen = process.stderr.readline()
            assert seen, "it ended before it trained"
        process.send_signal(number)
        said = process.communicate(timeout=100)[1]
    assert process.returncode == 128 + number, said
    assert "its state is kept" in said and f"ended by {name}; completed work is saved" in said
    kept = json.loads((folder / ".vla" / "runs" / run / "progress.json").read_text())["record"]
    last = (
        f"step {kept['step']} of 1 in epoch {kept['epoch'] + 1}"
        if kept["step"]
        else f"epoch {kept['epoch']} "
    )
    assert f"stopped after {last}" in said  # and not what was saved some time before
    assert not (folder / ".vla" / "runs" / run / "run.json").exists()
