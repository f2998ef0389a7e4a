"""The alignment model: a projector, its temperature and the heads of its tasks, and how they are kept on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from vla.batches.batch import Aligned, AlignmentBatch
from vla.batches.collate import collate_frames
from vla.batches.corpus import SegmentGrid, sliding_windows
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
_TOGETHER = 2048


class AlignmentModel(nn.Module):
    """Frames and texts in a shared space, and heads upon it. Untrained it is exactly the frozen encoder.

    Heads are trained with the projector's dial at 1, and want it there: see `at`. Those in `blind` are twins of heads that
    learn from the words alone.
    """

    projector: ResidualProjector
    heads: dict[str, Head]
    blind: dict[str, Head]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.projector = projectors.build(config.projector, config.options, dim=config.dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        built = {name: heads.build(name, options, dim=config.dim) for name, options in config.heads.items()}
        twins = {
            name: heads.build(name, config.heads[name], dim=config.dim) for name, h in built.items() if h.has_blind
        }
        self.heads, self.blind = nn.ModuleDict(built), nn.ModuleDict(twins)  # type: ignore[assignment]

    @property
    def scale(self) -> torch.Tensor:
        """What cosines are multiplied with; kept at or below 100, as CLIP does, or it grows without end."""
        return self.log_scale.exp().clamp(max=MAX_SCALE)

    def forward(self, batch: AlignmentBatch) -> Aligned:
        """The batch in the shared space."""
        frames = self.projector.project_rows(batch.rows, batch.layout.rows(batch.seconds), batch.layout)
        return self.aligned(batch, frames, self.project_texts(batch))

    @property
    def compares_tokens(self) -> bool:
        """True if a head compares the tokens of queries with frames, so that these must be read."""
        return any(head.reads_tokens for head in self.heads.values())

    def project_texts(self, batch: AlignmentBatch, some: slice = slice(None)) -> torch.Tensor:
        """`(M, E)` of the texts that `texts_of` names, or of some of them."""
        return self.projector.project_text(texts_of(batch)[some])

    def aligned(self, batch: AlignmentBatch, frames: torch.Tensor, texts: torch.Tensor) -> Aligned:
        """The batch, of which these are in the shared space already.

        Args:
            batch: as it was read.
            frames: `(N, E)` its real frames.
            texts: `(M, E)` the texts that `texts_of` names.
        """
        told, choices = Packing(batch.sentence_mask), Packing(batch.questions.choice_mask)
        sizes = [len(batch.queries), len(told.index), len(batch.questions), *[len(choices.index)] * 2]
        queries, sentences, asked, said, alone = texts.split(sizes)
        count, mask = (len(batch.tokens), batch.token_mask) if self.compares_tokens else (0, batch.token_mask[:, :0])
        return Aligned(
            packed=frames,
            packing=batch.layout,
            queries=queries,
            sentences=told.padded(sentences),
            questions=asked,
            choices=choices.padded(said),
            alone=choices.padded(alone),
            tokens=Packing(mask).padded(l2_normalize(batch.tokens[:count])),
            token_mask=mask,
            scale=self.scale,
        )

    @contextmanager
    def at(self, alpha: float) -> Iterator[AlignmentModel]:
        """The model with its projector's dial at `alpha`, for the time being."""
        before = self.projector.alpha.clone()
        self.projector.alpha.fill_(alpha)
        try:
            yield self
        finally:
            self.projector.alpha.copy_(before)

    def head_losses(self, aligned: Aligned, batch: AlignmentBatch) -> dict[str, torch.Tensor]:
        """`{name: scalar}` of every head that `batch` asks something, and of the blind twins."""
        pairs = [(name, head.loss(aligned, batch)) for name, head in self.heads.items()]
        if self.blind:
            unseen = aligned.blind()
            pairs += [(f"blind {name}", head.loss(unseen, batch)) for name, head in self.blind.items()]
        return {name: loss for name, loss in pairs if loss is not None}

    def align_frames(self, features: FrameFeatures) -> np.ndarray:
        """`(T, E)` float32 unit frames of one video."""
        return self.align_videos([features])[0]

    @torch.no_grad()
    def align_videos(self, videos: Sequence[FrameFeatures]) -> list[np.ndarray]:
        """`(T, E)` float32 unit frames of each video; videos of about the same length are worked on together."""
        for video in videos:
            if video.values.shape[1] != self.config.dim:
                raise ShapeError(f"features are {video.values.shape[1]} wide, the model takes {self.config.dim}")
        found: list[np.ndarray] = [np.zeros((0, 0), np.float32)] * len(videos)
        for rows in length_buckets([len(v.values) for v in videos]):
            batch = collate_frames([videos[i] for i in rows])
            moved = self.projector.project_frames(*(part.to(self.log_scale.device) for part in batch)).cpu().numpy()
            for i, values in zip(rows, moved, strict=True):
                found[i] = values[: len(videos[i].values)]
        return found

    @torch.no_grad()
    def align_texts(self, vectors: np.ndarray) -> np.ndarray:
        """`(Q, E)` float32 unit texts from raw pooled features `(Q, D)`."""
        texts = torch.from_numpy(vectors.astype(np.float32)).to(self.log_scale.device)
        return self.projector.project_text(texts).cpu().numpy()

    def align_tokens(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`(L, E)` float32 unit tokens of each text from raw ones `(L, D)`: normalised, and nothing else."""
        return [l2_normalize(torch.from_numpy(rows.astype(np.float32))).numpy() for rows in tokens]

    @torch.no_grad()
    def rescored(
        self, texts: np.ndarray, tokens: Sequence[np.ndarray] | None, frames: Sequence[np.ndarray]
    ) -> np.ndarray:
        """`(Q, K)` scores of videos, or of moments, for texts by the head `retrieval`, which compares tokens with frames.

        Args:
            texts: `(Q, E)` unit vectors.
            tokens: `(L, E)` unit tokens of each text; None where there are none, and scores are those of whole vectors.
            frames: of each of `K` candidates its unit frames `(T, E)`, at least one.
        """
        shown, mask = self._padded(frames)
        queries = torch.from_numpy(texts).to(shown)
        whole = queries @ l2_normalize(shown.sum(1)).T
        if tokens is None:
            return whole.cpu().numpy()
        head = cast(Retrieval, self.heads["retrieval"])
        scores: np.ndarray = head.rescore(whole, *self._padded(tokens), shown, mask).cpu().numpy()
        return scores

    def _padded(self, sets: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """`(Q, L, D)` float32 of vectors `(L, D)` each, and `(Q, L)` which are real."""
        mask = torch.arange(max(map(len, sets), default=0)) < torch.tensor([len(s) for s in sets])[:, None]
        rows, mask = (x.to(self.log_scale.device) for x in (torch.from_numpy(np.concatenate(sets)), mask))
        return Packing(mask).padded(rows.float()), mask


def texts_of(batch: AlignmentBatch) -> torch.Tensor:
    """`(M, D)` raw: queries, sentences, questions, choices said after them, choices alone; no padding, in that order."""
    sentences = Packing(batch.sentence_mask).rows(batch.sentences)
    choices, asked = Packing(batch.questions.choice_mask), batch.questions
    said, alone = choices.rows(asked.choices), choices.rows(asked.alone)
    return torch.cat([batch.queries, sentences, asked.vectors, said, alone])


def length_buckets(lengths: list[int]) -> Iterator[list[int]]:
    """All places of `lengths`, in groups of at most `_TOGETHER` frames with padding, of which less than a quarter is padding."""
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if group and (lengths[place] * (len(group) + 1) > _TOGETHER or lengths[place] * 3 > lengths[group[0]] * 4):
            yield group
            group = []
        group.append(place)
    if group:
        yield group


@dataclass(frozen=True)
class Segments:
    """Candidate moments of one video, the whole video first.

    Attributes:
        vectors: `(N, E)` float32 unit vectors, the direction of the mean of the segment's frames.
        spans: `(N, 2)` seconds.
    """

    vectors: np.ndarray
    spans: np.ndarray


def pool_segments(frames: np.ndarray, features: FrameFeatures, cut: SegmentGrid | None = None) -> Segments:
    """Multi-scale windows over aligned `frames` `(T, E)` of the video that `features` came from; `cut`, if it is known."""
    first, last, spans = cut or sliding_windows(features)
    # float64 sums: differences of long prefix sums lose float32's digits.
    sums = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, 0, dtype=np.float64)])
    means = sums[last] - sums[first]
    vectors = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    return Segments(vectors.astype(np.float32), spans)


def weights_of(model: AlignmentModel) -> dict[str, torch.Tensor]:
    """The model's tensors, on the CPU and contiguous, as safetensors wants them."""
    return {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}


def restore(config: ModelConfig, weights: dict[str, torch.Tensor], source: str) -> AlignmentModel:
    """The model with these weights, in evaluation mode; raises CacheError if they do not fit `config`."""
    try:
        model = AlignmentModel(config)
        model.load_state_dict(weights)
    except VlaError:
        raise
    except (RuntimeError, TypeError, ValueError, ArithmeticError, MemoryError, AttributeError, LookupError) as error:
        raise CacheError(
            f"{source} does not fit its own description: {next(iter(str(error).splitlines()), repr(error))}"
        ) from error
    return model.eval()


def zero_shot_model(dim: int, scale: float) -> AlignmentModel:
    """The frozen encoder as a model."""
    return AlignmentModel(ModelConfig(dim, scale=min(scale, MAX_SCALE))).eval()
