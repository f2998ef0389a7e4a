"""Which video does this text tell of?"""

from __future__ import annotations

from typing import Any

import torch

from vla.batch import Aligned, AlignmentBatch
from vla.errors import UsageError
from vla.heads import base
from vla.interaction import TokenInteraction, Weights, attended, interaction

SCORES = ("mean", "attention", "tokens")


class Head(base.Head):
    """Cosine of text and mean frame, which is what the index computes; or more of it. Its loss is that of the global level.

    `mean` is that cosine and has no parameters. `attention` moves it by a fixed share towards the cosines of the frames
    that are most like the text; it has no parameters either, and is another score than the frozen encoder's from the start.
    `tokens` moves it towards weighted token interaction by a share that is learned and starts at 0: at step 0 it is `mean`.
    What is no product of two vectors cannot be indexed: it ranks anew what the index found.

    Args:
        dim: width of the aligned vectors.
        score: `mean`, `attention` or `tokens`.
        temperature: of the softmax that weighs frames by their cosines; of `attention`.
        share: how much of `attention` is attended frames; the rest is the mean frame.
        width: hidden units of the networks that weigh tokens, phrases and frames.
        phrases: have weights for phrases and frames, for the loss of the phrase level.

    Raises:
        UsageError: an option is none of what it may be.

    Source: sentence-frame attention of X-CLIP (Ma et al. 2022, eq. 9 to 11), which averages it with the mean frame's score;
    weighted token interaction of DRL (Wang et al. 2022).
    """

    asks = "videos"

    def __init__(
        self,
        dim: int = 0,
        score: str = "mean",
        temperature: float = 0.01,
        share: float = 0.5,
        width: int = 128,
        phrases: bool = False,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise UsageError(f"score is one of {', '.join(SCORES)}, not {score!r}")
        if not temperature > 0:
            raise UsageError(f"the temperature of attention must be positive, not {temperature}")
        if not 0 <= share <= 1:
            raise UsageError(f"the share of attention is from 0 to 1, not {share}")
        self.score, self.temperature, self.share = score, temperature, share
        self.reads_tokens = score == "tokens"
        self.interaction = TokenInteraction(dim, width) if self.reads_tokens else None
        self.weights = torch.nn.ModuleList([Weights(dim, width), Weights(dim, width)] if phrases else [])

    @property
    def is_product(self) -> bool:
        """True if scores are cosines of two vectors, and nothing is to be ranked anew."""
        return self.score == "mean"

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` scores of every query with every video, in [-1, 1] but for `tokens`, whose share is not bounded."""
        return self.scores(aligned)

    def scores(self, aligned: Aligned, rows: torch.Tensor | None = None) -> torch.Tensor:
        """The same; of those queries alone for which `rows` `(Q,)` holds."""
        chosen = slice(None) if rows is None else rows
        queries = aligned.queries[chosen]
        whole = queries @ aligned.videos.T
        if self.is_product:
            return whole
        tokens, mask = aligned.tokens[chosen], aligned.token_mask[chosen]
        return self.moved(whole, queries, tokens, mask, aligned.frames, aligned.frame_mask)

    def moved(
        self,
        whole: torch.Tensor,
        texts: torch.Tensor,
        tokens: torch.Tensor | None,
        token_mask: torch.Tensor | None,
        frames: torch.Tensor,
        frame_mask: torch.Tensor,
    ) -> torch.Tensor:
        """`(Q, V)` the scores, from those of whole vectors.

        Args:
            whole: `(Q, V)` cosines with the mean frames.
            texts: `(Q, E)` unit vectors.
            tokens: `(Q, L, E)` unit vectors; read by `tokens` alone, which leaves `whole` as it is where there are none.
            token_mask: `(Q, L)` bool.
            frames: `(V, T, E)` unit vectors.
            frame_mask: `(V, T)` bool.
        """
        if self.interaction is not None:
            if tokens is None or token_mask is None:
                return whole
            found: torch.Tensor = self.interaction(whole, tokens, token_mask, frames, frame_mask)
            return found
        if self.is_product:
            return whole
        there = attended(texts, frames, frame_mask, self.temperature)
        return whole + self.share * torch.where(there > -torch.inf, there - whole, 0.0)

    def of_phrases(
        self, phrases: torch.Tensor, mask: torch.Tensor, frames: torch.Tensor, frame_mask: torch.Tensor
    ) -> torch.Tensor:
        """`(Q, V)` weighted interaction of phrases `(Q, P, E)` with frames `(V, T, E)`; -inf where a side has none."""
        a, b = self.weights[0](phrases, mask), self.weights[1](frames, frame_mask)
        return interaction(phrases, mask, frames, frame_mask, a, b)

    def positives(self, batch: AlignmentBatch) -> torch.Tensor:
        """`(Q, B)` bool: the query's own video."""
        rows = torch.arange(len(batch.frames), device=batch.video_of_query.device)
        return batch.video_of_query[:, None] == rows[None]

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """For each query the rows of the videos, best first."""
        return list(predictions.argsort(dim=1, descending=True, stable=True).tolist())
