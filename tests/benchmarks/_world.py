"""Clips of the rendered world with their features and captions, for the benchmarks that train on
them.
"""

from __future__ import annotations

import time
from pathlib import Path

import vla
from vla.storage.workspace import Workspace
from vla.world.clips import Clip, plan_clips, write_captions, write_clips

FILES = {"train": ("train", "val"), "test": ("test",), "novel": ("novel",)}


def plan(train: int, test: int) -> list[Clip]:
    """The clips: to train on (three in four of the scenes have a twin), to choose by, to test with, and with new combinations.

    Scenes that are chosen by come in pairs of twins, as those of the test do: what time gains must show in the choice.
    """
    clips = plan_clips("train", train, 0, counterfactual_fraction=0.75) + plan_clips(
        "val", train // 6, 0
    )
    return clips + plan_clips("test", test, 0) + plan_clips("novel", test // 2, 0, novel=True)


def open_world(folder: Path, clips: list[Clip]) -> Workspace:
    """The workspace in `folder`; if there is none, render and extract the clips."""
    workspace = Workspace.open_or_create(folder)
    if not (folder / "captions-train.jsonl").is_file():
        prepare(folder, clips)
    return workspace


def prepare(folder: Path, clips: list[Clip]) -> None:
    """Render and extract the clips, and write their captions."""
    began = time.monotonic()
    write_clips(clips, folder / "clips")
    files = {n: splits for n, splits in FILES.items() if any(c.split in splits for c in clips)}
    for name, splits in files.items():
        some = [c for c in clips if c.split in splits]
        write_captions(
            some, folder / f"captions-{name}.jsonl", 0, descriptions=2 if name == "train" else 1
        )
    print(f"rendered in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    report = None
    for name, splits in files.items():
        paths = [folder / "clips" / c.name for c in clips if c.split in splits]
        captions = folder / f"captions-{name}.jsonl"
        report = vla.extract(
            paths, captions=captions, workspace=folder, choice=vla.EncoderChoice(model="demo")
        )
    print(
        f"extracted in {time.monotonic() - began:.0f} s, {report.captions} captions\n", flush=True
    )
