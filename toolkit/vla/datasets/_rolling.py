"""Rolling captions: each cue repeats the last lines of the one before, as YouTube's automatic captions do."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

_GAP_SECONDS = 0.1


class Shown(NamedTuple):
    """A cue: its line in the file, `(start, end)` in seconds, its lines of text."""

    line: int
    span: tuple[float, float]
    lines: list[str]


def unrolled(cues: list[Shown], *, has_word_times: bool = False) -> list[Shown]:
    """The cues, and of rolling captions each line once, in the cue that says it first.

    A file is rolling if a third of its cues that follow at once repeat a line, and two do (one is enough if words have
    times): in a dialogue the same words may be said twice. A cue that only repeats makes the one before last longer.

    Args:
        cues: in the order of the file.
        has_word_times: words within the cues have times of their own.
    """
    pairs = [(a, b) for a, b in pairwise(cues) if a.lines and b.lines and _touch(a, b)]
    repeated = sum(_shared(a.lines, b.lines) > 0 for a, b in pairs)
    if not repeated or 3 * repeated < len(pairs) or (repeated < 2 and not has_word_times):
        return cues
    found: list[Shown] = []
    before: Shown | None = None
    for cue in cues:
        shared = _shared(before.lines, cue.lines) if before and _touch(before, cue) else 0
        if shared and shared == len(cue.lines) and found:
            last = found[-1]
            found[-1] = last._replace(span=(last.span[0], max(last.span[1], cue.span[1])))
        else:
            found.append(cue._replace(lines=cue.lines[shared:]))
        before = cue if cue.lines else before
    return found


def _touch(first: Shown, second: Shown) -> bool:
    return first.span[0] <= second.span[0] <= first.span[1] + _GAP_SECONDS


def _shared(before: list[str], now: list[str]) -> int:
    """How many lines at the begin of `now` are those at the end of `before`."""
    return next((n for n in range(min(len(before), len(now)), 0, -1) if before[-n:] == now[:n]), 0)
