"""Care of a cache: what is damaged in it, what nothing refers to, and how to be rid of either."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vla import durable
from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache
from vla.errors import CacheError


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written.

    Attributes:
        name: of the video, or of the shard of texts.
        reason: what is wrong.
        is_text: it is a shard of texts.
    """

    name: str
    reason: str
    is_text: bool = False


def verify(
    cache: FeatureCache, *, read_data: bool, on_item: Callable[[int, int], None] = lambda n, of: None
) -> list[Damage]:
    """What is damaged: files that are gone, and with `read_data` those whose content or checksum is wrong."""
    checks: list[tuple[str, bool, str, Callable[[], object]]] = [
        (r.video_id, False, r.shard, partial(_read_video, cache, r)) for r in cache.receipts.values() if r.has_features
    ]
    checks += [(n, True, n, partial(cache.read_texts, n, digest)) for n, digest in cache.text_shards().items()]
    found: list[Damage] = []
    for number, (name, is_text, shard, read) in enumerate(checks, 1):
        path = cache.folder / "shards" / shard
        try:
            if read_data:
                read()
            elif not path.is_file():
                raise CacheError(f"{path} is gone")
        except CacheError as error:
            found.append(Damage(name, str(error), is_text))
        on_item(number, len(checks))
    return found


def _read_video(cache: FeatureCache, receipt: Receipt) -> None:
    rows = len(cache.frames(receipt.video_id).values)
    if rows != receipt.frames:
        raise CacheError(f"{receipt.shard} holds {rows} frames, its receipt says {receipt.frames}")


def repair(cache: FeatureCache, damage: Iterable[Damage]) -> None:
    """Forget what is damaged, so that the next extraction makes it anew."""
    for item in damage:
        if item.is_text:
            durable.remove(cache.folder / "shards" / item.name)
        else:
            cache.forget(item.name)


def unused_shards(cache: FeatureCache) -> list[Path]:
    """Shards that nothing refers to: a kill or a newer extraction left them.

    Only to be trusted while the workspace is locked: what another vla is about to refer to looks the same.
    """
    used = cache.shards_in_use()
    return sorted(p for p in (cache.folder / "shards").glob("*") if p.name not in used)
