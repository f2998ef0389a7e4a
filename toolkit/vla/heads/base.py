"""What every head is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from vla.batches.batch import Aligned, AlignmentBatch
from vla.batches.corpus import Corpus
from vla.features import FrameFeatures

Asks = Literal["videos", "moments", "choice", "open", "count"]


@dataclass(frozen=True, kw_only=True)
class LocalizationBatch:
    """Aligned videos, and the texts to localize in them: all that a head for moments reads.

    Training, evaluation and search each build one, so that all three call `Head.localize` or the network below it.

    Attributes:
        frames: `(B, T, E)` unit frames; zero at padding.
        frame_mask: `(B, T)` bool, True for real frames, which come first.
        seconds: `(B, T)` float32, when each frame is shown.
        durations: `(B,)` float32.
        texts: `(M, E)` unit vectors.
        video_of_text: `(M,)` int64 rows of `frames`.
        rows: `(N,)` int64, the texts to localize; the others are not read.
        scale: scalar that cosines are multiplied with.
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
    def from_batch(cls, aligned: Aligned, batch: AlignmentBatch) -> LocalizationBatch:
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
        cls, *, features: Sequence[FrameFeatures], frames: Sequence[np.ndarray], texts: np.ndarray, scale: torch.Tensor
    ) -> LocalizationBatch:
        """Return videos with one text to localize in each.

        Args:
            features: of each video its times and its length; the raw values are not read.
            frames: of each video `(T, E)` float32 unit frames.
            texts: `(B, E)` float32 unit vectors.
            scale: scalar that cosines are multiplied with.
        """
        lengths = torch.tensor([len(rows) for rows in frames])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        padded = torch.zeros(*mask.shape, texts.shape[1])
        padded[mask] = torch.from_numpy(np.concatenate(frames))
        seconds = torch.zeros(mask.shape)
        seconds[mask] = torch.from_numpy(np.concatenate([f.timestamps_seconds for f in features]).astype(np.float32))
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
    """The moments of one text in its video.

    Attributes:
        moments: `(K, 3)` float64 rows of start and end in seconds and score, best first.
        saliency: `(T,)` float32, how well each frame shows the text, on no scale; None where the head does not tell.
    """

    moments: np.ndarray
    saliency: np.ndarray | None = None


class Head(nn.Module):
    """Answers one kind of question from aligned vectors. Its constructor takes `dim`, the width of these, and its options.

    Where the frozen encoder has an answer, an untrained head gives that one: its last layer starts at zero.

    Attributes:
        asks: what of a batch it is asked: `videos` (untimed queries), `moments` (timed ones), or questions by their kind.
        reads_tokens: True if it compares the tokens of queries, which have to be read and projected for it.
        has_blind: True if a twin is trained that sees no video, to tell what the words alone give away.
    """

    asks: ClassVar[Asks]
    reads_tokens: bool = False
    has_blind: ClassVar[bool] = False

    @classmethod
    def planned(cls, corpus: Corpus, options: Mapping[str, Any]) -> dict[str, Any]:
        """All options of the constructor but `dim`: those given, and what `corpus`, which is trained on, decides."""
        return dict(options)

    def fit(self, corpus: Corpus) -> None:
        """Take from `corpus`, which is trained on, what is no option and is not learned by descent. Usually nothing."""

    def forward(self, aligned: Aligned, batch: AlignmentBatch) -> Any:
        """Return predictions for what `batch` asks of this head, in its order. Heads for moments have `localize` instead."""
        raise TypeError(f"{type(self).__name__} does not say what it predicts")

    def localize(self, batch: LocalizationBatch) -> list[LocalizedMoments]:
        """Return the moments of each text that `batch` has to localize, in their order; heads for moments only.

        A text's moments do not depend on what else is in the batch.
        """
        raise TypeError(f"{type(self).__name__} localizes no moments")

    def loss(self, aligned: Aligned, batch: AlignmentBatch) -> torch.Tensor | None:
        """A scalar to descend; None where the batch asks nothing of this head, or does not say what is right."""
        return None

    def decode(self, predictions: Any, batch: AlignmentBatch) -> list[Any]:
        """Return what was predicted, one item for each thing that was asked.

        `choice`: index of a choice. `open`: answers, best first. `count`: a number.
        """
        raise TypeError(f"{type(self).__name__} does not say what its predictions mean")
