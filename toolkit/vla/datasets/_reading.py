"""How files become annotations: their text, their faults gathered, several files as one."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from vla.datasets.base import Annotation
from vla.errors import AnnotationError
from vla.storage.regular_files import read_regular

_REPORTED = 20
_NUMBERS = re.compile(r"\d+(?:[.,:/-]\d+)*")
_WORDS = re.compile(r"[^\W\d_]+")
_SPLITS = {"training": "train", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "testing": "test"}


class InvalidRowsError(AnnotationError):
    """Files of which some rows cannot be used.

    Attributes:
        faults: how many rows those are.
        sound: what the other rows say.
    """

    def __init__(self, message: str, faults: int = 0, sound: Sequence[Annotation] = ()) -> None:
        super().__init__(message)  # what unpickles gives the message alone
        self.faults = faults
        self.sound = list(sound)


class OtherContentError(AnnotationError):
    """A sound file of another meaning: telemetry, labels, somebody's metadata. Beside a video it is passed over."""


def is_readings(texts: Sequence[str]) -> bool:
    """True if nine in ten of the texts are readings of instruments or tables of numbers: telemetry, boxes, dates."""
    there = [text for text in texts if text.strip()]
    return bool(there) and sum(map(_is_reading, there)) >= 0.9 * len(there)


def _is_reading(text: str) -> bool:
    numbers, words = len(_NUMBERS.findall(text)), len(_WORDS.findall(text))
    return numbers > 0 and (words == 0 or (numbers >= 4 and 2 * numbers >= words))


class Problems:
    """The faults of one file, gathered so that a person can mend them in one go."""

    def __init__(self) -> None:
        self._found: list[tuple[int, str]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, line: int, message: str) -> None:
        """Notes a fault; lines count from 1. Of very many only the first are kept, and their count."""
        self._count += 1
        self._found.append((line, message))
        if len(self._found) > 1000 * _REPORTED:
            self._found = sorted(self._found, key=lambda fault: fault[0])[:_REPORTED]

    def raise_if_any(self, path: Path, sound: Iterable[Annotation] = ()) -> None:
        """Nothing, if no fault was noted.

        Raises:
            FaultyRowsError: the first 20 faults in the order of their lines, and how many more there are.
        """
        if not self._found:
            return
        ordered = sorted(self._found, key=lambda fault: fault[0])
        lines = [f"  line {line}: {message}" for line, message in ordered[:_REPORTED]]
        if self._count > _REPORTED:
            lines.append(f"  and {self._count - _REPORTED} more")
        count = "1 fault" if self._count == 1 else f"{self._count} faults"
        message = f"{path} has {count}; mend the file and try again:\n" + "\n".join(lines)
        raise InvalidRowsError(message, self._count, list(sound))


def read_each(paths: Iterable[Path], read_one: Callable[[Path], list[Annotation]]) -> list[Annotation]:
    """What `read_one` finds in each file, in their order; an id that several files use gets the file's name before it.

    Raises:
        AnnotationError: no file, or one twice, or of what `read_one` raised, all; it is a FaultyRowsError if they are.
    """
    found: dict[Path, list[Annotation]] = {}
    errors: list[AnnotationError] = []
    for path in paths:
        if path in found:
            raise AnnotationError(f"{path} is given twice")
        try:
            found[path] = read_one(path)
        except AnnotationError as error:
            errors.append(error)
            found[path] = error.sound if isinstance(error, InvalidRowsError) else []
    if not found:
        raise AnnotationError("no file of annotations was given")
    files_of = Counter(query_id for some in found.values() for query_id in {a.query_id for a in some})
    annotations = [
        a if files_of[a.query_id] == 1 else replace(a, query_id=f"{path.stem}:{a.query_id}")
        for path, some in found.items()
        for a in some
    ]
    if len({a.query_id for a in annotations}) < len(annotations):
        raise AnnotationError(
            f"{', '.join(map(str, found))}: files with the same ids need names that differ; rename one"
        )
    if errors:
        message = "\n".join(map(str, errors))
        faulty = [error for error in errors if isinstance(error, InvalidRowsError)]
        if len(faulty) == len(errors):
            raise InvalidRowsError(message, sum(error.faults for error in faulty), annotations)
        if all(isinstance(error, OtherContentError) for error in errors):
            raise OtherContentError(message)
        raise AnnotationError(message)
    return annotations


def split_of(path: Path) -> str:
    """The split that the name of a file tells: `train`, `val` or `test`; empty where it tells none, or two."""
    words = (_SPLITS.get(word, word) for word in re.split("[^a-z]+", path.stem.lower()))
    told = {word for word in words if word in ("train", "val", "test")}
    return told.pop() if len(told) == 1 else ""


def split_named(word: str) -> str:
    """`train`, `val` or `test` for the other words there are for them, any other word as it is."""
    return _SPLITS.get(word.lower(), word)


def read_text(path: Path, limit_bytes: int = 256 * 2**20) -> str:
    """Read the text of a regular file: UTF-8 with or without a mark, or UTF-16. Line ends stay as they are.

    Raises:
        AnnotationError: the file is missing, not regular, not readable, larger than `limit_bytes`, not in one of these
            encodings (the message has the byte offset), or holds a NUL (the message has the line).
    """
    raw = read_regular(path, limit_bytes, AnnotationError, "captions file")
    encoding, mark = _encoding(raw)
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


def _encoding(raw: bytes) -> tuple[str, bytes]:
    """Name of the encoding, and the mark in front of the text."""
    for name, bom in (
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ):
        if raw.startswith(bom):
            return name, bom
    # Without a mark: both byte orders of UTF-16 have a NUL beside each ASCII character, and UTF-8 text has none.
    start = raw[:64]
    for name, zero, other in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        if len(start) >= 2 and not any(start[zero::2]) and all(start[other::2]):
            return name, b""
    return "utf-8", b""
