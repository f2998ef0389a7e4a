"""Which queries an index is compared with before anybody asks: captions of the workspace, or everyday ones that we wrote."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from vla.datasets.base import Annotation

MOST = 1000
"""Queries of a bank: rates can be told apart to a thousandth, and more would only take longer."""
ENOUGH = 100
"""So many different captions are a bank of their own; they sound as this workspace's queries do."""


@dataclass(frozen=True)
class Bank:
    """Texts, each once.

    Attributes:
        texts: the queries.
        told_of: for each, names of the videos it tells of: with these it is not compared.
    """

    texts: tuple[str, ...]
    told_of: tuple[frozenset[str], ...]

    def left_out(self, videos: Sequence[str]) -> list[list[int]]:
        """For each of `videos` the texts, by number, that tell of it."""
        of_video: dict[str, list[int]] = defaultdict(list)
        for number, names in enumerate(self.told_of):
            for name in names:
                of_video[name].append(number)
        return [of_video.get(video, []) for video in videos]


def of_captions(annotations: Sequence[Annotation], most: int = MOST) -> Bank:
    """Up to `most` captions, drawn in one way for good; the same words, however written, are one text of all their videos."""
    videos: dict[str, set[str]] = defaultdict(set)
    first: dict[str, str] = {}
    for a in annotations:
        words = words_of(a.query)
        if a.question is None and words:
            videos[words].add(a.video)
            first.setdefault(words, a.query)
    every = sorted(first)
    if len(every) > most:
        every = [every[i] for i in np.sort(np.random.default_rng(0).permutation(len(every))[:most])]
    return Bank(tuple(first[w] for w in every), tuple(frozenset(videos[w]) for w in every))


def words_of(text: str) -> str:
    """What two captions share that say the same, however it is written."""
    return " ".join(text.lower().split()).rstrip(".!? ")


def everyday() -> Bank:
    """Queries of `default_queries.txt`: short, of all sorts of things, so that any one collection of videos shows few of them."""
    text = resources.files("vla.retrieval").joinpath("default_queries.txt").read_text("utf-8")
    lines = tuple(text.splitlines())
    return Bank(lines, (frozenset(),) * len(lines))
