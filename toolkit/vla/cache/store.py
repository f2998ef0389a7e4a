"""Feature cache of one feature space: features of videos and texts by name.

<fingerprint>/
  spec.json               the feature space, and the arguments of its encoder
  videos/<key>.json       receipt of a video
  shards/<key>-<sha>.h5   its features
  texts/<sha>.json        receipt of a batch of texts
  shards/t-<sha>.h5       their features
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from vla.cache.receipts import WAY_ON, Receipt, video_key
from vla.cache.text_store import TextCache
from vla.errors import CacheError, MissingError
from vla.features import FeatureSpec, FrameFeatures
from vla.hints import Hint
from vla.storage import atomic, records
from vla.storage.records import Name, NewerRecordError, Rule

_EXTRACT = WAY_ON


@dataclass(frozen=True)
class EncoderSource:
    """Arguments that recreate the encoder of a cache."""

    encoder: Name
    model: str
    pretrained: str


@dataclass(frozen=True)
class _Description:
    """`spec.json`."""

    spec: dict[str, Any]
    source: EncoderSource


_Fingerprint = Annotated[
    str, Rule(lambda v: v.isalnum() and v.isascii() and len(v) <= 64, "letters and digits")
]


@dataclass(frozen=True)
class _Pointer:
    """`current.json`."""

    fingerprint: _Fingerprint


class FeatureCache(TextCache):
    """Features of one space. Opening reads one small file; receipts are read at first use."""

    def __init__(self, folder: Path, spec: FeatureSpec, source: EncoderSource) -> None:
        super().__init__(folder, spec)
        self.source = source
        self._frames: Mapping[str, FrameFeatures] = {}

    @classmethod
    def open(cls, folder: Path) -> FeatureCache:
        """Open the cache in `folder`.

        Raises:
            MissingError: there is no cache.
            CacheError: its description is damaged.
        """
        description = folder / "spec.json"
        if not description.is_file():
            raise MissingError(f"there are no features in {folder}", hint=Hint("extract"))
        record = records.load(_Description, description, _EXTRACT)
        spec = FeatureSpec.from_json(record.spec, str(description))
        if spec.fingerprint != folder.name:
            raise CacheError(
                f"{description} describes the space {spec.fingerprint}, not {folder.name}",
                hint=_EXTRACT,
            )
        return cls(folder, spec, record.source)

    @classmethod
    def create(cls, caches: Path, spec: FeatureSpec, source: EncoderSource) -> FeatureCache:
        """Open the cache of `spec` in the folder `caches`, or create it; update its `source`."""
        folder = caches / spec.fingerprint
        record = {"spec": spec.to_json(), "source": source.__dict__}
        description = folder / "spec.json"
        if not atomic.contains(description, record):
            atomic.write_json(description, record)
        return cls(folder, spec, source)

    # Videos

    @cached_property
    def receipts(self) -> dict[str, Receipt]:
        """The receipts by video id, in order of id, without damaged ones (see `damaged`)."""
        receipts = {}
        for path in atomic.list_files(self.folder / "videos"):
            try:
                receipt = _receipt(path)
            except NewerRecordError:
                raise
            except CacheError as error:
                self.damaged[path] = str(error)
                continue
            receipts[receipt.video_id] = receipt
        return dict(sorted(receipts.items()))

    def read_receipt(self, video_id: str) -> Receipt | None:
        """Read the receipt of one video from disk again; None if it is missing or damaged."""
        path = self._receipt_path(video_id)
        try:
            return _receipt(path) if path.is_file() else None
        except CacheError:
            return None

    def video_ids(self) -> list[str]:
        """Return the ids of the videos that have features."""
        return [v for v, r in self.receipts.items() if r.has_features]

    def with_frames(self, features: Iterable[FrameFeatures]) -> FeatureCache:
        """Return a view of the cache with only these videos, held in memory; texts stay."""
        view = FeatureCache(self.folder, self.spec, self.source)
        view._frames = {f.video_id: f for f in features}
        view.receipts = {v: self.receipts[v] for v in sorted(view._frames)}
        return view

    def frames(self, video_id: str) -> FrameFeatures:
        """Load the features of one video.

        Raises:
            MissingError: the video has no features.
            CacheError: the shard was altered.
        """
        receipt = self.receipts.get(video_id)
        if receipt is None or not receipt.has_features:
            reason = receipt.reason if receipt else "it was never extracted"
            raise MissingError(f"no features of {video_id!r}: {reason}")
        if video_id in self._frames:
            return self._frames[video_id]
        from vla.cache import shard

        content = atomic.read_bytes(self.folder / "shards" / receipt.shard, receipt.sha256)
        features = shard.read_frames(content, video_id, receipt.duration_seconds)
        if len(features.values) != receipt.frames:
            raise CacheError(
                f"{video_id}: {receipt.shard} holds {len(features.values)} frames, its receipt "
                f"says {receipt.frames}",
                hint=Hint("repair_features"),
            )
        if features.values.shape[1] != self.spec.dim:
            raise CacheError(
                f"{video_id}: features are {features.values.shape[1]} wide, the cache's are "
                f"{self.spec.dim}"
            )
        return features

    def add_video(self, features: FrameFeatures, receipt: Receipt) -> Receipt:
        """Commit features and receipt; afterwards they survive a kill. Return the receipt with its shard."""
        from vla.cache import shard

        image = shard.frames_image(features)
        digest = atomic.sha256(image)
        name = f"{video_key(features.video_id)}-{digest[:12]}.h5"
        atomic.write_bytes(self.folder / "shards" / name, image)
        receipt = replace(receipt, shard=name, sha256=digest, frames=len(features.values))
        self.add_receipt(receipt)
        return receipt

    def add_receipt(self, receipt: Receipt) -> None:
        """Commit a receipt, then delete the shard of the receipt that it replaces."""
        before = self.receipts.get(receipt.video_id)
        atomic.write_json(self._receipt_path(receipt.video_id), receipt.to_json())
        self.receipts[receipt.video_id] = receipt
        if before is not None and before.shard != receipt.shard:
            self._delete_shard(before.shard)

    def delete_video(self, video_id: str) -> None:
        """Delete the receipt and the features of a video; the video file stays."""
        receipt = self.receipts.pop(video_id, None)
        if receipt is not None:
            # The receipt first: features without a receipt are waste, a receipt without features is damage.
            atomic.remove(self._receipt_path(video_id))
            self._delete_shard(receipt.shard)

    def rename(self, video_id: str, receipt: Receipt) -> None:
        """Rename a video: replace its receipt by `receipt`, which has the new id and the same shard."""
        self.add_receipt(receipt)
        del self.receipts[video_id]
        atomic.remove(self._receipt_path(video_id))

    def _receipt_path(self, video_id: str) -> Path:
        return self.folder / "videos" / f"{video_key(video_id)}.json"

    def _delete_shard(self, shard: str) -> None:
        # A renamed or copied file shares the shard of its first name.
        if shard and all(r.shard != shard for r in self.receipts.values()):
            atomic.remove(self.folder / "shards" / shard)

    def shards_in_use(self) -> set[str]:
        """Return the file names of all shards named by receipts, or possibly named by damaged ones."""
        named_shards = {r.shard for r in self.receipts.values() if r.shard} | set(
            self.text_shards()
        )
        files = (
            [p.name for p in atomic.list_files(self.folder / "shards", "")] if self.damaged else []
        )
        keys = tuple(
            "t-" if path.parent.name == "texts" else f"{path.stem}-" for path in self.damaged
        )
        return named_shards | {name for name in files if name.startswith(keys)}

    def state(self) -> str:
        """Return 16 hexadecimal digits that change whenever a video is added, changed or deleted."""
        rows = [
            f"{r.video_id}\0{r.sha256}\0{r.duration_seconds!r}"
            for r in self.receipts.values()
            if r.has_features
        ]
        return atomic.sha256("\n".join(sorted(rows)).encode("utf-8", "surrogatepass"))[:16]


def _receipt(path: Path) -> Receipt:
    document = atomic.read_record(path, WAY_ON)
    receipt = Receipt.from_json(document.value, path, strict=not document.has_checksum)
    if video_key(receipt.video_id) != path.stem:
        raise CacheError(
            f"{path} is damaged (it describes the video {receipt.video_id!r}, which has another "
            f"file)",
            hint=WAY_ON,
        )
    return receipt


def active_cache(caches: Path) -> FeatureCache:
    """Open the active cache of the workspace; raise MissingError if nothing was extracted yet."""
    pointer = caches / "current.json"
    if not pointer.is_file():
        raise MissingError("there are no features yet", hint=Hint("extract"))
    return FeatureCache.open(caches / records.load(_Pointer, pointer, _EXTRACT).fingerprint)


def set_active_cache(caches: Path, cache: FeatureCache) -> None:
    """Make `cache` the active cache of the workspace."""
    record = {"fingerprint": cache.spec.fingerprint}
    pointer = caches / "current.json"
    if not atomic.contains(pointer, record):
        atomic.write_json(pointer, record)
