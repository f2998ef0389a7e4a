"""Rolling captions: each cue repeats the last lines of the preceding one, as in YouTube's
automatic captions.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

_GAP_SECONDS = 0.1


class Cue(NamedTuple):
    """A cue: its line number in the file, `(start, end)` in seconds, its lines of text."""

    line: int
    span: tuple[float, float]
    lines: list[str]


def merge_rolling_cues(cues: list[Cue], *, has_word_times: bool = False) -> list[Cue]:
    """Return the cues; of rolling captions each line once, in its first cue.

    A file is rolling if a third of its adjacent cues repeat a line, and at least two do (one is
    enough if words have times): a dialogue may repeat words. A cue that only repeats lines extends
    the preceding one.

    Args:
        cues: in the order of the file.
        has_word_times: whether words within the cues have times.
    """
    pairs = [(a, b) for a, b in pairwise(cues) if a.lines and b.lines and _is_adjacent(a, b)]
    num_repeats = sum(_num_shared_lines(a.lines, b.lines) > 0 for a, b in pairs)
    if not num_repeats or 3 * num_repeats < len(pairs) or (num_repeats < 2 and not has_word_times):
        return cues
    output: list[Cue] = []
    previous: Cue | None = None
    for cue in cues:
        overlap = (
            _num_shared_lines(previous.lines, cue.lines)
            if previous and _is_adjacent(previous, cue)
            else 0
        )
        if overlap and overlap == len(cue.lines) and output:
            last = output[-1]
            output[-1] = last._replace(span=(last.span[0], max(last.span[1], cue.span[1])))
        else:
            output.append(cue._replace(lines=cue.lines[overlap:]))
        previous = cue if cue.lines else previous
    return output


def _is_adjacent(first: Cue, second: Cue) -> bool:
    return first.span[0] <= second.span[0] <= first.span[1] + _GAP_SECONDS


def _num_shared_lines(before: list[str], now: list[str]) -> int:
    """Return the number of first lines of `now` that are the last lines of `before`."""
    return next((n for n in range(min(len(before), len(now)), 0, -1) if before[-n:] == now[:n]), 0)
