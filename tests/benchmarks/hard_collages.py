"""Does a trained head find moments that cosines do not? Hard collages, beside simple methods.

    python tests/benchmarks/hard_collages.py [FOLDER] [--seeds 3] [--heads moments]
        [--levels segment] [--epochs 0] [--curve [10]] [--videos 0]

The collages are made by the shared tool ($VLA_SHARED_DATA) of real CLIP features: scenes of classes
that look alike, a background, cross-fades. Each seed has its own 300 training and 80 validation
collages, 120 test collages of the classes of the training (seen) and 120 of others (unseen). Tests
and validation ask in other words than the training. `--epochs 0` is the library's default;
`--videos N` takes at most N collages of each split.

Rows: the constant window that fits the training best; with the frozen encoder windows by contrast
(the sum of the cosines over their mean, divided by the root of the length), the moments of the
similarity curve, and the untrained head; then the same with the cosines of the run at its selected
alpha, also at 1 if another was selected, since heads see these, and the trained head. Columns: seen
| unseen, mean and standard deviation over seeds. Then the paired difference of the trained head to
the better of untrained head and windows by contrast on the run's cosines, with the 95 % interval of
a bootstrap over videos; CPU seconds of the training and numbers of parameters; with `--curve N` the
validation scores of the first N epochs, 0 being the frozen encoder with the untrained head. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _moments import NUM_MOMENTS, cosine_curves, moment_values, moments_by_curve
from _real_captions import require_tool
from _runs import CLIP_SCALE, TrainedModel, cpu_seconds, outcome, train_corpus
from _tables import (
    Row,
    Values,
    difference,
    mean_and_deviation,
    mean_of,
    print_table,
    row_of,
)

from vla.batches.corpus import Corpus, Query
from vla.evaluation.head_answers import answer
from vla.evaluation.predictions import CorpusPredictions
from vla.features import FeatureSpec, FrameFeatures
from vla.metrics.moment_baselines import fit_constant_window
from vla.model import AlignmentModel, ModelConfig, zero_shot_model
from vla.training.config import TrainConfig
from vla.training.split import Split, hold_out_concepts

TEST_SPLITS = {"test_seen": "seen", "test_unseen": "unseen"}
MEASURES = ("R1@0.5", "R1@0.7", "mAP")
CLIP_SECONDS = 2.0
MIN_FRAMES, MAX_FRAMES = 2, 24
TASK = "moment by head"
UNTRAINED, CONTRAST, HEAD = (
    "frozen, untrained head",
    "run, windows by contrast",
    "run, trained head",
)
Moments = list[np.ndarray]


def make(folder: Path, seed: int) -> Path:
    """The collages of a seed, made if they are not there."""
    root = folder / f"collages-{seed}"
    if not (root / "complete").is_file():
        tool = require_tool("make_hard_collage.py")
        command = [sys.executable, str(tool), str(root), "--seed", str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (root / "complete").touch()
    return root


def load(root: Path, splits: list[str], limit: int) -> tuple[Corpus, np.ndarray]:
    """The collages of some splits, and the split of each as a number; `limit` bounds each split, 0 is all."""
    videos: list[FrameFeatures] = []
    queries: list[Query] = []
    vectors: dict[str, np.ndarray] = {}
    numbers: list[int] = []
    for number, split in enumerate(splits):
        text = (root / "data" / f"highlight_{split}_release.jsonl").read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        names = list(dict.fromkeys(line["vid"] for line in lines))[: limit or None]
        rows = {name: len(videos) + i for i, name in enumerate(names)}
        for name in names:
            values = np.load(root / "features" / "clip_features" / f"{name}.npz")["features"]
            times = np.arange(len(values)) * CLIP_SECONDS
            duration = len(values) * CLIP_SECONDS
            videos.append(FrameFeatures(name, values.astype(np.float16), times, duration))
            numbers.append(number)
        for line in lines:
            if line["vid"] in rows:
                path = root / "features" / "clip_text_features" / f"qid{line['qid']}.npz"
                vectors[line["query"]] = np.load(path)["pooler_output"]
                spans = np.array(line["relevant_windows"], np.float64)
                chunks = (line["query"],)
                queries.append(Query(line["query"], chunks, chunks, rows[line["vid"]], spans, None))
    return Corpus(videos, queries, vectors, (), {}), np.array(numbers)


def contrast_windows(similarities: np.ndarray) -> np.ndarray:
    """`(N, 3)` start, end and contrast of the ten best windows of 2 to 24 frames that overlap by less than half."""
    count = len(similarities)
    total = np.append(0.0, np.cumsum(similarities - similarities.mean()))
    windows = [
        (first, last, (total[last] - total[first]) / np.sqrt(last - first))
        for first in range(count)
        for last in range(first + MIN_FRAMES, min(count, first + MAX_FRAMES) + 1)
    ]
    best: list[tuple[int, int, float]] = []
    for first, last, contrast in sorted(windows, key=lambda window: -window[2]):
        shared = [
            max(0, min(last, b) - max(first, a)) / (max(last, b) - min(first, a))
            for a, b, _ in best
        ]
        if all(overlap < 0.5 for overlap in shared):
            best.append((first, last, contrast))
        if len(best) == NUM_MOMENTS:
            break
    return np.array(best) * (CLIP_SECONDS, CLIP_SECONDS, 1.0)


def by_contrast(model: AlignmentModel, corpus: Corpus) -> Moments:
    curves = cosine_curves(CorpusPredictions(model, corpus, heads=False))
    return [contrast_windows(curve.astype(np.float64)) for curve in curves]


def by_curve(model: AlignmentModel, corpus: Corpus) -> Moments:
    return moments_by_curve(CorpusPredictions(model, corpus, heads=False))


def by_head(model: AlignmentModel, corpus: Corpus) -> Moments:
    """Predictions of the head in the order of the queries."""
    answers = answer(model, corpus)[TASK]
    rows = {id(query): row for row, query in enumerate(answers.examples)}
    return [answers.predictions[rows[id(query)]][:NUM_MOMENTS] for query in corpus.queries]


def by_constant_window(known: Corpus, corpus: Corpus) -> Moments:
    window = fit_constant_window([q.spans for q in known.queries], durations(known))
    return window.predict(durations(corpus))


def durations(corpus: Corpus) -> list[float]:
    return [corpus.videos[q.video].duration_seconds for q in corpus.queries]


def train_seed(root: Path, seed: int, arguments: argparse.Namespace) -> tuple[TrainedModel, Corpus]:
    """The run of a seed, and its training collages."""
    corpus, part = load(root, ["train", "val"], arguments.videos)
    epochs = {"epochs": arguments.epochs} if arguments.epochs else {}
    settings = {"levels": arguments.levels, "heads": arguments.heads, "seed": seed, **epochs}
    split = Split(np.flatnonzero(part == 0), np.flatnonzero(part == 1))
    fraction = TrainConfig.from_mapping(settings, "settings").held_out_concepts
    split = hold_out_concepts(split, corpus, fraction, seed)
    spec = FeatureSpec("benchmark", "clip-vit-b32", "", "", "", corpus.dim)
    run = train_corpus(corpus, split, spec, settings, run_folder(root, arguments, seed))
    return run, corpus.subset(np.flatnonzero(part == 0))


def run_folder(root: Path, arguments: argparse.Namespace, seed: int) -> Path:
    return root / f"{arguments.levels}-{arguments.heads}-{seed}"


def untrained_model(model: AlignmentModel, seed: int) -> AlignmentModel:
    """The frozen encoder with the heads of `model` before their training."""
    torch.manual_seed(seed)
    config = ModelConfig(model.config.dim, scale=CLIP_SCALE, heads=model.config.heads)
    return AlignmentModel(config).eval()


def methods(
    model: AlignmentModel, known: Corpus, seed: int
) -> dict[str, Callable[[Corpus], Moments]]:
    """By name of the row, its moments in a corpus."""
    frozen, untrained = zero_shot_model(known.dim, CLIP_SCALE), untrained_model(model, seed)

    def at_one(corpus: Corpus) -> Moments:
        with model.with_alpha(1.0):
            return by_contrast(model, corpus)

    return {
        "constant window": lambda corpus: by_constant_window(known, corpus),
        "frozen, windows by contrast": lambda corpus: by_contrast(frozen, corpus),
        "frozen, similarity curve": lambda corpus: by_curve(frozen, corpus),
        UNTRAINED: lambda corpus: by_head(untrained, corpus),
        CONTRAST: lambda corpus: by_contrast(model, corpus),
        "run, similarity curve": lambda corpus: by_curve(model, corpus),
        "run at alpha 1, windows by contrast": at_one,
        HEAD: lambda corpus: by_head(model, corpus),
    }


def measure(
    find: Callable[[Corpus], Moments], corpora: dict[str, Corpus], seed: int
) -> dict[str, Values]:
    """The columns of each test split."""
    by_column = {}
    for split, corpus in corpora.items():
        values = moment_values(corpus.queries, find(corpus))
        videos = np.array([f"{seed} {split} {query.video}" for query in corpus.queries])
        by_column |= {f"{name} {split}": Values(values[name], videos) for name in MEASURES}
    return by_column


def in_pairs(cells: list[str]) -> list[str]:
    return [" \\| ".join(cells[i : i + len(TEST_SPLITS)]) for i in range(0, len(cells), 2)]


def print_moments(rows: dict[str, Row]) -> None:
    """Print all rows, and the differences of the trained head to the better floor."""
    titles = [f"{name}, seen \\| unseen" for name in MEASURES]
    columns = [f"{name} {split}" for name in MEASURES for split in TEST_SPLITS.values()]
    cells = {
        name: in_pairs([mean_and_deviation(row[column]) for column in columns])
        for name, row in rows.items()
    }
    print_table("", titles, cells)
    floors = {name: rows[name] for name in (UNTRAINED, CONTRAST)}
    best = [max(floors, key=lambda name: mean_of(floors[name][column])) for column in columns]
    gains = [difference(rows[HEAD][c], floors[b][c]) for c, b in zip(columns, best, strict=True)]
    print_table("", titles, {"the better floor": in_pairs(best), "trained head": in_pairs(gains)})


def print_costs(runs: list[TrainedModel], folders: list[Path]) -> None:
    cells = {}
    for seed, ((model, run), folder) in enumerate(zip(runs, folders, strict=True)):
        sizes = [
            sum(p.numel() for p in module.parameters()) for module in (model.projector, model.heads)
        ]
        record = run.record
        cells[f"seed {seed}"] = [
            outcome(run), f"{record['alpha']:g}", f"{record['centring']:g}", f"{record['epochs']}",
            f"{cpu_seconds(folder):.0f}", *(f"{size:,}" for size in sizes),
        ]  # fmt: skip
    columns = ["verdict", "alpha", "centring", "epochs", "CPU seconds", "projector", "head"]
    print_table("Runs; the last columns are numbers of parameters", columns, cells)


def print_validation(runs: list[TrainedModel], count: int) -> None:
    """Print the scores of the first `count` epochs, as the history of each run has them."""
    cells = {}
    for seed, (_, run) in enumerate(runs):
        results = [run.record["before"], *run.record["history"][:count]]
        cells[f"seed {seed}, score"] = [f"{100 * r.get('score', np.nan):.1f}" for r in results]
        for name in MEASURES:
            values = [head_value(r, name) for r in results]
            cells[f"seed {seed}, {TASK} {name}"] = [f"{value:.1f}" for value in values]
    longest = max(len(row) for row in cells.values())
    cells = {name: row + [""] * (longest - len(row)) for name, row in cells.items()}
    print_table("Validation by epoch, percent", [str(epoch) for epoch in range(longest)], cells)


def head_value(result: dict[str, Any], name: str) -> float:
    return float(result.get("metrics", {}).get(TASK, {}).get(name, np.nan))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("hard-collages"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--heads", default="moments")
    parser.add_argument("--levels", default="segment")
    parser.add_argument("--epochs", type=int, default=0, help="0: the default of the library")
    parser.add_argument("--curve", type=int, nargs="?", const=10, default=0, metavar="N")
    parser.add_argument("--videos", type=int, default=0, help="collages of each split; 0: all")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    require_tool("make_hard_collage.py")
    folder.mkdir(parents=True, exist_ok=True)
    runs, folders = [], []
    by_seed: dict[str, list[dict[str, Values]]] = {}
    for seed in range(arguments.seeds):
        root = make(folder, seed)
        run, known = train_seed(root, seed, arguments)
        runs.append(run)
        folders.append(run_folder(root, arguments, seed))
        corpora = {
            title: load(root, [split], arguments.videos)[0] for split, title in TEST_SPLITS.items()
        }
        for name, find in methods(run[0], known, seed).items():
            by_seed.setdefault(name, []).append(measure(find, corpora, seed))
    print_moments({name: row_of(values) for name, values in by_seed.items()})
    print_costs(runs, folders)
    if arguments.curve:
        print_validation(runs, arguments.curve)


if __name__ == "__main__":
    main()
