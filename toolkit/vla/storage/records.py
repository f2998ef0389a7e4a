"""Records: the small JSON files of a workspace, decoded by the types of a dataclass.

A record is validated before use: its checksum, if it has one, then the type and range of every field.
The first problem is a CacheError that names the field and its value, with the way out as its hint.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from vla.errors import CacheError
from vla.hints import Hint
from vla.naming.portable import is_file_name
from vla.storage import atomic
from vla.storage._readers import LATE as LATE
from vla.storage._readers import AnyFloat as AnyFloat
from vla.storage._readers import Fault, build_reader
from vla.storage._readers import Rule as Rule

T = TypeVar("T")
_REDO = Hint("make_again")


class NewerRecordError(CacheError):
    """A record of a newer version: intact, so it is neither replaced nor skipped like a damaged one."""


def between(minimum: float, maximum: float) -> Rule:
    """Return the rule for numbers from `minimum` to `maximum`."""
    if maximum == math.inf:
        words = f"a number of at least {minimum:g}"
    else:
        words = f"a number from {minimum:g} to {maximum:g}"
    return Rule(lambda value: minimum <= value <= maximum, words)


_HEX = re.compile("[0-9a-f]*")
Count = Annotated[int, between(0, 2**62)]
Positive = Annotated[int, between(1, 2**62)]
Seconds = Annotated[float, between(0, 1e12)]
Share = Annotated[float, between(0, 1)]
FileName = Annotated[str, Rule(is_file_name, "the name of a file in the same folder")]
FileNameOrEmpty = Annotated[
    str,
    Rule(
        lambda name: not name or is_file_name(name),
        "the name of a file in the same folder, or empty",
    ),
]
Digest = Annotated[
    str,
    Rule(lambda v: len(v) == 64 and bool(_HEX.fullmatch(v)), "a sha256 of 64 hexadecimal digits"),
]
Hex = Annotated[str, Rule(lambda v: bool(_HEX.fullmatch(v)), "hexadecimal digits")]
Name = Annotated[str, Rule(lambda v: bool(v) and "\0" not in v, "a name")]


def load(kind: type[T], path: Path, hint: Hint = _REDO, *, schema: int | None = None) -> T:
    """Read the record at `path` as an object of `kind`.

    Args:
        kind: a dataclass whose fields name the keys; those marked LATE may be missing. Types: str, int,
            float, bool, None, Any, Literal, lists, tuples, frozensets, dicts with str keys, unions with
            None, dataclasses, and these `Annotated` with a `Rule`. A bool is not a number, and a float
            is finite unless it is an `AnyFloat`.
        path: the file.
        hint: the way out if the record cannot be used.
        schema: the latest supported version of `kind`, if the record has a `schema`.

    Raises:
        CacheError: the record cannot be read, is damaged or was altered.
        NewerRecordError: the record has a newer schema.
    """
    document = atomic.read_record(path, hint)
    return decode(
        kind, document.value, str(path), hint, schema=schema, strict=not document.has_checksum
    )


def decode(
    kind: type[T],
    value: Any,
    source: str,
    hint: Hint = _REDO,
    *,
    schema: int | None = None,
    strict: bool = False,
) -> T:
    """Convert `value`, decoded from JSON, to `kind`; see `load`.

    Args:
        kind: as for `load`.
        value: the decoded JSON.
        source: name of the record; messages begin with it.
        hint: as for `load`.
        schema: as for `load`.
        strict: refuse keys that `kind` lacks. Without a checksum, nothing else tells a damaged key from
            a new one.
    """
    if schema is not None and isinstance(value, dict):
        version = value.get("schema")
        if isinstance(version, int) and not isinstance(version, bool) and version > schema:
            raise NewerRecordError(
                f"{source} was written by a newer vla (schema {version}): upgrade vla"
            )
    try:
        record: T = build_reader(kind, strict)(value)  # type: ignore[arg-type]
        return record
    except Fault as fault:
        raise CacheError(f"{source} is damaged ({fault.description()})", hint=hint) from None
