"""Head answers: predictions of a model's heads on a corpus, and the correctness of answers."""

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
    """Predictions of one head.

    Attributes:
        task: task of the head, e.g. `choice` or `moments`.
        examples: the questions, or the timed queries.
        predictions: predictions of the head, as its `decode` returns them.
        blind_predictions: predictions of its blind model; empty without one.
        saliency: saliency of each frame, `(T,)` for each timed query; empty for heads without it.
    """

    task: str
    examples: list[Any]
    predictions: list[Any]
    blind_predictions: list[Any]
    saliency: list[np.ndarray] = field(default_factory=list)


@torch.no_grad()
def answer(
    model: AlignmentModel, corpus: Corpus, num_eval_videos: int | None = None
) -> dict[str, HeadAnswers]:
    """Run the heads of `model` on the first `num_eval_videos` videos of `corpus`.

    The projector has the alpha of the heads. The blind models of heads, trained at alpha 1, see the
    texts at alpha 1. Questions without a true answer are omitted.

    Args:
        model: in evaluation mode.
        corpus: videos, captions and questions.
        num_eval_videos: all if None.

    Returns:
        Answers by task, see `TASKS`; empty tasks are omitted.
    """
    num_videos = len(corpus.videos) if num_eval_videos is None else num_eval_videos
    answers = {
        TASKS[head.task]: HeadAnswers(head.task, [], [], [])
        for head in model.heads.values()
        if head.task in TASKS
    }
    if not answers:
        return {}
    device = model.log_scale.device
    with model.for_heads():
        for rows, queries, questions in _batches(corpus, num_videos):
            batch = build_batch(corpus, rows, queries, questions).to(device)
            aligned = model(batch)
            without_video = _blind_batch(model, batch)
            for name, head in model.heads.items():
                if head.task not in TASKS:
                    continue
                of_task = answers[TASKS[head.task]]
                examples = (
                    queries
                    if head.task == "moments"
                    else [q for q in questions if q.question.kind == head.task]
                )
                if not examples:
                    continue
                of_task.examples.extend(examples)
                predictions, saliency = _predict(head, aligned, batch)
                of_task.predictions.extend(predictions)
                of_task.saliency.extend(saliency)
                if name in model.blind and without_video is not None:
                    of_task.blind_predictions.extend(
                        _predict(model.blind[name], without_video, batch)[0]
                    )
    return {task: of_task for task, of_task in answers.items() if of_task.examples}


def correctness(answers: HeadAnswers, predictions: Sequence[Any]) -> np.ndarray:
    """Return `(K,)` from 0 to 1: the correctness of each answer of a task `choice` or `open`."""
    questions = [q.question for q in answers.examples]
    if answers.task == "choice":
        return exact_match(list(predictions), [q.right for q in questions]).astype(np.float64)
    first = [p[0].lower() if len(p) else "" for p in predictions]
    true_answers = [[a.lower() for a in q.answers] for q in questions]
    if max(map(len, true_answers)) == 1:
        return exact_match(first, [a[0] for a in true_answers]).astype(np.float64)
    return soft_accuracy(first, true_answers)


def _blind_batch(model: AlignmentModel, batch: AlignmentBatch) -> AlignedBatch | None:
    """Return the batch without its videos at alpha 1; None if no head has a blind model."""
    if not model.blind:
        return None
    with model.with_alpha(1.0):
        return model(batch).blind()


def _predict(
    head: Head, aligned: AlignedBatch, batch: AlignmentBatch
) -> tuple[list[Any], list[np.ndarray]]:
    """Return the predictions of `head` on a batch; for moments also the saliency, if it has one."""
    if head.task != "moments":
        return head.decode(head(aligned, batch), batch), []
    outputs = head.localize(LocalizationBatch.from_batch(aligned, batch))
    return [output.moments for output in outputs], [
        output.saliency for output in outputs if output.saliency is not None
    ]


def _batches(
    corpus: Corpus, num_videos: int
) -> Iterator[tuple[np.ndarray, list[Query], list[QuestionExample]]]:
    """Yield videos of similar length with their timed queries and answered questions."""
    queries: list[list[Query]] = [[] for _ in range(num_videos)]
    questions: list[list[QuestionExample]] = [[] for _ in range(num_videos)]
    for query in corpus.queries:
        if query.video < num_videos and query.is_timed and query.is_caption:
            queries[query.video].append(query)
    for question in corpus.questions:
        if question.video < num_videos and (
            question.question.answer or question.question.count is not None
        ):
            questions[question.video].append(question)
    videos = [i for i in range(num_videos) if queries[i] or questions[i]]
    for group in length_buckets([len(corpus.videos[i].values) for i in videos]):
        rows = [videos[i] for i in group]
        yield (
            np.array(rows),
            [q for i in rows for q in queries[i]],
            [q for i in rows for q in questions[i]],
        )
