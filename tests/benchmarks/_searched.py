"""What is searched, and asked, by search_quality.py and search_world.py; collages of real CLIP features."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _collages import make

from support.shared_data import SHARED
from vla.features import FrameFeatures
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval.duration_prior import DurationRange

Truth = list[tuple[int, float, float]]


@dataclass(frozen=True)
class Searched:
    """Videos, and what is asked of them.

    Attributes:
        videos: long ones.
        vectors: `(D,)` raw text features of everything that is asked or compared with.
        queries: with all right moments: row of the video, start, end.
        absent: texts that nothing matches.
        bank: texts to compare with, and for each video which of them tell of it.
        lasting: how long moments last, as captions that are known tell of them; None where there are none.
    """

    videos: list[FrameFeatures]
    vectors: dict[str, np.ndarray]
    queries: dict[str, Truth]
    absent: list[str]
    bank: tuple[list[str], list[list[int]] | None]
    lasting: DurationRange | None = None

    def drawn(self, rng: np.random.Generator) -> Searched:
        """Where the bank tells of no video, bank and what is absent are one pool, and drawn anew; else the same."""
        if self.bank[1] is not None:
            return self
        pool = [*self.bank[0], *self.absent]
        pool = [pool[i] for i in rng.permutation(len(pool))]
        return replace(self, bank=(pool[: len(pool) // 2], None), absent=pool[len(pool) // 2 :])


def collages(folder: Path, count: int) -> tuple[Searched, dict[str, AlignmentModel]]:
    tool = SHARED.parent / "tools" / "make_collage.py"
    if not tool.is_file():
        sys.exit(f"{tool} is not there, and the collages are made by it: set VLA_SHARED_DATA")
    folder.mkdir(parents=True, exist_ok=True)
    out = make(tool, folder, "test", 200, (8, 20), 0)
    lines = [json.loads(line) for line in (out / "annotations.jsonl").read_text().splitlines()]
    names = sorted({line["vid"] for line in lines})
    videos = []
    for name in names:
        values = np.load(out / "features" / f"{name}.npz")["values"]
        videos.append(FrameFeatures(name, values, np.arange(len(values)) * 1.0, float(len(values))))
    queries: dict[str, Truth] = defaultdict(list)
    for line in lines:
        queries[line["paraphrase"]].append(
            (names.index(line["vid"]), *map(float, line["relevant_windows"][0]))
        )
    text, other = np.load(out / "text.npz"), np.load(out / "absent.npz")
    vectors = dict(
        zip(map(str, text["paraphrases"]), text["paraphrase_feats"].astype(np.float32), strict=True)
    )
    vectors |= dict(zip(map(str, other["prompts"]), other["feats"].astype(np.float32), strict=True))
    rng = np.random.default_rng(0)
    nowhere = [str(p) for p in rng.permutation(other["prompts"]) if p not in queries]
    half = len(nowhere) // 2
    picked = {
        list(queries)[i]: queries[list(queries)[i]] for i in rng.permutation(len(queries))[:count]
    }
    kept = {t: vectors[t] for t in (*picked, *nowhere)}
    model = AlignmentModel(ModelConfig(len(videos[0].values[0]))).eval()
    return Searched(videos, kept, picked, nowhere[half:], (nowhere[:half], None)), {"frozen": model}
