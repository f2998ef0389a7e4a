"""SIGKILL at random moments: running the same command again finishes, and the result is the uninterrupted one's, bit for bit."""

import json
import os
import random
import shutil
import time
from itertools import takewhile
from pathlib import Path

import pytest

from e2e.command import Running, acknowledged, vla
from vla.world.clips import plan_clips, write_captions, write_clips

KILLS = int(os.environ.get("VLA_KILLS", "20"))
SECONDS = float("inf") if "VLA_KILLS" in os.environ else 120.0
"""After so long no more are dealt: a machine on which one run takes a minute need not see twenty."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(max(900, 45 * KILLS))]


def finish(folder, *arguments):
    done = vla(*arguments, cwd=folder, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Killer:
    """Kills the same command again and again, at moments spread over the time that it takes here and now.

    Every other time it begins anew: what is left to do after several kills is done too soon to be hit.
    """

    def __init__(self, arguments, took, seed):
        self._arguments, self._rng = arguments, random.Random(seed)
        self._longest, self._done = took, 0.0
        self.kills = self.hits = 0

    def strikes(self):
        """Numbers of the strikes that are to be dealt: two at least."""
        began = time.monotonic()
        return takewhile(lambda n: n < 2 or time.monotonic() - began < SECONDS, range(KILLS))

    def strike(self, folder, begins_anew):
        left = self._longest - (0.0 if begins_anew else self._done)
        began = time.monotonic()
        running = Running(*self._arguments, cwd=folder)
        ended = running.ends_within(self._rng.uniform(0.0, max(left, 0.1)))
        took = time.monotonic() - began
        running.kill()
        self.kills += 1
        self.hits += not ended
        if ended and begins_anew:
            self._longest = took  # whatever slowed it before does so no more
        self._done = took if begins_anew and not ended else self._done


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    vla(
        "--version", cwd=folder
    )  # starts the server, which imports torch: no part of how long a run takes
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
    expected = acknowledged(whole)
    assert len(expected) >= 41
    killer = Killer(arguments, took, seed=0)
    broken = fresh(clips, tmp_path / "broken")
    for number in killer.strikes():
        if number % 2 == 0:
            shutil.rmtree(broken / ".vla", ignore_errors=True)
        killer.strike(broken, begins_anew=number % 2 == 0)
        assert acknowledged(broken).items() <= expected.items()
    finish(broken, *arguments)
    assert acknowledged(broken) == expected
    assert killer.hits >= killer.kills // 2
    record_property(
        "counts",
        f"{killer.kills} kills of extract, {killer.hits} of them while it ran: lost 0, equal result",
    )


def test_train_survives_kills(clips, tmp_path, record_property):
    folder = fresh(clips, tmp_path / "train")
    finish(folder, "extract", "clips", "--captions", "captions.jsonl", "--model", "demo")
    arguments = ("train", "--epochs", "40", "--json")
    began = time.monotonic()
    whole = json.loads(finish(folder, *arguments))
    took = time.monotonic() - began
    shutil.rmtree(folder / ".vla" / "runs")
    killer = Killer(arguments, took, seed=1)
    for number in killer.strikes():
        if number % 2 == 0:
            shutil.rmtree(folder / ".vla" / "runs", ignore_errors=True)
        killer.strike(folder, begins_anew=number % 2 == 0)
    again = json.loads(finish(folder, *arguments))
    assert again["digest"] == whole["digest"]
    assert again == whole
    assert killer.hits >= killer.kills // 2
    record_property(
        "counts",
        f"{killer.kills} kills of train, {killer.hits} of them while it ran: equal weights and metrics",
    )
