"""Captions that lie beside a video under its name: `x.srt`, `x.en.vtt`, `x.txt` or `x.json` for `x.mp4`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from vla.datasets import _cues
from vla.datasets._json import elements, members, parse_file
from vla.datasets._reading import Problems, read_each, read_text
from vla.datasets._times import spans_of
from vla.datasets.base import Annotation
from vla.errors import AnnotationError
from vla.video import SUFFIXES as VIDEO_SUFFIXES

SUFFIXES = (*_cues.SUFFIXES, ".txt", ".json")

_CAPTION_KEYS = ("caption", "captions", "description", "text")
_LANGUAGE = re.compile(r"(.+)\.[A-Za-z]{2,3}", re.DOTALL)

# Line, texts, and (start, end) where it is to be a moment: what a file holds, before any of it has been checked.
_Found = tuple[int, Any, tuple[Any, Any] | None]


class Dataset:
    """Reads the captions beside one video.

    Subtitles give a moment for each cue, a `.txt` one caption of the whole video for each line. A `.json` holds a
    caption, or a list of captions, or an object with `caption`, `captions`, `description` or `text`, and, if it likes,
    with `moments`, which are objects with `start`, `end` and `caption`; or a list of such moments.

    Args:
        video: the video's name; by default the file's name without suffix and language (`x` for `x.en.srt`).
    """

    files: ClassVar[str] = "x.srt, x.vtt, x.txt or x.json with the captions of the video x"

    def __init__(self, *, video: str = "") -> None:
        self._video = video

    def read(self, *paths: Path) -> list[Annotation]:
        """Every annotation of the files, in their order.

        Raises:
            AnnotationError: a file cannot be read, has no captions, or holds faults; one error names them all.
        """
        return read_each(paths, self._read)

    def _read(self, path: Path) -> list[Annotation]:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise AnnotationError(f"{path}: captions beside a video are {', '.join(SUFFIXES)}, not {path.suffix!r}")
        video = self._video or _without_language(path.stem)
        if suffix in _cues.SUFFIXES:
            return _cues.read_cues(path, video)
        text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
        problems = Problems()
        found = _in_text(text) if suffix == ".txt" else _in_json(text, path)
        annotations = list(_annotations(path, video, found, problems))
        problems.raise_if_any(path)
        if not annotations:
            raise AnnotationError(f"{path} has no captions; write one, or delete the file")
        return annotations


def find_sidecars(videos: Iterable[Path]) -> dict[Path, list[Path]]:
    """For each video the files beside it that hold its captions, sorted: `<stem>.<suffix>` and `<stem>.<language>.<suffix>`.

    A file that has the very name of another video there (`x.one.srt`, where `x.one.mp4` is) is that one's.
    """
    folders: dict[Path, _Folder] = {}
    found = {}
    for video in videos:
        if video.parent not in folders:
            folders[video.parent] = _Folder(video.parent)
        found[video] = folders[video.parent].captions_of(video.stem)
    return found


class _Folder:
    """What lies in a folder, listed once however many videos there are."""

    def __init__(self, folder: Path) -> None:
        self._video_stems: set[str] = set()
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in folder.iterdir() if folder.is_dir() else ():
            suffix = path.suffix.lower()
            if suffix in VIDEO_SUFFIXES:
                self._video_stems.add(path.stem)
            elif suffix in SUFFIXES:
                for stem in {path.stem, _without_language(path.stem)}:
                    self._by_stem[stem].append(path)

    def captions_of(self, stem: str) -> list[Path]:
        near = self._by_stem.get(stem, ())
        return sorted(p for p in near if (p.stem == stem or p.stem not in self._video_stems) and p.is_file())


def _without_language(stem: str) -> str:
    match = _LANGUAGE.fullmatch(stem)
    return match[1] if match else stem


def _in_text(text: str) -> Iterator[_Found]:
    return ((line, written, None) for line, written in enumerate(text.split("\n"), 1))


def _in_json(text: str, path: Path) -> Iterator[_Found]:
    whole = parse_file(text, path)
    if isinstance(whole, list):
        yield from _in_list(text, 0)
    elif isinstance(whole, dict):
        yield from _in_object(text, path)
    else:
        yield 1, whole, None


def _in_list(text: str, opening: int) -> Iterator[_Found]:
    for _, line, value in elements(text, opening):
        if isinstance(value, dict):
            key = next((key for key in _CAPTION_KEYS if key in value), "caption")
            yield line, value.get(key), (value.get("start"), value.get("end"))
        else:
            yield line, value, None


def _in_object(text: str, path: Path) -> Iterator[_Found]:
    by_key = {key: found for key, *found in members(text)}
    if not by_key.keys() & {*_CAPTION_KEYS, "moments"}:
        raise AnnotationError(
            f"{path} has none of the keys {', '.join(_CAPTION_KEYS)}, moments; it has: {', '.join(by_key) or 'none'}"
        )
    is_moment = bool(by_key.keys() & {"start", "end"})
    start, end = (by_key[key][2] if key in by_key else None for key in ("start", "end"))
    for key in _CAPTION_KEYS:
        if key in by_key:
            _, line, value = by_key[key]
            yield line, value, (start, end) if is_moment else None
    if "moments" in by_key:
        position, line, value = by_key["moments"]
        if not isinstance(value, list):
            raise AnnotationError(f"{path} line {line}: moments must be a list of objects, not {value!r:.60}")
        yield from _in_list(text, position)


def _annotations(path: Path, video: str, found: Iterator[_Found], problems: Problems) -> Iterator[Annotation]:
    number = 0
    for line, texts, times in found:
        try:
            spans = spans_of(*times) if times else ()
            if times and not spans:
                raise AnnotationError("a moment needs start and end")
            for text in texts if isinstance(texts, list) else [texts]:
                if not isinstance(text, str):
                    raise AnnotationError(f"a caption must be text, not {text!r:.60}")
                if not text.strip():
                    continue
                number += 1
                yield Annotation(f"{path.name}#{number}", text.strip(), video, spans, source=f"{path.name}:{line}")
        except AnnotationError as error:
            problems.add(line, str(error))
