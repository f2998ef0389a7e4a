"""Does training help on real frozen features, for what it was not trained on? Collages of CLIP features, and MSR-VTT.

    python tests/benchmarks/real_features.py [FOLDER] [--seeds 3] [--train 120] [--test 80] [--projector NAME] [--only collages]

Needs the shared files: $VLA_SHARED_DATA, or shared/ beside the repository; says so and stops where they are not.

Collages are untrimmed "videos" of real CLIP image features with timed captions that are real CLIP text features. They are
trained on with one half of the classes, named "a photo of a X", and searched with the other half, named "a X". MSR-VTT are
1,000 real videos (VGG16 features, one human caption each); 200 are held out. The frozen pair knows nothing, and everything is
learned: a caption's vector is the sum of a fixed random vector for each of its words, rare ones louder, or with `--texts FILE.npz`
(`texts`, and their `vectors` by any encoder of sentences) what lies along the main axes of those of the captions trained on.

Prints Markdown: frozen, then the mean over seeds with the 95 % interval of Student's t, then the difference with the 95 %
interval of a paired bootstrap over texts (of each the mean over seeds), all videos that show a text together.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))


import vla
from benchmarks._collages import NAMES, bring_in, make, measure, paraphrased
from support.shared_data import SHARED
from vla.batches.corpus import Corpus
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import active_cache
from vla.datasets._open import read_annotations
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.retrieval_protocol import searches
from vla.metrics.bootstrap import estimate
from vla.metrics.retrieval import ranks
from vla.model import AlignmentModel, zero_shot_model
from vla.storage.workspace import Workspace
from vla.training.checkpoint import Run, load_model

TOOL = SHARED.parent / "tools" / "make_collage.py"
MSRVTT = SHARED / "features" / "msrvtt_video0_999_vgg16_ae128.npz"
T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
SCENES = (6, 12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("real-features"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train", type=int, default=120)
    parser.add_argument("--test", type=int, default=80)
    parser.add_argument("--projector", default="")
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--pull", type=float, default=0.0)
    parser.add_argument("--only", choices=("collages", "msrvtt"))
    arguments = parser.parse_args()
    for needed in (TOOL, MSRVTT):
        if not needed.is_file():
            sys.exit(
                f"{needed} is not there, and this benchmark is made of it: set VLA_SHARED_DATA, or look at it elsewhere"
            )
    settings = {k: v for k in ("projector", "epochs") if (v := getattr(arguments, k))}
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.only != "msrvtt":
        collages(folder, arguments, settings)
    if arguments.only != "collages":
        # What knows nothing is nothing to stay near to.
        msrvtt(
            folder, arguments.seeds, {**settings, "anchor_weight": arguments.pull}, arguments.texts
        )


def collages(folder: Path, arguments: argparse.Namespace, settings: dict[str, Any]) -> None:
    seeds = range(arguments.seeds)
    taught = [make(TOOL, folder, "train", arguments.train, SCENES, seed) for seed in seeds]
    tests = {
        "classes that were never trained on": make(
            TOOL, folder, "test", arguments.test, SCENES, 100
        ),
        "classes that were trained on, other collages": make(
            TOOL, folder, "train", arguments.test, SCENES, 101
        ),
    }
    workspace = folder / "collages"
    bring_in([*taught, *tests.values()], workspace)
    models = [
        trained(
            workspace,
            taught[seed] / "annotations.jsonl",
            {**settings, "seed": seed},
            f"collages-{seed}",
        )
        for seed in seeds
    ]
    plain = zero_shot_model(models[0].config.dim, 1.0)
    for title, where in tests.items():
        corpus = paraphrased(where, workspace)
        before, after = measure(plain, corpus), [measure(m, corpus) for m in models]
        print(
            f"\nCollages, {title}: {len(corpus.videos)} videos, {len({q.text for q in corpus.queries})} texts\n"
        )
        header()
        for name in NAMES:
            line(
                name,
                before.by_query[name],
                [a.by_query[name] for a in after],
                before.texts.get(name),
            )


def msrvtt(folder: Path, seeds: int, settings: dict[str, Any], texts: Path | None) -> None:
    """1,000 videos, the last 200 of a fixed random order held out; what is trained on and what it is chosen by, of the rest."""
    workspace, found = folder / "msrvtt", np.load(MSRVTT)
    names, captions = [str(i) for i in found["ids"]], [str(c) for c in found["captions"]]
    order = np.random.default_rng(12345).permutation(len(names))
    held_out, rest = order[:200], order[200:]
    (folder / "vgg").mkdir(exist_ok=True)
    for name, values in zip(names, found["feats"], strict=True):
        np.save(folder / "vgg" / f"{name}.npy", values)
    known, width = [captions[i] for i in rest], found["feats"].shape[2]
    vectors = (
        word_sums(captions, known, width)
        if texts is None
        else along_axes(captions, known, width, texts)
    )
    np.savez(folder / "captions.npz", texts=np.array(captions), vectors=vectors)
    # When its frames are shown is not said anywhere: 50 of each video, evenly.
    vla.import_features(
        [folder / "vgg"],
        model="vgg16-ae128",
        clip_length=0.4,
        texts=folder / "captions.npz",
        workspace=workspace,
    )
    for part, rows in (("rest", rest), ("test", held_out)):
        lines = [json.dumps({"video": names[i], "caption": captions[i]}) for i in rows]
        (folder / f"captions-{part}.jsonl").write_text("\n".join(lines) + "\n")
    models = [
        trained(
            workspace, folder / "captions-rest.jsonl", {**settings, "seed": seed}, f"msrvtt-{seed}"
        )
        for seed in range(seeds)
    ]
    annotations = read_annotations(folder / "captions-test.jsonl", None)
    corpus = load_corpus(active_cache(Workspace(workspace).caches), annotations)
    before = ranks_of(zero_shot_model(models[0].config.dim, 1.0), corpus)
    after = [ranks_of(m, corpus) for m in models]
    print(f"\nMSR-VTT, {len(corpus.videos)} videos that were held out, text to video\n")
    header()
    for k in (1, 5, 10):
        line(f"R@{k}", before <= k, [a <= k for a in after])
    line("MRR", 1 / before, [1 / a for a in after])


def ranks_of(model: AlignmentModel, corpus: Corpus) -> np.ndarray:
    """`(Q,)` the rank of each caption's video."""
    found = searches(CorpusPredictions(model, corpus), kinds=("retrieval",))["text to video"]
    return ranks(found.similarity, found.relevant)


def word_sums(captions: list[str], known: list[str], width: int) -> np.ndarray:
    """`(N, width)` float32: the sum of each caption's words, each a fixed random vector times its rarity among `known`."""
    often = Counter(w for c in known for w in set(c.lower().split()))

    def vector(word: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(width) * np.log(
            (1 + len(known)) / (1 + often[word])
        )

    return np.stack([np.sum([vector(w) for w in c.lower().split()], 0) for c in captions]).astype(
        np.float32
    )


def along_axes(captions: list[str], known: list[str], width: int, file: Path) -> np.ndarray:
    """`(N, width)` float32: the vectors in `file` along the axes that those of `known` spread along most."""
    with np.load(file) as given:
        vectors = dict(zip(map(str, given["texts"]), given["vectors"], strict=True))
    all_of_them, those = (
        np.stack([vectors[c] for c in captions]),
        np.stack([vectors[c] for c in known]),
    )
    axes = np.linalg.svd(those - those.mean(0), full_matrices=False)[2][:width]
    found: np.ndarray = ((all_of_them - those.mean(0)) @ axes.T).astype(np.float32)
    return found


def trained(workspace: Path, captions: Path, settings: dict[str, Any], name: str) -> AlignmentModel:
    began = time.monotonic()
    run: Run = vla.train(captions=captions, workspace=workspace, settings=settings, name=name)
    record = run.record
    print(
        f"{name}: {record['epochs']} epochs, centring {record['centring']:g}, alpha {record['alpha']:g}, "
        f"{'better' if run.is_better else 'not better'}, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    # What is not better is not used: then the frozen encoder answers.
    model = load_model(Workspace(workspace).runs / name)[0]
    return model if run.is_better else zero_shot_model(model.config.dim, 1.0)


def header() -> None:
    print("| | frozen | trained, mean over seeds | difference |\n|---|---|---|---|", flush=True)


def line(
    name: str, before: np.ndarray, after: list[np.ndarray], clusters: np.ndarray | None = None
) -> None:
    means = np.array([100 * a.mean() for a in after])
    half = (
        T95[len(means)] * means.std(ddof=1) / np.sqrt(len(means))
        if len(means) in T95
        else float("nan")
    )
    gain = estimate(np.mean(after, 0) - before, clusters=clusters)
    spread = "" if np.isnan(half) else f" ± {half:.1f}"
    print(
        f"| {name} | {100 * before.mean():.1f} | {means.mean():.1f}{spread} | {gain.percent().replace(' videos', ' texts')} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
