"""A set of clips on disk with everything that is true of them: what demo, tests and benchmarks are run on."""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla.progress import Progress, ProgressCallback, silent
from vla.world.language import description, moments
from vla.world.render import write_clip
from vla.world.sampling import sample_scene, twin
from vla.world.scene import Scene


@dataclass(frozen=True)
class Clip:
    """One clip to be: its file name, its scene, the split it belongs to, and its twin's file name if it has one."""

    name: str
    scene: Scene
    split: str
    twin: str = ""


def plan_clips(split: str, count: int, seed: int, *, novel: bool = False, twins: float = 1.0) -> list[Clip]:
    """Exactly `count` clips of one split.

    Args:
        split: name of the split; also the first part of every file name.
        count: how many.
        seed: equal seeds give equal clips.
        novel: show combinations of colour and shape that nothing was trained on.
        twins: share of scenes that come with a twin, the same things doing the opposite or in another order, where one
            can be drawn. No single frame tells twins apart.
    """
    rng = np.random.default_rng([seed, *split.encode()])
    clips: list[Clip] = []
    while len(clips) < count:
        scene = sample_scene(rng, novel=novel, events=(2, 5))
        name = f"{split}-{len(clips):05d}.mp4"
        other = twin(scene, rng) if rng.random() < twins and len(clips) + 2 <= count else None
        if other is None:
            clips.append(Clip(name, scene, split))
            continue
        second = f"{split}-{len(clips) + 1:05d}.mp4"
        clips += [Clip(name, scene, split, second), Clip(second, other, split, name)]
    return clips


def write_clips(clips: list[Clip], folder: Path, progress: ProgressCallback = silent) -> None:
    """Render `clips` into `folder`, on all cores; what is there already is left."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [c for c in clips if not (folder / c.name).is_file()]
    workers = min(os.cpu_count() or 1, 8)
    # spawn: a fork would copy the locks of whatever threads torch has already started.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = pool.map(_write, todo, [folder] * len(todo), chunksize=max(1, min(16, len(todo) // (2 * workers))))
        for done, _ in enumerate(jobs, 1):
            progress(Progress("render", done, len(todo)))


def write_captions(clips: list[Clip], path: Path, seed: int, descriptions: int = 1) -> None:
    """What is true of `clips`, as JSONL: descriptions of whole clips, and one timed sentence for each event."""
    rng = np.random.default_rng([seed, 4])
    lines = []
    for clip in clips:
        head: dict[str, object] = {"video": clip.name, "split": clip.split}
        told = list(dict.fromkeys(description(clip.scene, rng) for _ in range(descriptions)))
        lines += [{**head, "caption": text} for text in told]
        lines += [
            {**head, "caption": m.text, "start": round(m.start, 3), "end": round(m.end, 3)}
            for m in moments(clip.scene, rng)
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"id": i, **line}) + "\n" for i, line in enumerate(lines)), "utf-8")


def _write(clip: Clip, folder: Path) -> None:
    # Under another name first: a killed rendering leaves no half clip that would count as done.
    partial = folder / f".{clip.name}"
    write_clip(clip.scene, partial)
    partial.replace(folder / clip.name)
