"""Which video does this text tell of?"""

from __future__ import annotations

from typing import Any

import torch

from vla.batch import Aligned, AlignmentBatch
from vla.errors import UsageError
from vla.heads import base
from vla.interaction import TokenInteraction

SCORES = ("mean", "tokens")


class Head(base.Head):
    """Cosine of text and mean frame, which is what the index computes; or more of it. Its loss is that of the global level.

    `mean` is that cosine and has no parameters. `tokens` moves it towards weighted token interaction by a share that is
    learned and starts at 0: at step 0 it is `mean`. It is no product of two vectors and cannot be indexed: it ranks anew
    what the index found.

    Args:
        dim: width of the aligned vectors.
        score: `mean` or `tokens`.
        width: hidden units of the networks that weigh tokens and frames.

    Raises:
        UsageError: an option is none of what it may be.

    Source: weighted token interaction of DRL (Wang et al. 2022).
    """

    asks = "videos"

    def __init__(self, dim: int = 0, score: str = "mean", width: int = 128) -> None:
        super().__init__()
        if score not in SCORES:
            raise UsageError(f"score is one of {', '.join(SCORES)}, not {score!r}")
        self.reads_tokens = score == "tokens"
        self.interaction = TokenInteraction(dim, width) if self.reads_tokens else None

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` scores of every query with every video, in [-1, 1] but for `tokens`, whose share is not bounded."""
        return self.scores(aligned)

    def scores(self, aligned: Aligned, rows: torch.Tensor | None = None) -> torch.Tensor:
        """The same; of those queries alone for which `rows` `(Q,)` holds."""
        chosen = slice(None) if rows is None else rows
        whole = aligned.queries[chosen] @ aligned.videos.T
        if not self.reads_tokens:
            return whole
        tokens, mask = aligned.tokens[chosen], aligned.token_mask[chosen]
        return self.rescore(whole, tokens, mask, aligned.frames, aligned.frame_mask)

    def rescore(
        self,
        whole: torch.Tensor,
        tokens: torch.Tensor,
        token_mask: torch.Tensor,
        frames: torch.Tensor,
        frame_mask: torch.Tensor,
    ) -> torch.Tensor:
        """`(Q, V)` the scores, from those of whole vectors, which remain where a text has no tokens.

        Args:
            whole: `(Q, V)` cosines with the mean frames.
            tokens: `(Q, L, E)` unit vectors; not read by `mean`.
            token_mask: `(Q, L)` bool.
            frames: `(V, T, E)` unit vectors.
            frame_mask: `(V, T)` bool.
        """
        if self.interaction is None:
            return whole
        scores: torch.Tensor = self.interaction(whole, tokens, token_mask, frames, frame_mask)
        return scores

    def positives(self, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` bool: the query's own video."""
        rows = torch.arange(len(batch.frames), device=batch.video_of_query.device)
        return batch.video_of_query[:, None] == rows[None]

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """For each query the rows of the videos, best first."""
        return list(predictions.argsort(dim=1, descending=True, stable=True).tolist())
