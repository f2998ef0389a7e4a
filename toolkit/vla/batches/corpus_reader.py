"""Reader of a corpus from the cache: its videos, captions and questions with their features."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from tempfile import TemporaryFile

import numpy as np

from vla.batches.corpus import (
    Corpus,
    Query,
    QuestionExample,
    Tokens,
    join_question_answer,
    pool_chunks,
)
from vla.cache.store import FeatureCache
from vla.datasets.base import Annotation
from vla.errors import CacheError, MissingError
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.language.sentences import sentences

_MAX_MEMORY_SHARE = 0.5
"""Features that take more than this share of the machine's memory are stored in a file."""


def texts_to_cache(annotations: list[Annotation], *, single: bool = True) -> list[str]:
    """Return every text that `load_corpus` looks up, without repeats.

    These are captions, and the sentences of captions that have several; questions, each joined to
    every choice or to its first answer; and all choices and answers alone.

    Args:
        annotations: captions and questions.
        single: include single sentences; `load_corpus` does without them if they are not cached.
    """
    texts: list[str] = []
    for a in annotations:
        texts += [
            a.query,
            *(sentences(a.query) if single and a.question is None else ()),
            *_question_texts(a),
        ]
    return list(dict.fromkeys(texts))


def load_corpus(
    cache: FeatureCache,
    annotations: list[Annotation],
    *,
    tokens: bool = False,
    also: Iterable[str] = (),
) -> Corpus:
    """Return the annotated videos with their captions and questions, read from `cache`.

    Args:
        cache: holds the texts of `texts_to_cache`.
        annotations: of cached videos.
        tokens: also read the captions' tokens, which take several times the space of the captions.
        also: further cached texts to read the vectors of.

    Raises:
        MissingError: a video or text is not cached, or there is nothing at all.
    """
    if not annotations:
        raise MissingError("there are no captions of cached videos", hint=Hint("give_captions"))
    ids = list(dict.fromkeys(a.video for a in annotations))
    row = {v: i for i, v in enumerate(ids)}
    videos = _read_videos(cache, ids)
    captions, questions = [], []
    for a in annotations:
        if a.question is None:
            captions.append(_query(cache, a, a.query, row[a.video]))
            continue
        choices = tuple(
            _chunks(cache, join_question_answer(a.query, c)) for c in a.question.choices
        )
        choices_only = tuple(_chunks(cache, c) for c in a.question.choices)
        questions.append(
            QuestionExample(a, _chunks(cache, a.query), choices, choices_only, row[a.video])
        )
        if a.question.kind != "count" and a.question.answer:
            captions.append(
                _query(cache, a, join_question_answer(a.query, a.question.answer), row[a.video])
            )
    answers = {w: _chunks(cache, w) for q in questions for w in q.question.answers}
    chunks = [q.chunks for q in questions]
    chunks += [c for q in questions for c in (*q.choices, *q.choices_only)]
    chunks += list(answers.values())
    chunks += [(*q.chunks, *q.sentences) for q in captions]
    texts = list(dict.fromkeys([*(chunk for text in chunks for chunk in text), *also]))
    pooled = cache.texts(texts).pooled.astype(np.float32)
    vectors = dict(zip(texts, pooled, strict=True))
    token_features = None
    if tokens:
        token_features = _read_tokens(
            cache, list(dict.fromkeys(c for q in captions for c in q.chunks))
        )
    return Corpus(videos, captions, vectors, tuple(questions), answers, token_features)


def text_vectors(cache: FeatureCache, texts: Sequence[str]) -> np.ndarray:
    """Return raw features `(Q, D)` float32 of cached texts, pooled by `pool_chunks`."""
    chunks = [cache.pieces(text) for text in texts]
    rows = iter(cache.texts([c for text in chunks for c in text]).pooled.astype(np.float32))
    return np.stack([pool_chunks(np.stack([next(rows) for _ in text])) for text in chunks])


def _read_videos(cache: FeatureCache, ids: list[str]) -> list[FrameFeatures]:
    """Return the features of videos as views of one array of `_allocate`."""
    counts = [cache.receipts[v].frames if v in cache.receipts else 0 for v in ids]
    values = _allocate(cache, sum(counts))
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


def _read_tokens(cache: FeatureCache, texts: list[str]) -> Tokens:
    counts = {text: len(tokens) for text, tokens in cache.tokens(texts)}
    ends = np.cumsum([counts[t] for t in texts]).tolist()
    row_ranges = {t: (end - counts[t], end) for t, end in zip(texts, ends, strict=True)}
    values = _allocate(cache, sum(counts.values()))
    for text, tokens in cache.tokens(texts):
        values[slice(*row_ranges[text])] = tokens
    return Tokens(values, row_ranges)


def _allocate(cache: FeatureCache, rows: int) -> np.ndarray:
    """Return an array `(rows, D)` float16: in memory, or in a temporary file where it would take
    half of it.
    """
    shape = (rows, cache.spec.dim)
    if not rows or 2 * rows * cache.spec.dim <= _MAX_MEMORY_SHARE * _memory_bytes():
        return np.empty(shape, np.float16)
    # Deleted with the process: the shards remain the only copy on disk.
    with TemporaryFile(dir=cache.folder) as file:
        return np.memmap(file, np.float16, "w+", shape=shape)


def _memory_bytes() -> float:
    """Return the memory of this machine; infinity where the system does not report it."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


def _question_texts(a: Annotation) -> list[str]:
    """Return the texts of a question with its choices and answers."""
    if a.question is None:
        return []
    with_answer = a.question.choices or a.question.answers[:1]
    return [
        *(join_question_answer(a.query, text) for text in with_answer),
        *a.question.choices,
        *a.question.answers,
    ]


def _query(cache: FeatureCache, a: Annotation, text: str, row: int) -> Query:
    chunks = _chunks(cache, text)
    cached = (
        tuple(c for s in sentences(text) for c in cache.pieces(s)) if a.question is None else ()
    )
    return Query(
        text, chunks, cached or chunks, row, np.array(a.spans, np.float64).reshape(-1, 2), a
    )


def _chunks(cache: FeatureCache, text: str) -> tuple[str, ...]:
    chunks = tuple(cache.pieces(text))
    if not chunks:
        raise MissingError(f"the text {text[:80]!r} is not cached", hint=Hint("encode_texts"))
    return chunks
