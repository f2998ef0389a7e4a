"""Training objective: alignment losses on videos and on segments, losses of the heads, and the
anchor term.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.errors import UsageError
from vla.heads import registry as heads
from vla.heads.retrieval import Head as Retrieval
from vla.losses import registry as losses
from vla.losses.base import Kind
from vla.model import AlignmentModel
from vla.training.config import TrainConfig
from vla.training.pooled_embeddings import (
    NUM_SEGMENTS,
    PairTargets,
    PooledEmbeddings,
    row_hashes,
    soft_targets,
)
from vla.training.segment_contrast import (
    MAX_SCORES,
    WITHIN_SHARE,
    WITHIN_SHARE_ALONE,
    contrast,
    contrast_blockwise,
)

_ALIGNMENT_BATCH_SIZE = 256
"""Videos whose soft alignments are contrasted with each other's captions."""


class Objective(nn.Module):
    """The losses of a run, by name.

    Attributes:
        is_global: whether captions of whole videos have a loss.
        is_segment: whether timed captions and soft alignments have one.
        anchor_weight: weight of `anchor_distance`.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        # The head `retrieval` has no loss but that of the global level.
        self.is_global = config.levels in ("both", "global") or "retrieval" in config.head_names
        self.is_segment = config.levels in ("both", "segment") and config.segment_weight > 0
        self.segment_weight = config.segment_weight
        self.anchor_weight = config.anchor_weight
        self.head_weights = dict(config.head_weights)
        self.retrieval = heads.build("retrieval")
        self.global_loss = _build_loss("global_loss", config.global_loss, "pairs")
        self.segment_loss = _build_loss("segment_loss", config.segment_loss, "pairs")
        self.untimed_loss = _build_loss("untimed_loss", config.untimed_loss, "sets")

    def forward(
        self, model: AlignmentModel, batch: AlignmentBatch, aligned: AlignedBatch | None = None
    ) -> dict[str, torch.Tensor]:
        """Return `{name: scalar}`; their sum is minimised.

        Losses without captions or questions in the batch are left out.

        Args:
            model: of the run.
            batch: raw features.
            aligned: the batch in the shared space, if it is computed already.
        """
        aligned = model(batch) if aligned is None else aligned
        parts = self.alignment(model, aligned, batch)
        parts |= {
            k: self.head_weights.get(k, 1.0) * v
            for k, v in model.head_losses(aligned, batch).items()
        }
        if self.anchor_weight > 0 and parts:
            texts = len(batch.queries) + len(batch.questions)
            distance = self.anchor_distance(model, aligned, batch, len(batch.packed_frames), texts)
            parts["pull"] = self.anchor_weight * distance
        return parts

    def alignment(
        self, model: AlignmentModel, aligned: AlignedBatch, batch: AlignmentBatch
    ) -> dict[str, torch.Tensor]:
        """Return the losses of the levels alone."""
        parts: dict[str, torch.Tensor] = {}
        is_untimed, head = ~batch.is_timed, self._retrieval_head(model)
        if self.is_global and is_untimed.any():
            parts["global"] = self._global_loss(head, aligned, batch, is_untimed)
        if self.is_segment:
            weight = self._segment_factor(parts)
            if batch.is_timed.any():
                parts["segment"] = weight * self._segment_loss(
                    aligned, batch, batch.is_timed, _within_share(parts)
                )
            queries = soft_targets(batch, self.is_segment)
            if len(queries):
                segments, mask = aligned.equal_segments(batch.video_of_query[queries], NUM_SEGMENTS)
                sentences = aligned.sentences[queries], batch.sentence_mask[queries]
                parts["alignment"] = weight * self._untimed_loss(
                    segments, mask, *sentences, aligned.scale
                )
        return parts

    def _segment_factor(self, parts: dict[str, torch.Tensor]) -> float:
        # Without a global loss the factor would only change the balance with the anchor term.
        return self.segment_weight if "global" in parts else 1.0

    def _retrieval_head(self, model: AlignmentModel) -> Retrieval:
        """Return the model's head that compares captions with videos, or the one without
        parameters.
        """
        return cast(
            Retrieval, model.heads["retrieval"] if "retrieval" in model.heads else self.retrieval
        )

    def from_vectors(
        self, vectors: PooledEmbeddings, targets: PairTargets, scale: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the losses of both levels from pooled embeddings, blockwise.

        Equal to those of whole matrices.
        """
        parts: dict[str, torch.Tensor] = {}
        is_untimed = ~targets.is_timed
        if self.is_global and is_untimed.any():
            queries = vectors.queries[is_untimed]
            parts["global"] = self.global_loss.from_vectors(
                queries, vectors.videos, scale, *targets.video_pairs()
            )
        weight = self._segment_factor(parts)
        if self.is_segment and targets.is_timed.any():
            parts["segment"] = weight * contrast_blockwise(
                self.segment_loss,
                vectors.queries[targets.is_timed],
                vectors.moments,
                scale,
                targets.moment_pairs(),
                targets.video_of_query[targets.is_timed],
                _within_share(parts),
            )
        if self.is_segment and len(vectors.segments):
            sets = vectors.segments, targets.segment_mask, vectors.sentences, targets.sentence_mask
            parts["alignment"] = weight * self._untimed_loss(*sets, scale)
        return parts

    def uses_vectors_only(self, model: AlignmentModel) -> bool:
        """Return whether `from_vectors` gives all losses: the model has no head and compares no
        tokens.
        """
        return set(model.heads) <= {"retrieval"} and not model.compares_tokens

    def _global_loss(
        self, head: Retrieval, aligned: AlignedBatch, batch: AlignmentBatch, rows: torch.Tensor
    ) -> torch.Tensor:
        if not head.reads_tokens and int(rows.sum()) * len(batch.frames) > MAX_SCORES:
            pairs = PairTargets.from_batch(batch, False).video_pairs()
            return self.global_loss.from_vectors(
                aligned.queries[rows], aligned.videos, aligned.scale, *pairs
            )
        scores, positives = head.scores(aligned, rows) * aligned.scale, head.positives(batch)[rows]
        # The video of an equal caption is not a negative, and not the right one either.
        same_text = (_same_text(batch.queries[rows]).float() @ positives.float()) > 0
        loss: torch.Tensor = self.global_loss(
            scores.masked_fill(same_text & ~positives, -torch.inf), positives
        )
        return loss

    def _segment_loss(
        self,
        aligned: AlignedBatch,
        batch: AlignmentBatch,
        rows: torch.Tensor,
        within_share: float,
    ) -> torch.Tensor:
        """Return the loss of every timed caption against the annotated segments of the batch."""
        inside, videos = batch.inside[rows], batch.video_of_query[rows]
        queries, segments = aligned.queries[rows], aligned.pool_spans(videos, inside)
        if len(videos) ** 2 > MAX_SCORES:
            pairs = PairTargets.from_batch(batch, False).moment_pairs()
            return contrast_blockwise(
                self.segment_loss, queries, segments, aligned.scale, pairs, videos, within_share
            )
        positives = _same_moment(inside, videos) | _same_text(batch.queries[rows])
        scores = queries @ segments.T * aligned.scale
        return contrast(self.segment_loss, scores, positives, videos, within_share)

    def _untimed_loss(
        self,
        segments: torch.Tensor,
        segment_mask: torch.Tensor,
        sentences: torch.Tensor,
        sentence_mask: torch.Tensor,
        scale: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss of untimed sentences against equal segments of their video, softly
        aligned.
        """
        total = torch.zeros((), device=segments.device)
        for rows in torch.arange(len(segments), device=segments.device).split(
            _ALIGNMENT_BATCH_SIZE
        ):
            similarity = torch.einsum("vne,tme->vtnm", segments[rows], sentences[rows])
            loss = self.untimed_loss(similarity, segment_mask[rows], sentence_mask[rows], scale)
            total = total + len(rows) * loss
        return total / len(segments)

    def anchor_distance(
        self,
        model: AlignmentModel,
        aligned: AlignedBatch,
        batch: AlignmentBatch,
        frames: int,
        texts: int,
    ) -> torch.Tensor:
        """Return the mean squared distance between trained and frozen vectors.

        Args:
            model: of the run.
            aligned: the batch in the shared space.
            batch: raw features of the whole step, or of a micro-batch.
            frames: frames of the whole step.
            texts: captions and questions of the whole step.

        Returns:
            A scalar; of a micro-batch, its share of the mean.
        """
        projector = model.projector
        frozen_frames = projector.start_frames(batch.packed_frames)
        of_frames = functional.mse_loss(aligned.packed, frozen_frames, reduction="sum") / max(
            1, frames
        )
        pairs = ((aligned.queries, batch.queries), (aligned.questions, batch.questions.vectors))
        of_texts = torch.cat([(a - projector.start_text(b)).square().sum(-1) for a, b in pairs])
        return of_frames + of_texts.sum() / max(1, texts)


def _within_share(parts: dict[str, torch.Tensor]) -> float:
    return WITHIN_SHARE if "global" in parts else WITHIN_SHARE_ALONE


def _same_moment(inside: torch.Tensor, videos: torch.Tensor) -> torch.Tensor:
    """Return `(Q, Q)` bool: whether two spans of one video share more than half of their frames."""
    frames = inside.float()
    common = frames @ frames.T
    union = frames.sum(1)[:, None] + frames.sum(1)[None] - common
    return (common / union.clamp_min(1) > 0.5) & (videos[:, None] == videos[None])


def _build_loss(setting: str, name: str, kind: Kind) -> Any:
    """Return the loss `name`; raise UsageError if it is not of `kind`."""
    loss = losses.build(name)
    if loss.kind != kind:
        candidates = ", ".join(n for n, plugin in losses.loadable().items() if plugin.kind == kind)
        raise UsageError(
            f"{setting} is a loss over {kind}, one of {candidates}; {name!r} is one over "
            f"{loss.kind}"
        )
    return loss


def _same_text(queries: torch.Tensor) -> torch.Tensor:
    """Return `(Q, Q)` bool: whether two captions are equal, and so correct for each other's
    segments.
    """
    hashes = row_hashes(queries)
    return hashes[:, None] == hashes[None]
