"""Collation of videos, queries and questions of a corpus into a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from vla.batches.arrays import CorpusArrays, Ragged
from vla.batches.batch import AlignmentBatch, Questions
from vla.batches.corpus import Corpus, Query, QuestionExample
from vla.features import FrameFeatures


def build_batch(
    corpus: Corpus,
    rows: np.ndarray,
    queries: Sequence[Query],
    questions: Sequence[QuestionExample] = (),
) -> AlignmentBatch:
    """Return a batch of the videos `rows` of `corpus`, with `queries` and `questions`
    about them.
    """
    batch_row = {int(row): i for i, row in enumerate(rows)}
    subset = Corpus(
        [corpus.videos[int(i)] for i in rows],
        [replace(q, video=batch_row[q.video]) for q in queries],
        corpus.vectors,
        tuple(replace(q, video=batch_row[q.video]) for q in questions),
        tokens=corpus.tokens,
    )
    every = [np.arange(len(items)) for items in (subset.videos, subset.queries, subset.questions)]
    return pad_ragged(CorpusArrays(subset), *every)


def pad_ragged(
    arrays: CorpusArrays, rows: np.ndarray, queries: np.ndarray, questions: np.ndarray
) -> AlignmentBatch:
    """Return a batch of some rows of a corpus.

    Args:
        arrays: of the corpus.
        rows: `(B,)` videos, without repeats.
        queries: `(Q,)` queries about these videos.
        questions: `(K,)` questions about these videos.
    """
    batch_row = np.full(len(arrays.durations), -1, np.int64)
    batch_row[rows] = np.arange(len(rows))
    frames, mask, seconds = _pad_frames(arrays, rows)
    video, is_timed = batch_row[arrays.query_video[queries]], arrays.is_timed[queries]
    # Sentences are only aligned for videos without timed captions; the others' are left out.
    with_sentences = np.where(np.isin(video, video[is_timed]), -1, queries)
    sentences, sentence_mask = _pad_texts(arrays, arrays.sentences, with_sentences)
    spans, span_mask, inside = _pad_spans(arrays, queries, mask[video], is_timed)
    saliency = np.full(inside.shape, np.nan, np.float32)
    for i, query in enumerate(queries):
        if int(query) in arrays.saliency:
            ratings = arrays.saliency[int(query)]
            saliency[i, : len(ratings)] = ratings
    tokens, token_mask = _tokens(arrays, arrays.query_text[queries])
    return AlignmentBatch(
        frames=frames,
        frame_mask=torch.from_numpy(mask),
        seconds=seconds,
        durations=torch.from_numpy(arrays.durations[rows]),
        queries=torch.from_numpy(arrays.texts[arrays.query_text[queries]]),
        video_of_query=torch.from_numpy(video),
        is_timed=torch.from_numpy(is_timed),
        inside=torch.from_numpy(inside),
        sentences=sentences,
        sentence_mask=sentence_mask,
        spans=torch.from_numpy(spans),
        span_mask=torch.from_numpy(span_mask),
        saliency=torch.from_numpy(saliency),
        questions=_questions(arrays, questions, batch_row),
        tokens=tokens,
        token_mask=token_mask,
    )


def _questions(arrays: CorpusArrays, questions: np.ndarray, batch_row: np.ndarray) -> Questions:
    """Return the rows `questions`; `batch_row` `(V,)` is the row in the batch of each video."""
    choices, choice_mask = _pad_texts(arrays, arrays.choices, questions)
    choices_only, _ = _pad_texts(arrays, arrays.choices_only, questions)
    return Questions(
        vectors=torch.from_numpy(arrays.texts[arrays.question_text[questions]]),
        video_of_question=torch.from_numpy(batch_row[arrays.question_video[questions]]),
        choices=choices,
        choices_only=choices_only,
        choice_mask=choice_mask,
        right=torch.from_numpy(arrays.right[questions]),
        counts=torch.from_numpy(arrays.counts[questions]),
        answers=tuple(arrays.answers[i] for i in questions),
        kinds=tuple(arrays.kinds[i] for i in questions),
    )


def _tokens(arrays: CorpusArrays, texts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the packed tokens `(N, D)` of `texts` `(M,)`, and their mask `(M, L)`."""
    index, owner, position = arrays.token_rows.locate(texts)
    mask = torch.zeros(len(texts), int(position.max(initial=-1)) + 1, dtype=torch.bool)
    mask[torch.from_numpy(owner), torch.from_numpy(position)] = True
    if arrays.tokens is None:
        return torch.zeros(0, arrays.texts.shape[1]), mask
    return torch.from_numpy(arrays.tokens[arrays.token_rows.values[index]].astype(np.float32)), mask


def _pad_frames(
    arrays: CorpusArrays, rows: np.ndarray
) -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    count = arrays.videos[rows + 1] - arrays.videos[rows]
    longest = int(count.max(initial=1))
    values = torch.from_numpy(arrays.frames)
    frames = torch.empty(len(rows), longest, values.shape[1])
    # One copy for each video, which also converts to float32: faster than gathering rows.
    for i, (start, n) in enumerate(zip(arrays.videos[rows].tolist(), count.tolist(), strict=True)):
        frames[i, :n] = values[start : start + n]
        frames[i, n:] = 0
    mask = np.arange(longest) < count[:, None]
    seconds = np.zeros(mask.shape, np.float32)
    seconds[mask] = arrays.seconds[Ragged(arrays.seconds, arrays.videos).locate(rows)[0]]
    return frames, mask, torch.from_numpy(seconds)


def _pad_texts(
    arrays: CorpusArrays, texts: Ragged, rows: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the vectors `(R, S, D)` of each of `rows` of `texts`, none where a row is -1, and
    their mask `(R, S)`.
    """
    real = np.flatnonzero(rows >= 0)
    index, owner, position = texts.locate(rows[real])
    padded = torch.zeros(len(rows), int(position.max(initial=-1)) + 1, arrays.texts.shape[1])
    mask = torch.zeros(padded.shape[:2], dtype=torch.bool)
    cell = torch.from_numpy(real[owner]), torch.from_numpy(position)
    padded[cell], mask[cell] = torch.from_numpy(arrays.texts[texts.values[index]]), True
    return padded, mask


def _pad_spans(
    arrays: CorpusArrays, queries: np.ndarray, frame_mask: np.ndarray, is_timed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spans `(Q, P, 2)` and their mask `(Q, P)`, and the frames inside them `(Q, T)`.

    Args:
        arrays: of the corpus.
        queries: `(Q,)`.
        frame_mask: `(Q, T)` real frames of each query's video.
        is_timed: `(Q,)` bool.
    """
    index, owner, position = arrays.spans.locate(queries)
    spans = np.zeros((len(queries), int(position.max(initial=-1)) + 1, 2), np.float32)
    mask = np.zeros(spans.shape[:2], bool)
    spans[owner, position], mask[owner, position] = arrays.spans.values[index], True
    inside = frame_mask & ~is_timed[:, None]
    if len(index):
        frame, of_span = np.arange(frame_mask.shape[1]), arrays.inside[index]
        is_inside = (frame >= of_span[:, :1]) & (frame < of_span[:, 1:])
        inside[is_timed] = np.logical_or.reduceat(is_inside, np.flatnonzero(position == 0))
    return spans, mask, inside


def collate_frames(
    videos: Sequence[FrameFeatures],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return frames `(B, T, D)` float32, mask `(B, T)` and seconds `(B, T)`, zero-padded to the
    longest video.
    """
    frames, mask, seconds = _pad_frames(
        CorpusArrays(Corpus(list(videos), [], {})), np.arange(len(videos))
    )
    return frames, torch.from_numpy(mask), seconds
