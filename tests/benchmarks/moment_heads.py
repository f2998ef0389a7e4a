"""Do heads find moments that cosines of windows do not? In the rendered world, beside what not looking scores.

    python tests/benchmarks/moment_heads.py [FOLDER] [--train 1200] [--test 400] [--seeds 1] [--heads moments] [--epochs 20]

Uses the clips and features in FOLDER (the folder `world` of `levels.py` will do), which it makes if they are not there. Each head
is trained with the projector by `vla.train`; a run that is there is used again. Prints a table in Markdown for the test clips, and one for long
videos, each of `--joined` test clips one after the other with the captions that no other of its clips has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _long_videos import joined, timed
from _moments import windows
from _world import open_world, plan

import vla
from vla.batches.corpus import Corpus, Query
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import active_cache
from vla.captions import store as caption_store
from vla.evaluation.head_answers import answer
from vla.evaluation.moment_protocol import in_video
from vla.evaluation.predictions import CorpusPredictions
from vla.metrics.moment_baselines import fit_constant_window, whole_video
from vla.model import AlignmentModel, ModelConfig, zero_shot_model
from vla.training.checkpoint import load_model

FIGURES = ("R1@0.5", "R1@0.7", "R5@0.5", "mIoU", "mAP")
SCALE = 20.0
Table = dict[str, list[dict[str, float]]]


def by_windows(model: AlignmentModel, corpus: Corpus) -> list[np.ndarray]:
    """For each timed caption the windows of its video by their cosine."""
    seen = CorpusPredictions(model, corpus)
    return windows(seen, seen.query_vectors(seen.timed_queries))


def located(queries: list[Query], predictions: list[np.ndarray]) -> dict[str, float]:
    return {name: values.value for name, values in in_video(queries, predictions).items()}


def by_head(model: AlignmentModel, corpus: Corpus) -> dict[str, float]:
    said = answer(model, corpus)["moment by head"]
    return located(said.examples, said.predictions)


def lengths(corpus: Corpus) -> list[float]:
    return [corpus.videos[q.video].duration_seconds for q in timed(corpus)]


def floors(corpus: Corpus, known: Corpus) -> Table:
    truths = [q.spans for q in timed(known)]
    window = fit_constant_window(truths, lengths(known)).predict(lengths(corpus))
    whole = whole_video(lengths(corpus))
    return {
        name: [located(timed(corpus), p)]
        for name, p in (("whole video", whole), ("constant window", window))
    }


def measure(corpus: Corpus, known: Corpus, runs: dict[str, list[AlignmentModel]]) -> Table:
    """By row of the table: the figures, of each seed."""
    table = floors(corpus, known)
    table["frozen, windows"] = [
        located(timed(corpus), by_windows(zero_shot_model(corpus.dim, SCALE), corpus))
    ]
    for head, models in runs.items():
        options = models[0].config.heads
        untrained = AlignmentModel(ModelConfig(corpus.dim, scale=SCALE, heads=options)).eval()
        table[f"frozen, {head} untrained"] = [by_head(untrained, corpus)]
        whole = [dial(m) for m in models]
        table[f"trained with {head}, windows"] = [
            located(timed(corpus), by_windows(m, corpus)) for m in whole
        ]
        table[f"trained with {head}, head"] = [by_head(m, corpus) for m in models]
    return table


def dial(model: AlignmentModel) -> AlignmentModel:
    """The projector at the alpha of the heads, which is what they see."""
    model.projector.alpha.copy_(model.head_alpha)
    return model


def show(title: str, table: Table) -> None:
    print(f"\n{title}\n\n| | " + " | ".join(FIGURES) + " |\n|---|" + "---|" * len(FIGURES))
    for name, rows in table.items():
        cells = []
        for figure in FIGURES:
            values = np.array([row[figure] for row in rows])
            cells.append(
                f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")
            )
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("world-benchmark"))
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--heads", default="moments")
    parser.add_argument("--segment-weight", type=float, default=0.5)
    parser.add_argument("--joined", type=int, default=20)
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    workspace = open_world(folder, plan(arguments.train, arguments.test))
    cache = active_cache(workspace.caches)
    known = caption_store.load(workspace)
    corpora = {
        s: load_corpus(cache, [a for a in known if a.split == s])
        for s in {"train", arguments.split}
    }
    runs: dict[str, list[AlignmentModel]] = {}
    for head in arguments.heads.split(","):
        for seed in range(arguments.seeds):
            name, settings = (
                f"{head}-{seed}",
                {"heads": head, "seed": seed, "epochs": arguments.epochs},
            )
            settings["segment_weight"] = arguments.segment_weight
            vla.train(
                captions=folder / "captions-train.jsonl",
                workspace=folder,
                settings=settings,
                name=name,
            )
            runs.setdefault(head, []).append(load_model(workspace.runs / name)[0])
    told = corpora[arguments.split]
    long = joined(told, arguments.joined, 0)
    show(
        f"{len(told.videos)} clips, {len(timed(told))} moments",
        measure(told, corpora["train"], runs),
    )
    minutes = np.mean([v.duration_seconds for v in long.videos]) / 60
    title = f"{len(long.videos)} videos of {arguments.joined} clips ({minutes:.1f} minutes), {len(timed(long))} moments"
    show(title, measure(long, corpora["train"], runs))


if __name__ == "__main__":
    main()
