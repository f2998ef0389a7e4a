"""What a step minimises: alignment on whole videos and on segments, the heads' losses, and the pull to the frozen encoder."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import Aligned, AlignmentBatch
from vla.errors import UsageError
from vla.heads import registry as heads
from vla.heads.retrieval import Head as Retrieval
from vla.losses import registry as losses
from vla.losses.base import Kind
from vla.model import AlignmentModel
from vla.training.config import TrainConfig
from vla.training.pooled_embeddings import PARTS, PairTargets, PooledEmbeddings, row_hashes, soft_targets

_AT_ONCE = 1 << 22
"""Scores of texts and videos that are held as one matrix; with more the loss is taken from the vectors, block by block."""
_AT_A_TIME = 256
"""Videos whose soft alignments are compared with each other's captions; of more, so many at a time."""


class Objective(nn.Module):
    """The losses that `config` asks for, by name."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        # Retrieval's own loss is that of the global level.
        self.is_global = config.levels in ("both", "global") or "retrieval" in config.head_names
        self.is_segment = config.levels in ("both", "segment") and config.segment_weight > 0
        self.segment_weight = config.segment_weight
        self.pull = config.pull
        self.weights = dict(config.head_weights)
        self.head = heads.build("retrieval")
        self.whole = _built("global_loss", config.global_loss, "pairs")
        self.timed = _built("segment_loss", config.segment_loss, "pairs")
        self.untimed = _built("untimed_loss", config.untimed_loss, "sets")

    def forward(
        self, model: AlignmentModel, batch: AlignmentBatch, aligned: Aligned | None = None
    ) -> dict[str, torch.Tensor]:
        """`{name: scalar}`; their sum is what is minimised. What the batch has no captions or questions for is left out.

        `aligned` is the batch in the shared space, where somebody has it already.
        """
        aligned = model(batch) if aligned is None else aligned
        parts = self.alignment(model, aligned, batch)
        parts |= {k: self.weights.get(k, 1.0) * v for k, v in model.head_losses(aligned, batch).items()}
        if self.pull > 0 and parts:
            texts = len(batch.queries) + len(batch.questions)
            parts["pull"] = self.pull * self.pulled(model, aligned, batch, len(batch.rows), texts)
        return parts

    def alignment(self, model: AlignmentModel, aligned: Aligned, batch: AlignmentBatch) -> dict[str, torch.Tensor]:
        """The losses of the levels alone."""
        parts: dict[str, torch.Tensor] = {}
        plain, head = ~batch.is_timed, self._head(model)
        if self.is_global and plain.any():
            parts["global"] = self._global(head, aligned, batch, plain)
        if self.is_segment:
            weight = self._weight(parts)
            if batch.is_timed.any():
                parts["segment"] = weight * self._segments(aligned, batch, batch.is_timed)
            softly = soft_targets(batch, self.is_segment)
            if len(softly):
                segments, mask = aligned.parts(batch.video_of_query[softly], PARTS)
                told = aligned.sentences[softly], batch.sentence_mask[softly]
                parts["alignment"] = weight * self._alignment(segments, mask, *told, aligned.scale)
        return parts

    def _weight(self, parts: dict[str, torch.Tensor]) -> float:
        # Alone it would only be weighed against the pull.
        return self.segment_weight if "global" in parts else 1.0

    def _head(self, model: AlignmentModel) -> Retrieval:
        """What compares captions with videos: the model's own, or the one that nothing is learned for."""
        return cast(Retrieval, model.heads["retrieval"] if "retrieval" in model.heads else self.head)

    def of_vectors(self, vectors: PooledEmbeddings, told: PairTargets, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses of both levels from vectors alone, block by block, equal to those of whole matrices."""
        parts: dict[str, torch.Tensor] = {}
        plain = ~told.is_timed
        if self.is_global and plain.any():
            parts["global"] = self.whole.of_vectors(vectors.queries[plain], vectors.videos, scale, *told.whole())
        weight = self._weight(parts)
        if self.is_segment and told.is_timed.any():
            timed = vectors.queries[told.is_timed], vectors.moments
            parts["segment"] = weight * self.timed.of_vectors(*timed, scale, told.alike())
        if self.is_segment and len(vectors.parts):
            soft = vectors.parts, told.part_mask, vectors.sentences, told.sentence_mask
            parts["alignment"] = weight * self._alignment(*soft, scale)
        return parts

    def is_of_vectors(self, model: AlignmentModel) -> bool:
        """True if `of_vectors` is all there is to be learned from: no head, and no score of more than one vector."""
        return set(model.heads) <= {"retrieval"} and not model.compares_tokens

    def _global(self, head: Retrieval, aligned: Aligned, batch: AlignmentBatch, rows: torch.Tensor) -> torch.Tensor:
        if not head.reads_tokens and int(rows.sum()) * len(batch.frames) > _AT_ONCE:
            pairs = PairTargets.of(batch, False).whole()
            return self.whole.of_vectors(aligned.queries[rows], aligned.videos, aligned.scale, *pairs)
        same = _same_text(batch.queries[rows])
        return self._among_videos(head.scores(aligned, rows) * aligned.scale, head.positives(batch)[rows], same)

    def _among_videos(self, scores: torch.Tensor, positives: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        # A video of which the very same is told is not a wrong answer, and not the right one either.
        shared = (same.float() @ positives.float()) > 0
        return self.whole(scores.masked_fill(shared & ~positives, -torch.inf), positives)

    def _segments(self, aligned: Aligned, batch: AlignmentBatch, rows: torch.Tensor) -> torch.Tensor:
        """Every timed caption against every annotated segment of the batch, those of its own video included."""
        inside, videos = batch.inside[rows], batch.video_of_query[rows]
        segments = aligned.pooled(videos, inside)
        if len(videos) ** 2 > _AT_ONCE:
            return self.timed.of_vectors(
                aligned.queries[rows], segments, aligned.scale, PairTargets.of(batch, False).alike()
            )
        scores = aligned.queries[rows] @ segments.T * aligned.scale
        return self.timed(scores, _same_moment(inside, videos) | _same_text(batch.queries[rows]))

    def _alignment(
        self,
        segments: torch.Tensor,
        mask: torch.Tensor,
        sentences: torch.Tensor,
        told: torch.Tensor,
        scale: torch.Tensor,
    ) -> torch.Tensor:
        """Sentences without times against equal parts of their video, softly matched."""
        total = torch.zeros((), device=segments.device)
        for some in torch.arange(len(segments), device=segments.device).split(_AT_A_TIME):
            similarity = torch.einsum("vne,tme->vtnm", segments[some], sentences[some])
            total = total + len(some) * self.untimed(similarity, mask[some], told[some], scale)
        return total / len(segments)

    def pulled(
        self, model: AlignmentModel, aligned: Aligned, batch: AlignmentBatch, frames: int, texts: int
    ) -> torch.Tensor:
        """Mean squared distance between trained and frozen vectors, or the batch's part of it among so many in all."""
        start = model.projector
        moved = functional.mse_loss(aligned.packed, start.start_frames(batch.rows), reduction="sum") / max(1, frames)
        pairs = ((aligned.queries, batch.queries), (aligned.questions, batch.questions.vectors))
        away = torch.cat([(a - start.start_text(b)).square().sum(-1) for a, b in pairs])
        return moved + away.sum() / max(1, texts)


def _same_moment(inside: torch.Tensor, videos: torch.Tensor) -> torch.Tensor:
    """`(Q, Q)` bool: spans of one video that share more than half of their frames; each caption's own among them."""
    frames = inside.float()
    common = frames @ frames.T
    either = frames.sum(1)[:, None] + frames.sum(1)[None] - common
    return (common / either.clamp_min(1) > 0.5) & (videos[:, None] == videos[None])


def _built(setting: str, name: str, kind: Kind) -> Any:
    """The loss `name`; raises UsageError if it compares other things than `setting` asks for."""
    found = losses.build(name)
    if found.kind != kind:
        fit = ", ".join(n for n, plugin in losses.loadable().items() if plugin.kind == kind)
        raise UsageError(f"{setting} is a loss over {kind}, one of {fit}; {name!r} is one over {found.kind}")
    return found


def _same_text(queries: torch.Tensor) -> torch.Tensor:
    """`(Q, Q)` bool: the very same words, which cannot be wrong for each other's segments."""
    found = row_hashes(queries)
    return found[:, None] == found[None]
