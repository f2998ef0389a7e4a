"""Videos and queries with known answers, for real_search.py: real videos, collages of real features, the rendered world."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from _collages import make
from _rendered import rendered

import vla
from support.shared_data import SHARED
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache, active_cache
from vla.features import FeatureSpec, FrameFeatures, TextFeatures
from vla.indexing.segments import Segmenter, windows_and_frames
from vla.indexing.sync import build_index
from vla.localization.duration_range import DurationRange
from vla.model import AlignmentModel, zero_shot_model
from vla.retrieval.calibration import Calibration
from vla.retrieval.calibration_estimate import calibrate_index
from vla.retrieval.query_bank import QueryBank, default_queries
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.workflows.encoder_choice import encoder_of
from vla.workflows.text_features import LookupTexts

Truth = list[tuple[int, float, float]]
"""Right moments of a query: number of the video, start and end in seconds."""


@dataclass(frozen=True)
class SearchSet:
    """Videos and queries with known answers.

    Attributes:
        name: title of the set.
        videos: raw frame features.
        vectors: `(D,)` raw feature of each text.
        queries: by text, all right moments; of a whole video from 0 to infinity.
        bank: texts of the query bank.
        described: for each text of the bank, numbers of the videos that it describes.
        absent: texts that describe no video.
        duration_range: duration range of known captions; None for none.
        model: the model to search with.
    """

    name: str
    videos: list[FrameFeatures]
    vectors: dict[str, np.ndarray]
    queries: dict[str, Truth]
    bank: list[str]
    described: list[frozenset[int]] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    duration_range: DurationRange | None = None
    model: AlignmentModel | None = None

    @property
    def has_moments(self) -> bool:
        """Whether the right moments have an end."""
        return all(np.isfinite(end) for truth in self.queries.values() for _, _, end in truth)

    def aligned_model(self) -> AlignmentModel:
        """The model; the frozen encoder where there is none."""
        return self.model or zero_shot_model(self.videos[0].values.shape[1], 1.0)


class IndexedSet:
    """A set with an index.

    Args:
        search_set: the set.
        folder: an empty folder.
        segmenter: rows of the index.
    """

    def __init__(
        self, search_set: SearchSet, folder: Path, segmenter: Segmenter = windows_and_frames
    ) -> None:
        self.set, self.model = search_set, search_set.aligned_model()
        dim = search_set.videos[0].values.shape[1]
        spec = FeatureSpec("benchmark", "", "", "", "", dim)
        self.cache = FeatureCache.create(folder, spec, EncoderSource("benchmark", "", ""))
        self.names = [f"{number:05d}" for number in range(len(search_set.videos))]
        for name, video in zip(self.names, search_set.videos, strict=True):
            if name not in self.cache.receipts:
                seconds = video.duration_seconds
                receipt = Receipt(name, "ok", "", 0, 0, "", duration_seconds=seconds)
                self.cache.add_video(replace(video, video_id=name), receipt)
        pooled = np.stack(list(search_set.vectors.values())).astype(np.float32)
        texts = TextFeatures(
            tuple(search_set.vectors),
            pooled,
            np.zeros((len(pooled), 1, dim), np.float32),
            np.ones((len(pooled), 1), bool),
        )
        self.index = build_index(self.cache, self.model, segmenter=segmenter)
        assert self.index.videos == self.names
        self.searcher = Searcher(
            self.index, LookupTexts(texts), self.model, self.cache, Workspace(folder)
        )

    def encode(self, texts: list[str]) -> np.ndarray:
        """`(Q, E)` unit vectors."""
        vectors = np.stack([self.set.vectors[text] for text in texts]).astype(np.float32)
        return self.model.align_texts(vectors)

    @cached_property
    def frames(self) -> list[np.ndarray]:
        """For each video `(T, E)` unit frames."""
        return [self.model.align_frames(video) for video in self.set.videos]

    @cached_property
    def calibration(self) -> Calibration:
        """As `vla search` estimates it."""
        described = self.set.described or [frozenset[int]()] * len(self.set.bank)
        bank = QueryBank(
            tuple(self.set.bank),
            tuple(frozenset(self.names[video] for video in videos) for videos in described),
        ).without_universal(self.names)
        found = calibrate_index(self.index, bank, self.encode(list(bank.texts)))
        return replace(found, duration_range=self.set.duration_range)


def read_csv(name: str) -> list[dict[str, str]]:
    """Rows of a shared file."""
    with (SHARED / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def real_sets(folder: Path, model: str) -> list[SearchSet]:
    """Captions and timed captions of the shared videos, one video of each content."""
    vla.extract([SHARED / "videos"], workspace=folder, model=model)
    cache = active_cache(Workspace.open(folder).caches)
    by_file = {Path(name).name: name for name in cache.receipts}
    rows = read_csv("videos.csv")
    judged = [row["video"] for row in rows if row["retrieval"] == "1"]
    timed = [json.loads(line) for line in (SHARED / "moments.jsonl").read_text().splitlines()]
    files = list(dict.fromkeys([*judged, *(row["video"] for row in timed)]))
    videos = [cache.frames(by_file[file]) for file in files]
    caption = {row["video"]: row["caption"] for row in rows}
    captions: dict[str, Truth] = defaultdict(list)
    for file in judged:
        captions[caption[file]].append((files.index(file), 0.0, np.inf))
    moments: dict[str, Truth] = defaultdict(list)
    for row in timed:
        moments[row["caption"]].append((files.index(row["video"]), row["start"], row["end"]))
    bank = list(default_queries().texts)
    encoder = encoder_of(cache, "cpu", "auto")
    texts = list(dict.fromkeys([*captions, *moments, *bank]))
    pooled = np.concatenate(
        [encoder.encode_text(texts[i : i + 64]).pooled for i in range(0, len(texts), 64)]
    )
    vectors = dict(zip(texts, pooled, strict=True))
    return [
        SearchSet("real captions", videos, vectors, dict(captions), bank),
        SearchSet("real moments", videos, vectors, dict(moments), bank),
    ]


def _tool(name: str) -> Path:
    tool = SHARED.parent / "tools" / name
    if not tool.is_file():
        sys.exit(f"{tool} is not there, and the collages are made by it: set VLA_SHARED_DATA")
    return tool


def collage_set(folder: Path, seed: int, num_videos: int, count: int) -> SearchSet:
    """Collages of scenes of test classes, searched with paraphrases; the bank is half of the names
    of categories that are not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    out = make(_tool("make_collage.py"), folder, "test", num_videos, (8, 20), seed)
    lines = [json.loads(line) for line in (out / "annotations.jsonl").read_text().splitlines()]
    names = sorted({line["vid"] for line in lines})
    videos = []
    for name in names:
        values = np.load(out / "features" / f"{name}.npz")["values"].astype(np.float32)
        videos.append(FrameFeatures(name, values, np.arange(len(values)) * 1.0, float(len(values))))
    queries: dict[str, Truth] = defaultdict(list)
    for line in lines:
        start, end = map(float, line["relevant_windows"][0])
        queries[line["paraphrase"]].append((names.index(line["vid"]), start, end))
    texts, others = np.load(out / "text.npz"), np.load(out / "absent.npz")
    vectors = dict(zip(map(str, texts["paraphrases"]), texts["paraphrase_feats"], strict=True))
    vectors |= dict(zip(map(str, others["prompts"]), others["feats"], strict=True))
    rng = np.random.default_rng(seed)
    absent = [str(p) for p in rng.permutation(others["prompts"]) if p not in queries]
    chosen = [list(queries)[i] for i in rng.permutation(len(queries))[:count]]
    half = len(absent) // 2
    return SearchSet(
        f"collages {seed}",
        videos,
        {text: vectors[text] for text in (*chosen, *absent)},
        {text: queries[text] for text in chosen},
        absent[:half],
        absent=absent[half:],
    )


def hard_collage_sets(folder: Path, count: int) -> list[SearchSet]:
    """Collages with look-alike scenes, a background and cross-fades; the bank is names of other
    categories.
    """
    root = folder / "hard"
    if not (root / "data").is_dir():
        tool = [sys.executable, str(_tool("make_hard_collage.py")), str(root)]
        subprocess.run(tool, check=True, stdout=subprocess.DEVNULL)
    return [_hard_collage_set(root, split, count) for split in ("test_seen", "test_unseen")]


def _hard_collage_set(root: Path, split: str, count: int) -> SearchSet:
    path = root / "data" / f"highlight_{split}_release.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    names = sorted({line["vid"] for line in lines})
    videos = []
    for name in names:
        values = np.load(root / "features" / "clip_features" / f"{name}.npz")["features"]
        videos.append(FrameFeatures(name, values, np.arange(len(values)) * 2.0, 2.0 * len(values)))
    queries: dict[str, Truth] = defaultdict(list)
    vectors: dict[str, np.ndarray] = {}
    for line in lines:
        text = root / "features" / "clip_text_features" / f"qid{line['qid']}.npz"
        vectors[line["query"]] = np.load(text)["pooler_output"]
        for start, end in line["relevant_windows"]:
            queries[line["query"]].append((names.index(line["vid"]), float(start), float(end)))
    others = np.load(SHARED / "features" / "text_lvis1203_a_clip_vitb32.npz")
    key = next(name for name in others.files if "feat" in name)
    rows = np.random.default_rng(1).permutation(len(others[key]))[:800]
    named = {f"other {row}": others[key][row] for row in rows}
    other_names = list(named)
    chosen = list(queries)[:count]
    return SearchSet(
        f"hard {split.removeprefix('test_')}",
        videos,
        vectors | named,
        {text: queries[text] for text in chosen},
        other_names[:400],
        absent=other_names[400:],
    )


def world_sets(
    folder: Path, train: int, test: int, epochs: int, clips: int, count: int
) -> list[SearchSet]:
    """Long videos of rendered clips in which some things never happen; frozen and trained."""
    world = rendered(folder, "default", train, test, ("frozen", "trained"), epochs, clips)
    joined = world.joined("test")
    queries = dict(list(joined.present.items())[:count])
    told = [text for text in world.told["train"] if text not in queries][:1000]
    described = [
        frozenset(v for v, _, _ in joined.happening.get(world.gists[text], [])) for text in told
    ]
    texts = dict.fromkeys([*queries, *told, *joined.absent])
    return [
        SearchSet(
            f"world {name}",
            joined.videos,
            {text: world.vectors[text] for text in texts},
            queries,
            told,
            described,
            joined.absent,
            world.lasting,
            model,
        )
        for name, model in world.models.items()
    ]
