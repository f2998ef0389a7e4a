"""Which protocols annotations ask for, and every figure of them with what it has to be read beside."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from vla.errors import MissingError, UnknownNameError
from vla.evaluation import moment_protocol, qa_protocol, retrieval_protocol
from vla.evaluation.head_answers import TASKS
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.results import BaselineScores, MetricResult, Scores, ScoreTable, figures
from vla.evaluation.search_metrics import SEARCH_SUFFIX, video_floors, video_measures
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
"""What can be asked for, and what of."""
VALIDATED = ("retrieval", "partial", "moments", moment_protocol.HIGHLIGHTS_BY_HEAD, "questions")
"""Groups, and a task, that validation scores after every epoch: no list of all videos, no clips by cosine, no evidence."""

TEXT_BY_SEARCH, MOMENT_BY_SEARCH = (
    f"text to video {SEARCH_SUFFIX}",
    f"{retrieval_protocol.MOMENT_TO_VIDEO} {SEARCH_SUFFIX}",
)
IN_VIDEO_BY_SEARCH, IN_CORPUS_BY_SEARCH = (
    f"{moment_protocol.IN_VIDEO} {SEARCH_SUFFIX}",
    f"{moment_protocol.IN_CORPUS} {SEARCH_SUFFIX}",
)


def measured(
    ours: CorpusPredictions,
    frozen: CorpusPredictions | None,
    trained_on: CorpusPredictions | None,
    groups: Collection[str] = (),
    seed: int = 0,
) -> list[MetricResult]:
    """Every figure that the annotations of `ours` allow, in the order of `GROUPS`.

    Args:
        ours: the corpus as the model has it; where it has a search, what that lists is measured, too.
        frozen: the same corpus as the frozen encoder has it; None where that is `ours`.
        trained_on: what the model was trained on, as the model has it; None where it is not known. Floors are fitted to
            it, and its captions are the bank of QB-Norm.
        groups: of `GROUPS`; all when empty.
        seed: of the bootstrap.

    Raises:
        UnknownNameError: a group that there is not.
        MissingError: the annotations allow none of it.
    """
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise UnknownNameError(f"nothing is called {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    wanted = [g for g in GROUPS if g in groups or not groups]
    tasks = compute_scores(ours, wanted)
    if not tasks:
        raise MissingError(
            f"the annotations allow none of: {', '.join(wanted)}. Questions need a run whose heads answer them, "
            "everything else captions",
            hint=Hint("train_or_caption"),
        )
    theirs = {} if frozen is None else compute_scores(frozen, wanted)
    beside = Baselines(ours, trained_on, wanted)
    found: list[MetricResult] = []
    for task, scores in tasks.items():
        blind, tricks = blind_scores(ours, task), beside.tricks(task)
        found += figures(task, scores, theirs.get(task), beside.floors(task), blind, tricks, seed)
    return found


class Baselines:
    """Scores to read a task's figures beside.

    Args:
        seen: the corpus as the model has it.
        trained_on: what the model was trained on, as the model has it; None where it is not known.
        wanted: of `GROUPS`; those without a search need none.
    """

    def __init__(self, seen: CorpusPredictions, trained_on: CorpusPredictions | None, wanted: Collection[str]) -> None:
        self._seen, self._known = seen, trained_on.corpus if trained_on else None
        self._searches = retrieval_protocol.searches(seen, trained_on, wanted)
        self._windows = moment_protocol.windows(seen.timed, seen.corpus, self._known) if seen.timed else {}

    def floors(self, task: str) -> BaselineScores:
        """What not looking scores."""
        seen = self._seen
        if task in self._searches:
            return retrieval_protocol.baselines(self._searches[task])
        if task in (TEXT_BY_SEARCH, MOMENT_BY_SEARCH):
            return video_floors(len(seen.corpus.videos))
        if task in (moment_protocol.IN_CORPUS, IN_CORPUS_BY_SEARCH):
            return moment_protocol.in_corpus_baselines(seen.timed, seen.corpus, self._windows)
        if task in (moment_protocol.IN_VIDEO, moment_protocol.BY_HEAD, IN_VIDEO_BY_SEARCH):
            return moment_protocol.in_video_baselines(seen.timed, seen.corpus, self._windows)
        if task in (moment_protocol.HIGHLIGHTS, moment_protocol.HIGHLIGHTS_BY_HEAD):
            some = moment_protocol.with_saliency_ratings(seen.timed)
            trivial = {name: [found[i] for i in some] for name, found in self._windows.items()}
            return moment_protocol.highlight_baselines([seen.timed[i] for i in some], seen.corpus, trivial)
        if task == qa_protocol.GROUNDED:
            shown = qa_protocol.with_evidence_spans(seen.answers[TASKS["choice"]])
            return qa_protocol.grounded_floors(shown, seen.corpus, self._known)
        return qa_protocol.question_baselines(seen.answers[task], self._known)

    def tricks(self, task: str) -> dict[str, Scores]:
        """Figures of scores that have seen other queries."""
        return retrieval_protocol.tricks(self._searches[task]) if task in self._searches else {}


def blind_scores(seen: CorpusPredictions, task: str) -> Scores:
    """Return the scores of a head's blind twin, which learned from the words alone; empty where the task has none."""
    said = seen.answers.get(task)
    if said is None or not said.unseen:
        return {}
    if said.task == "moments":
        measures = moment_protocol.in_video(said.asked, said.unseen)
    else:
        measures = qa_protocol.questions(said, said.unseen)
    return {name: values.value for name, values in measures.items()}


def compute_scores(
    seen: CorpusPredictions, wanted: Collection[str], searches: Mapping[str, retrieval_protocol.Search] | None = None
) -> dict[str, ScoreTable]:
    """Score every query in each task of these groups, without intervals and without what stands beside a figure.

    Args:
        seen: the corpus as a model has it.
        wanted: of `GROUPS`, or `VALIDATED`.
        searches: those of `searching.searches` for `wanted`, if they are already computed.

    Returns:
        By task and measure, in the order of `GROUPS`; tasks that the annotations do not allow are absent.
    """
    found: dict[str, ScoreTable] = {}
    for task, search in (retrieval_protocol.searches(seen, None, wanted) if searches is None else searches).items():
        found[task] = retrieval_protocol.measures(search)
        if task == "text to video" and seen.listed_for_untimed:
            found[TEXT_BY_SEARCH] = video_measures(seen.untimed, seen.listed_for_untimed)
        if task == retrieval_protocol.MOMENT_TO_VIDEO and seen.listed:
            found[MOMENT_BY_SEARCH] = video_measures(seen.timed, seen.listed)
    if seen.timed or TASKS["moments"] in seen.answers:
        found |= _located(seen, wanted)
    if seen.corpus.questions and {"questions", "grounding"} & set(wanted):
        found |= _answered(seen, wanted)
    return found


def _located(seen: CorpusPredictions, wanted: Collection[str]) -> dict[str, ScoreTable]:
    found: dict[str, ScoreTable] = {}
    is_located = {"moments", "highlights", moment_protocol.HIGHLIGHTS_BY_HEAD} & set(wanted)
    by_head = seen.answers.get(TASKS["moments"]) if is_located else None
    if "moments" in wanted:
        if seen.timed:
            found[moment_protocol.IN_VIDEO] = moment_protocol.in_video(seen.timed, seen.found.own)
        if by_head is not None:
            found[moment_protocol.BY_HEAD] = moment_protocol.in_video(by_head.asked, by_head.predicted)
        if seen.listed_in_own:
            found[IN_VIDEO_BY_SEARCH] = moment_protocol.in_video(seen.timed, seen.listed_in_own)
    if "corpus" in wanted and seen.timed:
        found[moment_protocol.IN_CORPUS] = moment_protocol.in_corpus(seen.timed, seen.everywhere)
        if seen.listed:
            found[IN_CORPUS_BY_SEARCH] = moment_protocol.in_corpus(seen.timed, seen.listed)
    some = moment_protocol.with_saliency_ratings(seen.timed) if "highlights" in wanted else []
    if some:
        chosen = [seen.timed[i] for i in some]
        found[moment_protocol.HIGHLIGHTS] = moment_protocol.highlights(seen, chosen, [seen.found.own[i] for i in some])
    rated = (
        moment_protocol.with_saliency_ratings(by_head.asked)
        if by_head and {"highlights", moment_protocol.HIGHLIGHTS_BY_HEAD} & set(wanted)
        else []
    )
    if by_head is not None and rated:
        asked, said = ([of[i] for i in rated] for of in (by_head.asked, by_head.predicted))
        shown = [by_head.shown[i] for i in rated] if by_head.shown else []
        found[moment_protocol.HIGHLIGHTS_BY_HEAD] = moment_protocol.highlights(seen, asked, said, shown)
    return found


def _answered(seen: CorpusPredictions, wanted: Collection[str]) -> dict[str, ScoreTable]:
    found: dict[str, ScoreTable] = {}
    for task, said in seen.answers.items():
        if "questions" in wanted and said.task != "moments":
            found[task] = qa_protocol.questions(said, said.predicted)
    choices = seen.answers.get(TASKS["choice"])
    if "grounding" in wanted and choices is not None and qa_protocol.with_evidence_spans(choices):
        found[qa_protocol.GROUNDED] = qa_protocol.grounded_accuracy(seen, choices)
    return found
