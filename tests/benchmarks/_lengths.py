"""Videos of scenes from 1 s to 2 minutes, of real CLIP features, two a second; for localisers.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from support.shared_data import SHARED
from vla.batches.corpus import Corpus, Query
from vla.features import FrameFeatures

HERTZ = 2
LENGTHS = {(1, 3): 4, (3, 8): 3, (8, 20): 2, (20, 60): 2, (60, 120): 1}
"""Seconds that scenes last, and how many of these a video has."""


def of_all_lengths(tool: Path, classes: str, videos: int, seed: int) -> Corpus:
    """Videos of about four minutes. Scenes are the collages' own, longer and shorter, and asked for by the paraphrase."""
    collage: Any = _module(tool)
    held = np.load(SHARED / "features" / "imagenet700_clip_vitb32.npz")
    images, labels = collage.unit(held["image_feats"].astype(np.float64)), held["image_labels"]
    # The halves of make_collage.py.
    order = np.random.default_rng(12345).permutation(len(held["names"]))
    some = {"train": order[: len(order) // 2], "test": order[len(order) // 2 :]}[classes]
    rng = np.random.default_rng(seed)
    found, queries, vectors = [], [], {}
    for row in range(videos):
        lengths = rng.permutation(
            np.concatenate([rng.uniform(*span, many) for span, many in LENGTHS.items()])
        )
        counts = np.maximum(1, np.rint(HERTZ * lengths)).astype(int)
        shown = rng.choice(some, len(counts), replace=False)
        values = np.concatenate(
            [collage.scene(images[labels == c], n, rng) for c, n in zip(shown, counts, strict=True)]
        )
        ends = np.cumsum([0, *counts]) / HERTZ
        times = np.arange(len(values)) / HERTZ
        found.append(
            FrameFeatures(f"lengths-{row:03d}", values.astype(np.float16), times, float(ends[-1]))
        )
        for c, span in zip(shown, np.column_stack([ends[:-1], ends[1:]]), strict=True):
            text = str(held["prompts_a"][c])
            vectors[text] = held["text_feats_a"][c].astype(np.float32)
            queries.append(Query(text, (text,), (text,), row, span[None]))
    return Corpus(found, queries, vectors)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
