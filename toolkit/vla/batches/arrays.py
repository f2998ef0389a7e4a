"""A corpus end to end: one array of all frames, one of all texts, and where each video and each query has its part of them.

What a step needs is then found by whole-array operations, however many videos and queries it holds.
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
    """Rows of different lengths, end to end.

    Attributes:
        values: `(N, ...)`.
        starts: `(R + 1,)` int64, where each row begins; the last is N.
    """

    values: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Rows of whole numbers."""
        values = np.fromiter((v for row in rows for v in row), np.int64)
        return cls(values, starts_of([len(row) for row in rows]))

    @property
    def lengths(self) -> np.ndarray:
        """`(R,)` int64."""
        return np.diff(self.starts)

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every value of `rows`, one row after the other: its place in `values`, which of `rows` it is of, how far in it."""
        count = self.starts[rows + 1] - self.starts[rows]
        owner = np.repeat(np.arange(len(rows)), count)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        return self.starts[rows][owner] + position, owner, position


def starts_of(lengths: Iterable[int]) -> np.ndarray:
    """`(R + 1,)` int64: where rows of these lengths begin, and where the last ends."""
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))]).astype(np.int64)


class CorpusArrays:
    """The arrays of a corpus. Texts that are cached as the same parts are one row of `texts`.

    Attributes:
        frames: `(N, D)` of all videos; a view of theirs, where these lie end to end already.
        seconds: `(N,)` float32, when each is shown.
        videos: where each video's frames begin.
        durations: `(V,)` float32 seconds.
        texts: `(M, D)` float32 raw text features.
        query_text: `(Q,)` int64 rows of `texts`.
        query_video: `(Q,)` int64.
        is_timed: `(Q,)` bool.
        sentences: rows of `texts` of each query.
        spans: of each query, in seconds `(P, 2)` float32.
        inside: `(P, 2)` int64, the frames of its video that each span touches, the last exclusive.
        rated: `(T,)` float32 what annotators gave to each frame, of the queries that were rated.
        question_text: `(K,)` int64 rows of `texts`.
        question_video: `(K,)` int64.
        choices: rows of `texts` of each question: every choice said after it.
        alone: likewise, every choice by itself.
        right: `(K,)` int64, the right choice; -1 where there is none or it is not known.
        counts: `(K,)` float32; NaN where that is not asked or not known.
        answers: of each question.
        kinds: of each question.
        tokens: `(N, D)` raw features of tokens; None where the corpus has none.
        token_rows: rows of `tokens` of each of `texts`.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._rows: dict[tuple[str, ...], int] = {}
        values = [video.values for video in corpus.videos]
        self.frames = _end_to_end(values)
        self.videos = starts_of(map(len, values))
        self.seconds = np.concatenate([v.timestamps_seconds for v in corpus.videos]).astype(np.float32)
        self.durations = np.array([v.duration_seconds for v in corpus.videos], np.float32)
        self._take_queries(corpus)
        self._take_questions(corpus)
        self.tokens = None if corpus.tokens is None else corpus.tokens.values
        some = [] if corpus.tokens is None else [corpus.tokens.rows(parts) for parts in self._rows]
        self.token_rows = Ragged.of(some or [()] * len(self._rows))
        found = [corpus.vector(parts) for parts in self._rows]
        self.texts = np.stack(found).astype(np.float32) if found else np.zeros((0, corpus.dim), np.float32)

    def _take_queries(self, corpus: Corpus) -> None:
        queries = corpus.queries
        self.query_text = np.array([self._row(q.parts) for q in queries], np.int64)
        self.query_video = np.array([q.video for q in queries], np.int64)
        self.is_timed = np.array([q.is_timed for q in queries], bool)
        self.sentences = Ragged.of([[self._row((s,)) for s in q.sentences] for q in queries])
        spans = np.concatenate([q.spans for q in queries]) if queries else np.zeros((0, 2))
        self.spans = Ragged(spans.astype(np.float32), starts_of(len(q.spans) for q in queries))
        inside = [_touched(corpus.videos[q.video], span) for q in queries for span in q.spans]
        self.inside = np.array(inside, np.int64).reshape(-1, 2)
        rated = {i: _rated(q, corpus.videos[q.video]) for i, q in enumerate(queries)}
        self.rated = {i: row for i, row in rated.items() if row is not None}

    def _take_questions(self, corpus: Corpus) -> None:
        asked = corpus.questions
        self.question_text = np.array([self._row(q.parts) for q in asked], np.int64)
        self.question_video = np.array([q.video for q in asked], np.int64)
        self.choices = Ragged.of([[self._row(parts) for parts in q.choices] for q in asked])
        self.alone = Ragged.of([[self._row(parts) for parts in q.alone] for q in asked])
        right, count = [q.question.right for q in asked], [q.question.count for q in asked]
        self.right = np.array([-1 if r is None else r for r in right], np.int64)
        self.counts = np.array([np.nan if c is None else c for c in count], np.float32)
        self.answers = [q.question.answers for q in asked]
        self.kinds = [q.question.kind for q in asked]

    def _row(self, parts: tuple[str, ...]) -> int:
        return self._rows.setdefault(parts, len(self._rows))


def _end_to_end(arrays: list[np.ndarray]) -> np.ndarray:
    """The arrays one after the other: without a copy, where they are neighbours in one array that holds them all."""
    base = arrays[0].base
    if isinstance(base, np.ndarray) and base.ndim == 2 and base.flags.c_contiguous and base.dtype == arrays[0].dtype:
        width = base.strides[0]
        first = (arrays[0].ctypes.data - base.ctypes.data) // width
        place = arrays[0].ctypes.data
        for one in arrays:
            if one.base is not arrays[0].base or one.ctypes.data != place or one.strides != base.strides:
                break
            place += len(one) * width
        else:
            return base[first : first + sum(map(len, arrays))]
    return np.concatenate(arrays)


def _touched(video: FrameFeatures, span: np.ndarray) -> tuple[int, int]:
    return frames_in(video.timestamps_seconds, video.duration_seconds, (float(span[0]), float(span[1])))


def _rated(query: Query, video: FrameFeatures) -> np.ndarray | None:
    """`(T,)` float32: what annotators gave to the clip that each frame lies in, NaN where to none; None if they rated nothing."""
    rated = query.annotation.saliency if query.annotation else None
    if rated is None:
        return None
    means = {clip: float(np.mean(of_clip)) for clip, of_clip in zip(rated.clips, rated.scores, strict=True)}
    with np.errstate(over="ignore"):  # a clip that is brief beyond measure has an infinite number, and no ratings
        clips = (video.timestamps_seconds // rated.clip_seconds).tolist()
    return np.array([means.get(clip, np.nan) for clip in clips], np.float32)
