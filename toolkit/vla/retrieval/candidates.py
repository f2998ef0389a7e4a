"""Search results before they become hits: moments of a video, or event sequences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla.retrieval.sequences import EventSequence


@dataclass(frozen=True)
class Candidate:
    """A moment of a video, or an event sequence.

    Attributes:
        video: number of the video in the index; of duplicates, the first.
        score: ranking score; higher is better.
        span: `(2,)` seconds.
        peak: time of the best frame, in seconds; of a sequence, that of its first step.
        sequence: the event sequence; None for a moment.
    """

    video: int
    score: float
    span: np.ndarray
    peak: float
    sequence: EventSequence | None = None

    @classmethod
    def from_sequence(cls, video: int, upper_bound: float, sequence: EventSequence) -> Candidate:
        """Return the candidate of a sequence in a video where no sequence scores more than
        `upper_bound`.
        """
        span = np.array([sequence.spans[0, 0], sequence.spans[-1, 1]])
        score = upper_bound - sequence.score_gap
        return cls(video, score, span, float(sequence.peaks[0]), sequence)
