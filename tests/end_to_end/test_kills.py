"""SIGKILL at random moments: running the same command again finishes, and the result is the uninterrupted one's, bit for bit."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vla.world.clips import plan_clips, write_captions, write_clips

KILLS = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def command(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "vla_cli", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder, *arguments):
    process = command(folder, *arguments)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, out + err
    return out


def kill_at_random(folder, arguments, rng, longest):
    """Start the command, kill it within `longest` seconds; True if it was still running."""
    process = command(folder, *arguments)
    time.sleep(rng.uniform(0.0, longest))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def features(folder):
    """Everything acknowledged: name and checksum of every shard that a receipt names, and that the file has it."""
    import hashlib

    found = {}
    for path in sorted((folder / ".vla" / "cache").glob("*/*/*.json")):
        record = json.loads(path.read_text())
        if record.get("shard"):
            content = (path.parents[1] / "shards" / record["shard"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == record["sha256"]
            found[record.get("video_id", path.name)] = record["sha256"]
    return found


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    some = plan_clips("train", 40, 0)
    write_clips(some, folder / "clips")
    write_captions(some, folder / "captions.jsonl", 0)
    return folder


def fresh(clips: Path, folder: Path) -> Path:
    folder.mkdir()
    shutil.copytree(clips / "clips", folder / "clips")
    shutil.copy(clips / "captions.jsonl", folder)
    return folder


def test_extract_survives_kills(clips, tmp_path, record_property):
    arguments = ("extract", "clips", "--captions", "captions.jsonl", "--model", "demo")
    whole = fresh(clips, tmp_path / "whole")
    began = time.monotonic()
    finish(whole, *arguments)
    took = time.monotonic() - began
    expected = features(whole)
    assert len(expected) >= 41
    rng, hit = random.Random(0), 0
    broken = fresh(clips, tmp_path / "broken")
    for number in range(KILLS):
        # Begun anew every other time: what is left to do after several kills is done too soon to be hit.
        if number % 2 == 0:
            shutil.rmtree(broken / ".vla", ignore_errors=True)
        hit += kill_at_random(broken, arguments, rng, took)
        assert features(broken).items() <= expected.items()
    finish(broken, *arguments)
    assert features(broken) == expected
    assert hit >= KILLS // 2
    record_property("counts", f"{KILLS} kills of extract, {hit} of them while it ran: lost 0, equal result")


def test_train_survives_kills(clips, tmp_path, record_property):
    folder = fresh(clips, tmp_path / "train")
    finish(folder, "extract", "clips", "--captions", "captions.jsonl", "--model", "demo")
    arguments = ("train", "--epochs", "60", "--patience", "60", "--json")
    began = time.monotonic()
    whole = json.loads(finish(folder, *arguments))
    took = time.monotonic() - began
    shutil.rmtree(folder / ".vla" / "runs")
    rng, hit = random.Random(1), 0
    for number in range(KILLS):
        if number % 2 == 0:
            shutil.rmtree(folder / ".vla" / "runs", ignore_errors=True)
        hit += kill_at_random(folder, arguments, rng, took)
    again = json.loads(finish(folder, *arguments))
    assert again["digest"] == whole["digest"]
    assert again == whole
    assert hit >= KILLS // 2
    record_property("counts", f"{KILLS} kills of train, {hit} of them while it ran: equal weights and metrics")
