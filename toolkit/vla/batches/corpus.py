"""What is trained and evaluated on: cached videos, captions and questions that point at them, and the vectors of all texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from tempfile import TemporaryFile

import numpy as np

from vla.cache.store import FeatureCache
from vla.datasets.base import Annotation, Question
from vla.errors import CacheError, MissingError
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.language.sentences import sentences
from vla.spans import windows

SegmentGrid = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Windows of a video: first frames `(N,)`, last ones, exclusive, `(N,)`, and spans `(N, 2)` in seconds."""

_LARGEST = 0.5
"""Features that take more than this part of the machine's memory are not held in it."""


@dataclass(frozen=True)
class Query:
    """One text that is true of a video or of a part of it.

    Attributes:
        text: the caption, or a question with its right answer.
        parts: how it is cached; several where it is longer than the encoder's context.
        sentences: its sentences, each cached; what the untimed segment loss aligns.
        video: row of the video it tells of.
        spans: `(S, 2)` seconds; `(0, 2)` where it tells of the whole video.
        annotation: where it comes from; None where it was made otherwise.
    """

    text: str
    parts: tuple[str, ...]
    sentences: tuple[str, ...]
    video: int
    spans: np.ndarray
    annotation: Annotation | None = None

    @property
    def is_timed(self) -> bool:
        """True if it tells of part of its video."""
        return len(self.spans) > 0

    @property
    def is_caption(self) -> bool:
        """False for a question with its answer: it is learned from, and nobody would search for it."""
        return self.annotation is None or self.annotation.question is None


@dataclass(frozen=True)
class QuestionExample:
    """One question about a video.

    Attributes:
        annotation: the question, its choices and answers.
        parts: how the question is cached.
        choices: how each choice, said after the question, is cached.
        alone: how each choice by itself is cached: what it looks for in the video, whatever is asked.
        video: row of the video it is about.
    """

    annotation: Annotation
    parts: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    alone: tuple[tuple[str, ...], ...]
    video: int

    @property
    def question(self) -> Question:
        """Choices and answers."""
        return self.annotation.question or Question()


@dataclass(frozen=True)
class Tokens:
    """Raw features of the tokens of texts, one text after the other.

    Attributes:
        values: `(N, D)` float16; in memory, or where they would take half of it, in a file.
        places: by text, the row of its first token and the one after its last.
    """

    values: np.ndarray
    places: dict[str, tuple[int, int]]

    def rows(self, parts: Sequence[str]) -> list[int]:
        """The rows of `values` that the tokens of all of `parts` are; none of a part that is not known."""
        return [row for part in parts for row in range(*self.places.get(part, (0, 0)))]


@dataclass(frozen=True)
class Corpus:
    """Everything that training or evaluation reads, in memory.

    Attributes:
        videos: features of each video.
        queries: each query's `video` is a row of `videos`.
        vectors: pooled text features of every part and sentence, `(D,)` float32 by text.
        questions: each one's `video` is a row of `videos`, too.
        answers: how each answer to an open question is cached.
        tokens: of every part of the queries; None where no setting reads them.
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
    def cuts(self) -> list[SegmentGrid]:
        """The windows of each video; made once, since a model in training is measured on the same videos after every epoch."""
        return [sliding_windows(video) for video in self.videos]

    def subset(self, rows: np.ndarray) -> Corpus:
        """The videos of `rows`, in that order, with their queries and questions."""
        new_row = {int(old): new for new, old in enumerate(rows)}
        queries = [replace(q, video=new_row[q.video]) for q in self.queries if q.video in new_row]
        questions = tuple(replace(q, video=new_row[q.video]) for q in self.questions if q.video in new_row)
        return replace(self, videos=[self.videos[int(i)] for i in rows], queries=queries, questions=questions)

    def text_vector(self, query: Query) -> np.ndarray:
        """`(D,)` float32 raw text feature of the query."""
        return self.vector(query.parts)

    def vector(self, parts: tuple[str, ...]) -> np.ndarray:
        """`(D,)` float32 raw text feature; of a split text, the mean direction of its parts at their mean length."""
        return pool_chunks(np.stack([self.vectors[p] for p in parts]))

    def tokens_of(self, texts: Iterable[tuple[str, ...]]) -> list[np.ndarray] | None:
        """`(L, D)` raw token features of each text, which is cached as these parts; None where they were not read."""
        if self.tokens is None:
            return None
        return [self.tokens.values[self.tokens.rows(parts)] for parts in texts]


def sliding_windows(video: FrameFeatures) -> SegmentGrid:
    """The windows of `video`, the whole of it first."""
    cut = windows(video.timestamps_seconds, video.duration_seconds)
    return np.array([w[0] for w in cut]), np.array([w[1] for w in cut]), np.array([w[2:] for w in cut], np.float64)


def pool_chunks(parts: np.ndarray) -> np.ndarray:
    """`(D,)` float32: the mean direction of the text features `parts` `(P, D)` at their mean length; of one, itself."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.linalg.norm(parts, axis=1, keepdims=True).clip(1e-12)
    mean = (parts / lengths).mean(0)
    return (mean / max(1e-12, float(np.linalg.norm(mean))) * lengths.mean()).astype(np.float32)


def text_vectors(cache: FeatureCache, texts: Sequence[str]) -> np.ndarray:
    """`(Q, D)` float32 raw features of cached texts; those longer than the encoder's context are `pool_chunks`."""
    parts = [cache.pieces(text) for text in texts]
    rows = iter(cache.texts([p for ps in parts for p in ps]).pooled.astype(np.float32))
    return np.stack([pool_chunks(np.stack([next(rows) for _ in ps])) for ps in parts])


def join_question_answer(question: str, answer: str) -> str:
    """A question and an answer as one text, which an encoder of texts can compare with a video."""
    return f"{question.strip()} {answer.strip()}"


def texts_to_cache(annotations: list[Annotation], *, single: bool = True) -> list[str]:
    """Every text that `load_corpus` will look up, each once.

    Captions, and the sentences of those that have several; questions, each with every choice or its first answer, and
    all choices and answers by themselves. Where `single` is False sentences are left out, and `load_corpus` does without
    them.
    """
    texts: list[str] = []
    for a in annotations:
        texts += [a.query, *(sentences(a.query) if single and a.question is None else ()), *_told(a)]
    return list(dict.fromkeys(texts))


def load_corpus(
    cache: FeatureCache,
    annotations: list[Annotation],
    *,
    tokens: bool = False,
    also: Iterable[str] = (),
) -> Corpus:
    """The annotated videos with their captions and questions, read from `cache`.

    Args:
        cache: it holds what `texts_to_cache` names.
        annotations: of cached videos.
        tokens: read the captions' tokens, too, several times as much as the captions themselves.
        also: further cached texts to have vectors of.

    Raises:
        MissingError: a video or text is not cached, or there is nothing at all.
    """
    if not annotations:
        raise MissingError("there are no captions of cached videos", hint=Hint("give_captions"))
    ids = list(dict.fromkeys(a.video for a in annotations))
    row = {v: i for i, v in enumerate(ids)}
    videos = _end_to_end(cache, ids)
    captions, questions = [], []
    for a in annotations:
        if a.question is None:
            captions.append(_query(cache, a, a.query, row[a.video]))
            continue
        choices = tuple(_parts(cache, join_question_answer(a.query, c)) for c in a.question.choices)
        alone = tuple(_parts(cache, c) for c in a.question.choices)
        questions.append(QuestionExample(a, _parts(cache, a.query), choices, alone, row[a.video]))
        if a.question.kind != "count" and a.question.answer:
            captions.append(_query(cache, a, join_question_answer(a.query, a.question.answer), row[a.video]))
    answers = {w: _parts(cache, w) for q in questions for w in q.question.answers}
    used = (
        [q.parts for q in questions] + [c for q in questions for c in (*q.choices, *q.alone)] + list(answers.values())
    )
    used += [(*q.parts, *q.sentences) for q in captions]
    texts = list(dict.fromkeys([*(t for parts in used for t in parts), *also]))
    pooled = cache.texts(texts).pooled.astype(np.float32)
    read = _tokens(cache, list(dict.fromkeys(p for q in captions for p in q.parts))) if tokens else None
    return Corpus(videos, captions, dict(zip(texts, pooled, strict=True)), tuple(questions), answers, read)


def _end_to_end(cache: FeatureCache, ids: list[str]) -> list[FrameFeatures]:
    """The videos' features, all in one array: in memory, or where they would take half of it, in a file that nobody sees."""
    counts = [cache.receipts[v].frames if v in cache.receipts else 0 for v in ids]
    values = _room(cache, sum(counts))
    videos, first = [], 0
    for video_id, count in zip(ids, counts, strict=True):
        features = cache.frames(video_id)
        if len(features.values) != count:
            raise CacheError(
                f"{video_id}: {len(features.values)} frames are cached, its receipt says {count}",
                hint=Hint("verify"),
            )
        values[first : first + count] = features.values
        videos.append(replace(features, values=values[first : first + count]))
        first += count
    return videos


def _tokens(cache: FeatureCache, texts: list[str]) -> Tokens:
    counts = {text: len(tokens) for text, tokens in cache.tokens(texts)}
    ends = np.cumsum([counts[t] for t in texts]).tolist()
    places = {t: (end - counts[t], end) for t, end in zip(texts, ends, strict=True)}
    values = _room(cache, sum(counts.values()))
    for text, tokens in cache.tokens(texts):
        values[slice(*places[text])] = tokens
    return Tokens(values, places)


def _room(cache: FeatureCache, rows: int) -> np.ndarray:
    """`(rows, D)` float16 for features of `cache`: in memory, or where they would take half of it, in a file."""
    shape = (rows, cache.spec.dim)
    if not rows or 2 * rows * cache.spec.dim <= _LARGEST * _memory_bytes():
        return np.empty(shape, np.float16)
    # Gone with the process: features are read through it, and the shards stay what is kept.
    with TemporaryFile(dir=cache.folder) as file:
        return np.memmap(file, np.float16, "w+", shape=shape)


def _memory_bytes() -> float:
    """Of this machine; without bound where it does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _told(a: Annotation) -> list[str]:
    """The further texts of a question."""
    if a.question is None:
        return []
    with_answer = a.question.choices or a.question.answers[:1]
    return [*(join_question_answer(a.query, text) for text in with_answer), *a.question.choices, *a.question.answers]


def _query(cache: FeatureCache, a: Annotation, text: str, row: int) -> Query:
    parts = _parts(cache, text)
    told = tuple(p for s in sentences(text) for p in cache.pieces(s)) if a.question is None else ()
    return Query(text, parts, told or parts, row, np.array(a.spans, np.float64).reshape(-1, 2), a)


def _parts(cache: FeatureCache, text: str) -> tuple[str, ...]:
    parts = tuple(cache.pieces(text))
    if not parts:
        raise MissingError(f"the text {text[:80]!r} is not cached", hint=Hint("encode_texts"))
    return parts
