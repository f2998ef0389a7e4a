"""Validation of a model during training, by the protocols of `vla eval`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vla.batches.corpus import Corpus
from vla.errors import MissingError
from vla.evaluation import retrieval_protocol
from vla.evaluation.head_answers import HeadAnswers, correctness
from vla.evaluation.moment_protocol import IN_VIDEO
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.protocols import VALIDATION_GROUPS, Baselines, blind_scores, compute_scores
from vla.evaluation.results import LOWER, PerQueryScores, Scores, ScoreTable
from vla.metrics.moments import best_ious
from vla.metrics.question_answering import predicted_counts
from vla.metrics.retrieval import ranks
from vla.model import AlignmentModel

_RERANKED_TASKS = ("text to video reranked", "video to text reranked")


@dataclass(frozen=True)
class ValidationResult:
    """Scores of a model on the held-out queries.

    Attributes:
        metrics: by task and measure, as in `vla eval`, e.g. `{"text to video": {"R@1": 41.2}}`.
        score: one number from 0 to 1 for model selection: the mean over the tasks of the mean
            reciprocal rank (retrieval), the mean IoU (moments) or the score of a head.
        search: the same over tasks without heads; None without captions.
        blind: scores of the heads' blind models, by task, like `metrics`.
        parts: for each task of `search`, its values by query, from 0 to 1, with each query's video.
    """

    metrics: dict[str, Scores]
    score: float
    search: float | None = None
    blind: dict[str, Scores] = field(default_factory=dict)
    parts: dict[str, PerQueryScores] = field(default_factory=dict)

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

    Raises:
        MissingError: those videos have no caption, and no question for a head.
    """
    # Pairwise, as in all earlier runs: rounding decides between two equal segments.
    predictions = CorpusPredictions(
        model, corpus, num_eval_videos=num_eval_videos, queries=queries, heads=heads, pairwise=True
    )
    searches = retrieval_protocol.searches(predictions, None, VALIDATION_GROUPS)
    scores = compute_scores(predictions, VALIDATION_GROUPS, searches)
    if not scores:
        raise MissingError("no captions and no answered questions to evaluate on")
    parts = _search_parts(predictions, searches, scores)
    by_search = [part.value for part in parts.values()]
    by_heads = [
        float((1 / scores[task]["MnR"].by_query).mean())
        for task in _RERANKED_TASKS
        if task in scores
    ]
    by_heads += [_head_score(answers) for answers in predictions.answers.values()]
    search = float(np.mean(by_search)) if by_search else None
    metrics = {
        task: {name: v.value for name, v in measures.items()} for task, measures in scores.items()
    }
    blind = {
        task: task_scores
        for task in predictions.answers
        if (task_scores := blind_scores(predictions, task))
    }
    return ValidationResult(metrics, float(np.mean(by_search + by_heads)), search, blind, parts)


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
        for name, task in (("text to video", "text to video"), ("video to text", back_task)):
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


def _head_score(answers: HeadAnswers) -> float:
    """Return the score of a head's answers from 0 to 1."""
    if answers.task == "count":
        true = np.array([q.question.count for q in answers.examples], np.float64)
        return 1 / (
            1
            + float(
                ((predicted_counts([float(p) for p in answers.predictions]) - true) ** 2).mean()
            )
        )
    if answers.task == "moments":
        by_query = best_ious(answers.predictions, [q.spans for q in answers.examples], 1)
    else:
        by_query = correctness(answers, answers.predictions)
    return (
        100 * float(by_query.mean()) / 100
    )  # through percent: the last bit may decide between two epochs
