"""Cues of a subtitle file, each with its line number."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vla.datasets._reading import OtherContentError, Problems, is_sensor_data, read_text
from vla.datasets._rolling import Cue, merge_rolling_cues
from vla.datasets._times import check_span, parse_seconds
from vla.datasets.base import Annotation
from vla.errors import AnnotationError
from vla.omissions import Omissions

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")

# The patterns that remove tags take quadratic time if a tag is not closed.
_MAX_CUE_CHARS = 10_000
_LIMIT_BYTES, _MAX_CUES = 32 << 20, 100_000

# A sentence with an arrow is not a time line; an unreadable time line still is one.
_TIME_LINE = re.compile(r"\s*[-+]?[0-9].*-->")
_TIME = re.compile(r"\d+:\d+:\d+[.,]\d+")
_TIME_TAG = re.compile(r"<[0-9:.]+>")


@dataclass
class _Cue:
    line: int
    span: tuple[float, float]
    text: list[str] = field(default_factory=list)


def read_cues(path: Path, video: str, omissions: Omissions) -> list[Annotation]:
    """Return one annotation for each cue with text, without tags, in the order of the file.

    Each line of rolling captions, which repeat the lines of the preceding cue, is returned once.
    Cues of zero length are counted in `omissions`.

    Raises:
        OtherContentError: the cues contain sensor readings, as drones write them.
        AnnotationError: the file cannot be read, has no cue with text, or has cues with invalid
            times; one error lists all faults.
    """
    text = read_text(path, _LIMIT_BYTES).replace("\r\n", "\n").replace("\r", "\n")
    problems = Problems()
    suffix = path.suffix.lower()
    cues = list(
        _dialogues(text, problems)
        if suffix in (".ass", ".ssa")
        else _cues(text, suffix == ".vtt", problems)
    )
    if len(cues) > _MAX_CUES:
        raise AnnotationError(f"{path} has {len(cues)} cues, more than the limit of {_MAX_CUES}")
    for cue in cues:
        if sum(map(len, cue.text)) > _MAX_CUE_CHARS:
            problems.add(
                cue.line,
                f"the text of this cue is longer than {_MAX_CUE_CHARS} characters: is a time "
                f"line missing?",
            )
        if cue.span[0] != cue.span[1]:
            _check(cue, problems)
    problems.raise_if_any(path)
    plain_lines = _plain_lines(cues, suffix)
    if is_sensor_data([" ".join(lines) for lines in plain_lines]):
        raise OtherContentError(
            f"{path} holds readings of instruments, e.g. {' '.join(plain_lines[0])!r:.60}: no "
            f"captions"
        )
    visible = [Cue(cue.line, cue.span, lines) for cue, lines in zip(cues, plain_lines, strict=True)]
    annotations = []
    has_word_times = any(_TIME_TAG.search(text) for cue in cues for text in cue.text)
    for line, span, lines in merge_rolling_cues(visible, has_word_times=has_word_times):
        source, query = f"{path.name}:{line}", " ".join(lines)
        if query and span[0] == span[1]:
            omissions.add("cue", source)
        elif query:
            annotations.append(Annotation(source, query, video, (span,), source=source))
    if not annotations:
        raise AnnotationError(
            f"{path} has no cue with text: nothing below a line like 00:00:01,000 --> 00:00:02,500"
        )
    return annotations


def _check(cue: _Cue, problems: Problems) -> None:
    try:
        check_span(*cue.span)
    except AnnotationError as error:
        problems.add(cue.line, str(error))


def _cues(text: str, is_vtt: bool, problems: Problems) -> Iterator[_Cue]:
    cue: _Cue | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if _TIME_LINE.match(line):
            # The number of the cue that starts here; in WebVTT it follows a blank line, alone.
            if (
                cue
                and cue.text
                and cue.text[-1].strip().isdigit()
                and not (is_vtt and len(cue.text) == 1)
            ):
                cue.text.pop()
            if cue:
                yield cue
            start, _, rest = line.partition("-->")
            # In WebVTT, settings follow the end.
            span = _span(number, start.strip(), (rest.split() or [""])[0], problems)
            cue = None if span is None else _Cue(number, span)
        elif cue and is_vtt and not line:
            # Text after a blank line is a note, a style or a name in WebVTT; in SubRip it belongs
            # to the cue. A line with one space is not blank: YouTube's cues start with it.
            yield cue
            cue = None
        elif cue:
            cue.text.append(line)
    if cue:
        yield cue


def _dialogues(text: str, problems: Problems) -> Iterator[_Cue]:
    """Yield the dialogue lines of Advanced SubStation Alpha; drawings and comments are skipped."""
    names: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        kind, _, rest = line.partition(":")
        if kind.strip() == "Format":
            names = [name.strip() for name in rest.split(",")]
        elif kind.strip() == "Dialogue":
            cells = dict(zip(names, rest.split(",", len(names) - 1), strict=False)) if names else {}
            if not {"Start", "End", "Text"} <= cells.keys():
                problems.add(
                    number, "a Dialogue needs Start, End and Text, as named in the Format line"
                )
                continue
            span = _span(number, cells["Start"].strip(), cells["End"].strip(), problems)
            if span is not None:
                yield _Cue(number, span, [cells["Text"]])


def _span(number: int, start: str, end: str, problems: Problems) -> tuple[float, float] | None:
    try:
        if not (start and end):
            present, absent = ("end", "start") if end else ("start", "end")
            raise AnnotationError(
                f"{present} {(start or end)!r:.60} without {absent}; give both or neither"
            )
        return parse_seconds(start), parse_seconds(end)
    except AnnotationError as error:
        problems.add(number, str(error))
        return None


def _plain_lines(cues: list[_Cue], suffix: str) -> list[list[str]]:
    """Return the lines of each cue without tags and override codes."""
    import pysubs2

    if suffix in (".ass", ".ssa"):
        events = [pysubs2.SSAEvent(text="".join(cue.text)) for cue in cues]
        texts = ["" if event.is_drawing else event.plaintext for event in events]
    else:
        # pysubs2 treats any line with two times as a cue, a last line of digits as the next
        # number, and WebVTT names and notes as text. Therefore it gets strictly numbered SubRip
        # cues without any of these.
        srt = "".join(f"0\n00:00:00,000 --> 00:00:01,000\n{_srt_text(cue)}\n\n" for cue in cues)
        with warnings.catch_warnings():
            # Since 1.9 it warns that a time within a text may be a missed cue.
            warnings.simplefilter("ignore", UserWarning)
            texts = [
                event.plaintext
                for event in pysubs2.SSAFile.from_string(f"{srt}0\n", format_="srt").events
            ]
    cue_lines = [
        [" ".join(line.split()) for line in _unescape(text, suffix).split("\n")] for text in texts
    ]
    return [[line for line in lines if line] for lines in cue_lines]


def _unescape(text: str, suffix: str) -> str:
    """Replace HTML entities, which WebVTT uses and most SubRip writers too."""
    return text if suffix in (".ass", ".ssa") else html.unescape(text)


def _srt_text(cue: _Cue) -> str:
    lines = (" ".join(line.split()) for line in cue.text)
    text = _TIME_TAG.sub("", "\n".join(line for line in lines if line))
    return _TIME.sub(r"\n\g<0>\n", text)
