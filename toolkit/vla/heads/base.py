"""Base class of heads, and the batches and results of moment localization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.features import FrameFeatures

Task = Literal["videos", "moments", "choice", "open", "count"]


@dataclass(frozen=True, kw_only=True)
class LocalizationBatch:
    """Aligned videos and the texts to localize in them, the input of a head for moments.

    Training, evaluation and search each build one, so all three call `Head.localize` or its
    network.

    Attributes:
        frames: `(B, T, E)` unit frames; zero at padding.
        frame_mask: `(B, T)` bool, True for real frames, which come first.
        seconds: `(B, T)` float32 timestamps.
        durations: `(B,)` float32 seconds.
        texts: `(M, E)` unit vectors.
        video_of_text: `(M,)` int64 rows of `frames`.
        rows: `(N,)` int64, the texts to localize; the others are not read.
        scale: scalar factor of cosines.
    """

    frames: torch.Tensor
    frame_mask: torch.Tensor
    seconds: torch.Tensor
    durations: torch.Tensor
    texts: torch.Tensor
    video_of_text: torch.Tensor
    rows: torch.Tensor
    scale: torch.Tensor

    @classmethod
    def from_batch(cls, aligned: AlignedBatch, batch: AlignmentBatch) -> LocalizationBatch:
        """Return the videos of `batch`, which is `aligned`, with its timed queries to localize."""
        return cls(
            frames=aligned.frames,
            frame_mask=aligned.frame_mask,
            seconds=batch.seconds[:, : aligned.frame_mask.shape[1]],
            durations=batch.durations,
            texts=aligned.queries,
            video_of_text=batch.video_of_query,
            rows=batch.is_timed.nonzero()[:, 0],
            scale=aligned.scale,
        )

    @classmethod
    def from_videos(
        cls,
        *,
        features: Sequence[FrameFeatures],
        frames: Sequence[np.ndarray],
        texts: np.ndarray,
        scale: torch.Tensor,
    ) -> LocalizationBatch:
        """Return videos with one text to localize in each.

        Args:
            features: timestamps and duration of each video; the raw values are not read.
            frames: `(T, E)` float32 unit frames of each video.
            texts: `(B, E)` float32 unit vectors.
            scale: scalar factor of cosines.
        """
        lengths = torch.tensor([len(rows) for rows in frames])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        padded = torch.zeros(*mask.shape, texts.shape[1])
        padded[mask] = torch.from_numpy(np.concatenate(frames))
        seconds = torch.zeros(mask.shape)
        seconds[mask] = torch.from_numpy(
            np.concatenate([f.timestamps_seconds for f in features]).astype(np.float32)
        )
        every = torch.arange(len(frames))
        return cls(
            frames=padded,
            frame_mask=mask,
            seconds=seconds,
            durations=torch.tensor([f.duration_seconds for f in features], dtype=torch.float32),
            texts=torch.from_numpy(texts),
            video_of_text=every,
            rows=every,
            scale=scale,
        )


@dataclass(frozen=True)
class LocalizedMoments:
    """Moments of one text in its video.

    Attributes:
        moments: `(K, 3)` float64 rows of start and end in seconds and score, best first.
        saliency: `(T,)` float32 relevance of each frame, on no fixed scale; None where the head
            does not predict it.
    """

    moments: np.ndarray
    saliency: np.ndarray | None = None


class Head(nn.Module):
    """Module for one task on aligned vectors.

    The constructor takes their width `dim` and its options.

    An untrained head predicts what the frozen encoder does, if anything: its last layer starts at
    zero.

    Attributes:
        task: `videos` (untimed queries), `moments` (timed queries), or a kind of question.
        reads_tokens: whether it compares the tokens of queries with frames.
        has_blind: whether a vision-blind copy is trained as a baseline.
        gate_buffers: names of buffers that training selects; the others are set by `fit`.
    """

    task: ClassVar[Task]
    reads_tokens: bool = False
    has_blind: ClassVar[bool] = False
    gate_buffers: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def resolve_options(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options of the constructor except `dim`.

        Args:
            corpus: the training corpus, which determines defaults.
            options: override the defaults.
        """
        return dict(options)

    def fit(self, corpus: Corpus) -> None:
        """Set buffers that are estimated from the training corpus; most heads have none."""

    def forward(self, aligned: AlignedBatch, batch: AlignmentBatch) -> Any:
        """Return predictions for the queries or questions of the task, in their order.

        Heads for moments have `localize` instead.
        """
        raise TypeError(f"{type(self).__name__} does not define its predictions")

    def localize(self, batch: LocalizationBatch) -> list[LocalizedMoments]:
        """Return the moments of each text of `batch.rows`, in order; heads for moments only.

        The moments of a text do not depend on the rest of the batch.
        """
        raise TypeError(f"{type(self).__name__} localizes no moments")

    def loss(self, aligned: AlignedBatch, batch: AlignmentBatch) -> torch.Tensor | None:
        """Return a scalar to minimize; None where the batch has no targets for the task."""
        return None

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Return one item for each prediction.

        `choice`: index of a choice. `open`: answers, best first. `count`: a number.
        """
        raise TypeError(f"{type(self).__name__} does not define the meaning of its predictions")
