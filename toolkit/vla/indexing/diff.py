"""Differences between an index and the cache, by name and content of each video."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache
from vla.indexing.search_index import SearchIndex
from vla.language.plurals import plural
from vla.storage import atomic

FragmentRow = tuple[int, int]
"""A video in an index: number of its fragment, position in the fragment."""


@dataclass(frozen=True)
class IndexDiff:
    """Differences between a cache and an index of it.

    Attributes:
        new: names of videos to index: new ones, or ones with other features than before.
        renamed: new names of videos whose features are indexed under another name.
        deleted: videos of the index that the cache no longer holds, or holds with other features.
        absent: names of the deleted videos that the cache no longer holds.
        num_current: number of videos that are up to date, renamed ones included.
    """

    new: list[str]
    renamed: dict[FragmentRow, str]
    deleted: list[FragmentRow]
    absent: list[str]
    num_current: int

    @property
    def is_empty(self) -> bool:
        """Return whether the index is up to date."""
        return not (self.new or self.renamed or self.deleted)

    def __str__(self) -> str:
        """Return a summary, such as "2 videos are new, 1 is deleted or changed"."""
        new = plural(len(self.new), "video is", "videos are")
        deleted = plural(len(self.deleted), "is", "are")
        renamed = plural(len(self.renamed), "has another name", "have other names")
        return f"{new} missing in it, {deleted} gone or changed" + (
            f", {renamed}" if self.renamed else ""
        )

    @property
    def coverage(self) -> str:
        """Number of videos with features that the index covers, as a sentence."""
        total = plural(self.num_current + len(self.new), "video that has", "videos that have")
        return f"it covers {self.num_current:,} of the {total} features"


def key_of(receipt: Receipt) -> str:
    """Return a digest of the features of a video.

    Equal keys mean equal segments, given the model.
    """
    return atomic.sha256(f"{receipt.sha256}\0{receipt.duration_seconds!r}".encode())[:16]


def diff_index(index: SearchIndex, cache: FeatureCache) -> IndexDiff:
    """Return the differences between `index` and `cache`, which must be of the same feature space
    and model.
    """
    keys = {
        name: key_of(receipt) for name, receipt in cache.receipts.items() if receipt.has_features
    }
    current: dict[str, FragmentRow] = {}
    spare: dict[str, list[tuple[FragmentRow, str]]] = {}
    for number, fragment in enumerate(index.parts):
        for position, name, key in fragment.live_videos():
            if keys.get(name) == key and name not in current:
                current[name] = (number, position)
            else:
                spare.setdefault(key, []).append(((number, position), name))
    new, renamed = [], {}
    for name, key in keys.items():
        if name in current:
            continue
        if spare.get(key):
            renamed[spare[key].pop(0)[0]] = name
        else:
            new.append(name)
    rest = [entry for entries in spare.values() for entry in entries]
    absent = sorted({name for _, name in rest} - set(keys))
    return IndexDiff(
        new, renamed, sorted(row for row, _ in rest), absent, len(current) + len(renamed)
    )


def drop_deleted(index: SearchIndex, diff: IndexDiff) -> SearchIndex:
    """Return `index` with new names and without deleted videos.

    Fragments without live videos are dropped.
    """
    parts = []
    for number, fragment in enumerate(index.parts):
        deleted = fragment.deleted | {position for n, position in diff.deleted if n == number}
        names = {
            **fragment.renamed,
            **{p: name for (n, p), name in diff.renamed.items() if n == number},
        }
        is_changed = deleted != fragment.deleted or names != fragment.renamed
        if len(deleted) < len(fragment.videos):
            parts.append(
                replace(fragment, deleted=frozenset(deleted), renamed=names)
                if is_changed
                else fragment
            )
    return replace(index, parts=tuple(parts))
