"""What does each part of the alignment bring? Frozen, levels and scores, over several seeds, in the rendered world.

    python tests/benchmarks/ablation.py [FOLDER] [--runs FOLDER] [--train 1200] [--test 400] [--seeds 3] [--epochs 40]
        [--variants "frozen,global,..."] [--splits test,novel]

Renders clips into FOLDER and extracts them with the embedded encoder where that was not done yet; what is there is only read.
Runs lie in the folder of `--runs`; runs that are finished are used again. Prints, for the test clips and for held-out combinations
of colour and shape, a table in Markdown: mean and standard deviation over seeds. Most test clips have a twin that no single frame
tells apart: these queries need time. "Reranked" rows rank by the run's own score what the vectors of the row above find best. A
paragraph is all timed captions of a clip in their order, as the mean direction of their vectors.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import vla
from vla.batches.corpus import Corpus, Query
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import FeatureCache, active_cache
from vla.captions.matching import match
from vla.datasets.base import Annotation
from vla.evaluation.moment_protocol import in_video
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.reranking import RERANK_DEPTH, has_reranker
from vla.evaluation.retrieval_protocol import searches
from vla.metrics.retrieval import recalls_and_ranks
from vla.model import AlignmentModel, zero_shot_model
from vla.spans import nms
from vla.storage.workspace import Workspace
from vla.training.checkpoint import load_model
from vla.training.config import TrainConfig
from vla.training.loop import train
from vla.training.split import split_rows
from vla.workflows.caption_import import read_captions
from vla.workflows.encoder_choice import encoder_of
from vla.world.clips import Clip, plan_clips, write_captions, write_clips

FILES = {"train": ("train", "val"), "test": ("test",), "novel": ("novel",)}
# Settings of each row; those without any are not trained.
VARIANTS: dict[str, dict | None] = {
    "frozen": None,
    "global": {"levels": "global"},
    "segment timed": {"levels": "segment"},
    "segment untimed": {"levels": "segment"},
    "global + segment": {},
    "global + segment at 1": {"segment_weight": 1.0},
    "global + segment at .25": {"segment_weight": 0.25},
    "+ tokens": {"score": "tokens"},
}
UNTIMED = ("segment untimed",)
COLUMNS = (
    "t2v R@1", "needs time R@1", "twin choice", "v2t R@1", "paragraph R@1", "moment R1@0.5", "moment R1@0.7", "moment mAP",
    "moment to video R@1",
)  # fmt: skip
Row = dict[str, float]


def measure(model: AlignmentModel, corpus: Corpus, twins: dict[str, str]) -> list[Row]:
    """The table's columns for one model, and for its own score, if it has one. "Twin choice" is how often a clip beats its twin."""
    seen = CorpusPredictions(model.eval(), corpus, paragraphs(corpus))
    found = searches(seen, kinds=("retrieval", "paragraphs"))
    texts, owner = (
        seen.query_vectors(seen.timed_queries),
        np.array([q.video for q in seen.timed_queries]),
    )
    by_moment = recall_at_1(
        seen.max_segment_scores(texts), owner[:, None] == np.arange(len(corpus.videos))
    )
    row = {v.video_id: i for i, v in enumerate(corpus.videos)}
    twin = np.array([row.get(twins.get(v.video_id, ""), -1) for v in corpus.videos])[
        [q.video for q in seen.untimed_queries]
    ]
    moments = in_video(seen.timed_queries, windows(seen, texts))
    rows = []
    for suffix in ("", " reranked") if has_reranker(model) else ("",):
        told = found[f"text to video{suffix}"]
        first, queries, own = (
            100 * recall_at_1(told.similarity, told.relevant),
            np.arange(len(twin)),
            told.videos,
        )
        wins = told.similarity[queries, own] > told.similarity[queries, twin]
        back, whole = found[f"video to text{suffix}"], found[f"paragraph to video{suffix}"]
        values = (
            first.mean(), first[twin >= 0].mean(), 100 * wins[twin >= 0].mean(),
            100 * recall_at_1(back.similarity, back.relevant).mean(), 100 * recall_at_1(whole.similarity, whole.relevant).mean(),
            moments["R1@0.5"].value, moments["R1@0.7"].value, moments["mAP"].value,
            100 * by_moment.mean(),
        )  # fmt: skip
        rows.append(dict(zip(COLUMNS, map(float, values), strict=True)))
    return rows


def recall_at_1(similarity: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    return recalls_and_ranks(similarity, relevant, (1,))[0][1]


def windows(seen: CorpusPredictions, texts: np.ndarray) -> list[np.ndarray]:
    """For each timed caption, of vector `texts[i]`, the windows of its video by their cosine."""
    found = []
    for query, text in zip(seen.timed_queries, texts, strict=True):
        segments = seen.segments[query.video]
        scores = segments.vectors @ text
        kept = nms(segments.spans, scores, 0.5, most=10)
        found.append(np.column_stack([segments.spans[kept], scores[kept]]))
    return found


def paragraphs(corpus: Corpus) -> list[Query]:
    """All timed captions of each video as one query, in their order."""
    told: dict[int, list[Query]] = {}
    for query in sorted(
        (q for q in corpus.queries if q.is_timed), key=lambda q: (q.video, q.spans[0, 0])
    ):
        told.setdefault(query.video, []).append(query)
    found = []
    for video, some in told.items():
        parts = tuple(part for q in some for part in q.chunks)
        found.append(Query(" ".join(q.text for q in some), parts, parts, video, np.zeros((0, 2))))
    return found


def plan(train: int, test: int) -> list[Clip]:
    """The clips: to train on (three in four of the scenes have a twin), to choose by, to test with, and with new combinations.

    Scenes that are chosen by come in pairs of twins, as those of the test do: what time gains must show in the choice.
    """
    clips = plan_clips("train", train, 0, counterfactual_fraction=0.75) + plan_clips(
        "val", train // 6, 0
    )
    return clips + plan_clips("test", test, 0) + plan_clips("novel", test // 2, 0, novel=True)


def open_world(folder: Path, clips: list[Clip]) -> Workspace:
    """The workspace in `folder`; if there is none, render and extract the clips."""
    workspace = Workspace.open_or_create(folder)
    if not (folder / "captions-train.jsonl").is_file():
        prepare(folder, clips)
    return workspace


def prepare(folder: Path, clips: list[Clip]) -> None:
    """Render and extract the clips, and write their captions."""
    began = time.monotonic()
    write_clips(clips, folder / "clips")
    files = {n: splits for n, splits in FILES.items() if any(c.split in splits for c in clips)}
    for name, splits in files.items():
        some = [c for c in clips if c.split in splits]
        write_captions(
            some, folder / f"captions-{name}.jsonl", 0, descriptions=2 if name == "train" else 1
        )
    print(f"rendered in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    report = None
    for name, splits in files.items():
        paths = [folder / "clips" / c.name for c in clips if c.split in splits]
        captions = folder / f"captions-{name}.jsonl"
        report = vla.extract(
            paths, captions=captions, workspace=folder, choice=vla.EncoderChoice(model="demo")
        )
    print(
        f"extracted in {time.monotonic() - began:.0f} s, {report.captions} captions\n", flush=True
    )


def trained(
    name: str,
    seed: int,
    cache: FeatureCache,
    annotations: list[Annotation],
    runs: Path,
    epochs: int,
) -> AlignmentModel:
    """The variant trained with the seed, as `vla train` does it."""
    told = [a for a in annotations if not a.spans] if name in UNTIMED else annotations
    config = TrainConfig(
        **{**(VARIANTS[name] or {}), "seed": seed, **({"epochs": epochs} if epochs else {})}
    )
    folder, identity = runs / f"{name} {seed}", config.identity(cache.state(), str(len(told)))
    began = time.monotonic()
    if not (folder / "run.json").is_file() or load_model(folder)[1].identity != identity:
        corpus = load_corpus(cache, told, tokens=config.reads_tokens)
        rows = {video.video_id: row for row, video in enumerate(corpus.videos)}
        split = split_rows(
            len(rows), {rows[a.video]: a.split for a in told}, config.val_fraction, seed
        )
        train(
            corpus,
            split,
            cache.spec,
            encoder_of(cache, "cpu", "auto").scale,
            config,
            folder,
            identity,
        )
    model, run = load_model(folder)
    print(
        f"{name} {seed}: alpha {run.record['alpha']:g}, {'' if run.is_better else 'NOT '}better than frozen, "
        f"{run.record['epochs']} epochs, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    return model


def show(title: str, table: dict[str, list[list[Row]]]) -> None:
    """A line for each variant, and for its own score."""
    print(f"\n{title}\n\n| | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
    for name, of_seeds in table.items():
        for suffix, rows in zip(
            ("", f", {RERANK_DEPTH} reranked"), zip(*of_seeds, strict=True), strict=False
        ):
            cells = []
            for column in COLUMNS:
                values = np.array([r[column] for r in rows])
                cells.append(
                    f"{values.mean():.1f}"
                    + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else "")
                )
            print(f"| {name}{suffix} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("world-benchmark"))
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--splits", default="test,novel")
    parser.add_argument("--videos", type=int, default=0, help="train on so many only")
    arguments = parser.parse_args()
    folder, names = arguments.folder.absolute(), arguments.variants.split(",")
    runs = (arguments.runs or folder / "ablation").absolute()
    clips = plan(arguments.train, arguments.test)
    workspace = open_world(folder, clips)
    cache = active_cache(workspace.caches)
    twins = {f"clips/{c.name}": f"clips/{c.counterfactual}" for c in clips if c.counterfactual}
    known = {
        s: match(
            read_captions(folder / f"captions-{s}.jsonl", None, None),
            cache.video_ids(),
            workspace,
            folder,
        ).annotations
        for s in ("train", *arguments.splits.split(","))
    }
    if arguments.videos:
        some = sorted({a.video for a in known["train"] if a.split == "train"})[: arguments.videos]
        known["train"] = [a for a in known["train"] if a.split != "train" or a.video in some]
    dim = cache.spec.dim
    models = {
        name: [
            trained(name, seed, cache, known["train"], runs, arguments.epochs)
            for seed in range(arguments.seeds)
        ]
        for name in names
        if VARIANTS[name] is not None
    }
    models |= {"frozen": [zero_shot_model(dim, 1.0)]}
    for split in arguments.splits.split(","):
        corpus = load_corpus(cache, known[split], tokens=True)
        title = f"{split}: {len(corpus.videos)} clips, {sum(v.video_id in twins for v in corpus.videos)} with a twin"
        show(title, {name: [measure(m, corpus, twins) for m in models[name]] for name in names})


if __name__ == "__main__":
    main()
