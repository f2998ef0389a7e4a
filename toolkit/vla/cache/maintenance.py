"""Maintenance of a cache: detection and repair of corrupt files and of unused shards."""

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
    """A corrupt or missing file.

    Attributes:
        name: id of the video, or path of the file relative to the workspace's folder.
        reason: the problem; a `vla.hints.Note` if there is a way out.
        repair: removes the file, so that it is made again; None if nothing can be removed.
    """

    name: str
    reason: str
    repair: Callable[[], object] | None = None


@dataclass(frozen=True)
class Check:
    """Integrity check of one file.

    Attributes:
        name: as for `Corruption`.
        verify: raises CacheError if the file is corrupt.
        repair: as for `Corruption`.
    """

    name: str
    verify: Callable[[], object]
    repair: Callable[[], object] | None = None

    def damage(self) -> list[Corruption]:
        """Run the check; return a corruption, or an empty list."""
        try:
            self.verify()
        except CacheError as error:
            return [Corruption(self.name, str(error), self.repair)]
        return []


def checks(cache: FeatureCache, home: Path, *, read_data: bool) -> list[Check]:
    """Return the checks of all receipts and shards of a cache.

    Args:
        cache: the cache.
        home: folder that names of files are relative to.
        read_data: read the shards and verify their checksums, instead of only their existence.
    """
    receipts, texts = list(cache.receipts.values()), cache.text_shards()
    result = [
        Check(str(path.relative_to(home)), partial(_fail, reason), partial(atomic.remove, path))
        for path, reason in cache.damaged.items()
    ]
    for receipt in receipts:
        if receipt.has_features:
            verify: Callable[[], object] = partial(_require_shard, cache, receipt.shard)
            if read_data:
                verify = partial(cache.frames, receipt.video_id)
            result.append(
                Check(receipt.video_id, verify, partial(cache.delete_video, receipt.video_id))
            )
    for name, digest in texts.items():
        read: Callable[[], object] = partial(cache.read_texts, name, digest)
        result.append(
            Check(
                name,
                read if read_data else partial(_require_shard, cache, name),
                partial(atomic.remove, cache.folder / "shards" / name),
            )
        )
    return result


def _fail(reason: str) -> None:
    raise CacheError(reason)


def _require_shard(cache: FeatureCache, shard: str) -> None:
    path = cache.folder / "shards" / shard
    if not path.is_file():
        raise CacheError(f"{path} is gone")


def unused_shards(cache: FeatureCache) -> list[Path]:
    """Return the shards without a receipt, left by a kill or a newer extraction.

    Valid only while the workspace is locked: shards that another process is about to commit look the
    same.
    """
    shards_in_use = cache.shards_in_use()
    return sorted(p for p in (cache.folder / "shards").glob("*") if p.name not in shards_in_use)
