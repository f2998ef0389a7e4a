"""The heads of a model measured: answers to questions and located moments, beside what not looking scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vla.batch import Aligned, AlignmentBatch
from vla.collate import collate
from vla.corpus import Asked, Corpus, Query
from vla.evaluate.answers import accuracy_by_type, agreement, count_metrics, matches
from vla.evaluate.floors import best_count, choice_chance, most_frequent
from vla.evaluate.located import highlighted, located, unlooked
from vla.features import FrameFeatures
from vla.heads.base import Head, LocalizationBatch
from vla.model import AlignmentModel, of_like_length

TASKS = {
    "choice": "multiple choice",
    "open": "open answers",
    "count": "counting",
    "moments": "moment by head",
}
Metrics = dict[str, float]


@dataclass(frozen=True)
class Answered:
    """What one head said, and to what.

    Attributes:
        asks: what the head is asked.
        asked: the questions, or the timed queries.
        predicted: by the head, as its `decode` has it.
        unseen: by its blind twin; empty where it has none.
        videos: of each timed query, its video.
        shown: of each timed query `(T,)`, how well each frame of its video shows it; empty where the head does not say.
    """

    asks: str
    asked: list[Any]
    predicted: list[Any]
    unseen: list[Any]
    videos: list[FrameFeatures] = field(default_factory=list)
    shown: list[np.ndarray] = field(default_factory=list)


@torch.no_grad()
def answer(model: AlignmentModel, corpus: Corpus, judged: int | None = None) -> dict[str, Answered]:
    """By task, what the heads of `model` say to all that is asked of the first `judged` videos of `corpus`.

    Heads see the projector as it was trained, wherever its dial stands. What has no right answer is left out.
    """
    count = len(corpus.videos) if judged is None else judged
    found = {TASKS[head.asks]: Answered(head.asks, [], [], []) for head in model.heads.values() if head.asks in TASKS}
    if not found:
        return {}
    device = model.log_scale.device
    with model.at(1.0):
        for rows, queries, questions in _groups(corpus, count):
            batch = collate(corpus, rows, queries, questions).to(device)
            aligned = model(batch)
            for name, head in model.heads.items():
                if head.asks not in TASKS:
                    continue
                said = found[TASKS[head.asks]]
                asked = queries if head.asks == "moments" else [q for q in questions if q.question.kind == head.asks]
                if not asked:
                    continue
                said.asked.extend(asked)
                predicted, saliency = _predicted(head, aligned, batch)
                said.predicted.extend(predicted)
                said.shown.extend(saliency)
                if head.asks == "moments":
                    said.videos.extend(corpus.videos[q.video] for q in queries)
                if name in model.blind:
                    said.unseen.extend(_predicted(model.blind[name], aligned.blind(), batch)[0])
    return {task: said for task, said in found.items() if said.asked}


def measure(answered: Answered, *, unseen: bool = False) -> Metrics:
    """The figures of the task; with `unseen`, those of the blind twin."""
    predicted = answered.unseen if unseen else answered.predicted
    if answered.asks == "moments":
        rated = highlighted(answered.asked, answered.videos, answered.shown)
        return located(answered.asked, [np.asarray(p) for p in predicted]) | rated
    if answered.asks == "count":
        return count_metrics(np.array(predicted), np.array([q.question.count for q in answered.asked]))
    return {"accuracy": 100 * float(np.mean(right(answered, predicted)))}


def right(answered: Answered, predicted: Sequence[Any]) -> np.ndarray:
    """`(K,)` from 0 to 1, how right each answer of `choice` or `open` is."""
    questions = [q.question for q in answered.asked]
    if answered.asks == "choice":
        return matches(list(predicted), [q.right for q in questions]).astype(np.float64)
    first = [p[0].lower() if len(p) else "" for p in predicted]
    answers = [[a.lower() for a in q.answers] for q in questions]
    if max(map(len, answers)) == 1:
        return matches(first, [a[0] for a in answers]).astype(np.float64)
    return agreement(first, answers)


def by_category(answered: Answered) -> Metrics:
    """Accuracy for each category of question that the annotations name; empty where they name none."""
    if answered.asks not in ("choice", "open"):
        return {}
    kinds = [q.annotation.category for q in answered.asked]
    if not any(kinds):
        return {}
    return accuracy_by_type(right(answered, answered.predicted), [k or "other" for k in kinds])


def floor(answered: Answered, trained_on: Corpus) -> Metrics:
    """What not looking scores: chance among choices, the most frequent answer or the best single count of `trained_on`,
    the whole video or the window that suits the moments of `trained_on`.

    Empty where `trained_on` says nothing of it.
    """
    if answered.asks == "moments":
        return unlooked(answered.asked, answered.videos, trained_on)
    if answered.asks == "choice":
        return {"accuracy": choice_chance([len(q.question.choices) for q in answered.asked])}
    known = [q.question for q in trained_on.questions]
    if answered.asks == "open" and (answers := [a.lower() for q in known for a in q.answers[:1]]):
        return measure(Answered("open", answered.asked, [[most_frequent(answers)]] * len(answered.asked), []))
    if answered.asks == "count" and (counts := [q.count for q in known if q.count is not None]):
        return measure(Answered("count", answered.asked, [best_count(counts)] * len(answered.asked), []))
    return {}


def score(task: str, metrics: Metrics) -> float:
    """One number from 0 to 1 to choose between models by."""
    if task == TASKS["moments"]:
        return metrics["mIoU"] / 100
    return 1 / (1 + metrics["MSE"]) if task == TASKS["count"] else metrics["accuracy"] / 100


def _predicted(head: Head, aligned: Aligned, batch: AlignmentBatch) -> tuple[list[Any], list[np.ndarray]]:
    """What `head` answers to what `batch` asks of it; of moments also their saliency, where it tells of that."""
    if head.asks != "moments":
        return head.decode(head(aligned, batch), batch), []
    localized = head.localize(LocalizationBatch.from_batch(aligned, batch))
    return [one.moments for one in localized], [one.saliency for one in localized if one.saliency is not None]


def _groups(corpus: Corpus, count: int) -> Iterator[tuple[np.ndarray, list[Query], list[Asked]]]:
    """Videos of about one length with what is asked of them and has an answer."""
    queries: list[list[Query]] = [[] for _ in range(count)]
    questions: list[list[Asked]] = [[] for _ in range(count)]
    for query in corpus.queries:
        if query.video < count and query.is_timed and query.is_caption:
            queries[query.video].append(query)
    for asked in corpus.questions:
        if asked.video < count and (asked.question.answer or asked.question.count is not None):
            questions[asked.video].append(asked)
    asked_of = [i for i in range(count) if queries[i] or questions[i]]
    for places in of_like_length([len(corpus.videos[i].values) for i in asked_of]):
        some = [asked_of[place] for place in places]
        yield np.array(some), [q for i in some for q in queries[i]], [q for i in some for q in questions[i]]
