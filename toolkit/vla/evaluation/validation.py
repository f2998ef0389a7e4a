"""Validation of a model during training, by the protocols of `vla eval`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from vla.batches.corpus import Corpus
from vla.errors import MissingError, UsageError
from vla.evaluation import retrieval_protocol
from vla.evaluation.head_answers import HeadAnswers, correctness
from vla.evaluation.moment_protocol import IN_VIDEO
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.protocols import VALIDATION_GROUPS, Baselines, blind_scores, compute_scores
from vla.evaluation.results import LOWER, PerQueryScores, Scores, ScoreTable
from vla.metrics.average_precision import average_precisions
from vla.metrics.moments import best_ious
from vla.metrics.question_answering import predicted_counts
from vla.metrics.retrieval import ranks
from vla.model import AlignmentModel

AUTO = "auto"
_VIDEO_TO_TEXT = "video to text"
_RERANKED_TASKS = ("text to video reranked", "video to text reranked")


@dataclass(frozen=True)
class ValidationResult:
    """Scores of a model on the held-out queries.

    Attributes:
        metrics: by task and measure, as in `vla eval`, e.g. `{"text to video": {"R@1": 41.2}}`.
        score: the mean over the tasks of `selection`; weights are selected by it.
        search: the mean over the tasks of `parts`; None without captions.
        blind: scores of the heads' blind models, by task, like `metrics`.
        parts: for each task of a search, its values by query, from 0 to 1: reciprocal ranks for
            retrieval, IoU for moments.
        head_parts: the same for the heads: average precision for moments, correctness of answers.
        selection: the same for the tasks that weights are selected by; higher is better.
    """

    metrics: dict[str, Scores]
    score: float
    search: float | None = None
    blind: dict[str, Scores] = field(default_factory=dict)
    parts: dict[str, PerQueryScores] = field(default_factory=dict)
    head_parts: dict[str, PerQueryScores] = field(default_factory=dict)
    selection: dict[str, PerQueryScores] = field(default_factory=dict)

    @property
    def listed_parts(self) -> dict[str, PerQueryScores]:
        """Parts of what an index lists, videos and moments; texts of a video are not."""
        return {task: part for task, part in self.parts.items() if task != _VIDEO_TO_TEXT}

    def search_of(self, is_chosen: Callable[[np.ndarray], np.ndarray]) -> float:
        """Return `search` over the queries of some videos; 0 without any.

        Args:
            is_chosen: of the rows of videos `(Q,)` of queries, which are meant `(Q,)` bool.
        """
        values = [p.by_query[is_chosen(p.videos)] for p in self.parts.values()]
        means = [float(v.mean()) for v in values if len(v)]
        return float(np.mean(means)) if means else 0.0

    def to_json(self) -> dict[str, object]:
        """Return metrics and scores as a JSON object."""
        record = {"metrics": self.metrics, "score": self.score, "search": self.search}
        return record | ({"blind": self.blind} if self.blind else {})


def validate(
    model: AlignmentModel,
    corpus: Corpus,
    num_eval_videos: int | None = None,
    queries: np.ndarray | None = None,
    *,
    heads: bool = True,
    select: str = AUTO,
) -> ValidationResult:
    """Evaluate `model` on the captions and questions of the first `num_eval_videos` videos.

    All videos of `corpus` are candidates of each search, since a search among few videos is easy. A
    model with a reranker also has `reranked` tasks. Like the tasks of heads, these are not part of
    `search`, the score of an index.

    Args:
        model: in evaluation mode, at the alpha of its use.
        corpus: videos, captions and questions.
        num_eval_videos: number of evaluated videos, from the first; all if None.
        queries: `(Q,)` bool, the evaluated captions, in any video; overrides `num_eval_videos` for
            captions.
        heads: include the heads.
        select: the measure of `selection`, as in `metrics`, e.g. `moment by head mAP`; `auto`: the
            tasks of the heads, or without answers of heads those of a search.

    Raises:
        MissingError: those videos have no caption, and no question for a head.
        UsageError: `select` is no measure of these annotations and heads.
    """
    predictions = CorpusPredictions(
        model, corpus, num_eval_videos=num_eval_videos, queries=queries, heads=heads
    )
    searches = retrieval_protocol.searches(predictions, None, VALIDATION_GROUPS)
    scores = compute_scores(predictions, VALIDATION_GROUPS, searches)
    if not scores:
        raise MissingError("no captions and no answered questions to evaluate on")
    parts = _search_parts(predictions, searches, scores)
    head_parts = {task: head_values(answers) for task, answers in predictions.answers.items()}
    for task in _RERANKED_TASKS:
        if task in scores:
            rank = scores[task]["MnR"]
            head_parts[task] = PerQueryScores(1 / rank.by_query, rank.videos)
    search = float(np.mean([part.value for part in parts.values()])) if parts else None
    selection = (head_parts or parts) if select == AUTO else _measure(scores, select)
    metrics = {
        task: {name: v.value for name, v in measures.items()} for task, measures in scores.items()
    }
    blind = {
        task: task_scores
        for task in predictions.answers
        if (task_scores := blind_scores(predictions, task))
    }
    score = float(np.mean([part.value for part in selection.values()]))
    return ValidationResult(metrics, score, search, blind, parts, head_parts, selection)


def head_baselines(
    model: AlignmentModel, corpus: Corpus, num_eval_videos: int, trained_on: Corpus
) -> dict[str, Scores]:
    """Return the best baseline of each measure in the tasks of the heads, fitted to `trained_on`.

    Args:
        model: in evaluation mode.
        corpus: as for `validate`.
        num_eval_videos: as for `validate`.
        trained_on: training corpus.
    """
    predictions = CorpusPredictions(model, corpus, num_eval_videos=num_eval_videos)
    baselines = Baselines(predictions, CorpusPredictions(model, trained_on), ())
    best_scores: dict[str, Scores] = {}
    for task in predictions.answers:
        values = baselines.scores_of(task).values.values()
        best = {name: min if name in LOWER else max for scores in values for name in scores}
        best_scores[task] = {
            name: pick(float(scores[name]) for scores in values if name in scores)
            for name, pick in best.items()
        }
    return best_scores


def _search_parts(
    predictions: CorpusPredictions,
    searches: Mapping[str, retrieval_protocol.Search],
    scores: Mapping[str, ScoreTable],
) -> dict[str, PerQueryScores]:
    """Return, by task, the reciprocal rank or the IoU of each query, from 0 to 1.

    Models are selected by any caption of a video (`video to texts`), not by its captions as one
    item, since `video to text` depends on the number of captions.
    """
    parts: dict[str, PerQueryScores] = {}
    if "text to video" in scores:
        back_task = "video to texts" if "video to texts" in scores else "video to text"
        for name, task in (("text to video", "text to video"), (_VIDEO_TO_TEXT, back_task)):
            rank = scores[task]["MnR"]
            parts[name] = PerQueryScores(1 / rank.by_query, rank.videos)
    if retrieval_protocol.MOMENT_TO_VIDEO in searches:
        search = searches[retrieval_protocol.MOMENT_TO_VIDEO]
        parts[retrieval_protocol.MOMENT_TO_VIDEO] = PerQueryScores(
            1 / ranks(search.similarity, search.relevant), search.videos
        )
        parts[IN_VIDEO] = PerQueryScores(
            best_ious(
                predictions.moment_predictions.own_video,
                [q.spans for q in predictions.timed_queries],
                1,
            ),
            search.videos,
        )
    return parts


def _measure(scores: Mapping[str, ScoreTable], name: str) -> dict[str, PerQueryScores]:
    """Return the values of the measure `TASK MEASURE`, with the sign that makes higher better."""
    measures = {
        f"{task} {measure}": (values, measure)
        for task, table in scores.items()
        for measure, values in table.items()
        if not values.median
    }
    if name not in measures:
        raise UsageError(
            f"select is auto or a measure of the validation videos, not {name!r}; there are "
            f"{', '.join(measures)}"
        )
    values, measure = measures[name]
    sign = -1.0 if measure in LOWER else 0.01
    return {name: PerQueryScores(sign * values.by_query, values.videos)}


def head_values(answers: HeadAnswers) -> PerQueryScores:
    """Return the values of a head's answers by query, from 0 to 1."""
    videos = np.array([q.video for q in answers.examples], np.int64)
    if answers.task == "count":
        true = np.array([q.question.count for q in answers.examples], np.float64)
        counts = predicted_counts([float(p) for p in answers.predictions])
        return PerQueryScores(1 / (1 + (counts - true) ** 2), videos)
    if answers.task == "moments":
        truths = [q.spans for q in answers.examples]
        return PerQueryScores(average_precisions(answers.predictions, truths).mean(axis=1), videos)
    return PerQueryScores(correctness(answers, answers.predictions), videos)
