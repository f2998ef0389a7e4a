"""`demo`: render a small world, extract, train, evaluate, index and search it, and compare with the
ground truth.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vla.cache.store import active_cache
from vla.errors import UsageError
from vla.evaluation.results import MetricResult
from vla.model import zero_shot_model
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.filters import VideoFilter
from vla.storage import atomic
from vla.storage.workspace import FOLDER, Workspace
from vla.threads import small_op_threads
from vla.training.checkpoint import load_model
from vla.workflows.demo_searches import (
    MAX_CLIPS,
    MIN_CLIPS,
    Example,
    count_right,
    draw_queries,
    draw_sheet,
    open_searcher,
    run_examples,
)
from vla.workflows.demo_suggestions import Suggestion, suggest
from vla.workflows.encoder_choice import EncoderChoice, query_encoder
from vla.workflows.evaluate import evaluate
from vla.workflows.extract import extract
from vla.workflows.index import index
from vla.workflows.open_workspace import open_workspace
from vla.workflows.train import DEFAULT_RUN, train
from vla.world.clips import Clip, plan_clips, write_captions, write_clips

DEFAULT_FOLDER = "vla-demo"
TEST_SHARE = 0.25
SHEET = "searches.png"
_CLIPS = "clips"
_TEST_CLIPS = VideoFilter(include=(f"{_CLIPS}/test-*",))
_GROUPS = ("retrieval", "partial", "moments", "questions")
_SETTINGS = {
    "heads": "moments,open_qa",
    "head_options": {"moments": {"width": 64, "depth": 2}, "open_qa": {"width": 64}},
}
"""Heads narrower than the default ones, which take most of the training time."""


@dataclass
class DemoReport:
    """Result of the demo.

    Attributes:
        folder: the folder with all files.
        clips: number of rendered clips by split.
        metrics: metrics of the trained run on the test clips, each with that of the frozen encoder
            and the interval of the difference.
        alpha: interpolation between zero-shot (0) and trained (1) weights, chosen on validation
            clips.
        used: whether the run is significantly better than the zero-shot encoder there, so that the
            index uses it.
        verdict: that comparison in words.
        rule: how the searches were chosen, in words.
        examples: searches with known answers.
        sheet: path of a picture of their first hits.
        suggestions: commands to try next, in the folder.
        seconds: wall-clock time of each stage.
    """

    folder: str
    clips: dict[str, int] = field(default_factory=dict)
    metrics: list[MetricResult] = field(default_factory=list)
    alpha: float = 0.0
    used: bool = False
    verdict: str = ""
    rule: str = ""
    examples: list[Example] = field(default_factory=list)
    sheet: str = ""
    suggestions: list[Suggestion] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(replace(self, metrics=[])) | {"metrics": [m.to_json() for m in self.metrics]}


def demo(
    folder: Path | None = None,
    *,
    clips: int = 320,
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> DemoReport:
    """Render `clips` clips into `folder` and run every stage on them; finished stages are skipped.

    A quarter of the clips are test clips: never used in training, and in counterfactual pairs that
    differ only in time. They alone are searched for the examples.

    Args:
        folder: output folder; None for `vla-demo` in the current folder.
        clips: number of clips.
        seed: of clips, training and searches.
        progress: called during each stage.

    Raises:
        UsageError: `folder` contains other files, or `clips` is below 12.
    """
    if clips < 12:
        raise UsageError(f"the demo needs at least 12 clips, not {clips}")
    folder = require_folder(folder or Path(DEFAULT_FOLDER))
    report = DemoReport(str(folder))
    workspace = Workspace.open_or_create(folder)
    stage = Stopwatch(report.seconds, progress)
    tests = max(4, 2 * round(clips * TEST_SHARE / 2))  # counterfactual pairs
    train_clips = _in_folder(plan_clips("train", clips - tests, seed, counterfactual_fraction=0.75))
    test_clips = _in_folder(plan_clips("test", tests, seed))
    every_clip = [*train_clips, *test_clips]
    report.clips = {"train": len(train_clips), "test": len(test_clips)}
    with stage("render"):
        (folder / _CLIPS).mkdir(exist_ok=True)
        write_clips(every_clip, folder, progress)
        captions = folder / "captions.jsonl"
        write_captions(every_clip, captions, seed, descriptions=2, questions=True)
    with stage("extract"):
        extract(
            [folder / clip.name for clip in every_clip],
            captions=captions,
            workspace=folder,
            choice=EncoderChoice(model="demo"),
            progress=progress,
        )
    with stage("train"):
        # The captions contain the split; training ignores `test`.
        run = train(workspace=folder, settings={"seed": seed, **_SETTINGS}, progress=progress)
        report.alpha, report.used, report.verdict = run.record["alpha"], run.is_better, run.verdict
    with stage("evaluate"):
        evaluation = evaluate(
            workspace=folder, run=DEFAULT_RUN, split="test", tasks=_GROUPS, search=False, progress=progress
        )  # fmt: skip
        report.metrics = list(evaluation.figures)
    with stage("index"):
        index(workspace=folder, progress=progress)
    with stage("search"), small_op_threads():
        report.rule = (
            f"drawn at random (seed {seed}) from all things and events that {MIN_CLIPS} to "
            f"{MAX_CLIPS} of the {tests} test clips show; only test clips are searched"
        )
        report.examples = _search(workspace, test_clips, seed)
        report.sheet = str(folder / SHEET)
        atomic.write_bytes(folder / SHEET, draw_sheet(report.examples, workspace, _explain(report)))
    with stage("suggest"), small_op_threads():
        report.suggestions = suggest(open_workspace(folder), every_clip, seed)
    return report


def require_folder(folder: Path) -> Path:
    """Return the absolute path of a folder that is new, empty, or of an earlier demo.

    Raises UsageError for any other.
    """
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: the demo needs a folder")
    if folder.exists() and not (folder / FOLDER).is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and contains no demo: use another folder")
    return folder


class Stopwatch:
    """Measure the time of each stage: `with stopwatch("stage"):`; reports the start of a stage."""

    def __init__(self, seconds: dict[str, float], progress: ProgressCallback) -> None:
        self._seconds, self._progress, self._stage, self._began = seconds, progress, "", 0.0

    def __call__(self, stage: str) -> Stopwatch:
        """Name the next stage."""
        self._stage = stage
        return self

    def __enter__(self) -> None:
        self._progress(Progress("demo", message=f"{self._stage} ...", level="note"))
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._stage] = round(time.monotonic() - self._began, 1)


def _in_folder(clips: list[Clip]) -> list[Clip]:
    """Return `clips` with names that start with the folder of the clips, as those of the videos."""
    return [
        replace(
            clip,
            name=f"{_CLIPS}/{clip.name}",
            counterfactual=clip.counterfactual and f"{_CLIPS}/{clip.counterfactual}",
        )
        for clip in clips
    ]


def _search(workspace: Workspace, clips: list[Clip], seed: int) -> list[Example]:
    """Search the test clips with the trained run and with the frozen encoder."""
    cache = active_cache(workspace.caches)
    encoder = query_encoder(cache, "auto", "auto")
    run, frozen = (
        open_searcher(workspace, cache, model, encoder)
        for model in (
            load_model(workspace.runs / DEFAULT_RUN)[0],
            zero_shot_model(cache.spec.dim, 1.0),
        )
    )
    return run_examples(draw_queries(clips, seed), run, frozen, _TEST_CLIPS)


def _explain(report: DemoReport) -> str:
    """Return the text at the top of the contact sheet."""
    frozen, ours = count_right(report.examples, 2)
    return (
        f"Searches {report.rule}. Each hit: its start, its best frame and its end. Right (tick): the thing "
        "is on screen, or the event happens, at the best frame. Right among the first two: "
        f"frozen encoder {frozen} of {len(report.examples)}, trained run {ours}."
    )
