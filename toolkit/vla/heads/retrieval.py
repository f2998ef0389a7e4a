"""Retrieval head: scores of texts and videos."""

from __future__ import annotations

from typing import Any

import torch

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.errors import UsageError
from vla.heads import base
from vla.nn.late_interaction import TokenInteraction

SCORES = ("mean", "tokens")


class Head(base.Head):
    """Cosine of text and mean frame, as in the index, or late interaction of tokens and frames.

    `mean` is the cosine and has no parameters. `tokens` interpolates towards weighted token
    interaction by a learned share that starts at 0, which equals `mean`. It is no product of two
    vectors and cannot be indexed: it reranks results of the index. The loss is that of the global
    level.

    Args:
        dim: width of the aligned vectors.
        score: `mean` or `tokens`.
        width: hidden units of the networks that weigh tokens and frames.

    Raises:
        UsageError: `score` has another value.

    Source: weighted token interaction of DRL (Wang et al. 2022).
    """

    task = "videos"

    def __init__(self, dim: int = 0, score: str = "mean", width: int = 128) -> None:
        super().__init__()
        if score not in SCORES:
            raise UsageError(f"score is one of {', '.join(SCORES)}, not {score!r}")
        self.reads_tokens = score == "tokens"
        self.interaction = TokenInteraction(dim, width) if self.reads_tokens else None

    def forward(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor:
        """Return `(Q, B)` scores of all queries and videos, in [-1, 1] except for `tokens`, whose
        share is unbounded.
        """
        return self.scores(aligned)

    def scores(self, aligned: AlignedBatch, rows: torch.Tensor | None = None) -> torch.Tensor:
        """Return the same scores, for the queries where `rows` `(Q,)` bool is True."""
        queries = slice(None) if rows is None else rows
        cosines = aligned.queries[queries] @ aligned.videos.T
        if not self.reads_tokens:
            return cosines
        tokens, mask = aligned.tokens[queries], aligned.token_mask[queries]
        return self.rescore(cosines, tokens, mask, aligned.frames, aligned.frame_mask)

    def rescore(
        self,
        cosines: torch.Tensor,
        tokens: torch.Tensor,
        token_mask: torch.Tensor,
        frames: torch.Tensor,
        frame_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return `(Q, V)` scores; a text without tokens keeps its cosines.

        Args:
            cosines: `(Q, V)`, with the mean frames.
            tokens: `(Q, L, E)` unit vectors; not read by `mean`.
            token_mask: `(Q, L)` bool.
            frames: `(V, T, E)` unit vectors.
            frame_mask: `(V, T)` bool.
        """
        if self.interaction is None:
            return cosines
        scores: torch.Tensor = self.interaction(cosines, tokens, token_mask, frames, frame_mask)
        return scores

    def positives(self, batch: AlignmentBatch) -> torch.Tensor:
        """Return `(Q, B)` bool, True for the query's own video."""
        rows = torch.arange(len(batch.frames), device=batch.video_of_query.device)
        return batch.video_of_query[:, None] == rows[None]

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Return the rows of the videos for each query, best first."""
        return list(predictions.argsort(dim=1, descending=True, stable=True).tolist())
