"""Care of a cache: what is damaged in it, what nothing refers to, and how to be rid of either."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vla import durable
from vla.cache.store import FeatureCache
from vla.errors import CacheError


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written.

    Attributes:
        name: of the video, or of the shard of texts.
        reason: what is wrong.
        video_id: of the video whose features are concerned; empty for texts.
    """

    name: str
    reason: str
    video_id: str = ""


def verify(
    cache: FeatureCache, *, read_data: bool, on_item: Callable[[int, int], None] = lambda n, of: None
) -> list[Damage]:
    """What is damaged: files that are gone, and with `read_data` those whose content or checksum is wrong."""
    found: list[Damage] = []
    receipts = [r for r in cache.receipts.values() if r.has_features]
    batches = cache.text_shards()
    total = len(receipts) + len(batches)
    for number, receipt in enumerate(receipts, 1):
        path = cache.folder / "shards" / receipt.shard
        try:
            if read_data:
                rows = len(cache.frames(receipt.video_id).values)
                if rows != receipt.frames:
                    raise CacheError(f"{path} holds {rows} frames, its receipt says {receipt.frames}")
            elif not path.is_file():
                raise CacheError(f"{path} is gone")
        except CacheError as error:
            found.append(Damage(receipt.video_id, str(error), receipt.video_id))
        on_item(number, total)
    for number, (name, digest) in enumerate(batches.items(), len(receipts) + 1):
        try:
            if read_data:
                cache.check_texts(name, digest)
            elif not (cache.folder / "shards" / name).is_file():
                raise CacheError(f"{cache.folder / 'shards' / name} is gone")
        except CacheError as error:
            found.append(Damage(name, str(error)))
        on_item(number, total)
    return found


def repair(cache: FeatureCache, damage: Iterable[Damage]) -> None:
    """Forget what is damaged, so that the next extraction makes it anew."""
    for item in damage:
        if item.video_id:
            cache.forget(item.video_id)
        else:
            durable.remove(cache.folder / "shards" / item.name)


def waste(cache: FeatureCache) -> list[Path]:
    """Files that nothing refers to: shards that a kill or a newer extraction left, and temporary files.

    Only to be trusted while the workspace is locked: what another vla is about to refer to looks the same.
    """
    used = cache.shards_in_use()
    shards = [p for p in (cache.folder / "shards").glob("*") if p.name not in used]
    stray = [p for kind in ("videos", "texts", ".") for p in (cache.folder / kind).glob(f"{durable.TEMPORARY}*")]
    return sorted({*shards, *stray})
