"""`ask`: a question about videos, answered by the heads that were trained for its kind, with the moments that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla.batches.collate import build_batch
from vla.batches.corpus import Corpus, Query, QuestionExample, join_question_answer, pool_chunks
from vla.cache.store import FeatureCache, active_cache
from vla.datasets.base import Annotation, Question
from vla.encoders.base import TextEncoder
from vla.errors import AnnotationError, CacheError, MissingError, UsageError
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.indexing.segments import windows_and_changes
from vla.language.sentences import split_to_fit
from vla.metrics.question_answering import predicted_counts
from vla.model import AlignmentModel, pool_segments
from vla.naming.matching import Names
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.moments import MomentLocalizer, SegmentScores
from vla.storage.workspace import Workspace
from vla.threads import small_work
from vla.training.checkpoint import Run, load_model, open_run
from vla.training.config import HEADS_BY_QUESTION
from vla.workflows.encoder_choice import query_encoder

_HOW_MANY = ("how many", "how often", "how much")
_SHOWN = 5


@dataclass(frozen=True)
class Answer:
    """What is said of one video.

    Attributes:
        video_id: the video's name in its workspace.
        path: where it lies.
        question: as it was asked.
        kind: `choice`, `open` or `count`: how it was understood.
        answer: the best one; of counts, a whole number as text.
        others: the best answers with their probabilities, best first; of counts, the number before it was rounded.
        unseen: what the head's blind twin says, which learned from the words alone; empty where there is none. Where it says the
            same, the video need not have mattered.
        moments: `(start, end, peak)` in seconds, best first: where question and answer, as one text, are found.
        run: that answered.
    """

    video_id: str
    path: str
    question: str
    kind: str
    answer: str
    others: tuple[tuple[str, float], ...]
    unseen: str
    moments: tuple[tuple[float, float, float], ...]
    run: str

    def to_json(self) -> dict[str, Any]:
        """A JSON object: `video` for the name, times in seconds."""
        record = asdict(self)
        record["video"] = record.pop("video_id")
        record["others"] = [{"answer": answer, "value": value} for answer, value in self.others]
        record["moments"] = [{"start": start, "end": end, "peak": peak} for start, end, peak in self.moments]
        return record


def ask(
    question: str,
    videos: Iterable[str | Path] = (),
    *,
    choices: Sequence[str] = (),
    every: bool = False,
    run: str | None = None,
    moments: int = 3,
    workspace: Path | None = None,
    device: str = "auto",
    progress: ProgressCallback = silent,
) -> list[Answer]:
    """Answer a question about each of some videos.

    With `choices` it is answered by one of them; without, a question that begins with "how many" or "how often" by a number,
    where a run counts, and any other by one of the answers that were trained on.

    Args:
        question: what to ask.
        videos: names or paths of videos with features here.
        choices: two or more to choose from.
        every: about every video, instead.
        run: a run's name; None for the one that was trained last of those with a head for such questions.
        moments: spans to name for each.
        workspace: as for `train`.
        device: where the model and the encoder run.
        progress: called with notes.

    Raises:
        UsageError: nothing is asked, about nothing, or with one choice.
        MissingError: no features of a video, or no run that answers such questions.
        SpecMismatchError: the run that was named is of other features.
    """
    asked = " ".join(question.replace("\0", " ").split())
    if not asked:
        raise UsageError("a question has at least one character")
    names = list(videos)
    if every == bool(names):
        raise UsageError(
            "name the videos that the question is about, or ask about every one, not both", hint=Hint("one_or_all")
        )
    try:
        told = Question(choices=tuple(" ".join(c.split()) for c in choices))
    except AnnotationError as error:
        raise UsageError(str(error), hint=error.hint) from error
    place = Workspace.open(workspace)
    cache = active_cache(place.caches)
    known = Names(cache.receipts, place.root)
    wanted = [known.one(str(name), place.root, Path.cwd()) for name in names] if names else cache.video_ids()
    kinds = ["choice"] if choices else ["count", "open"] if asked.lower().startswith(_HOW_MANY) else ["open"]
    model, found, kind = _answering(place, cache, run, kinds, progress)
    if kind == "count":
        told = Question(count=0)
    elif kind != kinds[0]:
        progress(Progress("ask", message="no run here counts: it is answered in words", level="note"))
    encoder = query_encoder(cache, device, "auto")
    texts = _Texts(asked, told, encoder)
    with model.with_alpha(1.0), small_work():
        return [_reply(model, found, texts, cache.frames(name), place, kind, moments) for name in wanted]


def _answering(
    place: Workspace, cache: FeatureCache, run: str | None, kinds: list[str], progress: ProgressCallback
) -> tuple[AlignmentModel, Run, str]:
    """A run with a head for the first of `kinds` that some run answers, and which kind that is."""
    if run is not None:
        model, found = load_model(place.run(run))
        found.spec.require_same(cache.spec, f"run {run!r}", "the features of this workspace", Hint("train_here"))
        for kind in kinds:
            if any(head.task == kind for head in model.heads.values()):
                return model, found, kind
        heads = ", ".join(model.heads) or "none"
        raise MissingError(
            f"run {run!r} has heads {heads}, and none that answers this",
            hint=Hint("train_head", head=HEADS_BY_QUESTION[kinds[0]]),
        )
    runs = []
    for path in sorted(place.runs.glob("*/run.json"), key=lambda p: p.stat().st_mtime_ns, reverse=True):
        try:
            runs.append(open_run(path.parent))
        except CacheError as error:  # another run may answer
            progress(Progress("ask", message=str(error), level="warning"))
    runs = [r for r in runs if r.spec.fingerprint == cache.spec.fingerprint]
    for kind in kinds:
        for found in runs:
            if HEADS_BY_QUESTION[kind] in found.model.heads:
                return load_model(place.runs / found.name)[0], found, kind
    raise MissingError("no run here answers such questions", hint=Hint("train_head", head=HEADS_BY_QUESTION[kinds[0]]))


class _Texts:
    """The question and its choices, encoded once for all videos."""

    def __init__(self, asked: str, told: Question, encoder: TextEncoder) -> None:
        self._encoder, self.vectors = encoder, dict[str, np.ndarray]()
        self.asked, self.told = asked, told
        self.parts = self.add(asked)
        self.choices = tuple(self.add(join_question_answer(asked, c)) for c in told.choices)
        self.choices_only = tuple(self.add(c) for c in told.choices)

    def add(self, text: str) -> tuple[str, ...]:
        """The parts of `text`, whose vectors are known from now on."""
        parts = tuple(split_to_fit(text, self._encoder.fits))
        new = [part for part in dict.fromkeys(parts) if part not in self.vectors]
        if new:
            made = self._encoder.encode_text(new)
            self.vectors.update(zip(new, made.pooled.astype(np.float32), strict=True))
        return parts

    def about(self, video: FrameFeatures) -> Corpus:
        """The question, about that video alone."""
        annotation = Annotation(video.video_id, self.asked, video.video_id, question=self.told)
        asked = QuestionExample(annotation, self.parts, self.choices, self.choices_only, 0)
        return Corpus([video], list[Query](), self.vectors, (asked,), {})

    def aligned(self, model: AlignmentModel, text: str) -> np.ndarray:
        """`(E,)` unit vector of `text`."""
        parts = self.add(text)
        found: np.ndarray = model.align_texts(pool_chunks(np.stack([self.vectors[p] for p in parts]))[None])[0]
        return found


def _reply(
    model: AlignmentModel, run: Run, texts: _Texts, video: FrameFeatures, place: Workspace, kind: str, moments: int
) -> Answer:
    import torch

    corpus = texts.about(video)
    with torch.no_grad():
        batch = build_batch(corpus, np.arange(1), [], corpus.questions).to(model.log_scale.device)
        aligned = model(batch)
        name, head = next((name, head) for name, head in model.heads.items() if head.task == kind)
        predictions = head(aligned, batch)
        decoded = head.decode(predictions, batch)[0]
        answer = _said(kind, decoded, texts.told)
        unseen = ""
        if name in model.blind:
            twin = model.blind[name]
            unseen = _said(kind, twin.decode(twin(aligned.blind(), batch), batch)[0], texts.told)
    if kind == "count":
        others: tuple[tuple[str, float], ...] = ((answer, float(predictions[0])),)
    else:
        best = predictions[0].float().softmax(-1).topk(min(_SHOWN, predictions.shape[1]))
        labels = [texts.told.choices[int(i)] for i in best.indices] if kind == "choice" else decoded
        others = tuple(zip(labels, map(float, best.values), strict=False))
    vector = texts.aligned(model, join_question_answer(texts.asked, answer))
    frames = aligned.packed.float().cpu().numpy()
    segments = pool_segments(frames, video, windows_and_changes(video))
    scores = (segments.vectors @ vector).astype(np.float64)
    held = SegmentScores(segments.spans, scores, float(scores.max()))
    spans = MomentLocalizer(model, None).find(video, frames, vector, held, moments)
    where = tuple((float(a), float(b), float(p)) for (a, b), p in zip(spans.spans, spans.peaks, strict=True))
    path = "" if run.spec.is_imported else str(place.video_path(video.video_id))
    return Answer(video.video_id, path, texts.asked, kind, answer, others, unseen, where, run.name)


def _said(kind: str, decoded: Any, told: Question) -> str:
    """What a head decodes, in words."""
    if kind == "choice":
        return told.choices[int(decoded)]
    return str(int(predicted_counts([decoded])[0])) if kind == "count" else str(decoded[0])
