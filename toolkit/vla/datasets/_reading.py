"""Basics of the readers: text decoding, collection of faults, and several files read as one."""

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

_MAX_LISTED_FAULTS = 20
_NUMBERS = re.compile(r"\d+(?:[.,:/-]\d+)*")
_WORDS = re.compile(r"[^\W\d_]+")
_SPLITS = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "testing": "test",
}


class InvalidRowsError(AnnotationError):
    """Some rows of the files are invalid.

    Attributes:
        faults: number of invalid rows.
        valid: annotations of the other rows.
    """

    def __init__(self, message: str, faults: int = 0, valid: Sequence[Annotation] = ()) -> None:
        super().__init__(message)  # unpickling passes only the message
        self.faults = faults
        self.valid = list(valid)


class OtherContentError(AnnotationError):
    """A valid file without captions: telemetry, labels or other metadata. Skipped if found beside
    a video.
    """


def is_sensor_data(texts: Sequence[str]) -> bool:
    """Return whether nine in ten texts are sensor readings or tables of numbers: telemetry, boxes,
    dates.
    """
    nonblank = [text for text in texts if text.strip()]
    return bool(nonblank) and sum(map(_is_sensor_line, nonblank)) >= 0.9 * len(nonblank)


def _is_sensor_line(text: str) -> bool:
    numbers, words = len(_NUMBERS.findall(text)), len(_WORDS.findall(text))
    return numbers > 0 and (words == 0 or (numbers >= 4 and 2 * numbers >= words))


class Problems:
    """Faults of one file, collected so that one error can list them."""

    def __init__(self) -> None:
        self._faults: list[tuple[int, str]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, line: int, message: str) -> None:
        """Add a fault; lines count from 1. Beyond a limit only the first faults and the count are
        stored.
        """
        self._count += 1
        self._faults.append((line, message))
        if len(self._faults) > 1000 * _MAX_LISTED_FAULTS:
            self._faults = sorted(self._faults, key=lambda fault: fault[0])[:_MAX_LISTED_FAULTS]

    def raise_if_any(self, path: Path, valid: Iterable[Annotation] = ()) -> None:
        """Raise an error if there are faults.

        Raises:
            InvalidRowsError: the first 20 faults in the order of their lines, and the number of
                others.
        """
        if not self._faults:
            return
        faults = sorted(self._faults, key=lambda fault: fault[0])
        lines = [f"  line {line}: {message}" for line, message in faults[:_MAX_LISTED_FAULTS]]
        if self._count > _MAX_LISTED_FAULTS:
            lines.append(f"  and {self._count - _MAX_LISTED_FAULTS} more")
        count = "1 fault" if self._count == 1 else f"{self._count} faults"
        message = f"{path} has {count}; correct the file and try again:\n" + "\n".join(lines)
        raise InvalidRowsError(message, self._count, list(valid))


def read_each(
    paths: Iterable[Path], read_one: Callable[[Path], list[Annotation]]
) -> list[Annotation]:
    """Return the annotations of all files, in order; ids shared by several files are prefixed with
    the file name.

    Raises:
        AnnotationError: there is no file, or a file occurs twice; otherwise the errors of
            `read_one`, joined. An InvalidRowsError if all of these are.
    """
    by_path: dict[Path, list[Annotation]] = {}
    errors: list[AnnotationError] = []
    for path in paths:
        if path in by_path:
            raise AnnotationError(f"{path} is given twice")
        try:
            by_path[path] = read_one(path)
        except AnnotationError as error:
            errors.append(error)
            by_path[path] = error.valid if isinstance(error, InvalidRowsError) else []
    if not by_path:
        raise AnnotationError("no file of annotations was given")
    files_of = Counter(
        query_id for group in by_path.values() for query_id in {a.query_id for a in group}
    )
    annotations = [
        a if files_of[a.query_id] == 1 else replace(a, query_id=f"{path.stem}:{a.query_id}")
        for path, group in by_path.items()
        for a in group
    ]
    if len({a.query_id for a in annotations}) < len(annotations):
        raise AnnotationError(
            f"{', '.join(map(str, by_path))}: files with the same ids need names that differ; "
            f"rename one"
        )
    if errors:
        message = "\n".join(map(str, errors))
        invalid = [error for error in errors if isinstance(error, InvalidRowsError)]
        if len(invalid) == len(errors):
            raise InvalidRowsError(message, sum(error.faults for error in invalid), annotations)
        if all(isinstance(error, OtherContentError) for error in errors):
            raise OtherContentError(message)
        raise AnnotationError(message)
    return annotations


def split_from_name(path: Path) -> str:
    """Return the split in a file name: `train`, `val` or `test`; empty if there is none or more
    than one.
    """
    words = (_SPLITS.get(word, word) for word in re.split("[^a-z]+", path.stem.lower()))
    splits = {word for word in words if word in ("train", "val", "test")}
    return splits.pop() if len(splits) == 1 else ""


def canonical_split(word: str) -> str:
    """Return `train`, `val` or `test` for their synonyms; any other word unchanged."""
    return _SPLITS.get(word.lower(), word)


def read_text(path: Path, limit_bytes: int = 256 * 2**20) -> str:
    """Return the text of a regular file in UTF-8 (with or without BOM) or UTF-16; line ends are
    not changed.

    Raises:
        AnnotationError: the file is missing, not regular, unreadable, larger than `limit_bytes`,
            in another encoding (the message gives the byte offset), or contains a NUL (the message
            gives the line).
    """
    raw = read_regular(path, limit_bytes, AnnotationError, "captions file")
    encoding, mark = _encoding(raw)
    try:
        text = raw[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        offset = len(mark) + error.start
        raise AnnotationError(
            f"{path} is not {encoding.upper()}: byte 0x{raw[offset]:02x} at offset {offset} "
            f"cannot be decoded; "
            "save the file as UTF-8"
        ) from error
    if "\0" in text:
        preceding = text[: text.index("\0")].replace("\r\n", "\n").replace("\r", "\n")
        raise AnnotationError(
            f"{path} line {preceding.count(chr(10)) + 1} holds a NUL character: the file is not "
            f"text"
        )
    return text


def _encoding(raw: bytes) -> tuple[str, bytes]:
    """Return the name of the encoding and the byte order mark."""
    for name, bom in (
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ):
        if raw.startswith(bom):
            return name, bom
    # Without a mark: both byte orders of UTF-16 put a NUL beside each ASCII character; UTF-8 text
    # has no NUL.
    start = raw[:64]
    for name, zero, other in (("utf-16-le", 1, 0), ("utf-16-be", 0, 1)):
        if len(start) >= 2 and not any(start[zero::2]) and all(start[other::2]):
            return name, b""
    return "utf-8", b""
