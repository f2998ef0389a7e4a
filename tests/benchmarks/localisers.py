"""Where in a video: fixed windows, watersheds, our localiser and a trained head, for the same queries in the same videos.

    python tests/benchmarks/localisers.py collages [FOLDER] [--classes test] [--videos 200]
    python tests/benchmarks/localisers.py lengths [--classes test] [--videos 80]
    python tests/benchmarks/localisers.py choose [FOLDER] [--world FOLDER] [--run NAME] [--videos 200]
    python tests/benchmarks/localisers.py world [FOLDER] [--run NAME] [--train 1200] [--test 400] [--epochs 20] [--joined 20]

`collages`: real CLIP features of scenes one after the other (2 to 3, 3 to 5 and 8 to 20 of them, one feature a second), asked
for in other words than they were told in, frozen; needs the shared files ($VLA_SHARED_DATA). `lengths`: the same scenes, but from
1 s to 2 minutes long, by their length. `choose`: the localiser's numbers, by the IoU of its first span on collages and lengths of
train classes (and long videos of the world's val clips), beside the present ones on test classes (and clips); no class is in
both. `world`: clips of `ablation.py` (made if they are not there), alone and 20 one after
the other, with a projector and a head of 20 epochs (`moment_heads.py` makes such runs; trained if it is not there).

Every method has the same curves, of a query's cosines with the video's frames, and returns up to ten spans that overlap by an
IoU of at most 0.3. *Windows*: of 2 to 128 s, by the cosine of their mean frame. *Changes*: what lies between changes, and unions
of that, as an index has them (`vla.indexing.kts`). *Both*: as an index has them. *Watershed*: the stretches above each of
ten quantiles of the curve, by their mean (Diwan et al. 2023). *Static contrast*: the same stretches, by their mean less that of
the rest (TFVTG, Zheng et al., ECCV 2024). *Contrast*: windows and changes by `vla.retrieval.similarity_curve.SimilarityCurve`. *Cosine and
contrast*: by both, as `vla search` has it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _choosing import chosen, even, numbers, present
from _collages import make
from _lengths import LENGTHS, of_all_lengths
from _long_videos import joined, timed
from ablation import open_world, plan

import vla
from support.shared_data import SHARED
from vla.batches.corpus import Corpus, sliding_windows
from vla.batches.corpus_reader import load_corpus
from vla.batches.segment_pooling import pool_segments
from vla.cache.store import active_cache
from vla.captions import store as caption_store
from vla.datasets._open import read_annotations
from vla.evaluation.head_answers import answer
from vla.evaluation.moment_protocol import in_video
from vla.features import FrameFeatures
from vla.indexing.segments import Segmenter, segment_by_kts, windows_and_frames
from vla.model import AlignmentModel, zero_shot_model
from vla.retrieval import moments, similarity_curve
from vla.retrieval.similarity_curve import smooth
from vla.spans import iou, nms
from vla.storage.workspace import Workspace
from vla.training.checkpoint import load_model

FIGURES = ("R1@0.5", "R1@0.7", "R5@0.5", "mIoU", "mAP")
QUANTILES = np.linspace(0.5, 0.95, 10)
MOST, OVERLAP = 10, 0.3


Method = Callable[["Curve"], np.ndarray]


@dataclass(frozen=True)
class Curve:
    """One query in one video: a value and a time of each frame; by kind of cut the spans of the segments and their cosines."""

    values: np.ndarray
    times: np.ndarray
    duration: float
    rows: dict[str, tuple[np.ndarray, np.ndarray]]


def by_rows(kind: str) -> Method:
    return lambda curve: best(*curve.rows[kind])


def by_watershed(curve: Curve) -> np.ndarray:
    spans, inside, _ = stretches(curve)
    return best(spans, inside)


def by_contrast(curve: Curve) -> np.ndarray:
    spans, inside, outside = stretches(curve)
    return best(spans, inside - outside)


def by_cosine_and_contrast(kind: str) -> Method:
    localizer = moments.MomentLocalizer(zero_shot_model(1, 1.0), None)

    def found(curve: Curve) -> np.ndarray:
        # Frames of one number, which is their cosine with the query.
        features = FrameFeatures("", curve.values[:, None], curve.times, curve.duration)
        spans, cosines = curve.rows[kind]
        held = moments.SegmentScores(spans, np.asarray(cosines, np.float64), float(cosines.max()))
        located = localizer.localize(
            features, curve.values[:, None], np.ones(1, np.float32), held, MOST
        )
        return np.column_stack([located.spans, located.scores])

    return found


def by_contrast_of_rows(curve: Curve) -> np.ndarray:
    spans = curve.rows["both"][0]
    return best(
        spans,
        similarity_curve.SimilarityCurve(curve.values, curve.times, curve.duration).contrast(spans),
    )


CUTS: dict[str, Segmenter] = {
    "windows": sliding_windows,
    "changes": segment_by_kts,
    "both": windows_and_frames,
}
METHODS: dict[str, Method] = {
    **{kind: by_rows(kind) for kind in CUTS},
    "watershed": by_watershed,
    "static contrast": by_contrast,
    "contrast": by_contrast_of_rows,
    **{f"cosine and contrast, {kind}": by_cosine_and_contrast(kind) for kind in CUTS},
}


def best(spans: np.ndarray, scores: np.ndarray) -> np.ndarray:
    kept = nms(spans, scores, OVERLAP, most=MOST)
    return np.column_stack([spans[kept], scores[kept]])


def stretches(curve: Curve) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What lies above a quantile without a break: spans, and means of the curve in them and outside of them."""
    values, edges = smooth(curve.values, curve.times), np.append(curve.times, curve.duration)
    spans, inside, outside = [], [], []
    for level in np.quantile(values, QUANTILES):
        above = np.concatenate([[False], values >= level, [False]])
        for first, last in zip(
            np.flatnonzero(above[1:] & ~above[:-1]),
            np.flatnonzero(above[:-1] & ~above[1:]),
            strict=True,
        ):
            rest = np.append(values[:first], values[last:])
            spans.append((edges[first], edges[last]))
            inside.append(values[first:last].mean())
            outside.append(rest.mean() if len(rest) else inside[-1])
    return np.array(spans), np.array(inside), np.array(outside)


def curves(model: AlignmentModel, corpus: Corpus) -> list[Curve]:
    frames = model.align_videos(corpus.videos)
    cut = [
        {kind: pool_segments(f, v, cutter(v)) for kind, cutter in CUTS.items()}
        for f, v in zip(frames, corpus.videos, strict=True)
    ]
    asked = timed(corpus)
    texts = model.align_texts(np.stack([corpus.text_vector(q) for q in asked]))
    found = []
    for query, text in zip(asked, texts, strict=True):
        video, own = corpus.videos[query.video], cut[query.video]
        rows = {kind: (segments.spans, segments.vectors @ text) for kind, segments in own.items()}
        found.append(
            Curve(
                frames[query.video] @ text, video.timestamps_seconds, video.duration_seconds, rows
            )
        )
    return found


def show(
    title: str, model: AlignmentModel, corpus: Corpus, head: AlignmentModel | None = None
) -> None:
    minutes = np.mean([v.duration_seconds for v in corpus.videos]) / 60
    print(
        f"\n{title}: {len(corpus.videos)} videos of {minutes:.1f} minutes, {len(timed(corpus))} moments\n"
    )
    print("| | " + " | ".join(FIGURES) + " |\n|---|" + "---|" * len(FIGURES))
    found = curves(model, corpus)
    rows = {
        name: in_video(timed(corpus), [method(c) for c in found])
        for name, method in METHODS.items()
    }
    if head is not None:
        said = answer(head, corpus)["moment by head"]
        rows["trained head"] = in_video(said.examples, said.predictions)
    for name, row in rows.items():
        print(
            f"| {name} | " + " | ".join(f"{row[figure].value:.1f}" for figure in FIGURES) + " |",
            flush=True,
        )


def tool_of_collages() -> Path:
    tool = SHARED.parent / "tools" / "make_collage.py"
    if not tool.is_file():
        sys.exit(f"{tool} is not there, and the collages are made by it: set VLA_SHARED_DATA")
    return tool


def lengths(classes: str, videos: int) -> None:
    """By the length of what is looked for: R1 and R5 at an IoU of 0.5."""
    corpus = of_all_lengths(tool_of_collages(), classes, videos, 0)
    found = curves(zero_shot_model(corpus.dim, 1.0), corpus)
    hours = sum(v.duration_seconds for v in corpus.videos) / 3600
    rows = {kind: sum(len(cut(v)[0]) for v in corpus.videos) / hours for kind, cut in CUTS.items()}
    seconds = np.array([float(q.spans[0, 1] - q.spans[0, 0]) for q in corpus.queries])
    print(
        f"\n{len(corpus.videos)} videos of {60 * hours / videos:.1f} minutes of {classes} classes; R1@0.5 / R5@0.5\n"
    )
    for kind, count in rows.items():
        print(
            f"{kind}: {count / 60:.1f} rows a minute, {4 * corpus.dim * count / 1e6:.2f} MB an hour"
        )
    print(
        "\n| | "
        + " | ".join(f"{a} to {b} s" for a, b in LENGTHS)
        + " |\n|---|"
        + "---|" * len(LENGTHS)
    )
    for name, method in METHODS.items():
        cells = []
        for low, high in LENGTHS:
            some = np.flatnonzero((seconds >= low) & (seconds < high))
            row = in_video([corpus.queries[i] for i in some], [method(found[i]) for i in some])
            cells.append(f"{row['R1@0.5'].value:.0f} / {row['R5@0.5'].value:.0f}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def choose(folder: Path, of_world: Path | None, run: str, videos: int) -> None:
    """The localiser's numbers by what they find in one half; what they and the present ones find in the other."""
    worlds = {
        split: held_out(folder, classes, videos)
        for split, classes in (("val", "train"), ("test", "test"))
    }
    if of_world is not None:
        place = Workspace.open_or_create(of_world)
        for split, some in worlds.items():
            told = [a for a in caption_store.load(place) if a.split == split and a.question is None]
            corpus = load_corpus(active_cache(place.caches), told)
            some["world, trained"] = sample(load_model(place.runs / run)[0], joined(corpus, 20, 0))
            some["world, frozen"] = sample(zero_shot_model(corpus.dim, 1.0), joined(corpus, 20, 0))

    def first(split: str) -> dict[str, np.ndarray]:
        return {
            name: np.array(
                [
                    iou(METHODS["cosine and contrast, both"](c)[:1, :2], spans).max()
                    for c, spans in some
                ]
            )
            for name, some in worlds[split].items()
        }

    every = chosen(lambda: even(list(first("val").values())))
    print("| level, smoothing, power of the length, weight | mean IoU, chosen by |\n|---|---|")
    for score, point in every[:5] + [row for row in every[5:] if row[1] == present()]:
        print(f"| {point} | {100 * score:.2f} |")
    print("\n| held out, mean IoU / R1@0.5 / R1@0.7 | " + " | ".join(worlds["test"]) + " |")
    print("|---|" + "---|" * len(worlds["test"]))
    for name, point in (("present", present()), ("chosen", every[0][1])):
        with numbers(point):
            row = first("test")
        cells = [
            f"{100 * v.mean():.1f} / {100 * (v >= 0.5).mean():.1f} / {100 * (v >= 0.7).mean():.1f}"
            for v in row.values()
        ]
        print(f"| {name} {point} | " + " | ".join(cells) + " |", flush=True)


def held_out(folder: Path, classes: str, videos: int) -> dict[str, list[tuple[Curve, np.ndarray]]]:
    """Curves and what they should find, of collages of every kind and of scenes of all lengths."""
    made = {
        f"{scenes[0]} to {scenes[1]}": corpus
        for scenes, corpus in collage_corpora(folder, classes, videos)
    }
    made["lengths"] = of_all_lengths(tool_of_collages(), classes, min(40, videos), 0)
    return {name: sample(zero_shot_model(corpus.dim, 1.0), corpus) for name, corpus in made.items()}


def sample(
    model: AlignmentModel, corpus: Corpus, many: int = 150
) -> list[tuple[Curve, np.ndarray]]:
    found = list(zip(curves(model, corpus), (q.spans for q in timed(corpus)), strict=True))
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))[:many]]


def collages(folder: Path, classes: str, videos: int) -> None:
    for scenes, corpus in collage_corpora(folder, classes, videos):
        show(
            f"{scenes[0]} to {scenes[1]} scenes of {classes} classes",
            zero_shot_model(corpus.dim, 1.0),
            corpus,
        )


def collage_corpora(
    folder: Path, classes: str, videos: int
) -> Iterator[tuple[tuple[int, int], Corpus]]:
    tool = tool_of_collages()
    folder.mkdir(parents=True, exist_ok=True)
    for seed, scenes in enumerate(((2, 3), (3, 5), (8, 20)), 10):
        out = make(tool, folder, classes, videos, scenes, seed)
        place = folder / f"workspace-{classes}-{seed}"
        texts = {
            "texts": out / "text.npz",
            "texts_key": "paraphrases",
            "vectors_key": "paraphrase_feats",
        }
        vla.import_features(
            [out / "seconds"], model="clip-vit-b32", clip_length=1.0, workspace=place, **texts
        )
        cache = active_cache(Workspace(place).caches)
        told = read_annotations(out / "annotations.jsonl", None, caption_column="paraphrase")
        yield scenes, load_corpus(cache, told)


def world(folder: Path, options: argparse.Namespace) -> None:
    workspace = open_world(folder, plan(options.train, options.test))
    settings = {"heads": "moments", "epochs": options.epochs}
    vla.train(
        captions=folder / "captions-train.jsonl",
        workspace=folder,
        settings=settings,
        name=options.run,
    )
    captions = [
        a for a in caption_store.load(workspace) if a.split == options.split and a.question is None
    ]
    corpus = load_corpus(active_cache(workspace.caches), captions)
    model, head = (
        load_model(workspace.runs / options.run)[0],
        load_model(workspace.runs / options.run)[0],
    )
    # Heads see the projector as it was trained.
    head.projector.alpha.fill_(1.0)
    long_videos = joined(corpus, options.joined, 0)
    for title, videos in (("clips", corpus), (f"{options.joined} clips end to end", long_videos)):
        show(title, model, videos, head)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", choices=("collages", "lengths", "choose", "world"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--classes", choices=("train", "test"), default="test")
    parser.add_argument("--run", default="moments-0")
    parser.add_argument("--split", default="test")
    parser.add_argument(
        "--videos", type=int, help="default: 80 of `lengths`, 200 of each kind of collage"
    )
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--joined", type=int, default=20)
    parser.add_argument(
        "--world", type=Path, help="a workspace of it with the run, to choose by, too"
    )
    arguments = parser.parse_args()
    folder = (
        arguments.folder
        or Path("world-benchmark" if arguments.which == "world" else "collages-benchmark")
    ).absolute()
    if arguments.which == "world":
        world(folder, arguments)
    elif arguments.which == "lengths":
        lengths(arguments.classes, arguments.videos or 80)
    elif arguments.which == "choose":
        choose(folder, arguments.world, arguments.run, arguments.videos or 200)
    else:
        collages(folder, arguments.classes, arguments.videos or 200)


if __name__ == "__main__":
    main()
