"""Sampler of the captions and questions of each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla.batches.arrays import CorpusArrays, Ragged, starts_of
from vla.batches.batch import AlignmentBatch
from vla.batches.collate import pad_ragged
from vla.batches.corpus import Corpus
from vla.training.config import TrainConfig


@dataclass(frozen=True)
class BatchPlan:
    """Rows of the videos, captions and questions of one step, before anything is read.

    Attributes:
        arrays: the corpus that the rows refer to.
        rows: `(B,)` videos, without repeats.
        queries: `(Q,)` captions of these videos.
        questions: `(K,)` questions about these videos.
    """

    arrays: CorpusArrays
    rows: np.ndarray
    queries: np.ndarray
    questions: np.ndarray

    @property
    def num_frames(self) -> int:
        """Number of frames of the videos."""
        return int(self._lengths.sum())

    @property
    def num_texts(self) -> int:
        """Number of captions and questions."""
        return len(self.queries) + len(self.questions)

    def batch(self) -> AlignmentBatch:
        """Return the whole step as one batch."""
        return pad_ragged(self.arrays, self.rows, self.queries, self.questions)

    def micro_batches(self, max_frames: int) -> Iterator[AlignmentBatch]:
        """Yield the videos in order, with their captions and questions.

        Args:
            max_frames: maximum number of frames of a micro-batch; a longer video is one by itself.
        """
        ends, first = self._lengths.cumsum(), 0
        while first < len(self.rows):
            before = ends[first - 1] if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + max_frames, side="right")))
            rows = self.rows[first:last]
            queries = self.queries[np.isin(self.arrays.query_video[self.queries], rows)]
            questions = self.questions[np.isin(self.arrays.question_video[self.questions], rows)]
            yield pad_ragged(self.arrays, rows, queries, questions)
            first = last

    @property
    def _lengths(self) -> np.ndarray:
        lengths: np.ndarray = self.arrays.videos[self.rows + 1] - self.arrays.videos[self.rows]
        return lengths


class BatchSampler:
    """Sampler of the batches of a run, a function of the videos and the step number alone."""

    def __init__(self, corpus: Corpus, config: TrainConfig) -> None:
        self._arrays, self._config = CorpusArrays(corpus), config
        arrays, count = self._arrays, len(corpus.videos)
        queries = np.arange(len(arrays.query_video))
        self._untimed_queries = _by_video(
            queries[~arrays.is_timed], arrays.query_video[~arrays.is_timed], count
        )
        self._timed_queries = _by_video(
            queries[arrays.is_timed], arrays.query_video[arrays.is_timed], count
        )
        self._questions = _by_video(
            np.arange(len(arrays.question_video)), arrays.question_video, count
        )

    def __call__(self, rows: np.ndarray, step: int) -> AlignmentBatch:
        """Return the batch of step `step` with the videos `rows`."""
        return self.plan(rows, step).batch()

    def plan(self, rows: np.ndarray, step: int) -> BatchPlan:
        """Return the plan of step `step`: the videos `rows` with some of their captions and
        questions.

        A video has up to `captions_per_video` untimed and as many timed captions.
        """
        rng = np.random.default_rng([self._config.seed, 3, step])
        captions, questions = self._config.captions_per_video, self._config.questions_per_video
        # The order of untimed and timed captions matters to no loss; a fixed one makes the bits
        # repeatable.
        first = _sample(self._untimed_queries, rows, captions, rng)
        second = _sample(self._timed_queries, rows, captions, rng)
        queries = np.concatenate([first, second])
        return BatchPlan(
            self._arrays, rows, queries, _sample(self._questions, rows, questions, rng)
        )


def _by_video(items: np.ndarray, video: np.ndarray, count: int) -> Ragged:
    """Return the items of each of `count` videos; `video` `(N,)` is the video of each item."""
    return Ragged(
        items[np.argsort(video, kind="stable")], starts_of(np.bincount(video, minlength=count))
    )


def _sample(
    of_video: Ragged, rows: np.ndarray, max_items: int, rng: np.random.Generator
) -> np.ndarray:
    """Return up to `max_items` random items of each of the videos `rows`, in their own order."""
    index, owner, position = of_video.locate(rows)
    lots = np.lexsort((rng.random(len(index)), owner))
    return of_video.values[index[np.sort(lots[position < max_items])]]
