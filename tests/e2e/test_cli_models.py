"""`vla models` and its commands, as a person runs them, with a server that plays the model hub."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from support import model_hub

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
CONTENT = np.random.default_rng(0).bytes(3_000_000)
REPOSITORY = "timm/PE-Core-B-16"


@pytest.fixture
def machine(tmp_path):
    """The server, and a function that runs `vla` on a machine whose cache is `home`."""
    with model_hub.running() as (hub, address):
        hub.add(REPOSITORY, {WEIGHTS: CONTENT, CONFIG: b"{}"})

        hub.env = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0",
                   "COLUMNS": "200"}  # fmt: skip

        def run(*arguments, home="home", **more):
            # huggingface_hub reads the environment when it is imported: each run is a new process.
            env = {**os.environ, **hub.env, "HF_HOME": str(tmp_path / home), **more}
            command = [sys.executable, "-m", "vla_cli", *arguments]
            return subprocess.run(
                command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
            )  # fmt: skip

        yield hub, run


@pytest.mark.install
def test_from_the_hub_to_a_machine_without_network(machine, tmp_path):
    hub, run = machine
    table = run("models")
    assert table.returncode == 0
    (row,) = [line.split() for line in table.stdout.splitlines() if line.startswith("balanced")]
    assert row[:6] == ["balanced", "about", "1.8", "GB", "no", "Apache-2.0"]
    assert "next: vla models fetch balanced" in table.stderr
    done = run("models", "fetch", "balanced")
    assert done.returncode == 0, done.stderr
    assert "balanced: 3.0 MB to download from timm/PE-Core-B-16" in done.stderr
    assert " free in " in done.stderr and "licence mit" in done.stderr
    assert f"SHA-256 {model_hub.sha256(CONTENT)}" in done.stdout
    assert f"revision {hub.main[REPOSITORY]}" in done.stdout
    assert "next: vla extract PATH... --model balanced" in done.stdout
    again = run("models", "fetch", "balanced", "--json", HF_HUB_OFFLINE="1")
    assert json.loads(again.stdout)["balanced"]["downloaded_bytes"] == 0
    packed = run("models", "pack", "balanced", "-o", "p.zip")
    assert packed.returncode == 0 and "next: vla models unpack p.zip" in packed.stdout
    unpacked = run("models", "unpack", "p.zip", home="other", HF_HUB_OFFLINE="1")
    assert unpacked.returncode == 0 and model_hub.sha256(CONTENT) in unpacked.stdout
    entry = json.loads(run("models", "--json", home="other").stdout)["balanced"]
    assert entry["is_here"] and entry["bytes"] == 3_000_002
    assert entry["revision"] == hub.main[REPOSITORY] and entry["digest"] == model_hub.sha256(
        CONTENT
    )


def test_exit_codes(machine, tmp_path):
    hub, run = machine
    for arguments, code, words in [
        (("fetch",), 2, "missing argument"),
        (("fetch", "balancd"), 2, "Did you mean balanced"),
        (("fetch", "fast", "best", "--revision", "main"), 2, "name only one"),
        (("fetch", "balanced", "--revision", "v9"), 2, "no such revision"),
        (("fetch", "hf-hub:acme/none"), 4, "the hub has no model acme/none"),
        (("fetch", "offline"), 4, "pip install 'vla-toolkit[offline]'"),
        (("pack", "balanced"), 4, "vla models fetch balanced"),
        (("pack", "demo"), 2, "part of vla"),
        (("unpack", "none.zip"), 2, "there is no file none.zip"),
        (("unpac", "none.zip"), 2, "unpack"),
        (("--json", "fetch", "balanced"), 2, "--json before fetch has no effect"),
    ]:
        done = run("models", *arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert words in done.stderr.replace("\n", " "), (arguments, done.stderr)
    hub.sent[WEIGHTS] = CONTENT[:-1] + b"!"
    done = run("models", "fetch", "balanced")
    assert done.returncode == 4 and "its digest differs" in done.stderr
    assert "run the same command again" in done.stderr


def test_no_room_is_said_before_a_download(machine):
    hub, run = machine
    # A file of this size needs no disk here: the server states it and never sends it.
    hub.repositories[REPOSITORY][hub.main[REPOSITORY]][WEIGHTS] = Huge(CONTENT)
    done = run("models", "fetch", "balanced")
    assert done.returncode == 5, done.stderr
    assert "the download needs 9.0 PB" in done.stderr or "the download needs 9000 TB" in done.stderr
    assert "set HF_HOME to a folder on another disk" in done.stderr.replace("\n", " ")
    assert hub.downloads() == []


class Huge(bytes):
    """Content that claims to be larger than any disk."""

    def __len__(self):
        return 9 * 10**15


def test_extract_downloads_what_is_missing_and_says_so(machine, tmp_path):
    _, run = machine
    (tmp_path / "v").mkdir()
    done = run("extract", "v", "--model", "balanced")
    assert "3.0 MB to download from timm/PE-Core-B-16" in done.stderr
    assert done.returncode == 4 and "could not be loaded" in done.stderr  # random bytes
    done = run("extract", "v", "--model", "best", HF_HUB_OFFLINE="1")
    assert done.returncode == 4
    assert "`vla models fetch best` with network access" in done.stderr.replace("\n", " ")


def test_continues_after_it_was_interrupted(machine, tmp_path):
    hub, run = machine
    content = np.random.default_rng(1).bytes(60_000_000)
    hub.add(REPOSITORY, {WEIGHTS: content, CONFIG: b"{}"})
    hub.pause = 30_000_000
    process = subprocess.Popen(
        [sys.executable, "-m", "vla_cli", "models", "fetch", "balanced"],
        env={**os.environ, **hub.env}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not hub.paused.is_set() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert "run the same command again to continue" in err
    hub.pause = None
    hub.resume.set()
    hub.requests.clear()
    done = run("models", "fetch", "balanced")
    assert done.returncode == 0, done.stderr
    (name, start), *_ = hub.downloads()
    assert name == WEIGHTS and start >= 10_000_000
