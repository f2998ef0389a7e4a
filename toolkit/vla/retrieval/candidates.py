"""What was found in videos, and looking into videos until nothing that is left could matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla.retrieval.sequences import Chain


@dataclass(frozen=True)
class Found:
    """A moment of a video, or a sequence of several.

    Attributes:
        video: number of the video in the index, the first of those with the same content.
        score: what all are ordered by.
        span: `(2,)` seconds.
        peak: when the best frame is shown; of a sequence, that of its first step.
        certain: what its confidence is read from, if that is one cosine.
        steps: the sequence; None of a moment.
    """

    video: int
    score: float
    span: np.ndarray
    peak: float
    certain: float | None = None
    steps: Chain | None = None

    @classmethod
    def of_chain(cls, video: int, top: float, chain: Chain) -> Found:
        """A sequence in a video in which none scores more than `top`."""
        span = np.array([chain.spans[0, 0], chain.spans[-1, 1]])
        return cls(video, top - chain.behind, span, float(chain.peaks[0]), None, chain)


def looked_into(
    tops: list[tuple[int, float]],
    of: Callable[[int], list[Found]],
    most: int,
    bound: float,
    videos: int | None = None,
) -> tuple[list[Found], bool]:
    """The best `most` that `of` finds in videos, and whether no video that was not looked into could change them.

    Args:
        tops: videos with a score that nothing in them exceeds, the highest first.
        of: what is in a video.
        most: how many.
        bound: nothing in a video that is not named scores more.
        videos: only so many, the first, are looked into; None for all.
    """
    found: list[Found] = []
    is_whole = True
    for count, (video, top) in enumerate(tops):
        if count == videos:
            return found[:most], True
        if len(found) >= most and found[most - 1].score >= top:
            break
        if top < bound:
            is_whole = False
            break
        found += of(video)
        found.sort(key=lambda one: -one.score)
    found = found[:most]
    return found, is_whole and (bound == -np.inf or (len(found) == most and found[-1].score >= bound))
