"""Where in a video: fixed windows, watersheds, our localiser and a trained head, for the same queries in the same videos.

    python tests/benchmarks/localisers.py collages [FOLDER] [--classes test]
    python tests/benchmarks/localisers.py world [FOLDER] [--run NAME]

`collages`: real CLIP features of scenes one after the other (2 to 3, 3 to 5 and 8 to 20 of them, one feature a second), asked
for in other words than they were told in, frozen; needs the shared files ($VLA_SHARED_DATA). The localiser's numbers were chosen
with `--classes train`; no class is in both. `world`: clips of `ablation.py` (made if they are not there), alone and 20 one after
the other, with a projector and a head of 20 epochs (`moment_heads.py` makes such runs; trained if it is not there).

Every method has the same curves, of a query's cosines with the video's frames, and returns up to ten spans that overlap by an
IoU of at most 0.3. *Windows*: of 2 to 128 s, by the cosine of their mean frame, as an index has them. *Watershed*: the
stretches above each of ten quantiles of the curve, by their mean (Diwan et al. 2023). *Static contrast*: the same stretches, by
their mean less that of the rest (TFVTG, Zheng et al., ECCV 2024). *Localiser*: `vla.search.localise`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _collages import make
from _long_videos import joined, timed
from ablation import plan, prepare

from shared_data import SHARED
from vla import api
from vla.cache import captions as caption_store
from vla.cache.store import current_cache
from vla.corpus import Corpus, load_corpus
from vla.datasets._open import read_annotations
from vla.evaluate.heads import answer
from vla.evaluate.located import located
from vla.model import AlignmentModel, frozen, segments_of
from vla.search.localise import localise, smooth
from vla.spans import nms
from vla.train.checkpoint import load_model
from vla.workspace import Workspace

FIGURES = ("R1@0.5", "R1@0.7", "R5@0.5", "mIoU", "mAP")
QUANTILES = np.linspace(0.5, 0.95, 10)
MOST, OVERLAP = 10, 0.3


@dataclass(frozen=True)
class Curve:
    """One query in one video: a value, a time and a length in seconds of each frame; the windows, and their cosines."""

    values: np.ndarray
    times: np.ndarray
    duration: float
    windows: np.ndarray
    cosines: np.ndarray


def by_windows(curve: Curve) -> np.ndarray:
    return best(curve.windows, curve.cosines)


def by_watershed(curve: Curve) -> np.ndarray:
    spans, inside, _ = stretches(curve)
    return best(spans, inside)


def by_contrast(curve: Curve) -> np.ndarray:
    spans, inside, outside = stretches(curve)
    return best(spans, inside - outside)


def by_localiser(curve: Curve) -> np.ndarray:
    found = localise(curve.values, curve.times, curve.duration, curve.windows, MOST)
    return np.column_stack([found.spans, -np.arange(len(found.spans))])


METHODS: dict[str, Callable[[Curve], np.ndarray]] = {
    "windows": by_windows,
    "watershed": by_watershed,
    "static contrast": by_contrast,
    "localiser": by_localiser,
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
            np.flatnonzero(above[1:] & ~above[:-1]), np.flatnonzero(above[:-1] & ~above[1:]), strict=True
        ):
            rest = np.append(values[:first], values[last:])
            spans.append((edges[first], edges[last]))
            inside.append(values[first:last].mean())
            outside.append(rest.mean() if len(rest) else inside[-1])
    return np.array(spans), np.array(inside), np.array(outside)


def curves(model: AlignmentModel, corpus: Corpus) -> list[Curve]:
    frames = model.align_videos(corpus.videos)
    cut = [segments_of(f, v) for f, v in zip(frames, corpus.videos, strict=True)]
    asked = timed(corpus)
    texts = model.align_texts(np.stack([corpus.text_vector(q) for q in asked]))
    found = []
    for query, text in zip(asked, texts, strict=True):
        video, own = corpus.videos[query.video], cut[query.video]
        found.append(
            Curve(
                frames[query.video] @ text, video.timestamps_seconds, video.duration_seconds, own.spans,
                own.vectors @ text,
            )
        )  # fmt: skip
    return found


def show(title: str, model: AlignmentModel, corpus: Corpus, head: AlignmentModel | None = None) -> None:
    minutes = np.mean([v.duration_seconds for v in corpus.videos]) / 60
    print(f"\n{title}: {len(corpus.videos)} videos of {minutes:.1f} minutes, {len(timed(corpus))} moments\n")
    print("| | " + " | ".join(FIGURES) + " |\n|---|" + "---|" * len(FIGURES))
    found = curves(model, corpus)
    rows = {name: located(timed(corpus), [method(c) for c in found]) for name, method in METHODS.items()}
    if head is not None:
        said = answer(head, corpus)["moment by head"]
        rows["trained head"] = located(said.asked, said.predicted)
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[figure]:.1f}" for figure in FIGURES) + " |", flush=True)


def collages(folder: Path, classes: str) -> None:
    tool = SHARED.parent / "tools" / "make_collage.py"
    if not tool.is_file():
        sys.exit(f"{tool} is not there, and the collages are made by it: set VLA_SHARED_DATA")
    for seed, scenes in enumerate(((2, 3), (3, 5), (8, 20)), 10):
        out = make(tool, folder, classes, 200, scenes, seed)
        place = folder / f"workspace-{classes}-{seed}"
        texts = {"texts": out / "text.npz", "texts_key": "paraphrases", "vectors_key": "paraphrase_feats"}
        api.import_features([out / "seconds"], model="clip-vit-b32", clip_length=1.0, workspace=place, **texts)
        cache = current_cache(Workspace(place).caches)
        told = read_annotations(out / "annotations.jsonl", None, caption_column="paraphrase")
        corpus = load_corpus(cache, told)
        show(f"{scenes[0]} to {scenes[1]} scenes of {classes} classes", frozen(corpus.dim, 1.0), corpus)


def world(folder: Path, run: str, split: str) -> None:
    place = Workspace.open_or_create(folder)
    if not (folder / "captions-train.jsonl").exists():
        prepare(folder, plan(1200, 400))
    settings = {"heads": "moments", "epochs": 20}
    api.train(captions=folder / "captions-train.jsonl", workspace=folder, settings=settings, name=run)
    told = [a for a in caption_store.load(place) if a.split == split and a.question is None]
    corpus = load_corpus(current_cache(place.caches), told)
    searched, head = load_model(place.runs / run)[0], load_model(place.runs / run)[0]
    # Heads see the projector as it was trained.
    head.projector.alpha.fill_(1.0)
    for title, some in (("clips", corpus), ("20 clips end to end", joined(corpus, 20, 0))):
        show(title, searched, some, head)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("which", choices=("collages", "world"))
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--classes", choices=("train", "test"), default="test")
    parser.add_argument("--run", default="moments-0")
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    folder = (arguments.folder or Path(f"{arguments.which}-benchmark")).absolute()
    if arguments.which == "world":
        world(folder, arguments.run, arguments.split)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        collages(folder, arguments.classes)


if __name__ == "__main__":
    main()
