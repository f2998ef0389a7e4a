"""What a captions file says, one record for each caption, and what all its readers need."""

from __future__ import annotations

import codecs
import math
import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from vla.errors import AnnotationError

Spans = tuple[tuple[float, float], ...]

_REPORTED = 20
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CLOCK = re.compile(r"(-?)(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,2}(?:\.[0-9]*)?)")


@dataclass(frozen=True)
class Annotation:
    """One caption and what it tells of.

    Attributes:
        query_id: unique within its file.
        query: the caption.
        video: the video's name as the file has it; it may be a path, a file name, a stem or an id.
        spans: `(start, end)` in seconds, half-open, for the moments the caption tells of; empty: the whole video.
        split: `train`, `val` or whatever the file says; empty where it says nothing.
        source: `file:line`, for messages.
    """

    query_id: str
    query: str
    video: str
    spans: Spans = ()
    split: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("query_id", "query", "video"):
            _check_text(name, getattr(self, name))
        for start, end in self.spans:
            _check_span(start, end)
        try:
            self.query.encode()
        except UnicodeEncodeError as error:
            # JSON may hold half a surrogate pair; tokenizers and files choke on it much later.
            raise AnnotationError(f"query {self.query!r:.60} holds half a character (a lone surrogate)") from error

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {**asdict(self), "spans": [list(span) for span in self.spans]}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Annotation:
        """The annotation that `to_json` wrote.

        Raises:
            AnnotationError: fields are missing or hold what they cannot.
        """
        try:
            return cls(
                query_id=record["query_id"],
                query=record["query"],
                video=record["video"],
                spans=tuple((seconds(start), seconds(end)) for start, end in record.get("spans", ())),
                split=record.get("split", ""),
                source=record.get("source", ""),
            )
        except AnnotationError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AnnotationError(f"not an annotation: {error!r} is missing or wrong in {record!r:.200}") from error


class Dataset(Protocol):
    """A reader of one kind of captions file; its options are arguments of its constructor."""

    def read(self, path: Path) -> list[Annotation]:
        """Every annotation of the file, in its order; query ids are unique.

        Raises:
            AnnotationError: the file cannot be read or holds faults; one error names them all, by line.
        """
        ...


class Problems:
    """The faults of one file, gathered so that a person can mend them in one go."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str]] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, line: int, message: str) -> None:
        """Notes a fault; lines count from 1."""
        self._found.append((line, message))

    def raise_if_any(self, path: Path) -> None:
        """Nothing, if no fault was noted.

        Raises:
            AnnotationError: the first 20 faults in the order of their lines, and how many more there are.
        """
        if not self._found:
            return
        ordered = sorted(self._found, key=lambda fault: fault[0])
        lines = [f"  line {line}: {message}" for line, message in ordered[:_REPORTED]]
        if len(ordered) > _REPORTED:
            lines.append(f"  and {len(ordered) - _REPORTED} more")
        count = "1 fault" if len(ordered) == 1 else f"{len(ordered)} faults"
        raise AnnotationError(f"{path} has {count}; mend the file and try again:\n" + "\n".join(lines))


def parse_seconds(text: str) -> float:
    """Seconds of a time: `12.5`, `mm:ss` or `hh:mm:ss.mmm`, with a dot or a comma before the decimals.

    A negative time is parsed as such; whether it makes sense is for the span to say.

    Raises:
        AnnotationError: the text is none of these, or not finite.
    """
    plain = text.strip().replace(",", ".")
    if _NUMBER.fullmatch(plain) and math.isfinite(float(plain)):
        return float(plain)
    clock = _CLOCK.fullmatch(plain)
    if clock:
        sign, hours, minutes, rest = clock[1], int(clock[2] or 0), int(clock[3]), float(clock[4])
        if rest < 60 and (clock[2] is None or minutes < 60):
            return (hours * 3600 + minutes * 60 + rest) * (-1 if sign else 1)
    raise AnnotationError(f"{text!r:.60} is not a time; write seconds (12.5), mm:ss or hh:mm:ss.mmm")


def seconds(value: object) -> float:
    """Seconds of what a file holds for a time: a number, or a text that `parse_seconds` takes.

    Raises:
        AnnotationError: it is neither.
    """
    if isinstance(value, str):
        return parse_seconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise AnnotationError(f"{value!r:.60} is not a time; write seconds (12.5), mm:ss or hh:mm:ss.mmm")


def spans_of(start: object, end: object) -> Spans:
    """The one span from `start` to `end`, or none where both are None or blank: the caption tells of the whole video.

    Raises:
        AnnotationError: only one of them is there, one is not a time, or they are not a span.
    """
    has_start, has_end = not _is_blank(start), not _is_blank(end)
    if has_start != has_end:
        there, lacking = ("start", "end") if has_start else ("end", "start")
        raise AnnotationError(f"{there} {(start if has_start else end)!r:.60} without {lacking}; give both or neither")
    if not has_start:
        return ()
    span = seconds(start), seconds(end)
    _check_span(*span)
    return (span,)


def read_text(path: Path, limit_bytes: int = 256 * 2**20) -> str:
    """The text of a regular file: UTF-8 with or without a mark, or UTF-16 with one. Line ends stay as they are.

    Raises:
        AnnotationError: the file is missing, not regular, not readable, larger than `limit_bytes`, not in one of these
            encodings (the message has the byte offset), or holds a NUL (the message has the line).
    """
    raw = _read_bytes(path, limit_bytes)
    encoding, mark = "utf-8", b""
    for name, bom in (
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ):
        if raw.startswith(bom):
            encoding, mark = name, bom
    try:
        text = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        offset = len(mark) + error.start
        raise AnnotationError(
            f"{path} is not {encoding.upper()}: byte 0x{raw[offset]:02x} at offset {offset} cannot be decoded; "
            "save the file as UTF-8"
        ) from error
    if "\0" in text:
        before = text[: text.index("\0")].replace("\r\n", "\n").replace("\r", "\n")
        raise AnnotationError(f"{path} line {before.count(chr(10)) + 1} holds a NUL character: the file is not text")
    return text


def _read_bytes(path: Path, limit_bytes: int) -> bytes:
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise AnnotationError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise AnnotationError(f"{path} cannot be opened: {error}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise AnnotationError(f"{path} is not a regular file, so it cannot hold captions")
        if status.st_size > limit_bytes:
            raise AnnotationError(
                f"{path} has {status.st_size} bytes, more than the {limit_bytes} a captions file may have; split it"
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(status.st_size)
    except OSError as error:
        raise AnnotationError(f"{path} cannot be read: {error}") from error
    finally:
        os.close(handle)


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise AnnotationError(f"{name} must be text, not {value!r:.60}")
    if not value.strip():
        raise AnnotationError(f"{name} is empty")
    if "\0" in value:
        raise AnnotationError(f"{name} {value!r:.60} holds a NUL character")


def _check_span(start: float, end: float) -> None:
    if not (math.isfinite(start) and math.isfinite(end)):
        raise AnnotationError(f"span {start} to {end} s: both must be finite")
    if start < 0:
        raise AnnotationError(f"span {start} to {end} s starts before 0")
    if end <= start:
        raise AnnotationError(f"span {start} to {end} s must end after its start")


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
