"""`eval`: evaluate a run, or the frozen encoder, by the protocols that the annotations allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vla.batches.corpus import Corpus
from vla.cache.store import active_cache
from vla.encoders._device import choose_device
from vla.errors import ResourceError
from vla.evaluation.initial_model import untrained_model
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.protocols import compute_metrics
from vla.evaluation.report_file import EvaluationReport, save
from vla.hints import Hint, Note
from vla.model import AlignmentModel, zero_shot_model
from vla.progress import Progress, ProgressCallback, silent
from vla.storage.workspace import Workspace
from vla.threads import small_op_threads
from vla.training.checkpoint import load_model
from vla.training.config import HEADS_BY_QUESTION
from vla.workflows.eval_set import (
    HELD_OUT,
    annotations_of,
    cache_texts,
    cached_only,
    corpus_of,
    of_split,
)
from vla.workflows.index import choose_run
from vla.workflows.search_retriever import SearchRetriever, eval_query_bank
from vla.workflows.submit import submit
from vla.workflows.train import DEFAULT_RUN
from vla.workflows.train_set import TrainingProvenance, training_provenance


def evaluate(
    *,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    split: str = "",
    run: str | None = None,
    tasks: Iterable[str] = (),
    submission: Path | None = None,
    search: bool = True,
    workspace: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> EvaluationReport:
    """Evaluate a run by the official protocols, with baselines and the frozen encoder beside it.

    The annotated videos of the split are searched. Captions are not stored in the workspace, so
    that they are never trained on. The report is saved in the folder of the run.

    Args:
        captions: annotations to evaluate on; those of the workspace when None.
        columns: as for `extract`.
        format: as for `extract`.
        split: split to evaluate on, e.g. `test`; `held-out` for the videos that the run was not
            trained on; all when empty.
        run: name of a run; `none` for the frozen encoder; None for the run that search would use.
        tasks: of `vla.evaluation.protocols.GROUPS`; all that the annotations allow when empty.
        submission: folder for the files that official evaluators read.
        search: also evaluate the results of `vla search` among these videos; this takes longest
            with many captions.
        workspace: as for `train`.
        device: device of the model, and of the encoder for texts without features.
        seed: of the bootstrap.
        progress: called with notes, and while texts are encoded.

    Raises:
        MissingError: no features, no such run or split, or nothing to evaluate.
        SpecMismatchError: the run was trained on features of another encoder.
        UnknownNameError: an unknown task.
    """
    space, groups = Workspace.open(workspace), sorted(tasks)
    cache = active_cache(space.caches)
    # The lock is held only to add texts and to save the report: extraction, training and search go on.
    name = choose_run(space, cache, run)[0]
    trained_model, run_record = load_model(space.runs / name) if name else (None, None)
    eval_set = annotations_of(space, cache, captions, columns, format, split)
    provenance = training_provenance(space, cache, run_record, eval_set.annotations)
    annotations = of_split(eval_set.annotations, split, provenance)
    cache_texts(space, cache, annotations, device, progress)
    with small_op_threads():
        tokens = trained_model is not None and trained_model.compares_tokens
        corpus, paragraphs = corpus_of(cache, annotations, tokens)
        training_annotations = cached_only(cache, provenance.annotations) if provenance else []
        training_corpus = (
            corpus_of(cache, training_annotations, tokens) if training_annotations else None
        )
        fitted_to = training_corpus[0] if training_corpus else None
        initial_model = untrained_model(corpus, trained_model, fitted_to, HEADS_BY_QUESTION).to(
            choose_device(device)
        )
        model = initial_model if trained_model is None else trained_model.to(choose_device(device))
        is_searched = search and _has_search_tasks(corpus, groups)
        query_bank = (
            eval_query_bank(cache, corpus, training_annotations, device) if is_searched else None
        )

        def retriever(searched_model: AlignmentModel) -> SearchRetriever | None:
            if query_bank is None:
                return None
            return SearchRetriever(cache, corpus, searched_model, query_bank, space, progress)

        frozen_model = zero_shot_model(cache.spec.dim, 1.0)
        search_results = retriever(trained_model or frozen_model)
        frozen_results = retriever(frozen_model)
        predictions = CorpusPredictions(model, corpus, paragraphs, search_results)
        figures = compute_metrics(
            predictions,
            None
            if trained_model is None
            else CorpusPredictions(initial_model, corpus, paragraphs, frozen_results),
            CorpusPredictions(model, *training_corpus) if training_corpus else None,
            groups,
            seed,
        )
        counts = _counts(corpus, eval_set.missing, provenance if run_record else None)
        report = EvaluationReport(
            name,
            run_record.digest if run_record else "",
            cache.spec.fingerprint,
            str(captions.absolute()) if captions else "",
            split,
            counts,
            provenance.how if provenance and training_corpus else "",
            figures,
            [
                *([f"left out: {eval_set.omissions.summary()}"] if eval_set.omissions else []),
                *_notes(counts, provenance, len(training_annotations), space, name, run),
            ],
            seed,
            query_bank.description if query_bank else "",
            eval_set.omissions.to_json(),
        )
    for note in report.notes:
        progress(Progress("evaluate", message=note, level="warning"))
    if run_record:
        try:
            with space.lock(progress):
                save(space.runs / name, report, ",".join(groups))
        except ResourceError as error:  # the report is returned all the same
            progress(
                Progress(
                    "evaluate",
                    message=f"report not saved in the folder of the run: {error}",
                    level="warning",
                )
            )
    paths = (
        [] if submission is None else submit(submission, predictions, eval_set.names, format, split)
    )
    for path in paths:
        progress(Progress("evaluate", message=f"wrote {path}", level="note"))
    return report


def _has_search_tasks(corpus: Corpus, groups: list[str]) -> bool:
    """Return whether the groups include a task of search results."""
    is_selected = not groups or {"retrieval", "partial", "moments", "corpus"} & set(groups)
    return bool(is_selected) and any(q.is_caption for q in corpus.queries)


def _counts(
    corpus: Corpus, num_missing: int, provenance: TrainingProvenance | None
) -> dict[str, int]:
    counts = {
        "videos": len(corpus.videos),
        "captions": sum(q.is_caption for q in corpus.queries),
        "questions": len(corpus.questions),
        "left out": num_missing,
    }
    if provenance is not None:
        counts["trained on"] = sum(video.video_id in provenance.videos for video in corpus.videos)
    return counts


def _notes(
    counts: dict[str, int],
    provenance: TrainingProvenance | None,
    num_cached: int,
    workspace: Workspace,
    name: str,
    run: str | None,
) -> list[str]:
    """Return notes for the user on the scope of the metrics."""
    notes = []
    if counts["left out"]:
        notes.append(
            f"{counts['left out']} annotated videos have no features: the metrics are of the "
            f"other {counts['videos']}, "
            "not of the whole split"
        )
    if counts.get("trained on"):
        num_training, total = counts["trained on"], counts["videos"]
        text = f"{num_training} of the {total} videos were trained on: their metrics do not carry over to other videos"
        notes.append(Note(text, Hint("evaluate_split", split=HELD_OUT)))
    if provenance is not None and num_cached < len(provenance.annotations):
        total = len(provenance.annotations)
        notes.append(
            f"{total - num_cached} of {total} training annotations have texts without features: "
            f"baselines are fitted to "
            "the others"
        )
    if not name and run is None and (workspace.runs / DEFAULT_RUN / "run.json").is_file():
        text = "search would not use the trained run: these are the metrics of the frozen encoder"
        notes.append(Note(text, Hint("use_run", run=DEFAULT_RUN)))
    return notes
