"""Run a model's heads over a corpus, and score answers to questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vla.batches.batch import AlignedBatch, AlignmentBatch
from vla.batches.collate import build_batch
from vla.batches.corpus import Corpus, Query, QuestionExample
from vla.heads.base import Head, LocalizationBatch
from vla.metrics.question_answering import exact_match, soft_accuracy
from vla.model import AlignmentModel, length_buckets

TASKS = {
    "choice": "multiple choice",
    "open": "open answers",
    "count": "counting",
    "moments": "moment by head",
}


@dataclass(frozen=True)
class HeadAnswers:
    """What one head said, and to what.

    Attributes:
        task: what the head is asked.
        asked: the questions, or the timed queries.
        predicted: by the head, as its `decode` has it.
        unseen: by its blind twin; empty where it has none.
        shown: of each timed query `(T,)`, how well each frame of its video shows it; empty where the head does not say.
    """

    task: str
    asked: list[Any]
    predicted: list[Any]
    unseen: list[Any]
    shown: list[np.ndarray] = field(default_factory=list)


@torch.no_grad()
def answer(model: AlignmentModel, corpus: Corpus, num_eval_videos: int | None = None) -> dict[str, HeadAnswers]:
    """Run the heads of `model` on all that is asked of the first `num_eval_videos` videos of `corpus`; answers by task.

    Heads see the projector as it was trained, wherever its dial stands. What has no right answer is left out.
    """
    count = len(corpus.videos) if num_eval_videos is None else num_eval_videos
    found = {
        TASKS[head.task]: HeadAnswers(head.task, [], [], []) for head in model.heads.values() if head.task in TASKS
    }
    if not found:
        return {}
    device = model.log_scale.device
    with model.with_alpha(1.0):
        for rows, queries, questions in _groups(corpus, count):
            batch = build_batch(corpus, rows, queries, questions).to(device)
            aligned = model(batch)
            for name, head in model.heads.items():
                if head.task not in TASKS:
                    continue
                said = found[TASKS[head.task]]
                asked = queries if head.task == "moments" else [q for q in questions if q.question.kind == head.task]
                if not asked:
                    continue
                said.asked.extend(asked)
                predicted, saliency = _predicted(head, aligned, batch)
                said.predicted.extend(predicted)
                said.shown.extend(saliency)
                if name in model.blind:
                    said.unseen.extend(_predicted(model.blind[name], aligned.blind(), batch)[0])
    return {task: said for task, said in found.items() if said.asked}


def correctness(answered: HeadAnswers, predicted: Sequence[Any]) -> np.ndarray:
    """`(K,)` from 0 to 1, how right each answer of `choice` or `open` is."""
    questions = [q.question for q in answered.asked]
    if answered.task == "choice":
        return exact_match(list(predicted), [q.right for q in questions]).astype(np.float64)
    first = [p[0].lower() if len(p) else "" for p in predicted]
    answers = [[a.lower() for a in q.answers] for q in questions]
    if max(map(len, answers)) == 1:
        return exact_match(first, [a[0] for a in answers]).astype(np.float64)
    return soft_accuracy(first, answers)


def _predicted(head: Head, aligned: AlignedBatch, batch: AlignmentBatch) -> tuple[list[Any], list[np.ndarray]]:
    """What `head` answers to what `batch` asks of it; of moments also their saliency, where it tells of that."""
    if head.task != "moments":
        return head.decode(head(aligned, batch), batch), []
    localized = head.localize(LocalizationBatch.from_batch(aligned, batch))
    return [one.moments for one in localized], [one.saliency for one in localized if one.saliency is not None]


def _groups(corpus: Corpus, count: int) -> Iterator[tuple[np.ndarray, list[Query], list[QuestionExample]]]:
    """Videos of about one length with what is asked of them and has an answer."""
    queries: list[list[Query]] = [[] for _ in range(count)]
    questions: list[list[QuestionExample]] = [[] for _ in range(count)]
    for query in corpus.queries:
        if query.video < count and query.is_timed and query.is_caption:
            queries[query.video].append(query)
    for asked in corpus.questions:
        if asked.video < count and (asked.question.answer or asked.question.count is not None):
            questions[asked.video].append(asked)
    asked_of = [i for i in range(count) if queries[i] or questions[i]]
    for places in length_buckets([len(corpus.videos[i].values) for i in asked_of]):
        some = [asked_of[place] for place in places]
        yield np.array(some), [q for i in some for q in queries[i]], [q for i in some for q in questions[i]]
