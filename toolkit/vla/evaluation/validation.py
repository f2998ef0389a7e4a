"""Validate a model during training by the protocols of `vla eval`, without intervals, baselines or searches by an index."""

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
from vla.evaluation.protocols import VALIDATED, Baselines, blind_scores, compute_scores
from vla.evaluation.results import LOWER, PerQueryScores, Scores, ScoreTable
from vla.metrics.moments import best_ious
from vla.metrics.question_answering import predicted_counts
from vla.metrics.retrieval import ranks
from vla.model import AlignmentModel

_RERANKED = ("text to video reranked", "video to text reranked")


@dataclass(frozen=True)
class ValidationResult:
    """Scores of a model on the queries that are held out.

    Attributes:
        metrics: by task and measure, as `vla eval` has them, e.g. `{"text to video": {"R@1": 41.2, ...}}`.
        score: one number from 0 to 1 for choosing between models: the mean, over the tasks there are, of the mean
            reciprocal rank (retrieval), the mean IoU (moments) or the like (heads).
        search: the same of tasks that need no head; None where there are no captions.
        blind: scores of the heads' blind twins, by task; like `metrics`.
        parts: the tasks whose means `search` is the mean of: query by query, from 0 to 1, with each query's video.
    """

    metrics: dict[str, Scores]
    score: float
    search: float | None = None
    blind: dict[str, Scores] = field(default_factory=dict)
    parts: dict[str, PerQueryScores] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return metrics and scores as a JSON object."""
        found = {"metrics": self.metrics, "score": self.score, "search": self.search}
        return found | ({"blind": self.blind} if self.blind else {})


def validate(
    model: AlignmentModel,
    corpus: Corpus,
    num_eval_videos: int | None = None,
    queries: np.ndarray | None = None,
    *,
    heads: bool = True,
) -> ValidationResult:
    """Measure `model` on the captions and questions of the first `num_eval_videos` videos of `corpus`.

    Every search is among all of `corpus`: among few videos, everything is found. A model that was trained to compare by
    more than mean vectors is also measured by its own score, `reranked`; like a head's answers that is no part of
    `search`, which is what an index can do.

    Args:
        model: in evaluation mode, its dial where it is used.
        corpus: videos, captions, questions.
        num_eval_videos: number of videos that are measured, from the first; all if None.
        queries: `(Q,)` bool, the captions that are measured, whatever their videos; overrides `num_eval_videos` for
            captions.
        heads: measure the heads, too.

    Raises:
        MissingError: those videos have no caption, and no question that is answered by a head.
    """
    # Pairwise, as the scores of all earlier runs: of two segments that are equal but for rounding either may be the best.
    seen = CorpusPredictions(
        model, corpus, num_eval_videos=num_eval_videos, queries=queries, heads=heads, pairwise=True
    )
    searches = retrieval_protocol.searches(seen, None, VALIDATED)
    scores = compute_scores(seen, VALIDATED, searches)
    if not scores:
        raise MissingError("there are no captions and no answered questions to evaluate on")
    parts = _search_parts(seen, searches, scores)
    by_search = [part.value for part in parts.values()]
    by_heads = [float((1 / scores[task]["MnR"].by_query).mean()) for task in _RERANKED if task in scores]
    by_heads += [_head_score(said) for said in seen.answers.values()]
    search = float(np.mean(by_search)) if by_search else None
    metrics = {task: {name: v.value for name, v in measures.items()} for task, measures in scores.items()}
    blind = {task: found for task in seen.answers if (found := blind_scores(seen, task))}
    return ValidationResult(metrics, float(np.mean(by_search + by_heads)), search, blind, parts)


def head_baselines(
    model: AlignmentModel, corpus: Corpus, num_eval_videos: int, trained_on: Corpus
) -> dict[str, Scores]:
    """Return the best baseline of each measure in the tasks of the heads, fitted to `trained_on`.

    Args:
        model: in evaluation mode.
        corpus: as for `validate`.
        num_eval_videos: as for `validate`.
        trained_on: videos, captions and questions that the model was trained on.
    """
    seen = CorpusPredictions(model, corpus, num_eval_videos=num_eval_videos)
    baselines = Baselines(seen, CorpusPredictions(model, trained_on), ())
    found: dict[str, Scores] = {}
    for task in seen.answers:
        values = baselines.floors(task).values.values()
        best = {name: min if name in LOWER else max for of in values for name in of}
        found[task] = {name: pick(float(of[name]) for of in values if name in of) for name, pick in best.items()}
    return found


def _search_parts(
    seen: CorpusPredictions, searches: Mapping[str, retrieval_protocol.Search], scores: Mapping[str, ScoreTable]
) -> dict[str, PerQueryScores]:
    """By task, the reciprocal rank or the IoU of each query, from 0 to 1.

    Models are chosen by any caption of a video (`video to texts`), not by its captions as one item: the rule of `video to
    text` changes with the number of captions.
    """
    found: dict[str, PerQueryScores] = {}
    if "text to video" in scores:
        back = "video to texts" if "video to texts" in scores else "video to text"
        for name, task in (("text to video", "text to video"), ("video to text", back)):
            rank = scores[task]["MnR"]
            found[name] = PerQueryScores(1 / rank.by_query, rank.videos)
    if retrieval_protocol.MOMENT_TO_VIDEO in searches:
        search = searches[retrieval_protocol.MOMENT_TO_VIDEO]
        found[retrieval_protocol.MOMENT_TO_VIDEO] = PerQueryScores(
            1 / ranks(search.similarity, search.relevant), search.videos
        )
        found[IN_VIDEO] = PerQueryScores(best_ious(seen.found.own, [q.spans for q in seen.timed], 1), search.videos)
    return found


def _head_score(said: HeadAnswers) -> float:
    """The score of a head's answers from 0 to 1."""
    if said.task == "count":
        true = np.array([q.question.count for q in said.asked], np.float64)
        return 1 / (1 + float(((predicted_counts([float(p) for p in said.predicted]) - true) ** 2).mean()))
    if said.task == "moments":
        by_query = best_ious(said.predicted, [q.spans for q in said.asked], 1)
    else:
        by_query = correctness(said, said.predicted)
    return 100 * float(by_query.mean()) / 100  # through percent: the last bit may decide between two epochs
