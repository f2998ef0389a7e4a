"""The whole job on a world of its own: render clips, extract, train, index, search, and compare with the known truth."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla.batch import load_corpus
from vla.cache import captions as caption_store
from vla.cache.store import current_cache
from vla.errors import UsageError
from vla.evaluate.run import evaluate
from vla.model import frozen
from vla.progress import Progress, ProgressCallback, silent
from vla.spans import iou
from vla.stages.encoder import EncoderChoice
from vla.stages.extraction import extract
from vla.stages.indexing import index
from vla.stages.searching import open_workspace
from vla.stages.training import DEFAULT_RUN, train
from vla.train.checkpoint import load_model
from vla.workspace import FOLDER, Workspace
from vla.world.clips import Clip, plan_clips, write_captions, write_clips

TEST_SHARE = 0.34
_SEARCHES = 5


@dataclass(frozen=True)
class Example:
    """A search whose answer is known.

    Attributes:
        query: what was asked: a timed sentence about a clip that nothing was trained on.
        truth: the clip it was written for, and when.
        found: the first hit's clip and time.
        rank: of the first hit that is the right clip at the right time (IoU of at least 0.3); 0 if none of ten is.
    """

    query: str
    truth: tuple[str, float, float]
    found: tuple[str, float, float]
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
        used: whether the run beat the frozen encoder there, and so made the index.
        examples: searches with known answers.
        seconds: wall-clock time of each stage.
    """

    folder: str
    clips: dict[str, int] = field(default_factory=dict)
    before: dict[str, dict[str, float]] = field(default_factory=dict)
    after: dict[str, dict[str, float]] = field(default_factory=dict)
    alpha: float = 0.0
    used: bool = False
    examples: list[Example] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def demo(
    folder: Path = Path("vla-demo"), *, clips: int = 240, seed: int = 0, progress: ProgressCallback = silent
) -> DemoReport:
    """Render `clips` clips into `folder` and run every stage over them; a second call goes on where the first was.

    About a third of the clips are test clips: never trained on, and made up of twins that only time tells apart.

    Raises:
        UsageError: `folder` holds something else, or there are fewer than 12 clips.
    """
    if clips < 12:
        raise UsageError(f"the demo needs at least 12 clips, not {clips}")
    folder = folder.absolute()
    if folder.exists() and not (folder / FOLDER).is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty and holds no demo: name another folder")
    report = DemoReport(str(folder))
    Workspace.open_or_create(folder)
    world = _Stopwatch(report, progress)
    tests = max(4, round(clips * TEST_SHARE))
    train_clips = plan_clips("train", clips - tests, seed, twins=0.5)
    test_clips = plan_clips("test", tests, seed)
    report.clips = {"train": len(train_clips), "test": len(test_clips)}
    with world("render"):
        write_clips([*train_clips, *test_clips], folder / "clips", progress)
        write_captions(train_clips, folder / "captions-train.jsonl", seed, descriptions=2)
        write_captions(test_clips, folder / "captions-test.jsonl", seed)
    with world("extract"):
        choice = EncoderChoice(model="demo")
        for split in ("train", "test"):
            captions = folder / f"captions-{split}.jsonl"
            paths = [folder / "clips" / c.name for c in (*train_clips, *test_clips) if c.split == split]
            extract(paths, captions=captions, workspace=folder, choice=choice, progress=progress)
    with world("train"):
        run = train(
            captions=folder / "captions-train.jsonl", workspace=folder, settings={"seed": seed}, progress=progress
        )
        report.alpha, report.used = run.record["alpha"], run.is_better
    with world("evaluate"):
        _measure(folder, report)
    with world("index"):
        index(workspace=folder, progress=progress)
    with world("search"):
        _search(folder, test_clips, report)
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
    cache = current_cache(place.caches)
    corpus = load_corpus(cache, [a for a in caption_store.load(place) if a.split == "test"])
    report.before = evaluate(frozen(cache.spec.dim, 1.0), corpus).metrics
    report.after = evaluate(load_model(place.runs / DEFAULT_RUN)[0], corpus).metrics


def _search(folder: Path, clips: list[Clip], report: DemoReport) -> None:
    """A handful of searches over all clips, each for a sentence about a test clip."""
    place = Workspace(folder)
    opened = open_workspace(folder)
    wanted = {f"clips/{c.name}" for c in clips}
    timed = [a for a in caption_store.load(place) if a.video in wanted and a.spans]
    # One of each of several clips, spread over the test clips.
    for a in timed[:: max(1, len(timed) // _SEARCHES)][:_SEARCHES]:
        hits = opened.search(a.query, k=10)
        truth = (a.video, *a.spans[0])
        right = [h.rank for h in hits if h.video_id == a.video and iou([(h.start, h.end)], [a.spans[0]])[0, 0] >= 0.3]
        first = hits[0]
        report.examples.append(
            Example(a.query, truth, (first.video_id, first.start, first.end), right[0] if right else 0)
        )
