"""Schedule of a run: number of epochs, and which of them are validated."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla.batches.corpus import Corpus
from vla.training.config import TrainConfig

_VALIDATIONS = 10
_MAX_SHARE = 0.2
"""Largest share of the time that validation takes."""
_FORWARD_COST = 1 / 3
"""Cost of a frame in validation, which needs no gradient, relative to one in training."""
_QUERY_COST = 25
"""Cost of a query in validation, in frames of training: its ranks and its moments."""


@dataclass(frozen=True)
class Schedule:
    """Epochs of a run.

    Attributes:
        epochs: number of epochs.
        interval: epochs between validations; the last epoch is validated at any rate.
    """

    epochs: int
    interval: int

    @classmethod
    def of(
        cls,
        config: TrainConfig,
        corpus: Corpus,
        train: np.ndarray,
        gallery: np.ndarray,
        queries: int,
    ) -> Schedule:
        """Return the schedule of a run.

        The interval follows from counts and not from a clock: a run must have the same bits on a busy
        machine.

        Args:
            config: of the run.
            corpus: videos.
            train: rows of the training videos.
            gallery: rows of the videos that a validation searches.
            queries: number of validated queries.
        """
        epochs = config.num_epochs(len(train))
        if config.validate_every is not None:
            return cls(epochs, config.validate_every)
        cost = _FORWARD_COST * _num_frames(corpus, gallery) + _QUERY_COST * queries
        interval = cost / (_MAX_SHARE * max(1, _num_frames(corpus, train)))
        return cls(epochs, max(1, math.ceil(epochs / _VALIDATIONS), math.ceil(interval)))

    def validates(self, epoch: int) -> bool:
        """Return whether `epoch`, counted from 1, is validated."""
        return epoch == self.epochs or epoch % self.interval == 0


def _num_frames(corpus: Corpus, rows: np.ndarray) -> int:
    return sum(len(corpus.videos[int(row)].values) for row in rows)
