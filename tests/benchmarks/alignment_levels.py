"""Does alignment at two levels beat one? Frozen, global, segment and both, over several seeds, in the rendered world.

    python tests/benchmarks/alignment_levels.py [FOLDER] [--train 1200] [--test 400] [--seeds 3]

Renders clips into FOLDER (kept and reused), extracts them with the embedded encoder, trains each variant with each seed, and
prints a table in Markdown: mean and standard deviation over seeds, on test clips with known and with held-out combinations
of colour and shape. Most test clips have a twin that no single frame tells apart: these queries need time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from vla import api
from vla.cache import captions as caption_store
from vla.cache.store import current_cache
from vla.corpus import Corpus, load_corpus
from vla.evaluate.run import evaluate
from vla.model import AlignmentModel, frozen
from vla.train.checkpoint import load_model
from vla.workspace import Workspace
from vla.world.clips import Clip, plan_clips, write_captions, write_clips

FILES = {"train": ("train", "val"), "test": ("test",), "novel": ("novel",)}
COLUMNS = (
    "R@1", "R@1 needs time", "R@1 others", "twin choice", "v2t R@1", "moment R1@0.5", "moment mIoU", "moment to video R@1",
)  # fmt: skip


def measure(model: AlignmentModel, corpus: Corpus, twins: dict[str, str]) -> dict[str, float]:
    """The table's columns for one model. "Twin choice" is how often a clip beats its twin for its own description."""
    found = evaluate(model, corpus)
    row = {v.video_id: i for i, v in enumerate(corpus.videos)}
    told = [q for q in corpus.queries if not q.is_timed]
    twin = np.array(
        [row[twins[corpus.videos[q.video].video_id]] if corpus.videos[q.video].video_id in twins else -1 for q in told]
    )
    own = np.array([q.video for q in told])
    paired = twin >= 0
    queries = np.arange(len(told))
    wins = found.similarity[queries, own] > found.similarity[queries, twin]
    first = found.ranks <= 1
    m = found.metrics
    values = (
        m["text to video"]["R@1"], 100 * first[paired].mean(), 100 * first[~paired].mean(), 100 * wins[paired].mean(),
        m["video to text"]["R@1"], m["moment in its video"]["R1@0.5"], m["moment in its video"]["mIoU"],
        m["moment to video"]["R@1"],
    )  # fmt: skip
    return dict(zip(COLUMNS, (float(v) for v in values), strict=True))


def plan(train: int, test: int) -> list[Clip]:
    """The clips: to train on (three in four of the scenes have a twin), to choose by, to test with, and with new combinations.

    Scenes that are chosen by come in pairs of twins, as those of the test do: what time gains must show in the choice.
    """
    clips = plan_clips("train", train, 0, twins=0.75) + plan_clips("val", train // 6, 0)
    return clips + plan_clips("test", test, 0) + plan_clips("novel", test // 2, 0, novel=True)


def prepare(folder: Path, clips: list[Clip]) -> None:
    began = time.monotonic()
    write_clips(clips, folder / "clips")
    for name, splits in FILES.items():
        some = [c for c in clips if c.split in splits]
        write_captions(some, folder / f"captions-{name}.jsonl", 0, descriptions=2 if name == "train" else 1)
    print(f"rendered in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    report = None
    for name, splits in FILES.items():
        paths = [folder / "clips" / c.name for c in clips if c.split in splits]
        captions = folder / f"captions-{name}.jsonl"
        report = api.extract(paths, captions=captions, workspace=folder, choice=api.EncoderChoice(model="demo"))
    print(f"extracted in {time.monotonic() - began:.0f} s, {report.captions} captions\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("world-benchmark"))
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    clips = plan(arguments.train, arguments.test)
    Workspace.open_or_create(folder)
    prepare(folder, clips)
    place = Workspace(folder)
    cache = current_cache(place.caches)
    twins = {f"clips/{c.name}": f"clips/{c.twin}" for c in clips if c.twin}
    known = caption_store.load(place)
    corpora = {s: load_corpus(cache, [a for a in known if a.split == s]) for s in ("test", "novel")}
    models = {"frozen": [frozen(cache.spec.dim, 1.0)]}
    for levels in ("global", "segment", "both"):
        for seed in range(arguments.seeds):
            settings = {"levels": levels, "seed": seed, **({"epochs": arguments.epochs} if arguments.epochs else {})}
            began = time.monotonic()
            name = f"{levels}-{seed}"
            run = api.train(captions=folder / "captions-train.jsonl", workspace=folder, settings=settings, name=name)
            models.setdefault(levels, []).append(load_model(place.runs / name)[0])
            print(
                f"{name}: alpha {run.record['alpha']:g}, {run.record['epochs']} epochs, {time.monotonic() - began:.0f} s",
                flush=True,
            )
    for split, corpus in corpora.items():
        print(
            f"\n{split}: {len(corpus.videos)} clips, {sum(f'clips/{c.name}' in twins for c in clips if c.split == split)} with a twin\n"
        )
        print("| | " + " | ".join(COLUMNS) + " |\n|---|" + "---|" * len(COLUMNS))
        for name, variants in models.items():
            rows = [measure(m, corpus, twins) for m in variants]
            cells = []
            for column in COLUMNS:
                values = np.array([r[column] for r in rows])
                cells.append(f"{values.mean():.1f}" + (f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""))
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
