"""A moment, or a sequence of several, that a search found in a video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla.retrieval.sequences import EventSequence


@dataclass(frozen=True)
class Candidate:
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
    steps: EventSequence | None = None

    @classmethod
    def of_chain(cls, video: int, top: float, chain: EventSequence) -> Candidate:
        """A sequence in a video in which none scores more than `top`."""
        span = np.array([chain.spans[0, 0], chain.spans[-1, 1]])
        return cls(video, top - chain.score_gap, span, float(chain.peaks[0]), None, chain)
