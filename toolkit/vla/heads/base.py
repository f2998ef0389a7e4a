"""What every head is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from vla.batches.batch import Aligned, AlignmentBatch
from vla.batches.corpus import Corpus

Asks = Literal["videos", "moments", "choice", "open", "count"]


class Head(nn.Module):
    """Answers one kind of question from aligned vectors. Its constructor takes `dim`, the width of these, and its options.

    Where the frozen encoder has an answer, an untrained head gives that one: its last layer starts at zero.

    Attributes:
        asks: what of a batch it is asked: `videos` (untimed queries), `moments` (timed ones), or questions by their kind.
        reads_tokens: True if it compares the tokens of queries, which have to be read and projected for it.
        has_blind: True if a twin is trained that sees no video, to tell what the words alone give away.
    """

    asks: ClassVar[Asks]
    reads_tokens: bool = False
    has_blind: ClassVar[bool] = False

    @classmethod
    def planned(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options of the constructor but `dim`: those given, and what `corpus`, which is trained on, decides."""
        return dict(options)

    def fit(self, corpus: Corpus) -> None:
        """Take from `corpus`, which is trained on, what is no option and is not learned by descent. Usually nothing."""

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> Any:
        """Predictions for what `batch` asks of this head, in its order."""
        raise TypeError(f"{type(self).__name__} does not say what it predicts")

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """A scalar to descend; None where the batch asks nothing of this head, or does not say what is right."""
        return None

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """What was predicted, one item for each thing that was asked.

        `choice`: index of a choice. `open`: answers, best first. `count`: a number. `moments`: `(N, 3)` float64 rows of
        start and end in seconds and score, best first.
        """
        raise TypeError(f"{type(self).__name__} does not say what its predictions mean")

    def shown(self, predictions: Any, batch: AlignmentBatch) -> list[np.ndarray]:
        """Of a head for `moments`: for each timed query `(T,)`, how well each frame of its video shows it; or an empty list.

        Higher is better; on no scale.
        """
        return []
