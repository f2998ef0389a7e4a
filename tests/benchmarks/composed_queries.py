"""What several texts in one search are worth: --not, --prompt-templates and --then, with real CLIP features.

    python tests/benchmarks/composed_queries.py [FOLDER]

Needs the shared files ($VLA_SHARED_DATA). *Not*: names of kinds ("a snake") less the name of one of them ("a photo of a vine snake"),
among photographs of 700 things; right are those of the others. And names of things less the name of another, among the photographs and
as many in which the two are mixed (the mean of two photographs' vectors); right are those that show the first alone. *Templates*: every
thing is looked for by "a X", by "a photo of a X", and by the mean of both. *Then*: collages of scenes one after the other, each of them
also backwards; searched for are two scenes that follow each other. Right is the collage in which they do so, with a span that
overlaps both by an IoU of .5 or more; the backwards one shows the same frames in the other order.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from _collages import make

from support.shared_data import SHARED
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache
from vla.features import FeatureSpec, FrameFeatures, TextFeatures
from vla.indexing.sync import build_index
from vla.model import zero_shot_model
from vla.retrieval.hits import Hits
from vla.retrieval.query import Query, encode_query
from vla.retrieval.searcher import Searcher
from vla.spans import iou
from vla.storage.workspace import Workspace
from vla.workflows.text_features import LookupTexts

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def given(vectors: dict[str, np.ndarray]) -> LookupTexts:
    pooled = np.stack(list(vectors.values())).astype(np.float32)
    return LookupTexts(
        TextFeatures(
            tuple(vectors),
            pooled,
            np.zeros((len(pooled), 1, pooled.shape[1]), np.float32),
            np.ones((len(pooled), 1), bool),
        )
    )


def photographs() -> tuple[np.ndarray, np.ndarray, list[str], dict[str, np.ndarray]]:
    """Unit vectors `(N, D)`, what each shows `(N,)`, the names of things, and raw features of texts."""
    held = np.load(SHARED / "features" / "imagenet700_clip_vitb32.npz")
    texts = dict(zip(map(str, held["prompts_photo"]), held["text_feats_photo"], strict=True))
    texts |= dict(zip(map(str, held["prompts_a"]), held["text_feats_a"], strict=True))
    kinds = np.load(SHARED / "features" / "text_lvis1203_a_clip_vitb32.npz")
    texts |= {
        f"kind of {n}".replace("_", " "): f
        for n, f in zip(kinds["names"], kinds["feats"], strict=True)
    }
    return (
        unit(held["image_feats"].astype(np.float32)),
        held["image_labels"],
        list(map(str, held["names"])),
        texts,
    )


def precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    right = relevant[order]
    return 100 * float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


def without() -> None:
    images, shown, names, texts = photographs()
    encoder, model = given(texts), zero_shot_model(images.shape[1], 1.0)
    by_kind: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names):
        kind = f"kind of {name.split()[-1].lower()}"
        if kind in texts:
            by_kind[kind].append(number)
    by_kind = {kind: some for kind, some in by_kind.items() if len(some) >= 3}
    held = np.load(SHARED / "features" / "imagenet700_clip_vitb32.npz")
    a, photo = list(map(str, held["prompts_a"])), list(map(str, held["prompts_photo"]))
    rng = np.random.default_rng(0)
    pairs = [rng.choice(len(names), 2, replace=False) for _ in range(300)]
    print(
        "\n| weight of --not | kinds: mAP | unwanted among ten | alone: mAP | mixed among seven |\n|---|---|---|---|---|"
    )
    for weight in WEIGHTS:
        rows = []
        for kind, some in by_kind.items():
            for no in some:
                scores = images @ vector(kind, photo[no], weight, encoder, model)
                right = np.isin(shown, [i for i in some if i != no])
                rows.append(
                    (precision(scores, right), 100 * (shown[np.argsort(-scores)[:10]] == no).mean())
                )
        mixes = []
        for one, other in pairs:
            mixed = unit(
                images[shown == one]
                + images[shown == other][rng.permutation((shown == other).sum())]
            )
            scores = np.concatenate([images, mixed]) @ vector(
                a[one], a[other], weight, encoder, model
            )
            right = np.append(shown == one, np.zeros(len(mixed), bool))
            mixes.append(
                (precision(scores, right), 100 * (np.argsort(-scores)[:7] >= len(images)).mean())
            )
        cells = (*np.mean(rows, 0), *np.mean(mixes, 0))
        print(f"| {weight:g} | " + " | ".join(f"{c:.1f}" for c in cells) + " |", flush=True)
    print(f"\n{len(rows)} kinds less one of theirs, {len(mixes)} pairs of things")


def vector(text: str, no: str, weight: float, encoder: LookupTexts, model) -> np.ndarray:
    query = Query(text, negative=((no, weight),) if weight else (), rewrite=False)
    return encode_query(query, encoder, model)[0].vector


def templates() -> None:
    images, shown, names, texts = photographs()
    encoder, model = given(texts), zero_shot_model(images.shape[1], 1.0)
    held = np.load(SHARED / "features" / "imagenet700_clip_vitb32.npz")
    a, photo = list(map(str, held["prompts_a"])), list(map(str, held["prompts_photo"]))
    ways: dict[str, Callable[[int], Query]] = {
        "a X": lambda i: Query(a[i], rewrite=False),
        "a photo of a X": lambda i: Query(photo[i], rewrite=False),
        "mean of both": lambda i: Query(a[i], also=((photo[i], 1.0),), rewrite=False),
    }
    print("\n| asked by | first is right | mAP |\n|---|---|---|")
    for name, way in ways.items():
        rows = []
        for i in np.unique(shown):
            scores = images @ encode_query(way(int(i)), encoder, model)[0].vector
            rows.append((100.0 * (shown[scores.argmax()] == i), precision(scores, shown == i)))
        print(f"| {name} | " + " | ".join(f"{c:.1f}" for c in np.mean(rows, 0)) + " |", flush=True)


def follows(folder: Path, count: int = 200) -> None:
    out = make(SHARED.parent / "tools" / "make_collage.py", folder, "test", 200, (8, 20), 0)
    lines = [json.loads(line) for line in (out / "annotations.jsonl").read_text().splitlines()]
    told: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for line in lines:
        told[line["vid"]].append((*map(float, line["relevant_windows"][0]), line["paraphrase"]))
    text = np.load(out / "text.npz")
    vectors = dict(zip(map(str, text["paraphrases"]), text["paraphrase_feats"], strict=True))
    right: dict[tuple[str, str], list[tuple[str, float, float]]] = defaultdict(list)
    with TemporaryDirectory() as temporary:
        cache = FeatureCache.create(
            Path(temporary),
            FeatureSpec("benchmark", "", "", "", "", 512),
            EncoderSource("b", "", ""),
        )
        for name, scenes in told.items():
            values = np.load(out / "features" / f"{name}.npz")["values"]
            for own, rows in ((name, values), (f"{name} backwards", values[::-1])):
                video = FrameFeatures(
                    own, np.ascontiguousarray(rows), np.arange(len(rows)) * 1.0, float(len(rows))
                )
                cache.add_video(
                    video, Receipt(own, "ok", "", 0, 0, "", duration_seconds=video.duration_seconds)
                )
            scenes.sort()
            for one, other in zip(scenes, scenes[1:], strict=False):
                right[one[2], other[2]].append((name, one[0], other[1]))
                right[other[2], one[2]].append(
                    (f"{name} backwards", len(values) - other[1], len(values) - one[0])
                )
        model = zero_shot_model(512, 1.0)
        searcher = Searcher(
            build_index(cache, model), given(vectors), model, cache, Workspace(Path(temporary))
        )
        rng = np.random.default_rng(0)
        pairs = [list(right)[i] for i in rng.permutation(len(right))[:count]]
        print(
            f"\n{len(cache.video_ids())} videos, half of them the others backwards; {len(pairs)} pairs of scenes\n"
        )
        print(
            "| searched by | R@1 .5 | R@10 .5 | video R@1 | video R@1, either way round |\n|---|---|---|---|---|"
        )
        ways: dict[str, Callable[[str, str], Query]] = {
            "the first scene alone": lambda a, b: Query(a, rewrite=False),
            "both as one query (--also)": lambda a, b: Query(a, also=((b, 1.0),), rewrite=False),
            "--then": lambda a, b: Query(a, then=(b,), rewrite=False),
            "--then --within 30s": lambda a, b: Query(a, then=(b,), within=30.0, rewrite=False),
        }
        for name, way in ways.items():
            rows = [judged(searcher.search(way(*pair), 10), right[pair]) for pair in pairs]
            print(
                f"| {name} | " + " | ".join(f"{c:.1f}" for c in 100 * np.mean(rows, 0)) + " |",
                flush=True,
            )


def judged(hits: Hits, right: list[tuple[str, float, float]]) -> list[float]:
    good = [
        any(h.video_id == v and iou([(h.start, h.end)], [(s, e)])[0, 0] >= 0.5 for v, s, e in right)
        for h in hits
    ]
    videos = {v for v, _, _ in right}
    plain = {v.removesuffix(" backwards") for v in videos}
    first = hits[0].video_id
    return [good[0], any(good), first in videos, first.removesuffix(" backwards") in plain]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("collages-benchmark"))
    folder = parser.parse_args().folder.absolute()
    if not (SHARED / "features").is_dir():
        sys.exit("the shared features are not there: set VLA_SHARED_DATA")
    folder.mkdir(parents=True, exist_ok=True)
    without()
    templates()
    follows(folder)


if __name__ == "__main__":
    main()
