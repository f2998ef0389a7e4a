"""`demo`: render a small world, extract, train, index and search it, and compare with the ground
truth.
"""

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
from vla.workflows.open_workspace import open_workspace
from vla.workflows.train import DEFAULT_RUN, train
from vla.world.clips import Clip, plan_clips, write_captions, write_clips
from vla.world.language import mentions_appearance
from vla.world.scene import Event, Scene

TEST_SHARE = 0.25
_SEARCHES = 5
_SETTINGS = {"heads": "moments", "head_options": {"moments": {"width": 64, "depth": 2}}}
"""A head a quarter as wide as the default, which takes most of the training time."""


@dataclass(frozen=True)
class Example:
    """A search with a known answer.

    Attributes:
        query: a timed sentence about a test clip.
        truth: the clip and time that it was written for.
        found: the clip and time of the first hit.
        right: number of moments in all clips with the same event, including the true one.
        rank: rank of the first hit on one of these (IoU of at least 0.3); 0 if none of the ten
            hits is one.
    """

    query: str
    truth: tuple[str, float, float]
    found: tuple[str, float, float]
    right: int
    rank: int


@dataclass
class DemoReport:
    """Result of the demo.

    Attributes:
        folder: the folder with all files.
        clips: number of rendered clips by split.
        before: metrics of the zero-shot encoder on the test clips.
        after: metrics of the trained run.
        alpha: interpolation between zero-shot (0) and trained (1) weights, chosen on validation
            clips.
        used: whether the run is significantly better than the zero-shot encoder there, so that the
            index uses it.
        verdict: that comparison in words.
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
        """Return a JSON object."""
        return asdict(self)


def demo(
    folder: Path = Path("vla-demo"),
    *,
    clips: int = 320,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> DemoReport:
    """Render `clips` clips into `folder` and run every stage on them; finished stages are skipped.

    A quarter of the clips are test clips: never used in training, and in counterfactual pairs that
    differ only in time.

    Raises:
        UsageError: `folder` contains other files, or `clips` is below 12.
    """
    if clips < 12:
        raise UsageError(f"the demo needs at least 12 clips, not {clips}")
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: the demo needs a folder")
    if folder.exists() and not (folder / FOLDER).is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and contains no demo: use another folder")
    report = DemoReport(str(folder))
    Workspace.open_or_create(folder)
    world = _Stopwatch(report, progress)
    tests = max(4, 2 * round(clips * TEST_SHARE / 2))  # counterfactual pairs
    train_clips = plan_clips("train", clips - tests, seed, counterfactual_fraction=0.75)
    test_clips = plan_clips("test", tests, seed)
    report.clips = {"train": len(train_clips), "test": len(test_clips)}
    with world("render"):
        write_clips([*train_clips, *test_clips], folder / "clips", progress)
        write_captions([*train_clips, *test_clips], folder / "captions.jsonl", seed, descriptions=2)
    with world("extract"):
        choice = EncoderChoice(model="demo")
        paths = [folder / "clips" / c.name for c in (*train_clips, *test_clips)]
        extract(
            paths,
            captions=folder / "captions.jsonl",
            workspace=folder,
            choice=choice,
            progress=progress,
        )
    with world("train"):
        # The captions contain the split; training ignores `test`.
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
    """Measure the time of each stage: `with stopwatch("stage"):`; reports the start of a stage."""

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
    """Evaluate the zero-shot encoder and the trained run on the test clips."""
    workspace = Workspace(folder)
    cache = active_cache(workspace.caches)
    corpus = load_corpus(cache, [a for a in caption_store.load(workspace) if a.split == "test"])
    report.before = validate(zero_shot_model(cache.spec.dim, 1.0), corpus).metrics
    report.after = validate(load_model(workspace.runs / DEFAULT_RUN)[0], corpus).metrics


def _search(folder: Path, tests: list[Clip], clips: list[Clip], report: DemoReport) -> None:
    """Run a few searches over all `clips`, each for a sentence about one of `tests`."""
    workspace = Workspace(folder)
    opened_workspace = open_workspace(folder)
    moments_by_event: dict[tuple[object, ...], list[tuple[str, float, float]]] = defaultdict(list)
    for clip in clips:
        for event in clip.scene.events:
            moments_by_event[_event_key(clip.scene, event)].append(
                (f"clips/{clip.name}", event.start, event.end)
            )
    scenes = {f"clips/{c.name}": c.scene for c in tests}
    # Sentences about size and texture are excluded, as `_event_key` does not include them.
    timed_captions = [
        a
        for a in caption_store.load(workspace)
        if a.video in scenes and a.spans and not mentions_appearance(a.query)
    ]
    # Example sentences of different clips, spread over the test clips.
    for a in timed_captions[:: max(1, len(timed_captions) // _SEARCHES)][:_SEARCHES]:
        hits = opened_workspace.search(a.query, k=10)
        scene = scenes[a.video]
        nearest = int(np.abs(np.array([e.start for e in scene.events]) - a.spans[0][0]).argmin())
        true_moments = moments_by_event[_event_key(scene, scene.events[nearest])]
        ranks = [
            h.rank
            for h in hits
            if any(
                h.video_id == v and iou([(h.start, h.end)], [(s, e)])[0, 0] >= 0.3
                for v, s, e in true_moments
            )
        ]
        first = hits[0]
        first_moment = (first.video_id, first.start, first.end)
        report.examples.append(
            Example(
                a.query,
                (a.video, *a.spans[0]),
                first_moment,
                len(true_moments),
                ranks[0] if ranks else 0,
            )
        )


def _event_key(scene: Scene, event: Event) -> tuple[object, ...]:
    """Return the content of a sentence about `event` that mentions neither size nor texture."""
    things = [
        (scene.objects[i].color, scene.objects[i].shape)
        for i in (event.actor, event.target)
        if i >= 0
    ]
    # Sentences do not mention the direction of a hit.
    return (event.kind, event.color, event.kind != "hit" and event.direction, *things)
