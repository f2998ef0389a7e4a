"""How an index differs from the cache, by name and content of each video: what must be done to bring it up to date."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache
from vla.indexing.store import SearchIndex
from vla.storage import atomic

FragmentRow = tuple[int, int]
"""A video in an index: number of its part, position in the part."""


@dataclass(frozen=True)
class IndexDiff:
    """How a cache differs from an index of it.

    Attributes:
        new: names of videos that are to be indexed: never seen, or with other features than before.
        renamed: new names of videos whose features are indexed under another one.
        gone: videos of the index that the cache no longer holds, or holds with other features.
        lost: names of those that it no longer holds at all.
        kept: how many videos are as they were, renamed ones among them.
    """

    new: list[str]
    renamed: dict[FragmentRow, str]
    gone: list[FragmentRow]
    lost: list[str]
    kept: int

    @property
    def is_none(self) -> bool:
        """The index holds what the cache holds."""
        return not (self.new or self.renamed or self.gone)

    def __str__(self) -> str:
        """What is out of date."""
        renamed = f", {len(self.renamed)} have other names" if self.renamed else ""
        return f"{len(self.new)} videos are missing in it, {len(self.gone)} are gone or changed{renamed}"

    @property
    def covered(self) -> str:
        """How much is in the index all the same."""
        return f"it covers {self.kept} of the {self.kept + len(self.new)} videos that have features"


def key_of(receipt: Receipt) -> str:
    """What segments depend on besides the model: equal keys, equal features."""
    return atomic.sha256(f"{receipt.sha256}\0{receipt.duration_seconds!r}".encode())[:16]


def diff_index(held: SearchIndex, cache: FeatureCache) -> IndexDiff:
    """What is to be done so that `held`, which is of the same feature space and model, holds what `cache` does."""
    wanted = {name: key_of(receipt) for name, receipt in cache.receipts.items() if receipt.has_features}
    same: dict[str, FragmentRow] = {}
    spare: dict[str, list[tuple[FragmentRow, str]]] = {}
    for number, part in enumerate(held.parts):
        for position, name, key in part.held():
            if wanted.get(name) == key and name not in same:
                same[name] = (number, position)
            else:
                spare.setdefault(key, []).append(((number, position), name))
    new, renamed = [], {}
    for name, key in wanted.items():
        if name in same:
            continue
        if spare.get(key):
            renamed[spare[key].pop(0)[0]] = name
        else:
            new.append(name)
    left = [entry for entries in spare.values() for entry in entries]
    lost = sorted({name for _, name in left} - set(wanted))
    return IndexDiff(new, renamed, sorted(place for place, _ in left), lost, len(same) + len(renamed))


def drop_deleted(held: SearchIndex, found: IndexDiff) -> SearchIndex:
    """`held` with new names, and without videos that are gone; parts of which nothing is left are left out."""
    parts = []
    for number, part in enumerate(held.parts):
        gone = part.gone | {position for n, position in found.gone if n == number}
        names = {**part.renamed, **{p: name for (n, p), name in found.renamed.items() if n == number}}
        changed = gone != part.gone or names != part.renamed
        if len(gone) < len(part.videos):
            parts.append(replace(part, gone=frozenset(gone), renamed=names) if changed else part)
    return replace(held, parts=tuple(parts))
