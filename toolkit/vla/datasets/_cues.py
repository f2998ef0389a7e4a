"""The cues of a subtitle file, each with its line."""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vla.datasets._reading import OtherContentError, Problems, is_readings, read_text
from vla.datasets._rolling import Shown, unrolled
from vla.datasets._times import check_span, parse_seconds
from vla.datasets.base import Annotation
from vla.errors import AnnotationError
from vla.omissions import Omissions

SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")

# Patterns that take tags away need quadratic time where a tag is not closed; nobody reads this much at once.
_LONGEST = 10_000
_LIMIT_BYTES, _MOST_CUES = 32 << 20, 100_000

# A sentence with an arrow in it is no time line; a time line that cannot be read is still one.
_TIME_LINE = re.compile(r"\s*[-+]?[0-9].*-->")
_TIME = re.compile(r"\d+:\d+:\d+[.,]\d+")
_TIME_TAG = re.compile(r"<[0-9:.]+>")


@dataclass
class _Cue:
    line: int
    span: tuple[float, float]
    text: list[str] = field(default_factory=list)


def read_cues(path: Path, video: str, omissions: Omissions) -> list[Annotation]:
    """One annotation for each cue that has text, without tags, in the order of the file.

    Rolling captions, which repeat the lines of the cue before, give each line once. Cues of no length are counted in
    `omissions`.

    Raises:
        OtherContentError: the cues hold readings of instruments, as a drone writes them.
        AnnotationError: the file cannot be read, has no cue with text, or has cues with impossible times; one error
            names them all.
    """
    text = read_text(path, _LIMIT_BYTES).replace("\r\n", "\n").replace("\r", "\n")
    problems = Problems()
    suffix = path.suffix.lower()
    cues = list(_dialogues(text, problems) if suffix in (".ass", ".ssa") else _cues(text, suffix == ".vtt", problems))
    if len(cues) > _MOST_CUES:
        raise AnnotationError(f"{path} has {len(cues)} cues, more than the {_MOST_CUES} that subtitles may have")
    for cue in cues:
        if sum(map(len, cue.text)) > _LONGEST:
            problems.add(
                cue.line, f"the text of this cue is longer than {_LONGEST} characters: is a time line missing?"
            )
        if cue.span[0] != cue.span[1]:
            _check(cue, problems)
    problems.raise_if_any(path)
    plain = _plain(cues, suffix)
    if is_readings([" ".join(lines) for lines in plain]):
        raise OtherContentError(f"{path} holds readings of instruments, e.g. {' '.join(plain[0])!r:.60}: no captions")
    shown = [Shown(cue.line, cue.span, lines) for cue, lines in zip(cues, plain, strict=True)]
    annotations = []
    for line, span, lines in unrolled(shown, has_word_times=any(_TIME_TAG.search(t) for cue in cues for t in cue.text)):
        source, query = f"{path.name}:{line}", " ".join(lines)
        if query and span[0] == span[1]:
            omissions.add("cue", source)
        elif query:
            annotations.append(Annotation(source, query, video, (span,), source=source))
    if not annotations:
        raise AnnotationError(f"{path} has no cue with text: nothing below a line like 00:00:01,000 --> 00:00:02,500")
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
            # The number of the cue that begins here; WebVTT has it after a blank line alone.
            if cue and cue.text and cue.text[-1].strip().isdigit() and not (is_vtt and len(cue.text) == 1):
                cue.text.pop()
            if cue:
                yield cue
            start, _, rest = line.partition("-->")
            # WebVTT writes settings after the end.
            span = _span(number, start.strip(), (rest.split() or [""])[0], problems)
            cue = None if span is None else _Cue(number, span)
        elif cue and is_vtt and not line:
            # What follows a blank line in WebVTT is a note, a style or a name; in SubRip it is still the cue's. A line of
            # one space is no blank line: YouTube's cues begin with it.
            yield cue
            cue = None
        elif cue:
            cue.text.append(line)
    if cue:
        yield cue


def _dialogues(text: str, problems: Problems) -> Iterator[_Cue]:
    """The lines of Advanced SubStation Alpha that are shown; drawings and comments are none."""
    names: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        kind, _, rest = line.partition(":")
        if kind.strip() == "Format":
            names = [name.strip() for name in rest.split(",")]
        elif kind.strip() == "Dialogue":
            cells = dict(zip(names, rest.split(",", len(names) - 1), strict=False)) if names else {}
            if not {"Start", "End", "Text"} <= cells.keys():
                problems.add(number, "a Dialogue needs Start, End and Text, as a line Format names them")
                continue
            span = _span(number, cells["Start"].strip(), cells["End"].strip(), problems)
            if span is not None:
                yield _Cue(number, span, [cells["Text"]])


def _span(number: int, start: str, end: str, problems: Problems) -> tuple[float, float] | None:
    try:
        if not (start and end):
            there, lacking = ("end", "start") if end else ("start", "end")
            raise AnnotationError(f"{there} {(start or end)!r:.60} without {lacking}; give both or neither")
        return parse_seconds(start), parse_seconds(end)
    except AnnotationError as error:
        problems.add(number, str(error))
        return None


def _plain(cues: list[_Cue], suffix: str) -> list[list[str]]:
    """The lines of each cue without tags and override codes."""
    import pysubs2

    if suffix in (".ass", ".ssa"):
        events = [pysubs2.SSAEvent(text="".join(cue.text)) for cue in cues]
        texts = ["" if event.is_drawing else event.plaintext for event in events]
    else:
        # pysubs2 takes any line with two times for a cue, a last line of digits for the next cue's number, and a WebVTT
        # name or note for text. So it is given one strictly numbered SubRip cue for each of ours, and none of those.
        written = "".join(f"0\n00:00:00,000 --> 00:00:01,000\n{_fenced(cue)}\n\n" for cue in cues)
        with warnings.catch_warnings():
            # From 1.9 on it takes a time within a text for a cue that it may have missed.
            warnings.simplefilter("ignore", UserWarning)
            texts = [event.plaintext for event in pysubs2.SSAFile.from_string(f"{written}0\n", format_="srt").events]
    lines = [[" ".join(line.split()) for line in _unescaped(text, suffix).split("\n")] for text in texts]
    return [[line for line in some if line] for some in lines]


def _unescaped(text: str, suffix: str) -> str:
    """HTML's entities belong to WebVTT, and most makers of SubRip write them."""
    return text if suffix in (".ass", ".ssa") else html.unescape(text)


def _fenced(cue: _Cue) -> str:
    lines = (" ".join(line.split()) for line in cue.text)
    text = _TIME_TAG.sub("", "\n".join(line for line in lines if line))
    return _TIME.sub(r"\n\g<0>\n", text)
