"""From videos, queries and questions of a corpus to a batch of them."""

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
    corpus: Corpus, rows: np.ndarray, queries: Sequence[Query], questions: Sequence[QuestionExample] = ()
) -> AlignmentBatch:
    """A batch of the videos `rows` of `corpus`, and of `queries` and `questions` about them."""
    place = {int(row): i for i, row in enumerate(rows)}
    mine = Corpus(
        [corpus.videos[int(i)] for i in rows],
        [replace(q, video=place[q.video]) for q in queries],
        corpus.vectors,
        tuple(replace(q, video=place[q.video]) for q in questions),
        tokens=corpus.tokens,
    )
    return pad_ragged(
        CorpusArrays(mine), *(np.arange(len(some)) for some in (mine.videos, mine.queries, mine.questions))
    )


def pad_ragged(table: CorpusArrays, rows: np.ndarray, queries: np.ndarray, questions: np.ndarray) -> AlignmentBatch:
    """A batch of the videos `rows` of `table`, each once, and of the rows `queries` and `questions`, which are about them."""
    place = np.full(len(table.durations), -1, np.int64)
    place[rows] = np.arange(len(rows))
    frames, mask, seconds = _padded_frames(table, rows)
    video, timed = place[table.query_video[queries]], table.is_timed[queries]
    # Only a video without timed captions has its sentences aligned; the others' need not be brought along.
    told_of = np.where(np.isin(video, video[timed]), -1, queries)
    told, told_mask = _padded_texts(table, table.sentences, told_of)
    spans, span_mask, inside = _padded_spans(table, queries, mask[video], timed)
    saliency = np.full(inside.shape, np.nan, np.float32)
    for i, query in enumerate(queries):
        if int(query) in table.rated:
            rated = table.rated[int(query)]
            saliency[i, : len(rated)] = rated
    tokens, token_mask = _tokens(table, table.query_text[queries])
    return AlignmentBatch(
        frames=frames,
        frame_mask=torch.from_numpy(mask),
        seconds=seconds,
        durations=torch.from_numpy(table.durations[rows]),
        queries=torch.from_numpy(table.texts[table.query_text[queries]]),
        video_of_query=torch.from_numpy(video),
        is_timed=torch.from_numpy(timed),
        inside=torch.from_numpy(inside),
        sentences=told,
        sentence_mask=told_mask,
        spans=torch.from_numpy(spans),
        span_mask=torch.from_numpy(span_mask),
        saliency=torch.from_numpy(saliency),
        questions=_questions(table, questions, place),
        tokens=tokens,
        token_mask=token_mask,
    )


def _questions(table: CorpusArrays, questions: np.ndarray, place: np.ndarray) -> Questions:
    """The rows `questions` of `table`; `place` `(V,)` of each video its row in the batch."""
    choices, choice_mask = _padded_texts(table, table.choices, questions)
    alone, _ = _padded_texts(table, table.alone, questions)
    return Questions(
        vectors=torch.from_numpy(table.texts[table.question_text[questions]]),
        video_of_question=torch.from_numpy(place[table.question_video[questions]]),
        choices=choices,
        alone=alone,
        choice_mask=choice_mask,
        right=torch.from_numpy(table.right[questions]),
        counts=torch.from_numpy(table.counts[questions]),
        answers=tuple(table.answers[i] for i in questions),
        kinds=tuple(table.kinds[i] for i in questions),
    )


def _tokens(table: CorpusArrays, texts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """`(N, D)` tokens of `texts` `(M,)`, one text after the other, and `(M, L)` which of their places are tokens."""
    index, owner, position = table.token_rows.places(texts)
    mask = torch.zeros(len(texts), int(position.max(initial=-1)) + 1, dtype=torch.bool)
    mask[torch.from_numpy(owner), torch.from_numpy(position)] = True
    if table.tokens is None:
        return torch.zeros(0, table.texts.shape[1]), mask
    return torch.from_numpy(table.tokens[table.token_rows.values[index]].astype(np.float32)), mask


def _padded_frames(table: CorpusArrays, rows: np.ndarray) -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    count = table.videos[rows + 1] - table.videos[rows]
    longest = int(count.max(initial=1))
    values = torch.from_numpy(table.frames)
    frames = torch.empty(len(rows), longest, values.shape[1])
    # One copy for each video, which widens as it goes: faster than any gathering of rows.
    for i, (start, n) in enumerate(zip(table.videos[rows].tolist(), count.tolist(), strict=True)):
        frames[i, :n] = values[start : start + n]
        frames[i, n:] = 0
    mask = np.arange(longest) < count[:, None]
    seconds = np.zeros(mask.shape, np.float32)
    seconds[mask] = table.seconds[Ragged(table.seconds, table.videos).places(rows)[0]]
    return frames, mask, torch.from_numpy(seconds)


def _padded_texts(table: CorpusArrays, texts: Ragged, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """`(R, S, D)` texts of each of `rows` of `texts`, none where a row is -1, and `(R, S)` which there are."""
    real = np.flatnonzero(rows >= 0)
    index, owner, position = texts.places(rows[real])
    found = torch.zeros(len(rows), int(position.max(initial=-1)) + 1, table.texts.shape[1])
    mask = torch.zeros(found.shape[:2], dtype=torch.bool)
    place = torch.from_numpy(real[owner]), torch.from_numpy(position)
    found[place], mask[place] = torch.from_numpy(table.texts[texts.values[index]]), True
    return found, mask


def _padded_spans(
    table: CorpusArrays, queries: np.ndarray, real: np.ndarray, timed: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spans `(Q, P, 2)` and `(Q, P)` which there are; `(Q, T)` the frames inside, of those that are `real` `(Q, T)`."""
    index, owner, position = table.spans.places(queries)
    spans = np.zeros((len(queries), int(position.max(initial=-1)) + 1, 2), np.float32)
    mask = np.zeros(spans.shape[:2], bool)
    spans[owner, position], mask[owner, position] = table.spans.values[index], True
    inside = real & ~timed[:, None]
    if len(index):
        at, of_span = np.arange(real.shape[1]), table.inside[index]
        covered = (at >= of_span[:, :1]) & (at < of_span[:, 1:])
        inside[timed] = np.logical_or.reduceat(covered, np.flatnonzero(position == 0))
    return spans, mask, inside


def collate_frames(videos: Sequence[FrameFeatures]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames `(B, T, D)` float32, their mask `(B, T)` and times `(B, T)`, padded with zeros to the longest video."""
    frames, mask, seconds = _padded_frames(CorpusArrays(Corpus(list(videos), [], {})), np.arange(len(videos)))
    return frames, torch.from_numpy(mask), seconds
