"""What search_quality.py searches: long videos of the rendered world, and collages of real CLIP features."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _collages import make
from _long_videos import end_to_end
from ablation import plan, prepare

from shared_data import SHARED
from vla import api
from vla.cache import captions as caption_store
from vla.cache.store import current_cache
from vla.corpus import load_corpus
from vla.demo import _gist
from vla.features import FrameFeatures
from vla.model import AlignmentModel, ModelConfig, frozen
from vla.train.checkpoint import load_model
from vla.workspace import Workspace
from vla.world.language import tells_looks

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
    """

    videos: list[FrameFeatures]
    vectors: dict[str, np.ndarray]
    queries: dict[str, Truth]
    absent: list[str]
    bank: tuple[list[str], list[list[int]] | None]

    def drawn(self, rng: np.random.Generator) -> Searched:
        """Where the bank tells of no video, bank and what is absent are one pool, and drawn anew; else the same."""
        if self.bank[1] is not None:
            return self
        pool = [*self.bank[0], *self.absent]
        pool = [pool[i] for i in rng.permutation(len(pool))]
        return replace(self, bank=(pool[: len(pool) // 2], None), absent=pool[len(pool) // 2 :])


def world(folder: Path, run: str, count: int, many: int = 20) -> tuple[Searched, dict[str, AlignmentModel]]:
    place = Workspace.open_or_create(folder)
    clips = plan(1200, 400)
    if not (folder / "captions-train.jsonl").exists():
        prepare(folder, clips)
    api.train(
        captions=folder / "captions-train.jsonl",
        workspace=folder,
        name=run,
        settings={"heads": "moments", "epochs": 20},
    )
    cache = current_cache(place.caches)
    corpus = load_corpus(cache, [a for a in caption_store.load(place) if a.question is None])
    clip_of = {f"clips/{c.name}": c for c in clips}
    rng = np.random.default_rng(0)
    rows, videos, where = defaultdict(list), [], {}
    for i, video in enumerate(corpus.videos):
        rows[clip_of[video.video_id].split].append(i)
    happening: dict[tuple[object, ...], Truth] = defaultdict(list)
    for split in ("test", "val", "train"):
        order = rng.permutation(rows[split])
        order = order[: len(order) // 2] if split == "train" else order
        for start in range(0, len(order) - many + 1, many):
            parts = [corpus.videos[int(i)] for i in order[start : start + many]]
            video, begins = end_to_end(f"{split}-{len(videos):03d}", parts)
            for part, begin in zip(parts, begins[:-1], strict=True):
                where[part.video_id] = len(videos)
                scene = clip_of[part.video_id].scene
                for event in scene.events:
                    happening[_gist(scene, event)].append((len(videos), event.start + begin, event.end + begin))
            videos.append(video)
    queries, vectors, absent, bank = {}, {}, [], {}
    for q in corpus.queries:
        clip = clip_of[corpus.videos[q.video].video_id]
        if not q.is_timed or tells_looks(q.text):
            continue
        vectors[q.text] = corpus.text_vector(q)
        event = min(clip.scene.events, key=lambda e: abs(e.start - q.spans[0][0]))
        gist = _gist(clip.scene, event)
        if gist not in happening:
            if clip.split == "train":
                absent.append(q.text)
        elif clip.split == "test":
            queries[q.text] = happening[gist]
        elif f"clips/{clip.name}" in where:
            bank.setdefault(q.text, set()).update(v for v, _, _ in happening[gist])
    bank = {t: v for t, v in bank.items() if t not in queries}
    drawn = {list(bank)[i]: None for i in rng.permutation(len(bank))[:1000]}
    told_of = [[i for i, t in enumerate(drawn) if row in bank[t]] for row in range(len(videos))]
    picked = {list(queries)[i]: None for i in rng.permutation(len(queries))[:count]}
    texts = dict.fromkeys([*picked, *drawn, *absent])
    model = load_model(place.runs / run)[0]
    return (
        Searched(videos, {t: vectors[t] for t in texts}, {t: queries[t] for t in picked}, list(dict.fromkeys(absent)),
                 (list(drawn), told_of)),
        {"frozen": frozen(corpus.dim, 1.0), "trained": model},
    )  # fmt: skip


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
        queries[line["paraphrase"]].append((names.index(line["vid"]), *map(float, line["relevant_windows"][0])))
    text, other = np.load(out / "text.npz"), np.load(out / "absent.npz")
    vectors = dict(zip(map(str, text["paraphrases"]), text["paraphrase_feats"].astype(np.float32), strict=True))
    vectors |= dict(zip(map(str, other["prompts"]), other["feats"].astype(np.float32), strict=True))
    rng = np.random.default_rng(0)
    nowhere = [str(p) for p in rng.permutation(other["prompts"]) if p not in queries]
    half = len(nowhere) // 2
    picked = {list(queries)[i]: queries[list(queries)[i]] for i in rng.permutation(len(queries))[:count]}
    kept = {t: vectors[t] for t in (*picked, *nowhere)}
    model = AlignmentModel(ModelConfig(len(videos[0].values[0]))).eval()
    return Searched(videos, kept, picked, nowhere[half:], (nowhere[:half], None)), {"frozen": model}
