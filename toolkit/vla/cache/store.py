"""The cache of one feature space: frames of videos and texts, found by name.

<fingerprint>/
  spec.json               the feature space, and how to load the encoder again
  videos/<key>.json       receipt of a video
  shards/<key>-<sha>.h5   its features
  texts/<sha>.json        receipt of a batch of texts
  shards/t-<sha>.h5       their features
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from vla.cache import shard
from vla.cache.receipts import WAY_ON, Receipt, key_of
from vla.cache.text_store import TextCache
from vla.errors import CacheError, MissingError
from vla.features import FeatureSpec, FrameFeatures
from vla.hints import Hint
from vla.storage import atomic, records
from vla.storage.records import Name, NewerRecordError, Rule

_EXTRACT = WAY_ON


@dataclass(frozen=True)
class EncoderSource:
    """The arguments that make the encoder of a cache again."""

    encoder: Name
    model: str
    pretrained: str


@dataclass(frozen=True)
class _Description:
    """`spec.json`."""

    spec: dict[str, Any]
    source: EncoderSource


_Fingerprint = Annotated[str, Rule(lambda v: v.isalnum() and v.isascii() and len(v) <= 64, "letters and digits")]


@dataclass(frozen=True)
class _Pointer:
    """`current.json`."""

    fingerprint: _Fingerprint


class FeatureCache(TextCache):
    """Features of one space. Opening reads one small file; receipts are read when first asked for."""

    def __init__(self, folder: Path, spec: FeatureSpec, source: EncoderSource) -> None:
        super().__init__(folder, spec)
        self.source = source
        self._given: Mapping[str, FrameFeatures] = {}

    @classmethod
    def open(cls, folder: Path) -> FeatureCache:
        """The cache in `folder`; raises MissingError or CacheError."""
        description = folder / "spec.json"
        if not description.is_file():
            raise MissingError(f"there are no features in {folder}", hint=Hint("extract"))
        record = records.load(_Description, description, _EXTRACT)
        spec = FeatureSpec.from_json(record.spec, str(description))
        if spec.fingerprint != folder.name:
            raise CacheError(f"{description} describes the space {spec.fingerprint}, not {folder.name}", hint=_EXTRACT)
        return cls(folder, spec, record.source)

    @classmethod
    def create(cls, caches: Path, spec: FeatureSpec, source: EncoderSource) -> FeatureCache:
        """The cache of `spec` under `caches`, made where there is none; `source` is brought up to date."""
        folder = caches / spec.fingerprint
        record = {"spec": spec.to_json(), "source": source.__dict__}
        description = folder / "spec.json"
        if not atomic.holds(description, record):
            atomic.write_json(description, record)
        return cls(folder, spec, source)

    # Videos

    @cached_property
    def receipts(self) -> dict[str, Receipt]:
        """Every video's receipt by its name, in order of name; one that is `damaged` counts as none."""
        found = {}
        for path in atomic.listed(self.folder / "videos"):
            try:
                receipt = _receipt(path)
            except NewerRecordError:
                raise
            except CacheError as error:
                self.damaged[path] = str(error)
                continue
            found[receipt.video_id] = receipt
        return dict(sorted(found.items()))

    def receipt_now(self, video_id: str) -> Receipt | None:
        """What the disk says of one video, whatever was read before; None without a receipt that can be used."""
        path = self._receipt_path(video_id)
        try:
            return _receipt(path) if path.is_file() else None
        except CacheError:
            return None

    def video_ids(self) -> list[str]:
        """Names of the videos that have features."""
        return [v for v, r in self.receipts.items() if r.has_features]

    def only(self, features: Iterable[FrameFeatures]) -> FeatureCache:
        """The same cache to read from, as if these were all its videos, whatever becomes of their shards; texts stay."""
        some = FeatureCache(self.folder, self.spec, self.source)
        some._given = {f.video_id: f for f in features}
        some.receipts = {v: self.receipts[v] for v in sorted(some._given)}
        return some

    def frames(self, video_id: str) -> FrameFeatures:
        """Features of one video; raises MissingError if there are none, CacheError if they were altered."""
        receipt = self.receipts.get(video_id)
        if receipt is None or not receipt.has_features:
            why = receipt.reason if receipt else "it was never extracted"
            raise MissingError(f"no features of {video_id!r}: {why}")
        if video_id in self._given:
            return self._given[video_id]
        content = atomic.read_checked(self.folder / "shards" / receipt.shard, receipt.sha256)
        features = shard.read_frames(content, video_id, receipt.duration_seconds)
        if len(features.values) != receipt.frames:
            raise CacheError(
                f"{video_id}: {receipt.shard} holds {len(features.values)} frames, its receipt says {receipt.frames}",
                hint=Hint("repair_features"),
            )
        if features.values.shape[1] != self.spec.dim:
            raise CacheError(
                f"{video_id}: features are {features.values.shape[1]} wide, the cache's are {self.spec.dim}"
            )
        return features

    def add_video(self, features: FrameFeatures, receipt: Receipt) -> Receipt:
        """Keep `features`; once this returns, they survive a kill. The receipt comes back with the shard in it."""
        image = shard.frames_image(features)
        digest = atomic.sha256(image)
        name = f"{key_of(features.video_id)}-{digest[:12]}.h5"
        atomic.write_bytes(self.folder / "shards" / name, image)
        whole = Receipt(**{**receipt.to_json(), "shard": name, "sha256": digest, "frames": len(features.values)})
        self.add_receipt(whole)
        return whole

    def add_receipt(self, receipt: Receipt) -> None:
        """Commit what became of a video; a shard that an older receipt named is dropped afterwards."""
        before = self.receipts.get(receipt.video_id)
        atomic.write_json(self._receipt_path(receipt.video_id), receipt.to_json())
        self.receipts[receipt.video_id] = receipt
        if before is not None and before.shard != receipt.shard:
            self._drop_shard(before.shard)

    def forget(self, video_id: str) -> None:
        """Drop what is known of a video and its features; the video itself is never touched."""
        receipt = self.receipts.pop(video_id, None)
        if receipt is not None:
            # The receipt first: features without a receipt are waste, a receipt without features is damage.
            atomic.remove(self._receipt_path(video_id))
            self._drop_shard(receipt.shard)

    def rename(self, video_id: str, receipt: Receipt) -> None:
        """Give the features of `video_id` to the name in `receipt`: the same file under another name, the same shard."""
        self.add_receipt(receipt)
        del self.receipts[video_id]
        atomic.remove(self._receipt_path(video_id))

    def _receipt_path(self, video_id: str) -> Path:
        return self.folder / "videos" / f"{key_of(video_id)}.json"

    def _drop_shard(self, shard: str) -> None:
        # A file that was renamed or copied has the shard of its first name.
        if shard and all(r.shard != shard for r in self.receipts.values()):
            atomic.remove(self.folder / "shards" / shard)

    def shards_in_use(self) -> set[str]:
        """File names of all shards that a receipt names, or may name that is damaged."""
        named = {r.shard for r in self.receipts.values() if r.shard} | set(self.text_shards())
        there = [p.name for p in atomic.listed(self.folder / "shards", "")] if self.damaged else []
        keys = tuple("t-" if path.parent.name == "texts" else f"{path.stem}-" for path in self.damaged)
        return named | {name for name in there if name.startswith(keys)}

    def state(self) -> str:
        """16 hexadecimal digits that change whenever a video is added, changed or lost."""
        rows = [f"{r.video_id}\0{r.sha256}\0{r.duration_seconds!r}" for r in self.receipts.values() if r.has_features]
        return atomic.sha256("\n".join(sorted(rows)).encode("utf-8", "surrogatepass"))[:16]


def _receipt(path: Path) -> Receipt:
    stored = atomic.read_record(path, WAY_ON)
    receipt = Receipt.from_json(stored.value, path, strict=not stored.is_checked)
    if key_of(receipt.video_id) != path.stem:
        raise CacheError(
            f"{path} is damaged (it is of the video {receipt.video_id!r}, which has another file)", hint=WAY_ON
        )
    return receipt


def active_cache(caches: Path) -> FeatureCache:
    """The cache that this workspace goes on with; raises MissingError if nothing was extracted yet."""
    pointer = caches / "current.json"
    if not pointer.is_file():
        raise MissingError("there are no features yet", hint=Hint("extract"))
    return FeatureCache.open(caches / records.load(_Pointer, pointer, _EXTRACT).fingerprint)


def set_active_cache(caches: Path, cache: FeatureCache) -> None:
    """Let the workspace go on with `cache`."""
    record = {"fingerprint": cache.spec.fingerprint}
    pointer = caches / "current.json"
    if not atomic.holds(pointer, record):
        atomic.write_json(pointer, record)
