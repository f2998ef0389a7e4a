"""Hard negatives: batches of groups of near neighbours.

The frozen encoder already separates nearly all videos of a random batch, and a contrastive loss
over them has little gradient. So a batch consists of small groups of neighbours in the frozen
space, and the groups are drawn at random.
"""

from __future__ import annotations

import numpy as np

from vla.batches.corpus import Corpus

_MAX_NEIGHBOURS = 24
_BLOCK = 8192
"""Neighbours are searched among this many random videos: time grows with N, not with N squared."""


def nearest_videos(corpus: Corpus, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return the nearest other videos of each video, nearest first.

    Similarity is that of the mean frame and of the mean caption of the frozen encoder, in equal
    parts.

    Args:
        corpus: videos and captions.
        rows: `(N,)` videos.
        seed: of the blocks.

    Returns:
        `(N, K)` int64 positions in `rows`; K is at most 24.
    """
    descriptors = _descriptors(corpus)[rows]
    count = min(_MAX_NEIGHBOURS, len(rows) - 1)
    neighbours = np.zeros((len(rows), max(0, count)), np.int64)
    order = np.random.default_rng([seed, 5]).permutation(len(rows))
    blocks = max(1, round(len(rows) / _BLOCK))
    for block in np.array_split(order, blocks):
        inside = min(count, len(block) - 1)
        for part in np.array_split(np.arange(len(block)), max(1, len(block) // 1024)):
            similarity = descriptors[block[part]] @ descriptors[block].T
            similarity[np.arange(len(part)), part] = -np.inf
            nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :inside]
            neighbours[block[part], :inside] = block[nearest]
            neighbours[block[part], inside:] = (
                block[nearest[:, -1:]] if inside else block[part][:, None]
            )
    return neighbours


def group_into_batches(
    rows: np.ndarray, nearest: np.ndarray, batch_size: int, group_size: int, seed: int, epoch: int
) -> list[np.ndarray]:
    """Return a partition of `rows` into batches, a function of seed and epoch alone.

    Args:
        rows: `(N,)` videos.
        nearest: of `nearest_videos`.
        batch_size: maximum number of videos in a batch.
        group_size: videos in a group of neighbours; 1 draws every video by itself.
        seed: of the run.
        epoch: from 0.
    """
    rng = np.random.default_rng([seed, 2, epoch])
    order = rng.permutation(len(rows))
    if group_size > 1 and nearest.shape[1]:
        order = _group_neighbours(order, nearest, group_size, rng)
    return [rows[order[i : i + batch_size]] for i in range(0, len(order), batch_size)]


def _group_neighbours(
    order: np.ndarray, nearest: np.ndarray, group_size: int, rng: np.random.Generator
) -> np.ndarray:
    is_free = np.ones(len(order), bool)
    groups = []
    for first in order:
        if not is_free[first]:
            continue
        is_free[first] = False
        candidates = nearest[first][is_free[nearest[first]]]
        # The very nearest: their differences are learned nowhere else.
        members = np.array(list(dict.fromkeys(candidates.tolist()))[: group_size - 1], np.int64)
        is_free[members] = False
        groups.append(np.concatenate([[first], members]))
    return np.concatenate([groups[i] for i in rng.permutation(len(groups))])


def _descriptors(corpus: Corpus) -> np.ndarray:
    """Return `(V, 2 D)` float32 unit rows: direction of the mean frame, then of the
    mean caption.
    """
    dim = corpus.dim
    frames = np.stack(
        [_unit(unit_rows(v.values.astype(np.float32)).mean(0)) for v in corpus.videos]
    )
    texts = np.zeros((len(corpus.videos), dim), np.float32)
    for query in corpus.queries:
        texts[query.video] += _unit(corpus.text_vector(query))
    both = np.concatenate([unit_rows(frames), unit_rows(texts)], 1)
    return unit_rows(both)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(1e-12, float(np.linalg.norm(vector)))


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return `rows` with unit norm each; a row of zeros stays zero."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
