"""Which videos share a step, by what is told of them: clusters of the frozen captions are hard negatives for each other.

The neighbours of `order.py` are alike in what is seen and what is told, and are found by comparing all with all. Clusters
look at the captions alone, and cost `videos * clusters`.
"""

from __future__ import annotations

import numpy as np

from vla.corpus import Corpus
from vla.train.order import directions

_NEAREST = 24
_SIZE = 64
"""Videos in a cluster, on average."""
_MOST = 1024
"""Clusters at most: what they cost grows with their number."""
_ROUNDS = 10
_CANDIDATES = 4
_SAMPLE = 16
"""Vectors for each cluster among which its center starts."""
_ROWS = 4096
"""Compared with all centers at once."""


def neighbours(corpus: Corpus, rows: np.ndarray, seed: int) -> np.ndarray:
    """As `order.neighbours`: for each of `rows`, places in `rows` of others of its cluster, the nearest first.

    Where the cluster is smaller than `K` the last is repeated, and a video alone in its cluster stands for itself. A video's
    captions are the direction of their mean; one without captions is near to nothing, and so in a cluster with its like.
    """
    told = _told(corpus)[rows]
    count = max(0, min(_NEAREST, len(rows) - 1))
    found = np.repeat(np.arange(len(rows), dtype=np.int64)[:, None], count, 1)
    if not count:
        return found
    cluster = clusters(told, min(_MOST, max(1, round(len(rows) / _SIZE))), seed)
    order = np.argsort(cluster, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        inside = min(count, len(members) - 1)
        if not inside:
            continue
        for part in np.array_split(np.arange(len(members)), -(-len(members) // 1024)):
            alike = told[members[part]] @ told[members].T
            alike[np.arange(len(part)), part] = -np.inf
            nearest = np.argsort(-alike, axis=1, kind="stable")[:, :inside]
            found[members[part], :inside] = members[nearest]
            found[members[part], inside:] = members[nearest[:, -1:]]
    return found


def clusters(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`(N,)` int64 which of `count` clusters each of the unit `vectors` `(N, D)` is in; a function of these and the seed.

    Spherical k-means (Dhillon and Modha 2001): the center is the direction of the members' mean, and every vector is with
    the center that it is most alike. Centers start as in k-means++ (Arthur and Vassilvitskii 2007), each the
    best of four; one that has lost all
    members starts again at one of the vectors that are least like their own. Ends when nothing moves, or after ten rounds.
    """
    count = min(count, len(vectors))
    centers = _first_centers(vectors, count, np.random.default_rng([seed, 8]))
    member = np.full(len(vectors), -1, np.int64)
    for _ in range(_ROUNDS):
        before, (member, alike) = member, _nearest(vectors, centers)
        if (member == before).all():
            break
        order = np.argsort(member, kind="stable")
        filled, first = np.unique(member[order], return_index=True)
        centers = vectors[np.argsort(alike, kind="stable")[:count]]  # for those that have lost all
        centers[filled] = directions(np.add.reduceat(vectors[order].astype(np.float64), first))
    return member


def _first_centers(vectors: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Each the best of a few vectors that are drawn by how far they are from the centers that there are already."""
    some = vectors[np.sort(rng.permutation(len(vectors))[: _SAMPLE * count])]
    chosen = [int(rng.integers(len(some)))]
    far = _far(some, some[chosen])[:, 0]
    for _ in range(count - 1):
        total = far.cumsum()
        places = np.searchsorted(total, rng.random(_CANDIDATES) * total[-1], side="right").clip(max=len(some) - 1)
        left = np.minimum(far[:, None], _far(some, some[places]))
        best = int(left.sum(0).argmin())
        chosen.append(int(places[best]))
        far = left[:, best]
    return some[chosen]


def _far(vectors: np.ndarray, centers: np.ndarray) -> np.ndarray:
    return (2 - 2 * (vectors @ centers.T).astype(np.float64)).clip(0)


def _nearest(vectors: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    member, alike = np.zeros(len(vectors), np.int64), np.zeros(len(vectors), np.float64)
    for first in range(0, len(vectors), _ROWS):
        scores = vectors[first : first + _ROWS] @ centers.T
        member[first : first + _ROWS] = scores.argmax(1)
        alike[first : first + _ROWS] = scores.max(1)
    return member, alike


def _told(corpus: Corpus) -> np.ndarray:
    """`(V, D)` float32 unit rows: direction of the mean caption of each video; zero where it has none."""
    texts = np.zeros((len(corpus.videos), corpus.dim), np.float32)
    for query in corpus.queries:
        vector = corpus.text_vector(query)
        texts[query.video] += vector / max(1e-12, float(np.linalg.norm(vector)))
    return directions(texts)
