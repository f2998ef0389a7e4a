"""Long videos of the rendered world, what is asked of them, and what never happens in them; for search_quality.py."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _long_videos import end_to_end
from _world import plan, prepare

import vla
from vla.batches.corpus import Corpus, Query
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import active_cache
from vla.captions import store as caption_store
from vla.features import FrameFeatures
from vla.localization.duration_range import DurationRange
from vla.model import AlignmentModel, zero_shot_model
from vla.retrieval.duration_prior import estimate_duration_range
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.training.checkpoint import load_model
from vla.world.language import mentions_appearance
from vla.world.queries import event_key

NEVER = 0.07
Truth = list[tuple[int, float, float]]


@dataclass(frozen=True)
class Rendered:
    """Long videos of clips of one split, in none of which certain things happen.

    Attributes:
        videos: of some clips each.
        present: texts, with all their right moments: row of the video, start, end.
        absent: texts of other clips of the split, which tell of what never happens here.
        happening: what happens in them, where.
    """

    videos: list[FrameFeatures]
    present: dict[str, Truth]
    absent: list[str]
    happening: dict[str, Truth]


@dataclass(frozen=True)
class World:
    """Rendered clips, encoded; texts tell of what happens, not of how things look, and each is there once.

    Attributes:
        corpus: all clips.
        gists: of each text what it tells of.
        vectors: `(D,)` raw text features of each text.
        told: texts by split, in the order of the corpus.
        events: of each clip start, end, what happens.
        splits: of each clip.
        models: to search with.
        lasting: how long the moments last that are not tested with.
    """

    corpus: Corpus
    gists: dict[str, str]
    vectors: dict[str, np.ndarray]
    told: dict[str, list[str]]
    events: list[list[tuple[float, float, str]]]
    splits: list[str]
    models: dict[str, AlignmentModel]
    lasting: DurationRange | None
    clips_per_video: int = 16

    def joined(self, split: str, draw: int = 0) -> Rendered:
        """Of clips of `split` in which nothing of 7 % of all there is to tell happens, by draw another 7 %."""
        never = self._never(draw)
        fits = [
            i
            for i, s in enumerate(self.splits)
            if s == split and all(g not in never for *_, g in self.events[i])
        ]
        return self._of(fits, [split], never)

    def spare(self) -> Rendered:
        """Of clips that were chosen by, and of those of the test that `joined` leaves out: other videos to choose with."""
        never = self._never()
        left = [
            i
            for i, s in enumerate(self.splits)
            if s == "test" and any(g in never for *_, g in self.events[i])
        ]
        return self._of(
            [i for i, s in enumerate(self.splits) if s == "val"] + left, ["val", "test"], set()
        )

    def _never(self, draw: int = 0) -> set[str]:
        every = sorted({g for some in self.events for *_, g in some})
        return {
            every[i]
            for i in np.random.default_rng(draw).permutation(len(every))[
                : round(NEVER * len(every))
            ]
        }

    def _of(self, clips: list[int], splits: list[str], never: set[str]) -> Rendered:
        rng = np.random.default_rng(1)
        order = rng.permutation(clips)
        videos: list[FrameFeatures] = []
        happening: dict[str, Truth] = defaultdict(list)
        count = self.clips_per_video
        for start in range(0, len(order) - count + 1, count):
            rows = [int(i) for i in order[start : start + count]]
            video, begins = end_to_end(
                f"long-{len(videos):03d}", [self.corpus.videos[i] for i in rows]
            )
            for row, begin in zip(rows, begins[:-1], strict=True):
                for first, last, gist in self.events[row]:
                    happening[gist].append((len(videos), first + float(begin), last + float(begin)))
            videos.append(video)
        if not videos:
            raise SystemExit(
                f"{len(clips)} clips of {' and '.join(splits)} are too few for a video of {count}: raise --train and --test, or lower --clips"
            )
        texts = list(dict.fromkeys(t for s in splits for t in self.told[s]))
        told = [texts[i] for i in rng.permutation(len(texts))]
        present = {t: happening[self.gists[t]] for t in told if self.gists[t] in happening}
        return Rendered(
            videos, present, [t for t in told if self.gists[t] in never], dict(happening)
        )


def rendered(
    folder: Path,
    run: str,
    train: int,
    test: int,
    models: Sequence[str],
    epochs: int,
    clips_per_video: int,
) -> World:
    """The world in `folder`, made if it is not there; if "trained" is one of the models, `run` of it is trained with a head
    for moments by default settings."""
    place = Workspace.open_or_create(folder)
    known = _happenings(folder, train, test)
    if "trained" in models and not (place.runs / run / "run.json").is_file():
        settings = {"heads": "moments", "epochs": epochs}
        vla.train(
            captions=folder / "captions-train.jsonl", workspace=folder, name=run, settings=settings
        )
    cache = active_cache(place.caches)
    corpus = load_corpus(cache, [a for a in caption_store.load(place) if a.question is None])
    clips = [known[v.video_id] for v in corpus.videos]
    events = [[(s, e, json.dumps(gist)) for s, e, gist in clip["events"]] for clip in clips]
    gists: dict[str, str] = {}
    vectors: dict[str, np.ndarray] = {}
    told: dict[str, dict[str, None]] = defaultdict(dict)
    for q in corpus.queries:
        if q.is_timed and not mentions_appearance(q.text):
            gists[q.text] = _told_by(q, events[q.video])
            vectors[q.text] = corpus.text_vector(q)
            told[clips[q.video]["split"]][q.text] = None
    made = {"frozen": zero_shot_model(corpus.dim, 1.0)}
    if "trained" in models:
        made["trained"] = load_model(place.runs / run)[0]
    splits = [clip["split"] for clip in clips]
    lasting = estimate_duration_range(
        (q.annotation for q in corpus.queries if q.annotation), cache.receipts
    )
    return World(
        corpus,
        gists,
        vectors,
        {s: list(t) for s, t in told.items()},
        events,
        splits,
        made,
        lasting,
        clips_per_video,
    )


def _told_by(query: Query, events: list[tuple[float, float, str]]) -> str:
    return min(events, key=lambda e: abs(e[0] - query.spans[0][0]))[2]


def _happenings(folder: Path, train: int, test: int) -> dict[str, dict]:
    """By clip its split, and start, end and gist of each event; written once, since planning takes longer than all else."""
    file = folder / "happenings.json"
    if not file.is_file():
        clips = [c for c in plan(train, test) if c.split != "novel"]
        if not (folder / "captions-train.jsonl").exists():
            prepare(folder, clips)
        found = {
            f"clips/{c.name}": {
                "split": c.split,
                "events": [[e.start, e.end, list(event_key(c.scene, e))] for e in c.scene.events],
            }
            for c in clips
        }
        atomic.write_bytes(file, json.dumps(found).encode())
    known: dict[str, dict] = json.loads(file.read_text())
    return known
