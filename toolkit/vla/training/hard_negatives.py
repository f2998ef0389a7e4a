"""Which videos share a step: look-alikes do, because what tells them apart is what there is left to learn.

Among videos drawn at random the frozen encoder already tells nearly all apart, and a contrastive loss over them teaches
next to nothing. So a batch is made of small groups of neighbours in the frozen space, and the groups are drawn at random.
"""

from __future__ import annotations

import numpy as np

from vla.batches.corpus import Corpus

_NEAREST = 24
_BLOCK = 8192
"""Neighbours are looked for among so many videos, drawn at random where there are more: time grows with N, not N squared."""


def nearest_videos(corpus: Corpus, rows: np.ndarray, seed: int) -> np.ndarray:
    """For each of `rows`, the places in `rows` of its nearest others, nearest first: `(N, K)` int64, K up to 24.

    Near is how alike the mean frame and the mean caption are, in equal parts, as the frozen encoder has them.
    """
    described = _described(corpus)[rows]
    count = min(_NEAREST, len(rows) - 1)
    found = np.zeros((len(rows), max(0, count)), np.int64)
    order = np.random.default_rng([seed, 5]).permutation(len(rows))
    blocks = max(1, round(len(rows) / _BLOCK))
    for block in np.array_split(order, blocks):
        inside = min(count, len(block) - 1)
        for part in np.array_split(np.arange(len(block)), max(1, len(block) // 1024)):
            alike = described[block[part]] @ described[block].T
            alike[np.arange(len(part)), part] = -np.inf
            nearest = np.argsort(-alike, axis=1, kind="stable")[:, :inside]
            found[block[part], :inside] = block[nearest]
            found[block[part], inside:] = block[nearest[:, -1:]] if inside else block[part][:, None]
    return found


def batches(rows: np.ndarray, near: np.ndarray, batch: int, group: int, seed: int, epoch: int) -> list[np.ndarray]:
    """All of `rows`, each once, in batches of at most `batch`: a function of seed and epoch alone.

    Args:
        rows: `(N,)` videos.
        near: of `nearest_videos`.
        batch: videos in a step.
        group: videos in a group of look-alikes; 1 draws every video by itself.
        seed: of the run.
        epoch: passes before this one.
    """
    rng = np.random.default_rng([seed, 2, epoch])
    order = rng.permutation(len(rows))
    if group > 1 and near.shape[1]:
        order = _grouped(order, near, group, rng)
    return [rows[order[i : i + batch]] for i in range(0, len(order), batch)]


def _grouped(order: np.ndarray, near: np.ndarray, group: int, rng: np.random.Generator) -> np.ndarray:
    free = np.ones(len(order), bool)
    groups = []
    for first in order:
        if not free[first]:
            continue
        free[first] = False
        candidates = near[first][free[near[first]]]
        # The very nearest: what tells two videos apart is learned where nothing else does.
        chosen = np.array(list(dict.fromkeys(candidates.tolist()))[: group - 1], np.int64)
        free[chosen] = False
        groups.append(np.concatenate([[first], chosen]))
    return np.concatenate([groups[i] for i in rng.permutation(len(groups))])


def _described(corpus: Corpus) -> np.ndarray:
    """`(V, 2 D)` float32 unit rows: direction of the mean frame beside that of the mean caption."""
    dim = corpus.dim
    frames = np.stack([_direction(directions(v.values.astype(np.float32)).mean(0)) for v in corpus.videos])
    texts = np.zeros((len(corpus.videos), dim), np.float32)
    for query in corpus.queries:
        texts[query.video] += _direction(corpus.text_vector(query))
    both = np.concatenate([directions(frames), directions(texts)], 1)
    return directions(both)


def _direction(vector: np.ndarray) -> np.ndarray:
    return vector / max(1e-12, float(np.linalg.norm(vector)))


def directions(rows: np.ndarray) -> np.ndarray:
    """`rows` with unit norm each; a row of zeros stays zero."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
