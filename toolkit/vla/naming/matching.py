r"""Matcher of video names as people and files write them: captions, sidecars, filters, arguments.

An id is the name of a video in its workspace: its path relative to the workspace's folder, or an
absolute path. A name is split into folders and a file name: Unicode in composed form (macOS writes the
decomposed form), `/` and `\` alike, `.`, `..` and doubled slashes resolved. Drives, shares, `~` and the
host, query and fragment of a URL are dropped; `%20` is decoded in URLs only. Such a name, or an absolute
path, is *rooted*: it may come from another machine. Ids are compared from the end of the path:

| name | ids | match | rule |
|---|---|---|---|
| `a.mp4` in `sets/c.csv` | `a.mp4`, `sets/a.mp4` | `sets/a.mp4` | relative to the naming file first |
| `clip.mp4` | `v/a/clip.mp4` | it | a bare name, if unique |
| `a/clip.mp4` | `v/a/clip.mp4`, `v/b/clip.mp4` | the first | longest common end |
| `clip.mp4` | `v/a/clip.mp4`, `v/b/clip.mp4` | ambiguous | both match |
| `2023/clip.mp4` | `v/2024/clip.mp4` | none | a folder of a relative name differs |
| `videos/a.mp4` | `a.mp4` | it | the id has no folder that could differ |
| `/data/msrvtt/videos/a.mp4` | `videos/a.mp4` | it | rooted: the roots may differ |
| `/data/2023/a.mp4` | `v/2024/a.mp4` | none | folders of a series (only digits differ) |
| `/data/a/x.mp4` | `b/x.mp4`, `a/y.mp4` | none | folder `a` is here, without the video |
| `/m/1/x.mp4` and `/m/2/x.mp4` | `x.mp4` | none | one file names two videos: neither is certain |
| `a.avi`, `a` | `a.mp4` | it | the suffix of a video is ignored, last |
| `a.mp4`, `a.avi` | `a.mp4` | the first | the file tells them apart |
| `RoripwjYFp8_60.0` | `RoripwjYFp8_60.mp4` | none | `.0` is not a video suffix |
| `A.mp4` | `a.mp4` | none | only the suffix may differ in case |
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vla.errors import MissingError, UsageError
from vla.hints import Hint
from vla.naming.path_trie import PathTrie
from vla.naming.paths import (
    Parts,
    contradictions,
    normalize_parts,
    parse_path,
    path_matches,
    raw_parts,
)

_HERE = re.compile(r"\.\.?(?:[\\/]|$)")
_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class NameMatches:
    """Result of matching the names in a file.

    Attributes:
        ids: the id of each name that matches one video.
        unknown: names that match no video, each once, in order.
        ambiguous: up to three of the ids that a name matches equally well, by name.
    """

    ids: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)


class NameMatcher:
    """Ids of videos, with lookup by names as people write them.

    Args:
        ids: ids of the videos; the attribute has each once, in order.
        root: the folder that relative ids are relative to.
    """

    def __init__(self, ids: Iterable[str], root: Path) -> None:
        self.ids = list(dict.fromkeys(ids))
        self._id_set = set(self.ids)
        self._folder = os.path.abspath(root)  # noqa: PTH100 - links keep their names
        self._root = parse_path(self._folder).parts

    def find(self, name: str, *folders: Path) -> list[str]:
        """Return the ids that `name` matches: none, one, or up to three if several match.

        Args:
            name: the name as written.
            folders: folders that it may be relative to, in order of precedence.
        """
        return self._look_up(name, folders)[0]

    def find_all(self, names: Iterable[str], *folders: Path) -> NameMatches:
        """Match the names in a file together: names of two videos never match the same id."""
        matches = NameMatches()
        partial_names: dict[str, list[str]] = defaultdict(list)
        complete_names: dict[str, list[str]] = defaultdict(list)
        unique_names = list(dict.fromkeys(names))
        for name in unique_names:
            ids, is_complete = self._look_up(name, folders)
            if len(ids) == 1:
                matches.ids[name] = ids[0]
                (complete_names if is_complete else partial_names)[ids[0]].append(name)
            elif ids:
                matches.ambiguous[name] = ids
        for video, names_of_video in partial_names.items():
            for name in contradictions(names_of_video, complete_names[video]):
                del matches.ids[name]
        matches.unknown.extend(
            n for n in unique_names if n not in matches.ids and n not in matches.ambiguous
        )
        return matches

    def resolve(self, name: str, *folders: Path) -> str:
        """Return the id that `name` matches.

        Raises:
            MissingError: no id matches.
            UsageError: several ids match.
        """
        matches = self.find(name, *folders)
        if not matches:
            raise MissingError(
                f"no features of {name!r}: it was never extracted", hint=Hint("list_videos")
            )
        if len(matches) > 1:
            raise UsageError(
                f"{name!r} matches several videos, e.g. {', '.join(matches)}: name one of them"
            )
        return matches[0]

    def select(self, pattern: str, *folders: Path, any_folder: bool = False) -> list[str]:
        """Return the ids that a name, a folder or a glob pattern matches, in order.

        A folder, or a pattern that matches a folder, stands for all videos in it. `*`, `?` and `[...]`
        match within one folder, `**` any number of folders. A pattern is relative to the first of
        `folders` from which it matches anything; one that begins with `./` or `../` tries them in
        reverse.

        Args:
            pattern: the name, folder or pattern.
            folders: folders that it may be relative to.
            any_folder: let a pattern without a folder that matches nothing there match file names in all
                folders.

        Raises:
            UsageError: no path matches, and several videos have that name.
        """
        if pattern in self._id_set:
            return [pattern]
        bases = folders[::-1] if _HERE.match(pattern) else folders
        # `**` is any number of folders: of videos outside the root, too.
        anywhere = parse_path(pattern).parts if raw_parts(pattern)[0] == "**" else None
        for path in dict.fromkeys(
            [*self._paths(pattern, bases), *self._paths_behind_links(pattern, bases)]
        ):
            matches = [
                video
                for video, own, count in zip(
                    self.ids, self._id_paths, self._num_id_parts, strict=True
                )
                if path_matches(own, path)
                or (anywhere and count == len(own) and path_matches(own, anywhere))
            ]
            if matches:
                return matches
        if self.find(pattern, *folders):
            return [self.resolve(pattern, *folders)]
        bare = parse_path(pattern)
        if not any_folder or bare.is_rooted or len(bare.parts) != 1:
            return []
        return [
            v
            for v, own in zip(self.ids, self._id_paths, strict=True)
            if path_matches(own[-1:], bare.parts)
        ]

    def _paths(self, name: str, folders: Sequence[Path]) -> list[Parts]:
        """Return the absolute paths that `name` may stand for."""
        path = parse_path(name)
        if path.is_rooted:
            return [path.parts]
        rest = raw_parts(name)
        return [
            # Not `resolve`, which would follow links.
            normalize_parts((*parse_path(os.path.abspath(folder)).parts, *rest))  # noqa: PTH100
            for folder in folders
        ]

    def _paths_behind_links(self, name: str, folders: Sequence[Path]) -> list[Parts]:
        """Return the paths below the root that `name` leads to through links to folders."""
        home = parse_path(os.path.realpath(self._folder)).parts
        paths = [os.path.join(folder, name) for folder in folders]  # noqa: PTH118 - a pattern may be no path at all
        real = [parse_path(os.path.realpath(path)).parts for path in paths if os.path.lexists(path)]
        return [(*self._root, *path[len(home) :]) for path in real if path[: len(home)] == home]

    def _look_up(self, name: str, folders: Sequence[Path]) -> tuple[list[str], bool]:
        """Return the matching ids, and whether every part of the name matches."""
        for folder in folders:
            path = os.path.abspath(os.path.join(folder, name))  # noqa: PTH100, PTH118
            if path.startswith(self._folder + os.sep):
                path = path[len(self._folder) + 1 :]
            if path.replace(os.sep, "/") in self._id_set:
                return [path.replace(os.sep, "/")], True
        if name in self._id_set:
            return [name], True
        for parts in self._paths(name, folders):
            rows = self._rows_by_path.get(parts)
            if rows:
                return self._first_ids(rows), True
        parsed_name = parse_path(name)
        if not parsed_name.parts:
            return [], False
        for is_exact in (True, False):
            rows, is_complete = self._trie.match_end(parsed_name, is_exact)
            if rows:
                return self._first_ids(rows), is_complete and is_exact
        return [], False

    def _first_ids(self, rows: list[int]) -> list[str]:
        return [self.ids[row] for row in rows[:_MAX_EXAMPLES]]

    @cached_property
    def _id_paths(self) -> list[Parts]:
        """The absolute path of each video."""
        paths = (parse_path(video) for video in self.ids)
        return [p.parts if p.is_rooted else (*self._root, *p.parts) for p in paths]

    @cached_property
    def _num_id_parts(self) -> list[int]:
        """The number of parts of each id, without those of the root."""
        count = len(self._root)
        return [len(p) - (count if p[:count] == self._root else 0) for p in self._id_paths]

    @cached_property
    def _rows_by_path(self) -> dict[Parts, list[int]]:
        rows: dict[Parts, list[int]] = defaultdict(list)
        for row, path in enumerate(self._id_paths):
            rows[path].append(row)
        return dict(rows)

    @cached_property
    def _trie(self) -> PathTrie:
        return PathTrie(self._id_paths, self._num_id_parts)
