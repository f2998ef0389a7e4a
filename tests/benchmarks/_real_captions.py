"""The shared real videos with their captions, and random splits of them by content."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import vla
from support.shared_data import SHARED
from vla.batches.corpus import Corpus
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import FeatureCache, active_cache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.storage.workspace import Workspace

FILES = ("captions.csv", "moments.jsonl")
TEST_FRACTION = 1 / 3


@dataclass(frozen=True)
class RealCaptions:
    """Captions of the shared videos.

    Attributes:
        workspace: holds the features.
        cache: of the features.
        annotations: of all videos: descriptions, and captions with times.
        groups: content of each video, by its name in the cache; files of one content share it.
    """

    workspace: Path
    cache: FeatureCache
    annotations: list[Annotation]
    groups: dict[str, str]

    @classmethod
    def open(cls, folder: Path, model: str) -> RealCaptions:
        """Open the workspace in `folder`; videos that are not cached are extracted."""
        require_shared_data()
        captions = [SHARED / name for name in FILES]
        vla.extract([SHARED / "videos"], captions=captions, workspace=folder, model=model)
        workspace = Workspace.open(folder)
        cache = active_cache(workspace.caches)
        with (SHARED / "videos.csv").open(newline="", encoding="utf-8") as file:
            by_file = {row["video"]: row["group"] for row in csv.DictReader(file)}
        groups = {name: by_file[Path(name).name] for name in cache.receipts}
        return cls(folder, cache, caption_store.load_unique(workspace), groups)

    def split(self, seed: int) -> tuple[list[Annotation], list[Annotation]]:
        """Captions to train with, and captions of a random third of the contents to test with."""
        names = sorted(set(self.groups.values()))
        order = np.random.default_rng([seed, 20]).permutation(len(names))
        test_names = {names[i] for i in order[: round(TEST_FRACTION * len(names))]}
        is_test = [self.groups[a.video] in test_names for a in self.annotations]
        pairs = list(zip(self.annotations, is_test, strict=True))
        return [a for a, test in pairs if not test], [a for a, test in pairs if test]

    def corpus(self, annotations: list[Annotation]) -> tuple[Corpus, np.ndarray]:
        """The videos of these captions, and the content of each."""
        corpus = load_corpus(self.cache, annotations)
        return corpus, np.array([self.groups[v.video_id] for v in corpus.videos])


def require_shared_data() -> None:
    """Exit with a message where the shared files are not there."""
    if not (SHARED / "videos.csv").is_file():
        sys.exit(
            f"{SHARED / 'videos.csv'} is not there, and the real videos are beside it: "
            "set VLA_SHARED_DATA"
        )


def require_tool(name: str) -> Path:
    """Path of a shared tool; exit with a message where it is not there."""
    tool = SHARED.parent / "tools" / name
    if not tool.is_file():
        sys.exit(f"{tool} is not there, and the collages are made by it: set VLA_SHARED_DATA")
    return tool
