"""`ask`: answer a question about videos with trained heads, and find the moments that support the
answer.
"""

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
from vla.language.sentences import split_to_fit
from vla.localization.similarity_curve import SimilarityCurve
from vla.metrics.question_answering import predicted_counts
from vla.model import AlignmentModel
from vla.naming.matching import NameMatcher
from vla.progress import Progress, ProgressCallback, silent
from vla.retrieval.moments import peaks_of
from vla.storage.workspace import Workspace
from vla.threads import small_op_threads
from vla.training.checkpoint import Run, load_model, open_run
from vla.training.config import HEADS_BY_QUESTION
from vla.workflows.encoder_choice import query_encoder

_HOW_MANY = ("how many", "how often", "how much")
_NUM_ANSWERS = 5


@dataclass(frozen=True)
class Answer:
    """Answer to a question about one video.

    Attributes:
        video_id: name of the video in its workspace.
        path: path of the video; empty if its features were imported.
        question: the question.
        kind: kind of question: `choice`, `open` or `count`.
        answer: the best answer; for counts, a whole number as text.
        others: the best answers with their probabilities, best first; for counts, the number before
            rounding.
        unseen: answer of a text-only baseline, trained with the head; empty if there is none. If
            both answers are equal, the video may not have mattered.
        moments: `(start, end, peak)` in seconds of the moments that support the answer, best first:
            those that match question and answer as one text.
        run: name of the run that answered.
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
        """Return a JSON object; the name of the video is `video`, times are in seconds."""
        record = asdict(self)
        record["video"] = record.pop("video_id")
        record["others"] = [{"answer": answer, "value": value} for answer, value in self.others]
        record["moments"] = [
            {"start": start, "end": end, "peak": peak} for start, end, peak in self.moments
        ]
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
    """Answer a question about each of several videos.

    With `choices`, the answer is one of them. Without, a question that begins with "how many", "how
    often" or "how much" is answered by a number if a run has a head for counts; any other by one of
    the answers of the training set.

    Args:
        question: the question.
        videos: names or paths of videos with features.
        choices: two or more answers to choose from.
        every: answer for every video instead of `videos`.
        run: name of a run; None for the latest one with a head for such questions.
        moments: maximum number of supporting moments for each answer.
        workspace: as for `train`.
        device: device of the model and the encoder.
        progress: called with notes.

    Raises:
        UsageError: the question is blank, not exactly one of `videos` and `every` is given, or
            there is one choice only.
        MissingError: a video has no features, or no run answers such questions.
        SpecMismatchError: the run was trained on other features.
    """
    text = " ".join(question.replace("\0", " ").split())
    if not text:
        raise UsageError("a question has at least one character")
    names = list(videos)
    if every == bool(names):
        raise UsageError(
            "give the videos that the question is about, or ask about all of them",
            hint=Hint("one_or_all"),
        )
    try:
        parsed_question = Question(choices=tuple(" ".join(c.split()) for c in choices))
    except AnnotationError as error:
        raise UsageError(str(error), hint=error.hint) from error
    space = Workspace.open(workspace)
    cache = active_cache(space.caches)
    lookup = NameMatcher(cache.receipts, space.root)
    video_ids = (
        [lookup.resolve(str(name), space.root, Path.cwd()) for name in names]
        if names
        else cache.video_ids()
    )
    if choices:
        kinds = ["choice"]
    else:
        kinds = ["count", "open"] if text.lower().startswith(_HOW_MANY) else ["open"]
    model, record, kind = _choose_run(space, cache, run, kinds, progress)
    if kind == "count":
        parsed_question = Question(count=0)
    elif kind != kinds[0]:
        progress(
            Progress(
                "ask", message="no run has a head for counts: the answer is a text", level="note"
            )
        )
    encoder = query_encoder(cache, device, "auto")
    texts = _Texts(text, parsed_question, encoder)
    with model.for_heads(), small_op_threads():
        return [
            _answer(model, record, texts, cache.frames(name), space, kind, moments)
            for name in video_ids
        ]


def _choose_run(
    workspace: Workspace,
    cache: FeatureCache,
    run: str | None,
    kinds: list[str],
    progress: ProgressCallback,
) -> tuple[AlignmentModel, Run, str]:
    """Return model and record of a run with a head for the first of `kinds` that any run answers,
    and that kind.
    """
    if run is not None:
        model, record = load_model(workspace.run(run))
        record.spec.require_same(
            cache.spec, f"run {run!r}", "the features of this workspace", Hint("train_here")
        )
        for kind in kinds:
            if any(head.task == kind for head in model.heads.values()):
                return model, record, kind
        heads = ", ".join(model.heads) or "none"
        raise MissingError(
            f"run {run!r} has no head for this kind of question; its heads: {heads}",
            hint=Hint("train_head", head=HEADS_BY_QUESTION[kinds[0]]),
        )
    runs = []
    for path in sorted(
        workspace.runs.glob("*/run.json"), key=lambda p: p.stat().st_mtime_ns, reverse=True
    ):
        try:
            runs.append(open_run(path.parent))
        except CacheError as error:  # another run may answer
            progress(Progress("ask", message=str(error), level="warning"))
    runs = [r for r in runs if r.spec.fingerprint == cache.spec.fingerprint]
    for kind in kinds:
        for record in runs:
            if HEADS_BY_QUESTION[kind] in record.model.heads:
                return load_model(workspace.runs / record.name)[0], record, kind
    head = HEADS_BY_QUESTION[kinds[0]]
    raise MissingError(
        "no run has a head for this kind of question", hint=Hint("train_head", head=head)
    )


class _Texts:
    """A question and its choices, encoded once for all videos.

    Attributes:
        text: the question.
        question: its choices.
        vectors: raw text feature of each chunk.
    """

    def __init__(self, text: str, question: Question, encoder: TextEncoder) -> None:
        self._encoder, self.vectors = encoder, dict[str, np.ndarray]()
        self.text, self.question = text, question
        self._chunks = self.encode(text)
        self._choices = tuple(self.encode(join_question_answer(text, c)) for c in question.choices)
        self._choices_only = tuple(self.encode(c) for c in question.choices)

    def encode(self, text: str) -> tuple[str, ...]:
        """Return the chunks of `text`, and add their vectors."""
        chunks = tuple(split_to_fit(text, self._encoder.fits))
        new = [chunk for chunk in dict.fromkeys(chunks) if chunk not in self.vectors]
        if new:
            features = self._encoder.encode_text(new)
            self.vectors.update(zip(new, features.pooled.astype(np.float32), strict=True))
        return chunks

    def corpus(self, video: FrameFeatures) -> Corpus:
        """Return a corpus of one video and the question about it."""
        annotation = Annotation(video.video_id, self.text, video.video_id, question=self.question)
        example = QuestionExample(annotation, self._chunks, self._choices, self._choices_only, 0)
        return Corpus([video], list[Query](), self.vectors, (example,), {})

    def align(self, model: AlignmentModel, text: str) -> np.ndarray:
        """Return the unit vector `(E,)` of `text`."""
        chunks = self.encode(text)
        vector: np.ndarray = model.align_texts(
            pool_chunks(np.stack([self.vectors[c] for c in chunks]))[None]
        )[0]
        return vector


def _answer(
    model: AlignmentModel,
    run: Run,
    texts: _Texts,
    video: FrameFeatures,
    workspace: Workspace,
    kind: str,
    max_moments: int,
) -> Answer:
    import torch

    corpus = texts.corpus(video)
    with torch.no_grad():
        batch = build_batch(corpus, np.arange(1), [], corpus.questions).to(model.log_scale.device)
        aligned = model(batch)
        name, head = next((name, head) for name, head in model.heads.items() if head.task == kind)
        predictions = head(aligned, batch)
        decoded = head.decode(predictions, batch)[0]
        answer = _as_text(kind, decoded, texts.question)
        blind_answer = ""
        if name in model.blind:
            blind_head = model.blind[name]
            with model.with_alpha(1.0):  # blind heads were trained at
                without_video = model(batch).blind()
            output = blind_head.decode(blind_head(without_video, batch), batch)[0]
            blind_answer = _as_text(kind, output, texts.question)
    if kind == "count":
        others: tuple[tuple[str, float], ...] = ((answer, float(predictions[0])),)
    else:
        best = predictions[0].float().softmax(-1).topk(min(_NUM_ANSWERS, predictions.shape[1]))
        labels = (
            [texts.question.choices[int(i)] for i in best.indices] if kind == "choice" else decoded
        )
        others = tuple(zip(labels, map(float, best.values), strict=False))
    vector = texts.align(model, join_question_answer(texts.text, answer))
    frames = aligned.packed.float().cpu().numpy()
    similarities = frames @ vector
    curve = SimilarityCurve(similarities, video.timestamps_seconds, video.duration_seconds)
    spans, _ = curve.moments(max_moments)
    peaks = peaks_of(video, similarities, spans)
    evidence = tuple((float(a), float(b), float(p)) for (a, b), p in zip(spans, peaks, strict=True))
    path = "" if run.spec.is_imported else str(workspace.video_path(video.video_id))
    return Answer(
        video.video_id, path, texts.text, kind, answer, others, blind_answer, evidence, run.name
    )


def _as_text(kind: str, prediction: Any, question: Question) -> str:
    """Return the prediction of a head as text."""
    if kind == "choice":
        return question.choices[int(prediction)]
    return str(int(predicted_counts([prediction])[0])) if kind == "count" else str(prediction[0])
