"""The way out of an error, or of what a note says, as data: whoever shows the message words it for the surface it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, init=False)
class Hint:
    """An action that helps, e.g. `Hint("train", run="default")`.

    Attributes:
        action: one word or more, joined by `_`.
        values: named values of the action, fit to be pickled.
    """

    action: str
    values: Mapping[str, object]

    def __init__(self, action: str, /, **values: object) -> None:
        object.__setattr__(self, "action", action)
        object.__setattr__(self, "values", values)

    def __hash__(self) -> int:
        return hash((self.action, *self.values))


class Note(str):
    """A sentence for a person that carries the way out, if there is one.

    Attributes:
        hint: the way out, or None.
    """

    hint: Hint | None

    def __new__(cls, text: str, hint: Hint | None = None) -> Note:
        """`text`, with `hint` beside it."""
        note = super().__new__(cls, text)
        note.hint = hint
        return note
