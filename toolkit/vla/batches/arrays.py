"""A corpus as arrays: all frames, all texts, and the rows of them of each video and each query.

A batch is then read by array operations, whatever its number of videos and queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.features import FrameFeatures
from vla.spans import frames_in


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, concatenated.

    Attributes:
        values: `(N, ...)`.
        starts: `(R + 1,)` int64, start of each row; the last is N.
    """

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Return rows of integers."""
        values = np.fromiter((v for row in rows for v in row), np.int64)
        return cls(values, starts_of([len(row) for row in rows]))

    @property
    def lengths(self) -> np.ndarray:
        """`(R,)` int64."""
        return np.diff(self.starts)

    def locate(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Locate every value of `rows`, one row after the other.

        Returns:
            Three `(K,)` int64: index in `values`, index in `rows`, and position in the row.
        """
        count = self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return self.starts[rows][owner] + position, owner, position


def starts_of(lengths: Iterable[int]) -> np.ndarray:
    """Return `(R + 1,)` int64: the starts of rows of these lengths, and the end of the last."""
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]).astype(np.int64)


class CorpusArrays:
    """Arrays of a corpus. Texts of equal chunks share one row of `texts`.

    Attributes:
        frames: `(N, D)` of all videos; a view where these are contiguous already.
        seconds: `(N,)` float32 timestamps of the frames.
        videos: `(V + 1,)` int64, first frame of each video.
        durations: `(V,)` float32 seconds.
        texts: `(M, D)` float32 raw text features.
        query_text: `(Q,)` int64 rows of `texts`.
        query_video: `(Q,)` int64.
        is_timed: `(Q,)` bool.
        sentences: rows of `texts` of each query.
        spans: of each query, in seconds `(P, 2)` float32.
        inside: `(P, 2)` int64, frames of the video that each span touches, the last exclusive.
        saliency: `(T,)` float32 mean rating of each frame, by query; annotated queries only.
        question_text: `(K,)` int64 rows of `texts`.
        question_video: `(K,)` int64.
        choices: rows of `texts` of each question: every choice joined to it.
        choices_only: rows of `texts` of each question: every choice alone.
        right: `(K,)` int64 index of the correct choice; -1 where there is none or it is unknown.
        counts: `(K,)` float32; NaN where the question asks for none or it is unknown.
        answers: of each question.
        kinds: of each question.
        tokens: `(N, D)` raw features of tokens; None where the corpus has none.
        token_rows: rows of `tokens` of each of `texts`.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._rows: dict[tuple[str, ...], int] = {}
        values = [video.values for video in corpus.videos]
        self.frames = _concat(values)
        self.videos = starts_of(map(len, values))
        self.seconds = np.concatenate([v.timestamps_seconds for v in corpus.videos]).astype(
            np.float32
        )
        self.durations = np.array([v.duration_seconds for v in corpus.videos], np.float32)
        self._add_queries(corpus)
        self._add_questions(corpus)
        if corpus.tokens is None:
            self.tokens = None
            self.token_rows = Ragged.from_rows([()] * len(self._rows))
        else:
            self.tokens = corpus.tokens.values
            self.token_rows = Ragged.from_rows(
                [corpus.tokens.rows(chunks) for chunks in self._rows]
            )
        vectors = [corpus.vector(chunks) for chunks in self._rows]
        self.texts = (
            np.stack(vectors).astype(np.float32)
            if vectors
            else np.zeros((0, corpus.dim), np.float32)
        )

    def _add_queries(self, corpus: Corpus) -> None:
        queries = corpus.queries
        self.query_text = np.array([self._row(q.chunks) for q in queries], np.int64)
        self.query_video = np.array([q.video for q in queries], np.int64)
        self.is_timed = np.array([q.is_timed for q in queries], bool)
        self.sentences = Ragged.from_rows([[self._row((s,)) for s in q.sentences] for q in queries])
        spans = np.concatenate([q.spans for q in queries]) if queries else np.zeros((0, 2))
        self.spans = Ragged(spans.astype(np.float32), starts_of(len(q.spans) for q in queries))
        inside = [_frames_inside(corpus.videos[q.video], span) for q in queries for span in q.spans]
        self.inside = np.array(inside, np.int64).reshape(-1, 2)
        saliency = {i: _saliency(q, corpus.videos[q.video]) for i, q in enumerate(queries)}
        self.saliency = {i: row for i, row in saliency.items() if row is not None}

    def _add_questions(self, corpus: Corpus) -> None:
        questions = corpus.questions
        self.question_text = np.array([self._row(q.chunks) for q in questions], np.int64)
        self.question_video = np.array([q.video for q in questions], np.int64)
        self.choices = Ragged.from_rows(
            [[self._row(chunks) for chunks in q.choices] for q in questions]
        )
        self.choices_only = Ragged.from_rows(
            [[self._row(chunks) for chunks in q.choices_only] for q in questions]
        )
        right, count = [q.question.right for q in questions], [q.question.count for q in questions]
        self.right = np.array([-1 if r is None else r for r in right], np.int64)
        self.counts = np.array([np.nan if c is None else c for c in count], np.float32)
        self.answers = [q.question.answers for q in questions]
        self.kinds = [q.question.kind for q in questions]

    def _row(self, chunks: tuple[str, ...]) -> int:
        return self._rows.setdefault(chunks, len(self._rows))


def _concat(arrays: list[np.ndarray]) -> np.ndarray:
    """Return the arrays concatenated: without a copy, where they are adjacent views of
    one array.
    """
    base = arrays[0].base
    if (
        isinstance(base, np.ndarray)
        and base.ndim == 2
        and base.flags.c_contiguous
        and base.dtype == arrays[0].dtype
    ):
        width = base.strides[0]
        first = (arrays[0].ctypes.data - base.ctypes.data) // width
        address = arrays[0].ctypes.data
        for array in arrays:
            if (
                array.base is not arrays[0].base
                or array.ctypes.data != address
                or array.strides != base.strides
            ):
                break
            address += len(array) * width
        else:
            return base[first : first + sum(map(len, arrays))]
    return np.concatenate(arrays)


def _frames_inside(video: FrameFeatures, span: np.ndarray) -> tuple[int, int]:
    return frames_in(
        video.timestamps_seconds, video.duration_seconds, (float(span[0]), float(span[1]))
    )


def _saliency(query: Query, video: FrameFeatures) -> np.ndarray | None:
    """Return `(T,)` float32, the mean rating of the clip of each frame.

    None if there are no ratings.

    Frames of clips without ratings have NaN.
    """
    saliency = query.annotation.saliency if query.annotation else None
    if saliency is None:
        return None
    means = {
        clip: float(np.mean(scores))
        for clip, scores in zip(saliency.clips, saliency.scores, strict=True)
    }
    with np.errstate(
        over="ignore"
    ):  # extremely short clips have an infinite number, and no ratings
        clips = (video.timestamps_seconds // saliency.clip_seconds).tolist()
    return np.array([means.get(clip, np.nan) for clip in clips], np.float32)
