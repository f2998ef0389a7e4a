"""Evaluation protocols that a corpus allows, and their metrics with baselines and intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vla.errors import MissingError, UnknownNameError
from vla.evaluation import moment_protocol, qa_protocol, retrieval_protocol
from vla.evaluation.head_answers import TASKS
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.results import BaselineScores, MetricResult, Scores, ScoreTable, metric_results
from vla.evaluation.saliency import with_saliency_ratings
from vla.evaluation.search_metrics import SEARCH_SUFFIX, video_baselines, video_measures
from vla.hints import Hint

GROUPS = {
    "retrieval": "captions without times find videos, and videos their captions",
    "paragraphs": "all sentences of a video as one query",
    "moments": "timed captions are located in their own video",
    "partial": "timed captions find their video by a part of it: partially relevant retrieval",
    "corpus": "timed captions are located among all videos",
    "highlights": "QVHighlights' table, where clips were rated",
    "questions": "answers by the heads that were trained",
    "grounding": "the moment that shows an answer",
}
"""Groups of tasks, with their description."""
VALIDATION_GROUPS = (
    "retrieval",
    "partial",
    "moments",
    moment_protocol.HIGHLIGHTS_BY_HEAD,
    "questions",
)
"""Groups, and a task, of the validation after each epoch.

Left out are rankings of all videos, clips by cosine, and evidence.
"""

TEXT_BY_SEARCH, MOMENT_BY_SEARCH = (
    f"text to video {SEARCH_SUFFIX}",
    f"{retrieval_protocol.MOMENT_TO_VIDEO} {SEARCH_SUFFIX}",
)
IN_VIDEO_BY_SEARCH, IN_CORPUS_BY_SEARCH = (
    f"{moment_protocol.IN_VIDEO} {SEARCH_SUFFIX}",
    f"{moment_protocol.IN_CORPUS} {SEARCH_SUFFIX}",
)


def compute_metrics(
    predictions: CorpusPredictions,
    frozen_predictions: CorpusPredictions | None,
    trained_on: CorpusPredictions | None,
    groups: Collection[str] = (),
    seed: int = 0,
) -> list[MetricResult]:
    """Compute every metric that the annotations allow, in the order of `GROUPS`.

    Args:
        predictions: of the model; with a retriever, search results are evaluated, too.
        frozen_predictions: of the frozen encoder on the same corpus; None if that is the model.
        trained_on: of the model on its training corpus; None if this is unknown. Baselines are
            fitted to it, and its captions are the query bank of QB-Norm.
        groups: of `GROUPS`; all when empty.
        seed: of the bootstrap.

    Raises:
        UnknownNameError: an unknown group.
        MissingError: the annotations allow none of the groups.
    """
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise UnknownNameError(
            f"unknown group {', '.join(unknown)}; available: {', '.join(GROUPS)}"
        )
    task_groups = [g for g in GROUPS if g in groups or not groups]
    tasks = compute_scores(predictions, task_groups)
    if not tasks:
        raise MissingError(
            f"the annotations do not allow {', '.join(task_groups)}: questions need a run with "
            f"heads for them, "
            "and everything else needs captions",
            hint=Hint("train_or_caption"),
        )
    frozen_scores = (
        {} if frozen_predictions is None else compute_scores(frozen_predictions, task_groups)
    )
    baselines = Baselines(predictions, trained_on, task_groups)
    results: list[MetricResult] = []
    for task, scores in tasks.items():
        blind, tricks = blind_scores(predictions, task), baselines.tricks(task)
        results += metric_results(
            task, scores, frozen_scores.get(task), baselines.scores_of(task), blind, tricks, seed
        )
    return results


class Baselines:
    """Baselines and inference tricks of each task.

    Args:
        predictions: of the model on the evaluation corpus.
        trained_on: of the model on its training corpus; None if this is unknown.
        groups: of `GROUPS`; only those with a search need computation in advance.
    """

    def __init__(
        self,
        predictions: CorpusPredictions,
        trained_on: CorpusPredictions | None,
        groups: Collection[str],
    ) -> None:
        self._predictions, self._trained_on = predictions, trained_on.corpus if trained_on else None
        self._searches = retrieval_protocol.searches(predictions, trained_on, groups)
        self._windows: moment_protocol.Windows = {}
        if predictions.timed_queries:
            self._windows = moment_protocol.windows(
                predictions.timed_queries, predictions.corpus, self._trained_on
            )

    def scores_of(self, task: str) -> BaselineScores:
        """Return the vision-blind baselines of a task."""
        predictions = self._predictions
        if task in self._searches:
            return retrieval_protocol.baselines(self._searches[task])
        if task in (TEXT_BY_SEARCH, MOMENT_BY_SEARCH):
            return video_baselines(len(predictions.corpus.videos))
        if task in (moment_protocol.IN_CORPUS, IN_CORPUS_BY_SEARCH):
            return moment_protocol.in_corpus_baselines(
                predictions.timed_queries, predictions.corpus, self._windows
            )
        if task in (moment_protocol.IN_VIDEO, moment_protocol.BY_HEAD, IN_VIDEO_BY_SEARCH):
            return moment_protocol.in_video_baselines(
                predictions.timed_queries, predictions.corpus, self._windows
            )
        if task in (moment_protocol.HIGHLIGHTS, moment_protocol.HIGHLIGHTS_BY_HEAD):
            rows = with_saliency_ratings(predictions.timed_queries)
            constant_windows = {
                name: [windows[i] for i in rows] for name, windows in self._windows.items()
            }
            queries = [predictions.timed_queries[i] for i in rows]
            return moment_protocol.highlight_baselines(
                queries, predictions.corpus, constant_windows
            )
        if task == qa_protocol.GROUNDED_QA:
            with_evidence = qa_protocol.with_evidence_spans(predictions.answers[TASKS["choice"]])
            return qa_protocol.grounded_baselines(
                with_evidence, predictions.corpus, self._trained_on
            )
        return qa_protocol.question_baselines(predictions.answers[task], self._trained_on)

    def tricks(self, task: str) -> dict[str, Scores]:
        """Return the scores of a task with inference tricks, which use other queries, too."""
        return (
            retrieval_protocol.inference_tricks(self._searches[task])
            if task in self._searches
            else {}
        )


def blind_scores(predictions: CorpusPredictions, task: str) -> Scores:
    """Return the scores of a head's blind model (trained on text alone); empty without one."""
    answers = predictions.answers.get(task)
    if answers is None or not answers.blind_predictions:
        return {}
    if answers.task == "moments":
        measures = moment_protocol.in_video(answers.examples, answers.blind_predictions)
    else:
        measures = qa_protocol.questions(answers, answers.blind_predictions)
    return {name: values.value for name, values in measures.items()}


def compute_scores(
    predictions: CorpusPredictions,
    groups: Collection[str],
    searches: Mapping[str, retrieval_protocol.Search] | None = None,
) -> dict[str, ScoreTable]:
    """Score every query in each task of these groups, without intervals and baselines.

    Args:
        predictions: of a model on the corpus.
        groups: of `GROUPS`, or `VALIDATION_GROUPS`.
        searches: of `retrieval_protocol.searches` for `groups`, if already computed.

    Returns:
        By task and measure, in the order of `GROUPS`; tasks that the annotations do not allow are
        omitted.
    """
    tables: dict[str, ScoreTable] = {}
    for task, search in (
        retrieval_protocol.searches(predictions, None, groups) if searches is None else searches
    ).items():
        tables[task] = retrieval_protocol.measures(search)
        if task == "text to video" and predictions.untimed_search_results:
            tables[TEXT_BY_SEARCH] = video_measures(
                predictions.untimed_queries, predictions.untimed_search_results
            )
        if task == retrieval_protocol.MOMENT_TO_VIDEO and predictions.search_results:
            tables[MOMENT_BY_SEARCH] = video_measures(
                predictions.timed_queries, predictions.search_results
            )
    if predictions.timed_queries or TASKS["moments"] in predictions.answers:
        tables |= _moment_tables(predictions, groups)
    if predictions.corpus.questions and {"questions", "grounding"} & set(groups):
        tables |= _question_tables(predictions, groups)
    return tables


def _moment_tables(
    predictions: CorpusPredictions, groups: Collection[str]
) -> dict[str, ScoreTable]:
    tables: dict[str, ScoreTable] = {}
    timed_queries = predictions.timed_queries
    needs_head = {"moments", "highlights", moment_protocol.HIGHLIGHTS_BY_HEAD} & set(groups)
    by_head = predictions.answers.get(TASKS["moments"]) if needs_head else None
    if "moments" in groups:
        if timed_queries:
            tables[moment_protocol.IN_VIDEO] = moment_protocol.in_video(
                timed_queries, predictions.moment_predictions.own_video
            )
        if by_head is not None:
            tables[moment_protocol.BY_HEAD] = moment_protocol.in_video(
                by_head.examples, by_head.predictions
            )
        if predictions.own_video_search_results:
            tables[IN_VIDEO_BY_SEARCH] = moment_protocol.in_video(
                timed_queries, predictions.own_video_search_results
            )
    if "corpus" in groups and timed_queries:
        tables[moment_protocol.IN_CORPUS] = moment_protocol.in_corpus(
            timed_queries, predictions.corpus_moments
        )
        if predictions.search_results:
            tables[IN_CORPUS_BY_SEARCH] = moment_protocol.in_corpus(
                timed_queries, predictions.search_results
            )
    rows = with_saliency_ratings(timed_queries) if "highlights" in groups else []
    if rows:
        queries = [timed_queries[i] for i in rows]
        windows = [predictions.moment_predictions.own_video[i] for i in rows]
        tables[moment_protocol.HIGHLIGHTS] = moment_protocol.highlights(
            predictions, queries, windows
        )
    head_rows = (
        with_saliency_ratings(by_head.examples)
        if by_head and {"highlights", moment_protocol.HIGHLIGHTS_BY_HEAD} & set(groups)
        else []
    )
    if by_head is not None and head_rows:
        queries = [by_head.examples[i] for i in head_rows]
        windows = [by_head.predictions[i] for i in head_rows]
        saliency = [by_head.saliency[i] for i in head_rows] if by_head.saliency else []
        tables[moment_protocol.HIGHLIGHTS_BY_HEAD] = moment_protocol.highlights(
            predictions, queries, windows, saliency
        )
    return tables


def _question_tables(
    predictions: CorpusPredictions, groups: Collection[str]
) -> dict[str, ScoreTable]:
    tables: dict[str, ScoreTable] = {}
    for task, answers in predictions.answers.items():
        if "questions" in groups and answers.task != "moments":
            tables[task] = qa_protocol.questions(answers, answers.predictions)
    choices = predictions.answers.get(TASKS["choice"])
    if "grounding" in groups and choices is not None and qa_protocol.with_evidence_spans(choices):
        tables[qa_protocol.GROUNDED_QA] = qa_protocol.grounded_accuracy(predictions, choices)
    return tables
