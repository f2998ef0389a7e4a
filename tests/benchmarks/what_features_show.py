"""What can be read off the frozen features of the rendered world by a linear map: what training on them could know at best.

    python tests/benchmarks/what_features_show.py [FOLDER] [--train 1200] [--test 400]

FOLDER is a world of `levels.py`; its clips are rendered and extracted if it is not there.

Ridge regression, fitted to the training clips and measured on the test clips (R2, 1 is perfect, 0 is the mean): where things
are from single frames; the direction of a movement from the frames of its moment, and from its caption; how often which way
from the one vector of a description. And how often the clip is told from its twin by predicting the same few attributes
from text and from video, which uses no alignment training at all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from _world import open_world, plan

from vla.batches.corpus import Corpus
from vla.batches.corpus_reader import load_corpus
from vla.cache.store import active_cache
from vla.captions import store as caption_store
from vla.spans import frames_in
from vla.world.clips import Clip
from vla.world.scene import COLORS, STEP, Scene, states_at

ATTRIBUTES = ("left against right", "up against down", "grow against shrink", "spins", "jumps")


def attributes(scene: Scene) -> np.ndarray:
    """`(5,)` how often each of ATTRIBUTES happens, in `scene`."""
    found = np.zeros(5)
    for e in scene.events:
        if e.kind in ("move", "follow"):
            found[:2] += STEP[e.direction]
        found[2] += (e.kind == "grow") - (e.kind == "shrink")
        found[3:] += e.kind == "spin", e.kind == "jump"
    return found


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12)


class Ridge:
    """A linear map with an offset; `strength` is of the penalty, relative to the spread of the inputs."""

    def __init__(self, rows: np.ndarray, truth: np.ndarray, strength: float = 1e-3) -> None:
        self.center = rows.mean(0)
        x, self.offset = rows - self.center, truth.mean(0)
        gram = x.T @ x
        penalty = strength * np.trace(gram) / len(gram) * np.eye(len(gram))
        self.matrix = np.linalg.solve(gram + penalty, x.T @ (truth - self.offset))

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.center) @ self.matrix + self.offset


def r2(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return 1 - ((found - truth) ** 2).mean(0) / truth.var(0)


def places(corpus: Corpus, scenes: dict[str, Scene]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each colour, unit frames `(N, D)` that show one visible thing of it, and its x and y `(N, 2)`."""
    rows: list[list[np.ndarray]] = [[] for _ in COLORS]
    truth: list[list[np.ndarray]] = [[] for _ in COLORS]
    for video in corpus.videos:
        states = states_at(scenes[video.video_id], video.timestamps_seconds)
        values = unit(video.values.astype(np.float64))
        color = np.where(states.color_mix < 0.5, states.color_from, states.color_to)
        for c in range(len(COLORS)):
            has = (color == c) & (states.opacity > 0.5)
            for t in np.flatnonzero(has.sum(0) == 1):
                i = int(has[:, t].argmax())
                rows[c].append(values[t])
                truth[c].append(np.array([states.x[i, t], states.y[i, t]]))
    return [(np.array(a), np.array(b)) for a, b in zip(rows, truth, strict=True)]


def movements(
    corpus: Corpus, scenes: dict[str, Scene]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each moment in which something moves: change of the mean frame from its first to its second half `(N, D)`, its
    caption's vector `(N, D)`, and the step `(N, 2)`."""
    frames, texts, truth = [], [], []
    for query in corpus.queries:
        video = corpus.videos[query.video]
        scene = scenes[video.video_id]
        moving = [
            e
            for e in scene.events
            if e.kind == "move" and query.is_timed and abs(e.start - query.spans[0, 0]) < 2e-3
        ]
        if not moving:
            continue
        first, last = frames_in(video.timestamps_seconds, video.duration_seconds, query.spans[0])
        if last - first < 2:
            continue
        shown = unit(video.values[first:last].astype(np.float64))
        half = len(shown) // 2
        frames.append(shown[-half:].mean(0) - shown[:half].mean(0))
        texts.append(unit(corpus.text_vector(query).astype(np.float64)))
        truth.append(np.array(STEP[moving[0].direction]))
    return np.array(frames), np.array(texts), np.array(truth)


def whole(
    corpus: Corpus, scenes: dict[str, Scene]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of each description: its vector, how its video's frames change `(N, 2 D)`, the attributes, and the row of its video."""
    told = [q for q in corpus.queries if not q.is_timed]
    changes = []
    for video in corpus.videos:
        steps = np.diff(unit(video.values.astype(np.float64)), axis=0)
        changes.append(np.concatenate([steps.sum(0), np.abs(steps).sum(0)]))
    truth = [attributes(scenes[v.video_id]) for v in corpus.videos]
    rows = np.array([q.video for q in told])
    texts = np.array([unit(corpus.text_vector(q).astype(np.float64)) for q in told])
    return texts, np.array(changes), np.array(truth), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("world-benchmark"))
    parser.add_argument("--train", type=int, default=1200)
    parser.add_argument("--test", type=int, default=400)
    arguments = parser.parse_args()
    clips: list[Clip] = plan(arguments.train, arguments.test)
    scenes = {f"clips/{c.name}": c.scene for c in clips}
    workspace = open_world(arguments.folder.absolute(), clips)
    cache = active_cache(workspace.caches)
    known = caption_store.load(workspace)
    train, test = (
        load_corpus(cache, [a for a in known if a.split == s]) for s in ("train", "test")
    )

    found, truth = [], []
    for (a, b), (x, y) in zip(places(train, scenes), places(test, scenes), strict=True):
        found.append(Ridge(a, b)(x))
        truth.append(y)
    print(
        "place from one frame, x and y: R2",
        r2(np.concatenate(found), np.concatenate(truth)).round(3),
    )

    a, b = movements(train, scenes), movements(test, scenes)
    for name, i in (("the frames of its moment", 0), ("the caption of its moment", 1)):
        guess = Ridge(a[i], a[2])(b[i])
        right = ((guess * b[2]).sum(1) > 0).mean()
        print(
            f"direction of a movement from {name}: R2 {r2(guess, b[2]).round(3)}, right sense {100 * right:.1f} %"
        )

    texts, changes, truth_of, rows = whole(train, scenes)
    test_texts, test_changes, test_truth, test_rows = whole(test, scenes)
    by_text = Ridge(texts, truth_of[rows])(test_texts)
    by_video = Ridge(changes, truth_of)(test_changes)
    for name, guess, real in (
        ("description", by_text, test_truth[test_rows]),
        ("whole video", by_video, test_truth),
    ):
        parts = ", ".join(f"{n} {v:.2f}" for n, v in zip(ATTRIBUTES, r2(guess, real), strict=True))
        print(f"from the {name}: R2 of {parts}")

    row = {v.video_id: i for i, v in enumerate(test.videos)}
    twins = {f"clips/{c.name}": f"clips/{c.counterfactual}" for c in clips if c.counterfactual}
    other = np.array([row.get(twins.get(test.videos[r].video_id, ""), -1) for r in test_rows])
    paired = other >= 0
    for name, said in (
        ("the description's vector", by_text),
        ("the true attributes", test_truth[test_rows]),
    ):
        gap = by_video[test_rows] - by_video[other]
        wins = (said * gap / truth_of.std(0) ** 2).sum(1)[paired]
        print(
            f"clip told from its twin by linear attributes, of the text from {name}: {100 * (wins > 0).mean():.1f} %"
        )


if __name__ == "__main__":
    main()
