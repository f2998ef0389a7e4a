"""Sets of rendered clips with ground-truth captions, for the demo, tests and benchmarks."""

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
from vla.world.language import questions as questions_about
from vla.world.render import write_clip
from vla.world.sampling import counterfactual, sample_scene
from vla.world.scene import Scene


@dataclass(frozen=True)
class Clip:
    """A planned clip: file name, scene, split, and the file name of its counterfactual, if any."""

    name: str
    scene: Scene
    split: str
    counterfactual: str = ""


def plan_clips(
    split: str, count: int, seed: int, *, novel: bool = False, counterfactual_fraction: float = 1.0
) -> list[Clip]:
    """Plan exactly `count` clips of one split.

    Args:
        split: name of the split; also the prefix of every file name.
        count: number of clips.
        seed: equal seeds give equal clips.
        novel: show combinations of colour and shape that are never in training data.
        counterfactual_fraction: fraction of scenes with a counterfactual, if one can be drawn: the
            same objects with an opposite event or another order of events. No single frame
            distinguishes the two.
    """
    rng = np.random.default_rng([seed, *split.encode()])
    clips: list[Clip] = []
    while len(clips) < count:
        scene = sample_scene(rng, novel=novel, events=(2, 5))
        name = f"{split}-{len(clips):05d}.mp4"
        has_room = len(clips) + 2 <= count
        other = (
            counterfactual(scene, rng)
            if rng.random() < counterfactual_fraction and has_room
            else None
        )
        if other is None:
            clips.append(Clip(name, scene, split))
            continue
        second = f"{split}-{len(clips) + 1:05d}.mp4"
        clips += [Clip(name, scene, split, second), Clip(second, other, split, name)]
    return clips


def write_clips(clips: list[Clip], folder: Path, progress: ProgressCallback = silent) -> None:
    """Render `clips` into `folder` on all cores; existing files are skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    todo = [c for c in clips if not (folder / c.name).is_file()]
    workers = min(os.cpu_count() or 1, 8)
    # spawn: a fork would copy the locks of threads that torch has started.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        jobs = pool.map(
            _write,
            todo,
            [folder] * len(todo),
            chunksize=max(1, min(16, len(todo) // (2 * workers))),
        )
        for done, _ in enumerate(jobs, 1):
            progress(Progress("render", done, len(todo)))


def write_captions(
    clips: list[Clip], path: Path, seed: int, descriptions: int = 1, questions: bool = False
) -> None:
    """Write captions of `clips` as JSONL: descriptions of whole clips, and one timed sentence per
    event.

    Args:
        clips: the clips.
        path: the file.
        seed: equal seeds give equal texts.
        descriptions: number of descriptions of a clip; equal ones are written once.
        questions: also write open-ended questions with their answers.
    """
    rng = np.random.default_rng([seed, 4])
    question_rng = np.random.default_rng([seed, 5])
    lines = []
    for clip in clips:
        head: dict[str, object] = {"video": clip.name, "split": clip.split}
        texts = list(dict.fromkeys(description(clip.scene, rng) for _ in range(descriptions)))
        lines += [{**head, "caption": text} for text in texts]
        lines += [
            {**head, "caption": m.text, "start": round(m.start, 3), "end": round(m.end, 3)}
            for m in moments(clip.scene, rng)
        ]
        lines += [
            {**head, "caption": q.text, "question": {"answers": [q.answer]}}
            for q in (questions_about(clip.scene, question_rng) if questions else ())
            if q.kind == "open"
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps({"id": i, **line}) + "\n" for i, line in enumerate(lines)), "utf-8"
    )


def _write(clip: Clip, folder: Path) -> None:
    # Rendered under another name first: an interrupted process leaves no partial clip under the
    # final name.
    path = folder / clip.name
    partial = path.with_name(f".{path.name}")
    write_clip(clip.scene, partial)
    partial.replace(path)
