"""`eval`: a run, or the frozen encoder, measured by the protocols that annotations ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vla.batches.corpus import Corpus
from vla.cache.store import active_cache
from vla.encoders._device import choose_device
from vla.errors import ResourceError
from vla.evaluation.initial_model import untrained_model
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.protocols import measured
from vla.evaluation.report_file import EvaluationReport, save
from vla.hints import Hint, Note
from vla.model import zero_shot_model
from vla.progress import Progress, ProgressCallback, silent
from vla.storage.workspace import Workspace
from vla.threads import small_op_threads
from vla.training.checkpoint import load_model
from vla.training.config import HEADS_BY_QUESTION
from vla.workflows.eval_set import HELD_OUT, annotations_of, cache_texts, cached_only, corpus_of, of_split
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
    """Measure a run by the official protocols, each figure beside its floor and the frozen encoder.

    What is searched is the annotated videos of the split. Captions are not kept in the workspace: nothing is ever trained
    on them because they were measured with. The result is kept beside the run.

    Args:
        captions: annotations to measure with; those that the workspace knows when None.
        columns: as for `extract`.
        format: as for `extract`.
        split: the one to measure on, e.g. `test`; `held-out` for what the run was not trained on; all when empty.
        run: a run's name; `none` for the frozen encoder; None for the run that search would use.
        tasks: of `vla.evaluation.protocols.GROUPS`; all that the annotations allow when empty.
        submission: folder for the files that official evaluators read.
        search: also measure what `vla search` lists among these videos; it takes longest where there are many captions.
        workspace: as for `train`.
        device: where to run the model, and the encoder for texts that are not cached.
        seed: of the bootstrap.
        progress: called with notes, and while texts are encoded.

    Raises:
        MissingError: no features, no such run or split, or nothing that can be measured.
        SpecMismatchError: the run was trained on features of another encoder.
        UnknownNameError: a task that there is not.
    """
    place, groups = Workspace.open(workspace), sorted(tasks)
    cache = active_cache(place.caches)
    # The workspace is held only to add texts and to keep the result. What is measured is read at the start: extraction, training
    # and search go on beside it.
    name = choose_run(place, cache, run)[0]
    trained, found = load_model(place.runs / name) if name else (None, None)
    given = annotations_of(place, cache, captions, columns, format, split)
    known = training_provenance(place, cache, found, given.annotations)
    chosen = of_split(given.annotations, split, known)
    cache_texts(place, cache, chosen, device, progress)
    with small_op_threads():
        tokens = trained is not None and trained.compares_tokens
        corpus, paragraphs = corpus_of(cache, chosen, tokens)
        taught = cached_only(cache, known.annotations) if known else []
        bank = corpus_of(cache, taught, tokens) if taught else None
        plain = untrained_model(corpus, trained, bank[0] if bank else None, HEADS_BY_QUESTION).to(choose_device(device))
        model = plain if trained is None else trained.to(choose_device(device))
        compared = eval_query_bank(cache, corpus, taught, device) if search and _searches(corpus, groups) else None
        ours, theirs = (
            None if compared is None else SearchRetriever(cache, corpus, searched_with, compared, place, progress)
            for searched_with in (trained or zero_shot_model(cache.spec.dim, 1.0), zero_shot_model(cache.spec.dim, 1.0))
        )
        seen = CorpusPredictions(model, corpus, paragraphs, ours)
        figures = measured(
            seen,
            None if trained is None else CorpusPredictions(plain, corpus, paragraphs, theirs),
            CorpusPredictions(model, *bank) if bank else None,
            groups,
            seed,
        )
        counts = _counts(corpus, given.missing, known if found else None)
        evaluated = EvaluationReport(
            name,
            found.digest if found else "",
            cache.spec.fingerprint,
            str(captions.absolute()) if captions else "",
            split,
            counts,
            known.how if known and bank else "",
            figures,
            [
                *([f"left out: {given.omissions.summary()}"] if given.omissions else []),
                *_notes(counts, known, len(taught), place, name, run),
            ],
            seed,
            compared.description if compared else "",
            given.omissions.to_json(),
        )
    for note in evaluated.notes:
        progress(Progress("evaluate", message=note, level="warning"))
    if found:
        try:
            with place.lock(progress):
                save(place.runs / name, evaluated, ",".join(groups))
        except ResourceError as error:  # it was measured all the same
            progress(Progress("evaluate", message=f"not kept beside the run: {error}", level="warning"))
    written = [] if submission is None else submit(submission, seen, given.names, format, split)
    for path in written:
        progress(Progress("evaluate", message=f"wrote {path}", level="note"))
    return evaluated


def _searches(corpus: Corpus, groups: list[str]) -> bool:
    """True if figures are asked for that a search could have."""
    is_asked = not groups or {"retrieval", "partial", "moments", "corpus"} & set(groups)
    return bool(is_asked) and any(q.is_caption for q in corpus.queries)


def _counts(corpus: Corpus, missing: int, known: TrainingProvenance | None) -> dict[str, int]:
    found = {
        "videos": len(corpus.videos),
        "captions": sum(q.is_caption for q in corpus.queries),
        "questions": len(corpus.questions),
        "left out": missing,
    }
    if known is not None:
        found["trained on"] = sum(video.video_id in known.videos for video in corpus.videos)
    return found


def _notes(
    counts: dict[str, int], known: TrainingProvenance | None, taught: int, place: Workspace, name: str, run: str | None
) -> list[str]:
    """What a person should know of the figures."""
    found = []
    if counts["left out"]:
        found.append(
            f"{counts['left out']} annotated videos have no features: the figures are of the other {counts['videos']}, "
            "and not those of the whole split"
        )
    if counts.get("trained on"):
        trained, total = counts["trained on"], counts["videos"]
        text = f"{trained} of the {total} videos were trained on: figures of them promise nothing for others"
        found.append(Note(text, Hint("evaluate_split", split=HELD_OUT)))
    if known is not None and taught < len(known.annotations):
        found.append(
            f"{len(known.annotations) - taught} of {len(known.annotations)} training annotations have texts that are not "
            "cached: floors are fitted to the others"
        )
    if not name and run is None and (place.runs / DEFAULT_RUN / "run.json").is_file():
        text = "search would not use the trained run: these are the frozen encoder's figures"
        found.append(Note(text, Hint("use_run", run=DEFAULT_RUN)))
    return found
