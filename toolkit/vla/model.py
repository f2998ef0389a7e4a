"""The alignment model: a projector, its temperature and the heads of its tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import cast

import numpy as np
import torch
from torch import nn

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.batches.collate import collate_frames
from vla.errors import CacheError, ShapeError, VlaError
from vla.features import FrameFeatures
from vla.heads import registry as heads
from vla.heads.base import Head
from vla.heads.retrieval import Head as Retrieval
from vla.model_config import ModelConfig as ModelConfig
from vla.nn.l2_normalize import l2_normalize
from vla.nn.packing import Packing
from vla.projectors import registry as projectors
from vla.projectors.base import ResidualProjector

MAX_SCALE = 100.0
_MAX_BATCH_FRAMES = 2048
_MAX_REASON = 300
"""Characters of the reason why weights do not fit."""


class AlignmentModel(nn.Module):
    """Projector of frames and texts into a shared space, with heads on top.

    Untrained, it equals the frozen encoder. Vectors and heads have an alpha each: see `for_heads`.

    Attributes:
        projector: of frames and texts.
        heads: by plug-in name.
        blind: copies of heads that are trained on the texts alone (vision-blind baselines).
        head_alpha: scalar in [0, 1], the projector's alpha for heads; 1 in training.
    """

    projector: ResidualProjector
    heads: dict[str, Head]
    blind: dict[str, Head]
    head_alpha: torch.Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.projector = projectors.build(config.projector, config.options, dim=config.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.register_buffer("head_alpha", torch.tensor(1.0))
        modules = {
            name: heads.build(name, options, dim=config.dim)
            for name, options in config.heads.items()
        }
        blind = {
            name: heads.build(name, config.heads[name], dim=config.dim)
            for name, h in modules.items()
            if h.has_blind
        }
        self.heads, self.blind = nn.ModuleDict(modules), nn.ModuleDict(blind)  # type: ignore[assignment]

    @property
    def scale(self) -> torch.Tensor:
        """Factor of cosines; at most 100, as in CLIP, or it grows without bound."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def forward(self, batch: AlignmentBatch) -> AlignedBatch:
        """Return the batch in the shared space."""
        seconds = batch.packing.unpad(batch.seconds)
        frames = self.projector.project_rows(batch.packed_frames, seconds, batch.packing)
        return self.assemble(batch, frames, self.project_texts(batch))

    @property
    def compares_tokens(self) -> bool:
        """Whether a head compares the tokens of queries with frames."""
        return any(head.reads_tokens for head in self.heads.values())

    def project_texts(self, batch: AlignmentBatch, rows: slice = slice(None)) -> torch.Tensor:
        """Return the projections `(M, E)` of `rows` of `packed_texts`."""
        return self.projector.project_text(packed_texts(batch)[rows])

    def assemble(
        self, batch: AlignmentBatch, frames: torch.Tensor, texts: torch.Tensor
    ) -> AlignedBatch:
        """Return the batch in the shared space from its projected frames and texts.

        Args:
            batch: raw features.
            frames: `(N, E)` projections of the real frames.
            texts: `(M, E)` projections of `packed_texts`.
        """
        sentences, choices = Packing(batch.sentence_mask), Packing(batch.questions.choice_mask)
        num_choices = len(choices.index)
        sizes = [
            len(batch.queries),
            len(sentences.index),
            len(batch.questions),
            num_choices,
            num_choices,
        ]
        of_queries, of_sentences, of_questions, of_choices, of_choices_only = texts.split(sizes)
        if self.compares_tokens:
            num_tokens, token_mask = len(batch.tokens), batch.token_mask
        else:
            num_tokens, token_mask = 0, batch.token_mask[:, :0]
        return AlignedBatch(
            packed=frames,
            packing=batch.packing,
            queries=of_queries,
            sentences=sentences.pad(of_sentences),
            questions=of_questions,
            choices=choices.pad(of_choices),
            choices_only=choices.pad(of_choices_only),
            tokens=Packing(token_mask).pad(l2_normalize(batch.tokens[:num_tokens])),
            token_mask=token_mask,
            scale=self.scale,
        )

    @contextmanager
    def with_alpha(self, alpha: float) -> Iterator[AlignmentModel]:
        """Set the projector's alpha for the duration of the context (interpolation as
        in WiSE-FT).
        """
        before = self.projector.alpha.clone()
        self.projector.alpha.fill_(alpha)
        try:
            yield self
        finally:
            self.projector.alpha.copy_(before)

    def for_heads(self) -> AbstractContextManager[AlignmentModel]:
        """Set the projector's alpha to that of the heads for the duration of the context."""
        return self.with_alpha(float(self.head_alpha))

    def head_losses(self, aligned: AlignedBatch, batch: AlignmentBatch) -> dict[str, torch.Tensor]:
        """Return `{name: scalar}` of every head with a task in `batch`, and of the blind heads."""
        pairs = [(name, head.loss(aligned, batch)) for name, head in self.heads.items()]
        if self.blind:
            without_video = aligned.blind()
            pairs += [
                (f"blind {name}", head.loss(without_video, batch))
                for name, head in self.blind.items()
            ]
        return {name: loss for name, loss in pairs if loss is not None}

    def align_frames(self, features: FrameFeatures) -> np.ndarray:
        """Return the unit frames `(T, E)` float32 of one video."""
        return self.align_videos([features])[0]

    @torch.no_grad()
    def align_videos(self, videos: Sequence[FrameFeatures]) -> list[np.ndarray]:
        """Return the unit frames `(T, E)` float32 of each video.

        Raises:
            ShapeError: the features have another width than the model.
        """
        for video in videos:
            if video.values.shape[1] != self.config.dim:
                raise ShapeError(
                    f"features are {video.values.shape[1]} wide, the model takes {self.config.dim}"
                )
        frames: list[np.ndarray] = [np.zeros((0, 0), np.float32)] * len(videos)
        for rows in length_buckets([len(v.values) for v in videos]):
            batch = collate_frames([videos[i] for i in rows])
            on_device = (tensor.to(self.log_scale.device) for tensor in batch)
            projected = self.projector.project_frames(*on_device).cpu().numpy()
            for i, values in zip(rows, projected, strict=True):
                frames[i] = values[: len(videos[i].values)]
        return frames

    @torch.no_grad()
    def align_texts(self, vectors: np.ndarray) -> np.ndarray:
        """Return unit texts `(Q, E)` float32 of raw pooled features `(Q, D)`."""
        texts = torch.from_numpy(vectors.astype(np.float32)).to(self.log_scale.device)
        return self.projector.project_text(texts).cpu().numpy()

    def align_tokens(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return unit tokens `(L, E)` float32 of each text.

        Raw tokens `(L, D)` are only normalized.
        """
        return [l2_normalize(torch.from_numpy(rows.astype(np.float32))).numpy() for rows in tokens]

    @torch.no_grad()
    def rerank(
        self, texts: np.ndarray, tokens: Sequence[np.ndarray] | None, frames: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Return scores of videos, or of moments, by the head `retrieval`, which compares tokens
        with frames.

        Args:
            texts: `(Q, E)` unit vectors.
            tokens: unit tokens `(L, E)` of each text; None to score by whole vectors.
            frames: unit frames `(T, E)` of each of K candidates, at least one frame each.

        Returns:
            `(Q, K)` float32.
        """
        padded_frames, mask = self._pad(frames)
        queries = torch.from_numpy(texts).to(padded_frames)
        cosines = queries @ l2_normalize(padded_frames.sum(1)).T
        if tokens is None:
            return cosines.cpu().numpy()
        head = cast(Retrieval, self.heads["retrieval"])
        scores: np.ndarray = (
            head.rescore(cosines, *self._pad(tokens), padded_frames, mask).cpu().numpy()
        )
        return scores

    def _pad(self, sets: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return sets of vectors `(L, D)` padded to `(Q, L, D)` float32, and their mask
        `(Q, L)`.
        """
        mask = (
            torch.arange(max(map(len, sets), default=0))
            < torch.tensor([len(s) for s in sets])[:, None]
        )
        rows, mask = (
            x.to(self.log_scale.device) for x in (torch.from_numpy(np.concatenate(sets)), mask)
        )
        return Packing(mask).pad(rows.float()), mask


def packed_texts(batch: AlignmentBatch) -> torch.Tensor:
    """Return the raw texts `(M, D)` of a batch without padding.

    They are queries, sentences, questions, choices joined to their question and choices alone, in
    this order.
    """
    questions = batch.questions
    sentences = Packing(batch.sentence_mask).unpad(batch.sentences)
    packing = Packing(questions.choice_mask)
    choices, choices_only = packing.unpad(questions.choices), packing.unpad(questions.choices_only)
    return torch.cat([batch.queries, sentences, questions.vectors, choices, choices_only])


def length_buckets(lengths: list[int]) -> Iterator[list[int]]:
    """Yield all indices of `lengths` in groups of similar length.

    A padded group has at most `_MAX_BATCH_FRAMES` frames, unless it is a single video, and less
    than a quarter of it is padding.
    """
    group: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        is_full = lengths[i] * (len(group) + 1) > _MAX_BATCH_FRAMES
        if group and (is_full or lengths[i] * 3 > lengths[group[0]] * 4):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def cpu_state_dict(model: AlignmentModel) -> dict[str, torch.Tensor]:
    """Return the model's tensors on the CPU and contiguous, as safetensors requires."""
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}


def build_model(
    config: ModelConfig, weights: dict[str, torch.Tensor], source: str
) -> AlignmentModel:
    """Return the model with these weights, in evaluation mode.

    Args:
        config: of the model.
        weights: state dict.
        source: origin of the weights, for messages.

    Raises:
        CacheError: the weights do not fit `config`.
    """
    try:
        model = AlignmentModel(config)
        model.load_state_dict(weights)
    except VlaError:
        raise
    except (
        RuntimeError,
        TypeError,
        ValueError,
        ArithmeticError,
        MemoryError,
        AttributeError,
        LookupError,
    ) as error:
        raise CacheError(
            f"{source} does not fit its configuration: "
            f"{' '.join(str(error).split())[:_MAX_REASON] or repr(error)}"
        ) from error
    return model.eval()


def zero_shot_model(dim: int, scale: float) -> AlignmentModel:
    """Return the frozen encoder as a model; `scale` is limited to 100."""
    return AlignmentModel(ModelConfig(dim, scale=min(scale, MAX_SCALE))).eval()
