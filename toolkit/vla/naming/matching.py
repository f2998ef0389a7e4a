r"""Names of videos as people and files write them: one matcher for captions, sidecars, filters and arguments.

An id is the name of a video in its workspace: its path from the workspace's folder, or an absolute path. A name is split into
folders and a file name: Unicode in its composed form (a Mac writes the other one), `/` and `\` alike, `.`, `..` and doubled
slashes resolved. Drives, shares, `~` and the host, query and fragment of a URL are dropped; `%20` is decoded in URLs alone. Such
a name, and an absolute path, is *rooted*: it may come from another machine. Ids are compared from the end of the path:

| name | ids | means | because |
|---|---|---|---|
| `a.mp4` in `sets/c.csv` | `a.mp4`, `sets/a.mp4` | `sets/a.mp4` | a path from the folder of the file that names it goes first |
| `clip.mp4` | `v/a/clip.mp4` | it | a bare name, where it is unique |
| `a/clip.mp4` | `v/a/clip.mp4`, `v/b/clip.mp4` | the first | the longest common end |
| `clip.mp4` | `v/a/clip.mp4`, `v/b/clip.mp4` | ambiguous | both fit |
| `2023/clip.mp4` | `v/2024/clip.mp4` | none | a folder of a relative name that is not the video's contradicts it |
| `videos/a.mp4` | `a.mp4` | it | the id has no folder that could contradict |
| `/data/msrvtt/videos/a.mp4` | `videos/a.mp4` | it | rooted: where the common end begins, the roots may differ |
| `/data/2023/a.mp4` | `v/2024/a.mp4` | none | folders that differ in digits alone are two of a series |
| `/data/a/x.mp4` | `b/x.mp4`, `a/y.mp4` | none | there is a folder `a` here, and the video is not in it |
| `/m/1/x.mp4` and `/m/2/x.mp4` | `x.mp4` | none | one file names two videos, and at most one of them is this one |
| `a.avi`, `a` | `a.mp4` | it | the suffix of a video is ignored, last |
| `a.mp4`, `a.avi` | `a.mp4` | the first | the file tells them apart |
| `RoripwjYFp8_60.0` | `RoripwjYFp8_60.mp4` | none | `.0` is no suffix of a video |
| `A.mp4` | `a.mp4` | none | most systems have both; the suffix alone may differ in case |
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vla.errors import MissingError, UsageError
from vla.hints import Hint
from vla.naming.paths import Parts, Written, fits_path, parse_path, raw_parts, resolved, series_of, stem

_HERE = re.compile(r"\.\.?(?:[\\/]|$)")
_SHOWN = 3


@dataclass(frozen=True)
class Found:
    """The meaning of names.

    Attributes:
        ids: the id of each name that means one video.
        unknown: names that mean no video, each once, in order.
        ambiguous: up to three of the ids that a name fits equally well, by name.
    """

    ids: dict[str, str] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class _Node:
    """Videos whose paths end alike in the last `depth` parts.

    Attributes:
        rows: the videos.
        depth: how many parts are alike.
        whole: those whose ids have no more parts than these.
        below: videos by the part before; made when it is first looked at.
        series: what these parts are like, see `series_of`.
    """

    rows: list[int]
    depth: int
    whole: list[int]
    below: dict[str, _Node] | None = None
    series: set[str] = field(default_factory=set)


class Names:
    """Ids of videos, found by any name that means them.

    Args:
        ids: of the videos.
        root: the folder that relative ids count from.

    Attributes:
        ids: of the videos, each once, in order.
    """

    def __init__(self, ids: Iterable[str], root: Path) -> None:
        self.ids = list(dict.fromkeys(ids))
        self._known = set(self.ids)
        self._folder = os.path.abspath(root)  # noqa: PTH100 - links keep their names
        self._root = parse_path(self._folder).parts

    def find(self, name: str, *folders: Path) -> list[str]:
        """The ids that `name` means: none, one, or up to three where several fit.

        Args:
            name: as it is written.
            folders: where it may count from, first one first.
        """
        return self._look_up(name, folders)[0]

    def find_all(self, names: Iterable[str], *folders: Path) -> Found:
        """The ids that the names in a file mean, looked at together: names of two videos never share one."""
        found = Found()
        loose: dict[str, list[str]] = defaultdict(list)
        firm: dict[str, list[str]] = defaultdict(list)
        listed = list(dict.fromkeys(names))
        for name in listed:
            ids, is_firm = self._look_up(name, folders)
            if len(ids) == 1:
                found.ids[name] = ids[0]
                (firm if is_firm else loose)[ids[0]].append(name)
            elif ids:
                found.ambiguous[name] = ids
        for video, some in loose.items():
            for name in _contradicted(some, firm[video]):
                del found.ids[name]
        found.unknown.extend(n for n in listed if n not in found.ids and n not in found.ambiguous)
        return found

    def one(self, name: str, *folders: Path) -> str:
        """The id that `name` means.

        Raises:
            MissingError: no video here is called so.
            UsageError: several are.
        """
        found = self.find(name, *folders)
        if not found:
            raise MissingError(f"no features of {name!r}: it was never extracted", hint=Hint("list_videos"))
        if len(found) > 1:
            raise UsageError(f"{name!r} fits several videos, e.g. {', '.join(found)}: name one of them")
        return found[0]

    def chosen(self, pattern: str, *folders: Path, any_folder: bool = False) -> list[str]:
        """The ids that a name, a folder or a glob pattern means, in their order.

        A folder, also one that a pattern fits, stands for all that is in it. `*`, `?` and `[...]` stay within a folder, `**` is
        any number of folders. A pattern counts from the first of `folders` from which it fits anything; one that begins with `./`
        or `../` from the last one first. With `any_folder`, a pattern without a folder that fits nothing there stands for file
        names in all folders.

        Raises:
            UsageError: no path fits, and several videos are called so.
        """
        if pattern in self._known:
            return [pattern]
        places = folders[::-1] if _HERE.match(pattern) else folders
        # `**` is any number of folders: of videos outside the root, too.
        anywhere = parse_path(pattern).parts if raw_parts(pattern)[0] == "**" else None
        for path in dict.fromkeys([*self._paths(pattern, places), *self._behind_links(pattern, places)]):
            chosen = [
                video
                for video, own, count in zip(self.ids, self._paths_of_ids, self._own, strict=True)
                if fits_path(own, path) or (anywhere and count == len(own) and fits_path(own, anywhere))
            ]
            if chosen:
                return chosen
        if self.find(pattern, *folders):
            return [self.one(pattern, *folders)]
        bare = parse_path(pattern)
        if not any_folder or bare.is_rooted or len(bare.parts) != 1:
            return []
        return [v for v, own in zip(self.ids, self._paths_of_ids, strict=True) if fits_path(own[-1:], bare.parts)]

    def _paths(self, name: str, folders: Sequence[Path]) -> list[Parts]:
        """The absolute paths that `name` may stand for."""
        written = parse_path(name)
        if written.is_rooted:
            return [written.parts]
        rest = raw_parts(name)
        return [resolved((*parse_path(os.path.abspath(folder)).parts, *rest)) for folder in folders]  # noqa: PTH100

    def _behind_links(self, name: str, folders: Sequence[Path]) -> list[Parts]:
        """The path from the root's own place of what lies at `name`, where folders on the way are links."""
        home = parse_path(os.path.realpath(self._folder)).parts
        paths = [os.path.join(folder, name) for folder in folders]  # noqa: PTH118 - a pattern may be no path at all
        real = [parse_path(os.path.realpath(path)).parts for path in paths if os.path.lexists(path)]
        return [(*self._root, *path[len(home) :]) for path in real if path[: len(home)] == home]

    def _look_up(self, name: str, folders: Sequence[Path]) -> tuple[list[str], bool]:
        """The ids, and whether every part of the name is theirs."""
        for folder in folders:
            path = os.path.abspath(os.path.join(folder, name))  # noqa: PTH100, PTH118
            if path.startswith(self._folder + os.sep):
                path = path[len(self._folder) + 1 :]
            if path.replace(os.sep, "/") in self._known:
                return [path.replace(os.sep, "/")], True
        if name in self._known:
            return [name], True
        for parts in self._paths(name, folders):
            rows = self._by_path.get(parts)
            if rows:
                return self._shown(rows), True
        written = parse_path(name)
        if not written.parts:
            return [], False
        for is_exact, ends in ((True, self._by_name), (False, self._by_stem)):
            rows, is_firm = self._by_end(written, ends, is_exact)
            if rows:
                return self._shown(rows), is_firm and is_exact
        return [], False

    def _by_end(self, written: Written, ends: dict[str, _Node], is_exact: bool) -> tuple[list[int], bool]:
        """The videos of the longest common end that nothing contradicts, and whether that end is the whole name."""
        parts = written.parts
        node = ends.get(parts[-1] if is_exact else stem(parts[-1]))
        if node is None:
            return [], False
        while len(node.rows) > 1 and node.depth < len(parts):
            below = self._below(node).get(parts[-1 - node.depth])
            if below is None:
                break
            node = below
        if node.depth == len(parts):
            return node.rows, True
        rows = node.rows if written.is_rooted else node.whole if len(node.rows) > 1 else node.rows
        if len(rows) > 1:
            # Of many, nobody asks one by one: they are told apart by the folder before, or not at all.
            folder = parts[-1 - node.depth]
            return ([] if folder in self._folders or node.series == {series_of(folder)} else rows), False
        for row in rows:
            path = self._paths_of_ids[row]
            common = node.depth
            while common < min(len(parts), len(path)) and parts[-1 - common] == path[-1 - common]:
                common += 1
            if common == len(parts):
                return [row], True
            if self._may_be(written, common, row):
                return [row], False
        return [], False

    def _may_be(self, written: Written, common: int, row: int) -> bool:
        """True if no folder of the name before its last `common` parts contradicts those of the video."""
        path, own = self._paths_of_ids[row], self._own[row]
        if common < own and not written.is_rooted:
            return False
        if common == len(path) or 1 < common >= own:
            return True
        folder, other = written.parts[-1 - common], path[-1 - common]
        # Such folders are known to tell videos apart: two of a series, or one that is here, too.
        return series_of(folder) != series_of(other) and folder not in self._folders

    def _below(self, node: _Node) -> dict[str, _Node]:
        if node.below is None:
            groups: dict[str, list[int]] = defaultdict(list)
            for row in node.rows:
                path = self._paths_of_ids[row]
                if len(path) > node.depth:
                    groups[path[-1 - node.depth]].append(row)
            node.below = {part: self._node(rows, node.depth + 1) for part, rows in groups.items()}
            node.series = {series_of(part) for part in node.below}
        return node.below

    def _node(self, rows: list[int], depth: int) -> _Node:
        return _Node(rows, depth, [row for row in rows if self._own[row] <= depth])

    def _shown(self, rows: list[int]) -> list[str]:
        return [self.ids[row] for row in rows[:_SHOWN]]

    @cached_property
    def _paths_of_ids(self) -> list[Parts]:
        """The absolute path of each video."""
        written = (parse_path(video) for video in self.ids)
        return [w.parts if w.is_rooted else (*self._root, *w.parts) for w in written]

    @cached_property
    def _own(self) -> list[int]:
        """How many parts each id has, without those of the root."""
        count = len(self._root)
        return [len(p) - (count if p[:count] == self._root else 0) for p in self._paths_of_ids]

    @cached_property
    def _by_path(self) -> dict[Parts, list[int]]:
        found: dict[Parts, list[int]] = defaultdict(list)
        for row, path in enumerate(self._paths_of_ids):
            found[path].append(row)
        return dict(found)

    @cached_property
    def _by_name(self) -> dict[str, _Node]:
        return self._ends(lambda last: last)

    @cached_property
    def _by_stem(self) -> dict[str, _Node]:
        return self._ends(stem)

    def _ends(self, key: Callable[[str], str]) -> dict[str, _Node]:
        groups: dict[str, list[int]] = defaultdict(list)
        for row, path in enumerate(self._paths_of_ids):
            if path:
                groups[key(path[-1])].append(row)
        return {name: self._node(rows, 1) for name, rows in groups.items()}

    @cached_property
    def _folders(self) -> set[str]:
        """Names of all folders that ids have."""
        return {part for own, path in zip(self._own, self._paths_of_ids, strict=True) for part in path[-own:-1]}


def _contradicted(loose: list[str], firm: list[str]) -> list[str]:
    """Those of the `loose` names of one video that cannot be its names beside the others."""
    written = {name: parse_path(name).parts for name in (*loose, *firm)}
    longest = max(loose, key=lambda name: len(written[name]))
    if all(_are_one(written[longest], written[name]) for name in loose if name != longest):
        return [name for name in loose if not all(_are_one(written[name], written[other]) for other in firm)]
    return loose


def _are_one(first: Parts, second: Parts) -> bool:
    """True if one name may be the end of the other; a suffix that one of them lacks may be any."""
    common = min(len(first), len(second))
    if first[-common:-1] != second[-common:-1]:
        return False
    a, b = first[-1], second[-1]
    return a == b or (stem(a) == stem(b) and (a == stem(a) or b == stem(b)))
