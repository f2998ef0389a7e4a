"""Open-ended question answering over the answers of the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.errors import MissingError, UsageError
from vla.heads import base
from vla.heads._reader import Reader
from vla.nn.l2_normalize import l2_normalize

_TOP_K = 10


class Head(base.Head):
    """Classification of answers by the similarity of video and question to each answer.

    Untrained, it is retrieval: the frozen text vector of every answer against the mean frame.
    Learned vectors are added on both sides. The form, video and question against answers, is that
    of Just Ask (Yang et al., ICCV 2021). The vocabulary are the `most` frequent answers of the
    training questions, in lower case.

    Args:
        dim: width of the aligned vectors.
        width: of the reader.
        dropout: of its hidden units.
        most: maximum number of answers (MSRVTT-QA: 4,000).
        least: minimum number of occurrences of an answer (ActivityNet-QA: 2).
        answers: vocabulary; by default from the training questions.

    Raises:
        UsageError: `most` or `least` below 1, or no answers.
    """

    task = "open"
    has_blind = True
    vectors: torch.Tensor

    def __init__(
        self, dim: int, width: int = 128, dropout: float = 0.2, most: int = 4000, least: int = 1,
        answers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        if most < 1 or least < 1 or not answers:
            raise UsageError(
                f"open_qa needs answers, and most and least from 1; got {len(answers)}, {most} "
                f"and {least}"
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
    def resolve_options(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `options` with the answers of `corpus`; raise MissingError where it has none."""
        most, least = options.get("most", 4000), options.get("least", 1)
        counts = Counter(answer.lower() for q in corpus.questions for answer in q.question.answers)
        answers = [answer for answer, count in counts.most_common(most) if count >= least]
        if not answers:
            raise MissingError(
                f"open_qa has an empty vocabulary: no answer is given {least} times in the "
                f"questions trained on"
            )
        return {"answers": answers, **options}

    def fit(self, corpus: Corpus) -> None:
        """Set the frozen vector of every answer."""
        chunks = {answer.lower(): text for answer, text in reversed((corpus.answers or {}).items())}
        unknown = [answer for answer in self.answers if answer not in chunks]
        if unknown:
            raise MissingError(
                f"{len(unknown)} answers have no text vector, e.g. {unknown[0]!r:.60}"
            )
        vectors = np.stack([corpus.vector(chunks[answer]) for answer in self.answers])
        self.vectors.copy_(l2_normalize(torch.from_numpy(vectors)))

    def forward(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor:
        """Return `(N, A)` scores of all answers to the N open questions."""
        questions = batch.questions.of_kind("open")
        rows = batch.questions.video_of_question[questions]
        content = self.reader(aligned.questions[questions], rows, aligned, batch).content
        query = aligned.videos[rows] + self.move(content)
        return aligned.scale * (query @ (self.vectors + self.moved).T) + self.usual

    def loss(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor | None:
        """Return the cross-entropy with the correct answers, in equal shares.

        Others than the vocabulary are ignored.
        """
        targets = self._targets(batch)
        has_target = targets.sum(1) > 0
        if not has_target.any():
            return None
        return functional.cross_entropy(self(aligned, batch)[has_target], targets[has_target])

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Return the ten best answers of each question, best first."""
        best = predictions.topk(min(_TOP_K, len(self.answers)), dim=1).indices.tolist()
        return [[self.answers[row] for row in rows] for rows in best]

    def _targets(self, batch: AlignmentBatch) -> torch.Tensor:
        """Return `(N, A)` shares of the correct answers; zero where none is in the vocabulary."""
        questions = batch.questions.of_kind("open").tolist()
        targets = torch.zeros(len(questions), len(self.answers), device=self.vectors.device)
        for i, k in enumerate(questions):
            for answer in batch.questions.answers[k]:
                row = self._row.get(answer.lower())
                if row is not None:
                    targets[i, row] += 1
        return targets / targets.sum(1, keepdim=True).clamp_min(1)
