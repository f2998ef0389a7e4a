"""The cues of a subtitle file, each with its line."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vla.datasets._reading import Problems, read_text
from vla.datasets._times import Spans, spans_of
from vla.datasets.base import Annotation
from vla.errors import AnnotationError

SUFFIXES = (".srt", ".vtt")

# Patterns that take tags away need quadratic time where a tag is not closed; nobody reads this much at once.
_LONGEST = 10_000

# A sentence with an arrow in it is no time line; a time line that cannot be read is still one.
_TIME_LINE = re.compile(r"\s*[-+]?[0-9].*-->")
_TIME = re.compile(r"\d+:\d+:\d+[.,]\d+")
_TIME_TAG = re.compile(r"<[0-9:.]+>")


@dataclass
class _Cue:
    line: int
    spans: Spans
    text: list[str] = field(default_factory=list)


def read_cues(path: Path, video: str) -> list[Annotation]:
    """One annotation for each cue that has text, without tags, in the order of the file.

    Raises:
        AnnotationError: the file cannot be read, has no cue with text, or has cues with impossible times; one error
            names them all.
    """
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    problems = Problems()
    is_vtt = path.suffix.lower() == ".vtt"
    cues = list(_cues(text, is_vtt, problems))
    for cue in cues:
        if sum(map(len, cue.text)) > _LONGEST:
            problems.add(
                cue.line, f"the text of this cue is longer than {_LONGEST} characters: is a time line missing?"
            )
    problems.raise_if_any(path)
    annotations = [
        Annotation(f"{path.name}:{cue.line}", query, video, cue.spans, source=f"{path.name}:{cue.line}")
        for cue, query in zip(cues, _plain(cues, is_vtt), strict=True)
        if query
    ]
    if not annotations:
        raise AnnotationError(f"{path} has no cue with text: nothing below a line like 00:00:01,000 --> 00:00:02,500")
    return annotations


def _cues(text: str, is_vtt: bool, problems: Problems) -> Iterator[_Cue]:
    cue: _Cue | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if _TIME_LINE.match(line):
            if cue and not is_vtt and cue.text and cue.text[-1].strip().isdigit():
                cue.text.pop()  # the number of the cue that begins here
            if cue:
                yield cue
            cue = _Cue(number, _spans(number, line, problems))
        elif cue and is_vtt and not line.strip():
            # What follows a blank line in WebVTT is a note, a style or a name; in SubRip it is still the cue's.
            yield cue
            cue = None
        elif cue:
            cue.text.append(line)
    if cue:
        yield cue


def _spans(number: int, line: str, problems: Problems) -> Spans:
    start, _, rest = line.partition("-->")
    try:
        return spans_of(start.strip(), (rest.split() or [""])[0])  # WebVTT writes settings after the end
    except AnnotationError as error:
        problems.add(number, str(error))
        return ()


def _plain(cues: list[_Cue], is_vtt: bool) -> list[str]:
    """The cues' texts as one line each, without tags and override codes."""
    import pysubs2

    # pysubs2 takes any line with two times for a cue, a last line of digits for the next cue's number, and a WebVTT
    # name or note for text. So it is given one strictly numbered SubRip cue for each of ours, and none of those.
    written = "".join(f"0\n00:00:00,000 --> 00:00:01,000\n{_fenced(cue)}\n\n" for cue in cues)
    events = pysubs2.SSAFile.from_string(f"{written}0\n", format_="srt").events
    texts = [event.plaintext for event in events]
    return [" ".join((html.unescape(text) if is_vtt else text).split()) for text in texts]


def _fenced(cue: _Cue) -> str:
    lines = (" ".join(line.split()) for line in cue.text)
    text = _TIME_TAG.sub("", "\n".join(line for line in lines if line))
    return _TIME.sub(r"\n\g<0>\n", text)
