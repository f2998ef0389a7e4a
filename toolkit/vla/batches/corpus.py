"""Corpus of training and evaluation: cached videos, texts about them, and vectors of the texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vla.datasets.base import Annotation, Question
from vla.features import FrameFeatures
from vla.spans import windows

SegmentGrid = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Windows of a video: first frames `(N,)`, last ones, exclusive, `(N,)`, and spans `(N, 2)` in
seconds.
"""


@dataclass(frozen=True)
class Query:
    """A text that describes a video or a part of it.

    Attributes:
        text: the caption, or a question with its correct answer.
        chunks: cached texts that it consists of; several where it is longer than the encoder's
            context.
        sentences: its sentences, each cached, for the untimed loss.
        video: row of the video.
        spans: `(S, 2)` seconds; `(0, 2)` where it describes the whole video.
        annotation: its source; None where there is none.
    """

    text: str
    chunks: tuple[str, ...]
    sentences: tuple[str, ...]
    video: int
    spans: np.ndarray
    annotation: Annotation | None = None

    @property
    def is_timed(self) -> bool:
        """Whether it describes a part of its video."""
        return len(self.spans) > 0

    @property
    def is_caption(self) -> bool:
        """Whether it is a caption and not a question with its answer, which is no search query."""
        return self.annotation is None or self.annotation.question is None


@dataclass(frozen=True)
class QuestionExample:
    """A question about a video.

    Attributes:
        annotation: the question, its choices and answers.
        chunks: cached texts of the question.
        choices: cached texts of each choice joined to the question.
        choices_only: cached texts of each choice alone, to search the video for it.
        video: row of the video.
    """

    annotation: Annotation
    chunks: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    choices_only: tuple[tuple[str, ...], ...]
    video: int

    @property
    def question(self) -> Question:
        """Choices and answers."""
        return self.annotation.question or Question()


@dataclass(frozen=True)
class Tokens:
    """Raw features of the tokens of texts, concatenated.

    Attributes:
        values: `(N, D)` float16; in memory, or in a file where they would take half of it.
        row_ranges: first row and end of the rows of each text.
    """

    values: np.ndarray
    row_ranges: dict[str, tuple[int, int]]

    def rows(self, chunks: Sequence[str]) -> list[int]:
        """Return the rows of `values` of the tokens of all chunks; unknown chunks have none."""
        return [row for chunk in chunks for row in range(*self.row_ranges.get(chunk, (0, 0)))]


@dataclass(frozen=True)
class Corpus:
    """Videos, texts and their features.

    Attributes:
        videos: features of each video.
        queries: their `video` is a row of `videos`.
        vectors: pooled text features of every chunk and sentence, `(D,)` float32 by text.
        questions: their `video` is a row of `videos`.
        answers: chunks of each answer to an open question.
        tokens: of every chunk of the queries; None where no setting reads them.
    """

    videos: list[FrameFeatures]
    queries: list[Query]
    vectors: dict[str, np.ndarray]
    questions: tuple[QuestionExample, ...] = ()
    answers: dict[str, tuple[str, ...]] | None = None
    tokens: Tokens | None = None

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.videos[0].values.shape[1]

    @cached_property
    def segment_grids(self) -> list[SegmentGrid]:
        """Windows of each video; cached, since validation reads them after every epoch."""
        return [sliding_windows(video) for video in self.videos]

    def subset(self, rows: np.ndarray) -> Corpus:
        """Return the videos of `rows`, in that order, with their queries and questions."""
        new_row = {int(old): new for new, old in enumerate(rows)}
        queries = [replace(q, video=new_row[q.video]) for q in self.queries if q.video in new_row]
        questions = tuple(
            replace(q, video=new_row[q.video]) for q in self.questions if q.video in new_row
        )
        return replace(
            self, videos=[self.videos[int(i)] for i in rows], queries=queries, questions=questions
        )

    def text_vector(self, query: Query) -> np.ndarray:
        """Return the raw text feature of the query, `(D,)` float32."""
        return self.vector(query.chunks)

    def vector(self, chunks: tuple[str, ...]) -> np.ndarray:
        """Return the raw feature of a text, `(D,)` float32: `pool_chunks` of the features of its
        chunks.
        """
        return pool_chunks(np.stack([self.vectors[chunk] for chunk in chunks]))

    def tokens_of(self, texts: Iterable[tuple[str, ...]]) -> list[np.ndarray] | None:
        """Return the raw token features `(L, D)` of each text (chunks); None without tokens."""
        if self.tokens is None:
            return None
        return [self.tokens.values[self.tokens.rows(chunks)] for chunks in texts]


def sliding_windows(video: FrameFeatures) -> SegmentGrid:
    """Return the multi-scale windows of `video`, the whole video first."""
    grid = windows(video.timestamps_seconds, video.duration_seconds)
    return (
        np.array([w[0] for w in grid]),
        np.array([w[1] for w in grid]),
        np.array([w[2:] for w in grid], np.float64),
    )


def pool_chunks(chunks: np.ndarray) -> np.ndarray:
    """Return `(D,)` float32: the mean direction of text features `(P, D)` at their mean length.

    Of one, itself.
    """
    if len(chunks) == 1:
        return chunks[0]
    lengths = np.linalg.norm(chunks, axis=1, keepdims=True).clip(1e-12)
    mean = (chunks / lengths).mean(0)
    return (mean / max(1e-12, float(np.linalg.norm(mean))) * lengths.mean()).astype(np.float32)


def join_question_answer(question: str, answer: str) -> str:
    """Return a question and an answer as one text, which a text encoder can compare
    with a video.
    """
    return f"{question.strip()} {answer.strip()}"
