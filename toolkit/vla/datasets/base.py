"""What an annotations file says: one record for each caption or question, whatever the task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from vla.datasets._times import Spans, check_span, seconds
from vla.errors import AnnotationError

_LARGEST = 2**31


@dataclass(frozen=True)
class Question:
    """What answers a query that is a question; no answer at all where the file keeps it back.

    Attributes:
        choices: what is to be chosen from; two or more, or none where the question is open.
        right: index of the right choice, from 0.
        answers: to an open question; all are right, and several annotators may say the same.
        count: how often, where that is asked.
    """

    choices: tuple[str, ...] = ()
    right: int | None = None
    answers: tuple[str, ...] = ()
    count: int | None = None

    def __post_init__(self) -> None:
        for name, texts in (("choice", self.choices), ("answer", self.answers)):
            if not isinstance(texts, tuple):
                raise AnnotationError(f"{name}s must be a list of texts, not {texts!r:.60}")
            for text in texts:
                _check_words(name, text)
        if len(self.choices) == 1:
            raise AnnotationError(f"one choice, {self.choices[0]!r:.60}, is none: two or more are needed")
        if (bool(self.choices) + bool(self.answers) + (self.count is not None)) > 1:
            raise AnnotationError("a question has choices, or answers, or a count: one of them")
        if self.right is not None:
            _check_whole("the right choice", self.right)
            if self.right >= len(self.choices):
                raise AnnotationError(f"the right choice is {self.right}, counted from 0, of {len(self.choices)}")
        if self.count is not None:
            _check_whole("count", self.count)

    @property
    def kind(self) -> str:
        """`choice`, `count` or `open`."""
        return "choice" if self.choices else "open" if self.count is None else "count"

    @property
    def answer(self) -> str:
        """The right choice, the first answer or the count, as text; empty where it is not known."""
        if self.right is not None:
            return self.choices[self.right]
        return self.answers[0] if self.answers else "" if self.count is None else str(self.count)

    def to_json(self) -> dict[str, Any]:
        """A JSON object of what there is."""
        return _without_blanks(vars(self))

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Question:
        """The question that `to_json` wrote."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        return cls(**given)


@dataclass(frozen=True)
class Saliency:
    """How well parts of a video show what a query says, as annotators saw it; what is not named was not rated.

    Attributes:
        clip_seconds: length of a clip; clip `n` begins at `n * clip_seconds`.
        clips: which were rated, ascending.
        scores: `(clips, annotators)`, higher is better.
    """

    clip_seconds: float
    clips: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        _check_length("clip_seconds", self.clip_seconds)
        for clip in self.clips:
            _check_whole("clip", clip)
        if any(first >= second for first, second in zip(self.clips, self.clips[1:], strict=False)):
            raise AnnotationError(f"clips must ascend, not {list(self.clips)!r:.60}")
        if len(self.clips) != len(self.scores) or len({len(of_clip) for of_clip in self.scores}) > 1:
            raise AnnotationError(
                f"{len(self.clips)} clips and {len(self.scores)} lists of scores: one for each clip is needed, "
                "each with a score by every annotator"
            )
        for score in (score for of_clip in self.scores for score in of_clip):
            if not _is_number(score) or not -_LARGEST < score < _LARGEST:
                raise AnnotationError(f"a score must be a finite number, not {score!r:.60}")

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"clip_seconds": self.clip_seconds, "clips": [*self.clips], "scores": [[*s] for s in self.scores]}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Saliency:
        """The saliency that `to_json` wrote."""
        return cls(record["clip_seconds"], tuple(record["clips"]), tuple(map(tuple, record["scores"])))


@dataclass(frozen=True)
class Annotation:
    """One caption or question and what it tells of.

    Attributes:
        query_id: unique within its file.
        query: the caption, or the question.
        video: the video's name as the file has it; it may be a path, a file name, a stem or an id.
        spans: `(start, end)` in seconds, half-open, for the moments the query tells of, or that answer it; empty: the
            whole video.
        split: `train`, `val` or whatever the file says; empty where it says nothing.
        source: `file:line`, for messages.
        duration: seconds of the video as the file has it; spans may end a little later.
        category: the file's own word for the kind of query, e.g. `CW` of NExT-QA, by which results are told apart.
        paragraph: name of the paragraph that the query is a sentence of; empty where it stands alone.
        sentence: its place in the paragraph, from 0.
        votes: a span by each annotator, where several marked the same moment; `spans` is then what they agree on.
        saliency: how well each part of the video shows it.
        question: choices and answers; None where the query is a caption.
        metadata: `(column, value)` of whatever else the file's row says; searches can be limited by it. A column may be
            there several times, where several rows said the same.
    """

    query_id: str
    query: str
    video: str
    spans: Spans = ()
    split: str = ""
    source: str = ""
    duration: float | None = None
    category: str = ""
    paragraph: str = ""
    sentence: int | None = None
    votes: Spans = ()
    saliency: Saliency | None = None
    question: Question | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in ("query_id", "video"):
            _check_text(name, getattr(self, name))
        _check_words("query", self.query)
        for name in ("split", "source", "category", "paragraph"):
            if not isinstance(getattr(self, name), str):
                raise AnnotationError(f"{name} must be text, not {getattr(self, name)!r:.60}")
        for start, end in (*self.spans, *self.votes):
            check_span(start, end)
        if self.duration is not None:
            _check_length("duration", self.duration)
        if bool(self.paragraph) != (self.sentence is not None):
            raise AnnotationError(
                f"paragraph {self.paragraph!r:.60} and sentence {self.sentence!r:.60} need each other"
            )
        if self.sentence is not None:
            _check_whole("sentence", self.sentence)
        for pair in self.metadata:
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise AnnotationError(f"metadata must be pairs of texts, a column and a value, not {pair!r:.60}")

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the first six fields always, and of the others what there is."""
        always = ("query_id", "query", "video", "spans", "split", "source")
        pairs = ("spans", "votes", "metadata")
        plain = {**vars(self), **{name: [[*pair] for pair in getattr(self, name)] for name in pairs}}
        for name in ("saliency", "question"):
            plain[name] = None if getattr(self, name) is None else getattr(self, name).to_json()
        return {name: plain.pop(name) for name in always} | _without_blanks(plain)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Annotation:
        """The annotation that `to_json` wrote.

        Raises:
            AnnotationError: fields are missing or hold what they cannot.
        """
        try:
            given = {name: record[name] for name in ("query_id", "query", "video")}
            given |= {name: record.get(name, "") for name in ("split", "source", "category", "paragraph")}
            given |= {name: record.get(name) for name in ("sentence", "duration")}
            for name in ("spans", "votes"):
                given[name] = tuple((seconds(start), seconds(end)) for start, end in record.get(name, ()))
            given["metadata"] = tuple((column, value) for column, value in record.get("metadata", ()))
            for name, kind in (("saliency", Saliency), ("question", Question)):
                given[name] = kind.from_json(record[name]) if record.get(name) is not None else None
            return cls(**given)
        except AnnotationError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnnotationError(f"not an annotation: {error!r} is missing or wrong in {record!r:.200}") from error


class Dataset(Protocol):
    """A reader of one kind of annotations file; its options are arguments of its constructor.

    Attributes:
        files: what it reads, for a person who has the files at hand.
    """

    files: ClassVar[str]

    def read(self, *paths: Path) -> list[Annotation]:
        """Every annotation of the files, in their order; query ids are unique.

        Raises:
            AnnotationError: a file cannot be read or holds faults; one error names them all, by line.
        """
        ...


def paragraphs(annotations: Iterable[Annotation]) -> list[Annotation]:
    """One annotation of a whole video for each paragraph: its sentences in order. Those of no paragraph are left out."""
    gathered: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        if annotation.paragraph:
            gathered[annotation.video, annotation.paragraph].append(annotation)
    found = []
    for (video, name), sentences in gathered.items():
        sentences.sort(key=lambda a: a.sentence or 0)
        first, text = sentences[0], " ".join(a.query for a in sentences)
        found.append(Annotation(name, text, video, (), first.split, first.source, first.duration))
    return found


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise AnnotationError(f"{name} must be text, not {value!r:.60}")
    if not value.strip():
        raise AnnotationError(f"{name} is empty")
    if "\0" in value:
        raise AnnotationError(f"{name} {value!r:.60} holds a NUL character")


def _check_words(name: str, value: object) -> None:
    _check_text(name, value)
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        # JSON may hold half a surrogate pair; tokenizers and files choke on it much later.
        raise AnnotationError(f"{name} {value!r:.60} holds half a character (a lone surrogate)") from error


def _check_length(name: str, value: object) -> None:
    if not _is_number(value) or not 0 < value < _LARGEST:  # type: ignore[operator]
        raise AnnotationError(f"{name} must be seconds above 0, not {value!r:.60}")


def _check_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise AnnotationError(f"{name} must be a whole number from 0, not {value!r:.60}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_blanks(fields: dict[str, Any]) -> dict[str, Any]:
    listed = {name: [*value] if isinstance(value, tuple) else value for name, value in fields.items()}
    return {name: value for name, value in listed.items() if value not in (None, "", [])}
