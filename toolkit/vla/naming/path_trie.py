"""Trie of reversed paths: the videos whose paths share the longest end with a name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from vla.naming.paths import ParsedPath, Parts, mask_digits, stem


@dataclass
class _Node:
    """Node of a trie of reversed paths: the videos whose paths share the last `depth` parts.

    Attributes:
        rows: indices of the videos.
        depth: number of shared parts.
        complete_rows: videos whose ids have at most `depth` parts.
        children: nodes by the part before the shared ones; created at first use.
        series: the keys of `children` with masked digits, see `mask_digits`.
    """

    rows: list[int]
    depth: int
    complete_rows: list[int]
    children: dict[str, _Node] | None = None
    series: set[str] = field(default_factory=set)


class PathTrie:
    """Absolute paths of videos, with lookup by the end of a name; see `vla.naming.matching`.

    Args:
        paths: the path of each video.
        num_id_parts: the number of parts of each id, without those of the root.
    """

    def __init__(self, paths: Sequence[Parts], num_id_parts: Sequence[int]) -> None:
        self._paths = paths
        self._num_id_parts = num_id_parts

    def match_end(self, name: ParsedPath, is_exact: bool) -> tuple[list[int], bool]:
        """Return the videos with the longest compatible common end, and whether it is the whole name.

        Args:
            name: the name, of at least one part.
            is_exact: whether the suffix of the video must match, too.
        """
        parts = name.parts
        nodes = self._nodes_by_name if is_exact else self._nodes_by_stem
        node = nodes.get(parts[-1] if is_exact else stem(parts[-1]))
        if node is None:
            return [], False
        while len(node.rows) > 1 and node.depth < len(parts):
            child = self._children(node).get(parts[-1 - node.depth])
            if child is None:
                break
            node = child
        if node.depth == len(parts):
            return node.rows, True
        rows = node.rows if name.is_rooted or len(node.rows) == 1 else node.complete_rows
        if len(rows) > 1:
            # Several videos are not compared one by one: only the folder before can tell them apart.
            folder = parts[-1 - node.depth]
            return (
                [] if folder in self._folders or node.series == {mask_digits(folder)} else rows
            ), False
        for row in rows:
            path = self._paths[row]
            common = node.depth
            while common < min(len(parts), len(path)) and parts[-1 - common] == path[-1 - common]:
                common += 1
            if common == len(parts):
                return [row], True
            if self._is_compatible(name, common, row):
                return [row], False
        return [], False

    def _is_compatible(self, name: ParsedPath, common: int, row: int) -> bool:
        """Return whether the folders of `name` before the last `common` parts allow the video."""
        path, num_id_parts = self._paths[row], self._num_id_parts[row]
        if common < num_id_parts and not name.is_rooted:
            return False
        if common == len(path) or 1 < common >= num_id_parts:
            return True
        folder, other = name.parts[-1 - common], path[-1 - common]
        # Folders of a series, and folders that exist here, tell videos apart.
        return mask_digits(folder) != mask_digits(other) and folder not in self._folders

    def _children(self, node: _Node) -> dict[str, _Node]:
        if node.children is None:
            groups: dict[str, list[int]] = defaultdict(list)
            for row in node.rows:
                path = self._paths[row]
                if len(path) > node.depth:
                    groups[path[-1 - node.depth]].append(row)
            node.children = {
                part: self._node(rows, node.depth + 1) for part, rows in groups.items()
            }
            node.series = {mask_digits(part) for part in node.children}
        return node.children

    def _node(self, rows: list[int], depth: int) -> _Node:
        return _Node(rows, depth, [row for row in rows if self._num_id_parts[row] <= depth])

    @cached_property
    def _nodes_by_name(self) -> dict[str, _Node]:
        return self._group_by_end(lambda last: last)

    @cached_property
    def _nodes_by_stem(self) -> dict[str, _Node]:
        return self._group_by_end(stem)

    def _group_by_end(self, key: Callable[[str], str]) -> dict[str, _Node]:
        groups: dict[str, list[int]] = defaultdict(list)
        for row, path in enumerate(self._paths):
            if path:
                groups[key(path[-1])].append(row)
        return {name: self._node(rows, 1) for name, rows in groups.items()}

    @cached_property
    def _folders(self) -> set[str]:
        """The names of all folders in ids."""
        return {
            part
            for count, path in zip(self._num_id_parts, self._paths, strict=True)
            for part in path[-count:-1]
        }
