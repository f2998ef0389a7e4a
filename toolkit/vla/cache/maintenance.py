"""Care of a cache: which of its files are damaged, which nothing refers to, and how to be rid of either."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vla.cache.store import FeatureCache
from vla.errors import CacheError
from vla.storage import atomic


@dataclass(frozen=True)
class Corruption:
    """One thing that is not as it was written.

    Attributes:
        name: of the video, or of the file from the workspace's folder.
        reason: what is wrong; a `vla.hints.Note` where there is a way out.
        mend: removes it, so that it counts as never made; None where nothing can be removed.
    """

    name: str
    reason: str
    mend: Callable[[], object] | None = None


@dataclass(frozen=True)
class Check:
    """One thing to look at: `look` raises CacheError if it is damaged, and `mend` removes it then."""

    name: str
    look: Callable[[], object]
    mend: Callable[[], object] | None = None

    def damage(self) -> list[Corruption]:
        """What is wrong with it; empty if nothing is."""
        try:
            self.look()
        except CacheError as error:
            return [Corruption(self.name, str(error), self.mend)]
        return []


def checks(cache: FeatureCache, home: Path, *, read_data: bool) -> list[Check]:
    """Every receipt and shard of `cache`; names of files are from `home`. Without `read_data` shards are not read."""
    receipts, texts = list(cache.receipts.values()), cache.text_shards()
    found = [
        Check(str(path.relative_to(home)), partial(_fail, reason), partial(atomic.remove, path))
        for path, reason in cache.damaged.items()
    ]
    for receipt in receipts:
        if receipt.has_features:
            look: Callable[[], object] = partial(_find, cache, receipt.shard)
            if read_data:
                look = partial(cache.frames, receipt.video_id)
            found.append(Check(receipt.video_id, look, partial(cache.forget, receipt.video_id)))
    for name, digest in texts.items():
        read: Callable[[], object] = partial(cache.read_texts, name, digest)
        found.append(
            Check(
                name,
                read if read_data else partial(_find, cache, name),
                partial(atomic.remove, cache.folder / "shards" / name),
            )
        )
    return found


def _fail(reason: str) -> None:
    raise CacheError(reason)


def _find(cache: FeatureCache, shard: str) -> None:
    path = cache.folder / "shards" / shard
    if not path.is_file():
        raise CacheError(f"{path} is gone")


def unused_shards(cache: FeatureCache) -> list[Path]:
    """Shards that nothing refers to: a kill or a newer extraction left them.

    Only to be trusted while the workspace is locked: what another vla is about to refer to looks the same.
    """
    used = cache.shards_in_use()
    return sorted(p for p in (cache.folder / "shards").glob("*") if p.name not in used)
