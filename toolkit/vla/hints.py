"""Hints: the way out of an error as data, which the command line or another front end puts into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, init=False)
class Hint:
    """An action that helps, e.g. `Hint("train", run="default")`.

    Attributes:
        action: name of the action, in words joined by `_`.
        values: named values of the action; they can be pickled.
    """

    action: str
    values: Mapping[str, object]

    def __init__(self, action: str, /, **values: object) -> None:
        object.__setattr__(self, "action", action)
        object.__setattr__(self, "values", values)

    def __hash__(self) -> int:
        return hash((self.action, *self.values))


class Note(str):
    """A message with an optional hint.

    Attributes:
        hint: the way out, or None.
    """

    hint: Hint | None

    def __new__(cls, text: str, hint: Hint | None = None) -> Note:
        """Create a message with a hint."""
        note = super().__new__(cls, text)
        note.hint = hint
        return note
