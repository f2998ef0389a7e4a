"""What a run is trained on and what it is judged by: videos that are held out, and content that nobody tells it of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vla.batches.corpus import Corpus
from vla.errors import MissingError

_PLACES = 10
"""So many places of the frozen space are withheld, each with what is nearest: unlike each other, as what users look for is."""
_FEW = 50
"""Of fewer texts none is withheld: nothing could be learned from the others, nor seen from those."""


@dataclass(frozen=True)
class Split:
    """Rows of a corpus: videos to train on, videos to choose by (never the same one), and captions to choose by.

    Attributes:
        train: rows of videos.
        held_out: rows of videos.
        withheld: rows of queries that are not trained on although their videos may be: of content that no caption that is
            trained on tells of.
    """

    train: np.ndarray
    held_out: np.ndarray
    withheld: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def taught(self, corpus: Corpus) -> Corpus:
        """`corpus` without the captions that are withheld; rows of videos stay what they are."""
        hidden = set(self.withheld.tolist())
        return replace(corpus, queries=[q for i, q in enumerate(corpus.queries) if i not in hidden])


def split_rows(count: int, named: dict[int, str], held_out: float, seed: int) -> Split:
    """Rows to train on and to hold out, by video.

    Where captions name splits (`named`), rows of those that begin with `val` or `dev` are held out (`validation`, `val_1`),
    rows of those that begin with `test` are left alone, the rest is trained on. Otherwise a random share is held out.

    Raises:
        MissingError: there are too few videos to hold any out, or to train on the others.
    """
    kinds = [named.get(i, "").lower() for i in range(count)]
    val = np.array([kind.startswith(("val", "dev")) for kind in kinds], bool)
    train = ~val & np.array([not kind.startswith("test") for kind in kinds], bool)
    if not val.any():
        rows = np.flatnonzero(train)
        order = np.random.default_rng([seed, 1]).permutation(rows)
        val[order[: max(1, round(len(rows) * held_out))]] = True
        train &= ~val
    split = Split(np.flatnonzero(train), np.flatnonzero(val))
    if len(split.train) < 2 or len(split.held_out) < 1:
        raise MissingError(
            f"{len(split.train)} videos to train on and {len(split.held_out)} to hold out are too few: "
            "captions of at least 3 videos are needed, and hundreds to learn from"
        )
    return split


def hold_out_concepts(split: Split, corpus: Corpus, share: float, seed: int) -> Split:
    """`split` with about `share` of what its captions tell of withheld: some texts, and all those nearest to each of them.

    Texts are compared as the frozen encoder has them. What a video's untimed captions tell of is one thing: all of them are
    withheld or none. A video none of whose captions is left to train on is held out. Nothing is withheld of few texts.
    """
    things, rows_of = _things(split, corpus)
    count = round(share * len(things))
    if len(things) < _FEW or count < 1:
        return split
    chosen = _neighbourhoods(things, count, np.random.default_rng([seed, 8]))
    withheld = np.array(sorted(row for thing in chosen for row in rows_of[thing]), np.int64)
    hidden = set(withheld.tolist())
    kept = {q.video for i, q in enumerate(corpus.queries) if i not in hidden} | {q.video for q in corpus.questions}
    stays = np.array([int(row) in kept for row in split.train], bool)
    if stays.sum() < 2:
        return split
    held_out = np.sort(np.concatenate([split.held_out, split.train[~stays]]))
    return Split(split.train[stays], held_out, withheld)


def _things(split: Split, corpus: Corpus) -> tuple[np.ndarray, list[list[int]]]:
    """`(N, D)` unit vectors of what the captions tell of, without their common direction; of each, its rows of queries.

    Timed captions of the same words are one thing, and the untimed ones of a video are. Videos that are left alone have none.
    """
    known = {*split.train.tolist(), *split.held_out.tolist()}
    found: dict[tuple[str, ...] | int, list[int]] = {}
    for row, query in enumerate(corpus.queries):
        if query.is_caption and query.video in known:
            found.setdefault(query.parts if query.is_timed else query.video, []).append(row)
    if not found:
        return np.zeros((0, corpus.dim)), []
    rows_of = list(found.values())
    vectors = np.stack(
        [_unit(np.stack([corpus.text_vector(corpus.queries[i]) for i in rows])).mean(0) for rows in rows_of]
    )
    return _unit(vectors - vectors.mean(0)), rows_of


def _neighbourhoods(things: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """`count` rows of `things`: random ones, each with its nearest."""
    order = rng.permutation(len(things))
    free = np.ones(len(things), bool)
    chosen: list[int] = []
    size = max(1, round(count / _PLACES))
    for first in order:
        if len(chosen) >= count:
            break
        if not free[first]:
            continue
        alike = np.where(free, things @ things[first], -np.inf)
        nearest = np.argsort(-alike, kind="stable")[: min(size, count - len(chosen))]
        free[nearest] = False
        chosen += nearest.tolist()
    return chosen


def _unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)
    return found
