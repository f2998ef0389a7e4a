"""The whole job on a world of its own: render clips, extract, train, index, search, and compare with the known truth."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.batches.corpus import load_corpus
from vla.cache.store import active_cache
from vla.captions import store as caption_store
from vla.errors import UsageError
from vla.evaluation.validation import validate
from vla.model import zero_shot_model
from vla.progress import Progress, ProgressCallback, silent
from vla.spans import iou
from vla.storage.workspace import FOLDER, Workspace
from vla.training.checkpoint import load_model
from vla.workflows.encoder_choice import EncoderChoice
from vla.workflows.extract import extract
from vla.workflows.index import index
from vla.workflows.search import open_workspace
from vla.workflows.train import DEFAULT_RUN, train
from vla.world.clips import Clip, plan_clips, write_captions, write_clips
from vla.world.language import mentions_appearance
from vla.world.scene import Event, Scene

TEST_SHARE = 0.25
_SEARCHES = 5
_SETTINGS = {"heads": "moments", "head_options": {"moments": {"width": 64, "depth": 2}}}
"""A head of a quarter of the default's width: most of the training's time goes into it."""


@dataclass(frozen=True)
class Example:
    """A search whose answer is known.

    Attributes:
        query: what was asked: a timed sentence about a clip that nothing was trained on.
        truth: the clip it was written for, and when.
        found: the first hit's clip and time.
        right: moments of all clips in which just that happens; the one it was written for among them.
        rank: of the first hit that is one of them (IoU of at least 0.3); 0 if none of ten is.
    """

    query: str
    truth: tuple[str, float, float]
    found: tuple[str, float, float]
    right: int
    rank: int


@dataclass
class DemoReport:
    """What the demo did and measured.

    Attributes:
        folder: where everything lies.
        clips: rendered clips by split.
        before: metrics of the frozen encoder on the test clips.
        after: metrics with the trained run.
        alpha: how far the run was turned from frozen (0) to trained (1), as chosen on held-out clips.
        used: whether the run plainly beat the frozen encoder there, and so made the index.
        verdict: how the two compare there, in words.
        examples: searches with known answers.
        seconds: wall-clock time of each stage.
    """

    folder: str
    clips: dict[str, int] = field(default_factory=dict)
    before: dict[str, dict[str, float]] = field(default_factory=dict)
    after: dict[str, dict[str, float]] = field(default_factory=dict)
    alpha: float = 0.0
    used: bool = False
    verdict: str = ""
    examples: list[Example] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def demo(
    folder: Path = Path("vla-demo"), *, clips: int = 320, seed: int = 0, progress: ProgressCallback = silent
) -> DemoReport:
    """Render `clips` clips into `folder` and run every stage over them; a second call goes on where the first was.

    A quarter of the clips are test clips: never trained on, and made up of twins that only time tells apart.

    Raises:
        UsageError: `folder` holds something else, or there are fewer than 12 clips.
    """
    if clips < 12:
        raise UsageError(f"the demo needs at least 12 clips, not {clips}")
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"the demo makes a folder, and {folder} is a file: name another")
    if folder.exists() and not (folder / FOLDER).is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no demo: name another folder")
    report = DemoReport(str(folder))
    Workspace.open_or_create(folder)
    world = _Stopwatch(report, progress)
    tests = max(4, 2 * round(clips * TEST_SHARE / 2))  # pairs of twins
    train_clips = plan_clips("train", clips - tests, seed, counterfactual_fraction=0.75)
    test_clips = plan_clips("test", tests, seed)
    report.clips = {"train": len(train_clips), "test": len(test_clips)}
    with world("render"):
        write_clips([*train_clips, *test_clips], folder / "clips", progress)
        write_captions([*train_clips, *test_clips], folder / "captions.jsonl", seed, descriptions=2)
    with world("extract"):
        choice = EncoderChoice(model="demo")
        paths = [folder / "clips" / c.name for c in (*train_clips, *test_clips)]
        extract(paths, captions=folder / "captions.jsonl", workspace=folder, choice=choice, progress=progress)
    with world("train"):
        # The captions name the split, and what is called `test` is left alone.
        run = train(workspace=folder, settings={"seed": seed, **_SETTINGS}, progress=progress)
        report.alpha, report.used, report.verdict = run.record["alpha"], run.is_better, run.verdict
    with world("evaluate"):
        _measure(folder, report)
    with world("index"):
        index(workspace=folder, progress=progress)
    with world("search"):
        _search(folder, test_clips, [*train_clips, *test_clips], report)
    return report


class _Stopwatch:
    """`with stopwatch("stage"):` notes how long a stage took, and says when it begins."""

    def __init__(self, report: DemoReport, progress: ProgressCallback) -> None:
        self._report, self._progress, self._stage, self._began = report, progress, "", 0.0

    def __call__(self, stage: str) -> _Stopwatch:
        self._stage = stage
        return self

    def __enter__(self) -> None:
        self._progress(Progress("demo", message=f"{self._stage} ...", level="note"))
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._report.seconds[self._stage] = round(time.monotonic() - self._began, 1)


def _measure(folder: Path, report: DemoReport) -> None:
    """Frozen and trained on the test clips."""
    place = Workspace(folder)
    cache = active_cache(place.caches)
    corpus = load_corpus(cache, [a for a in caption_store.load(place) if a.split == "test"])
    report.before = validate(zero_shot_model(cache.spec.dim, 1.0), corpus).metrics
    report.after = validate(load_model(place.runs / DEFAULT_RUN)[0], corpus).metrics


def _search(folder: Path, tests: list[Clip], clips: list[Clip], report: DemoReport) -> None:
    """A handful of searches over all `clips`, each for a sentence about one of `tests`."""
    place = Workspace(folder)
    opened = open_workspace(folder)
    happening: dict[tuple[object, ...], list[tuple[str, float, float]]] = defaultdict(list)
    for clip in clips:
        for event in clip.scene.events:
            happening[_gist(clip.scene, event)].append((f"clips/{clip.name}", event.start, event.end))
    scenes = {f"clips/{c.name}": c.scene for c in tests}
    # Size and texture would have to be compared, too.
    timed = [a for a in caption_store.load(place) if a.video in scenes and a.spans and not mentions_appearance(a.query)]
    # One of each of several clips, spread over the test clips.
    for a in timed[:: max(1, len(timed) // _SEARCHES)][:_SEARCHES]:
        hits = opened.search(a.query, k=10)
        scene = scenes[a.video]
        nearest = int(np.abs(np.array([e.start for e in scene.events]) - a.spans[0][0]).argmin())
        right = happening[_gist(scene, scene.events[nearest])]
        ranks = [
            h.rank
            for h in hits
            if any(h.video_id == v and iou([(h.start, h.end)], [(s, e)])[0, 0] >= 0.3 for v, s, e in right)
        ]
        first = hits[0]
        found = (first.video_id, first.start, first.end)
        report.examples.append(Example(a.query, (a.video, *a.spans[0]), found, len(right), ranks[0] if ranks else 0))


def _gist(scene: Scene, event: Event) -> tuple[object, ...]:
    """What a sentence about `event` tells, if it does not tell of size and texture."""
    things = [(scene.objects[i].color, scene.objects[i].shape) for i in (event.actor, event.target) if i >= 0]
    # Nobody says from which side something is hit.
    return (event.kind, event.color, event.kind != "hit" and event.direction, *things)
