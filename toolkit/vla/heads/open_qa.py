"""What is the answer, of all that training knows?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import Aligned, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.errors import MissingError, UsageError
from vla.heads import base
from vla.heads._reader import Reader
from vla.nn.l2_normalize import l2_normalize

_BEST = 10


class Head(base.Head):
    """The answer whose vector is most like the video, moved by what the question finds in it.

    Untrained, it is retrieval: the frozen text vector of every answer against the mean frame. What is learned is added to
    both sides. The form, video and question against answers, is Just Ask's (Yang et al., ICCV 2021).
    Answers are the `most` frequent of the training questions, in lower case; no other can be predicted.

    Args:
        dim: width of the aligned vectors.
        width: of the reader.
        dropout: of its hidden units.
        most: so many answers at most (MSRVTT-QA: 4,000).
        least: an answer is given so often at least (ActivityNet-QA: 2).
        answers: what can be predicted; decided by the questions that are trained on.

    Raises:
        UsageError: `most` or `least` below 1, or no answers.
    """

    asks = "open"
    has_blind = True
    vectors: torch.Tensor

    def __init__(
        self, dim: int, width: int = 128, dropout: float = 0.2, most: int = 4000, least: int = 1,
        answers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        if most < 1 or least < 1 or not answers:
            raise UsageError(
                f"open_qa needs answers, and most and least from 1; got {len(answers)}, {most} and {least}"
            )
        self.answers = tuple(answers)
        self._row = {answer: row for row, answer in enumerate(self.answers)}
        self.reader = Reader(dim, width, dropout=dropout)
        self.move = nn.Linear(width, dim)
        self.moved = nn.Parameter(torch.zeros(len(self.answers), dim))
        self.usual = nn.Parameter(torch.zeros(len(self.answers)))
        nn.init.zeros_(self.move.weight)
        nn.init.zeros_(self.move.bias)
        self.register_buffer("vectors", torch.zeros(len(self.answers), dim))

    @classmethod
    def planned(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """The answers of `corpus` beside what was given; raises MissingError where it has none."""
        most, least = options.get("most", 4000), options.get("least", 1)
        given = Counter(answer.lower() for q in corpus.questions for answer in q.question.answers)
        answers = [answer for answer, count in given.most_common(most) if count >= least]
        if not answers:
            raise MissingError(
                f"open_qa has nothing to answer with: no answer is given {least} times in the questions trained on"
            )
        return {"answers": answers, **options}

    def fit(self, corpus: Corpus) -> None:
        """The frozen vector of every answer."""
        parts = {answer.lower(): parts for answer, parts in reversed((corpus.answers or {}).items())}
        unknown = [answer for answer in self.answers if answer not in parts]
        if unknown:
            raise MissingError(f"{len(unknown)} answers have no text vector, e.g. {unknown[0]!r:.60}")
        vectors = np.stack([corpus.vector(parts[answer]) for answer in self.answers])
        self.vectors.copy_(l2_normalize(torch.from_numpy(vectors)))

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(N, A)` scores of all answers to the N open questions."""
        asked = batch.questions.of_kind("open")
        rows = batch.questions.video_of_question[asked]
        content = self.reader(aligned.questions[asked], rows, aligned, batch).content
        looked_for = aligned.videos[rows] + self.move(content)
        return aligned.scale * (looked_for @ (self.vectors + self.moved).T) + self.usual

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """Cross-entropy; where several answers are right each has its share. What cannot be predicted is left out."""
        wanted = self._wanted(batch)
        some = wanted.sum(1) > 0
        if not some.any():
            return None
        return functional.cross_entropy(self(aligned, batch)[some], wanted[some])

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """The ten best answers of each question, best first."""
        best = predictions.topk(min(_BEST, len(self.answers)), dim=1).indices.tolist()
        return [[self.answers[row] for row in rows] for rows in best]

    def _wanted(self, batch: AlignmentBatch) -> torch.Tensor:
        """`(N, A)` shares of the right answers; zero where none is given or none can be predicted."""
        asked = batch.questions.of_kind("open").tolist()
        wanted = torch.zeros(len(asked), len(self.answers), device=self.vectors.device)
        for i, k in enumerate(asked):
            for answer in batch.questions.answers[k]:
                row = self._row.get(answer.lower())
                if row is not None:
                    wanted[i, row] += 1
        return wanted / wanted.sum(1, keepdim=True).clamp_min(1)
