"""Records of annotation files: one for each caption or question, for all tasks."""

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
    """Answers to a query that is a question; empty if the file withholds them.

    Attributes:
        choices: at least two; empty if the question is open-ended.
        right: index of the correct choice, from 0.
        answers: correct answers to an open-ended question; annotators may repeat one.
        count: answer to a counting question.
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
                _check_encodable(name, text)
        if len(self.choices) == 1:
            raise AnnotationError(
                f"only one choice, {self.choices[0]!r:.60}: at least two are needed"
            )
        if (bool(self.choices) + bool(self.answers) + (self.count is not None)) > 1:
            raise AnnotationError("a question has either choices, or answers, or a count")
        if self.right is not None:
            _check_integer("the right choice", self.right)
            if self.right >= len(self.choices):
                raise AnnotationError(
                    f"the right choice is {self.right}, counted from 0, of {len(self.choices)}"
                )
        if self.count is not None:
            _check_integer("count", self.count)

    @property
    def kind(self) -> str:
        """`choice`, `count` or `open`."""
        return "choice" if self.choices else "open" if self.count is None else "count"

    @property
    def answer(self) -> str:
        """The correct choice, the first answer or the count, as text; empty if unknown."""
        if self.right is not None:
            return self.choices[self.right]
        return self.answers[0] if self.answers else "" if self.count is None else str(self.count)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without empty fields."""
        return _without_blanks(vars(self))

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Question:
        """Build a question from the output of `to_json`."""
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in record.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Saliency:
    """Annotators' ratings of how well clips of a video match a query; clips without a rating are
    absent.

    Attributes:
        clip_seconds: length of a clip; clip `n` starts at `n * clip_seconds`.
        clips: indices of the rated clips, ascending.
        scores: `(clips, annotators)`, higher is better.
    """

    clip_seconds: float
    clips: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        _check_length("clip_seconds", self.clip_seconds)
        for clip in self.clips:
            _check_integer("clip", clip)
        if any(first >= second for first, second in zip(self.clips, self.clips[1:], strict=False)):
            raise AnnotationError(f"clips must ascend, not {list(self.clips)!r:.60}")
        if len(self.clips) != len(self.scores) or len({len(row) for row in self.scores}) > 1:
            raise AnnotationError(
                f"{len(self.clips)} clips but {len(self.scores)} lists of scores: each clip "
                f"needs one list, "
                "with a score from every annotator"
            )
        for score in (score for row in self.scores for score in row):
            if not _is_number(score) or not -_LARGEST < score < _LARGEST:
                raise AnnotationError(f"a score must be a finite number, not {score!r:.60}")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "clip_seconds": self.clip_seconds,
            "clips": [*self.clips],
            "scores": [[*s] for s in self.scores],
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Saliency:
        """Build a saliency from the output of `to_json`."""
        return cls(
            record["clip_seconds"], tuple(record["clips"]), tuple(map(tuple, record["scores"]))
        )


@dataclass(frozen=True)
class Annotation:
    """One caption or question about a video or some of its moments.

    Attributes:
        query_id: unique within its file.
        query: the caption, or the question.
        video: name of the video in the file: a path, a file name, a stem or an id.
        spans: `(start, end)` in seconds, half-open: moments that the query describes, or that
            answer it; empty: the whole video.
        split: `train`, `val` or another name; empty if the file has none.
        source: `file:line`, for messages.
        duration: seconds of the video according to the file; spans may end slightly later.
        category: the file's category of the query, e.g. `CW` of NExT-QA, for results by category.
        paragraph: name of the paragraph with this sentence; empty if the query stands alone.
        sentence: index of the sentence in the paragraph, from 0.
        votes: one span per annotator, if several marked the same moment; `spans` is then their
            consensus.
        saliency: ratings of the clips of the video.
        question: choices and answers; None for a caption.
        metadata: `(column, value)` of the other columns, for search filters. A column may
            occur more than once if rows were merged.
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
        _check_encodable("query", self.query)
        for name in ("split", "source", "category", "paragraph"):
            if not isinstance(getattr(self, name), str):
                raise AnnotationError(f"{name} must be text, not {getattr(self, name)!r:.60}")
        for start, end in (*self.spans, *self.votes):
            check_span(start, end)
        if self.duration is not None:
            _check_length("duration", self.duration)
        if bool(self.paragraph) != (self.sentence is not None):
            raise AnnotationError(
                f"paragraph {self.paragraph!r:.60} and sentence {self.sentence!r:.60}: give both "
                f"or neither"
            )
        if self.sentence is not None:
            _check_integer("sentence", self.sentence)
        for pair in self.metadata:
            if len(pair) != 2 or not all(isinstance(text, str) for text in pair):
                raise AnnotationError(
                    f"metadata must be pairs of texts, a column and a value, not {pair!r:.60}"
                )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with the first six fields, and the others unless they are empty."""
        always = ("query_id", "query", "video", "spans", "split", "source")
        pairs = ("spans", "votes", "metadata")
        plain = {
            **vars(self),
            **{name: [[*pair] for pair in getattr(self, name)] for name in pairs},
        }
        for name in ("saliency", "question"):
            plain[name] = None if getattr(self, name) is None else getattr(self, name).to_json()
        return {name: plain.pop(name) for name in always} | _without_blanks(plain)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Annotation:
        """Build an annotation from the output of `to_json`.

        Raises:
            AnnotationError: fields are missing or invalid.
        """
        try:
            values = {name: record[name] for name in ("query_id", "query", "video")}
            values |= {
                name: record.get(name, "") for name in ("split", "source", "category", "paragraph")
            }
            values |= {name: record.get(name) for name in ("sentence", "duration")}
            for name in ("spans", "votes"):
                values[name] = tuple(
                    (seconds(start), seconds(end)) for start, end in record.get(name, ())
                )
            values["metadata"] = tuple(
                (column, value) for column, value in record.get("metadata", ())
            )
            for name, kind in (("saliency", Saliency), ("question", Question)):
                values[name] = (
                    kind.from_json(record[name]) if record.get(name) is not None else None
                )
            return cls(**values)
        except AnnotationError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnnotationError(
                f"not an annotation: {error!r} is missing or wrong in {record!r:.200}"
            ) from error


class Dataset(Protocol):
    """Reader of one format of annotation files; its options are arguments of the constructor.

    Attributes:
        files: description of the files, for users.
    """

    files: ClassVar[str]

    def read(self, *paths: Path) -> list[Annotation]:
        """Return all annotations of the files, in order; query ids are unique.

        Raises:
            AnnotationError: a file cannot be read or is invalid; one error lists all faults by
                line.
        """
        ...


def paragraphs(annotations: Iterable[Annotation]) -> list[Annotation]:
    """Return one annotation of the whole video for each paragraph: its sentences in order. Others
    are dropped.
    """
    sentences_of: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    for annotation in annotations:
        if annotation.paragraph:
            sentences_of[annotation.video, annotation.paragraph].append(annotation)
    whole = []
    for (video, name), sentences in sentences_of.items():
        sentences.sort(key=lambda a: a.sentence or 0)
        first, text = sentences[0], " ".join(a.query for a in sentences)
        whole.append(Annotation(name, text, video, (), first.split, first.source, first.duration))
    return whole


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise AnnotationError(f"{name} must be text, not {value!r:.60}")
    if not value.strip():
        raise AnnotationError(f"{name} is empty")
    if "\0" in value:
        raise AnnotationError(f"{name} {value!r:.60} contains a NUL character")


def _check_encodable(name: str, value: object) -> None:
    _check_text(name, value)
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        # JSON can hold half of a surrogate pair, on which tokenizers and files fail much later.
        raise AnnotationError(f"{name} {value!r:.60} contains a lone surrogate") from error


def _check_length(name: str, value: object) -> None:
    if not _is_number(value) or not 0 < value < _LARGEST:  # type: ignore[operator]
        raise AnnotationError(f"{name} must be a positive number of seconds, not {value!r:.60}")


def _check_integer(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise AnnotationError(f"{name} must be an integer from 0, not {value!r:.60}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _without_blanks(fields: dict[str, Any]) -> dict[str, Any]:
    plain = {
        name: [*value] if isinstance(value, tuple) else value for name, value in fields.items()
    }
    return {name: value for name, value in plain.items() if value not in (None, "", [])}
