"""The cache of one feature space: frames of videos and texts, found by name.

<fingerprint>/
  spec.json               the feature space, and how to load the encoder again
  videos/<key>.json       receipt of a video
  shards/<key>-<sha>.h5   its features
  texts/<sha>.json        receipt of a batch of texts
  shards/t-<sha>.h5       their features
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vla import durable
from vla.cache import shard
from vla.cache.receipts import Receipt, key_of
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, MissingError
from vla.features import FeatureSpec, FrameFeatures, TextFeatures
from vla.sentences import split_to_fit


@dataclass(frozen=True)
class EncoderSource:
    """The arguments that make the encoder of a cache again."""

    encoder: str
    model: str
    pretrained: str


class FeatureCache:
    """Features of one space. Opening reads one small file; receipts are read when first asked for."""

    def __init__(self, folder: Path, spec: FeatureSpec, source: EncoderSource) -> None:
        self.folder = folder
        self.spec = spec
        self.source = source

    @classmethod
    def open(cls, folder: Path) -> FeatureCache:
        """The cache in `folder`; raises MissingError or CacheError."""
        description = folder / "spec.json"
        if not description.is_file():
            raise MissingError(f"there are no features in {folder}: run 'vla extract PATH...' first")
        record = durable.read_json(description)
        try:
            source = EncoderSource(**record["source"])
            spec = FeatureSpec.from_json(record["spec"], str(description))
        except (KeyError, TypeError) as error:
            raise CacheError(f"{description} is damaged ({error!r}): run 'vla extract' again") from error
        return cls(folder, spec, source)

    @classmethod
    def create(cls, caches: Path, spec: FeatureSpec, source: EncoderSource) -> FeatureCache:
        """The cache of `spec` under `caches`, made where there is none; `source` is brought up to date."""
        folder = caches / spec.fingerprint
        record = {"spec": spec.to_json(), "source": source.__dict__}
        description = folder / "spec.json"
        if not description.is_file() or durable.read_json(description) != record:
            durable.write_json(description, record)
        return cls(folder, spec, source)

    # Videos

    @cached_property
    def receipts(self) -> dict[str, Receipt]:
        """Every video's receipt by its name, in order of name."""
        found = {}
        for path in sorted((self.folder / "videos").glob("*.json")):
            if path.name.startswith(durable.TEMPORARY):
                continue
            receipt = Receipt.from_json(durable.read_json(path), path)
            found[receipt.video_id] = receipt
        return dict(sorted(found.items()))

    def video_ids(self) -> list[str]:
        """Names of the videos that have features."""
        return [v for v, r in self.receipts.items() if r.has_features]

    def only(self, video_ids: Iterable[str]) -> FeatureCache:
        """The same cache to read from, as if these were all its videos; texts stay."""
        some = FeatureCache(self.folder, self.spec, self.source)
        some.receipts = {v: self.receipts[v] for v in sorted(video_ids)}
        return some

    def frames(self, video_id: str) -> FrameFeatures:
        """Features of one video; raises MissingError if there are none, CacheError if they were altered."""
        receipt = self.receipts.get(video_id)
        if receipt is None or not receipt.has_features:
            why = receipt.reason if receipt else "it was never extracted"
            raise MissingError(f"no features of {video_id!r}: {why}")
        content = durable.read_checked(self.folder / "shards" / receipt.shard, receipt.sha256)
        features = shard.read_frames(content, video_id, receipt.duration_seconds)
        if features.values.shape[1] != self.spec.dim:
            raise CacheError(
                f"{video_id}: features are {features.values.shape[1]} wide, the cache's are {self.spec.dim}"
            )
        return features

    def add_video(self, features: FrameFeatures, receipt: Receipt) -> Receipt:
        """Keep `features`; once this returns, they survive a kill. The receipt comes back with the shard in it."""
        image = shard.frames_image(features)
        digest = durable.sha256(image)
        name = f"{key_of(features.video_id)}-{digest[:12]}.h5"
        durable.write_bytes(self.folder / "shards" / name, image)
        whole = Receipt(**{**receipt.to_json(), "shard": name, "sha256": digest, "frames": len(features.values)})
        self.add_receipt(whole)
        return whole

    def add_receipt(self, receipt: Receipt) -> None:
        """Commit what became of a video; a shard that an older receipt named is dropped afterwards."""
        before = self.receipts.get(receipt.video_id)
        durable.write_json(self._receipt_path(receipt.video_id), receipt.to_json())
        self.receipts[receipt.video_id] = receipt
        if before is not None and before.shard != receipt.shard:
            self._drop_shard(before.shard)

    def forget(self, video_id: str) -> None:
        """Drop what is known of a video and its features; the video itself is never touched."""
        receipt = self.receipts.pop(video_id, None)
        if receipt is not None:
            # The receipt first: features without a receipt are waste, a receipt without features is damage.
            durable.remove(self._receipt_path(video_id))
            self._drop_shard(receipt.shard)

    def rename(self, video_id: str, receipt: Receipt) -> None:
        """Give the features of `video_id` to the name in `receipt`: the same file under another name, the same shard."""
        self.add_receipt(receipt)
        del self.receipts[video_id]
        durable.remove(self._receipt_path(video_id))

    def _receipt_path(self, video_id: str) -> Path:
        return self.folder / "videos" / f"{key_of(video_id)}.json"

    def _drop_shard(self, shard: str) -> None:
        # A file that was renamed or copied has the shard of its first name.
        if shard and all(r.shard != shard for r in self.receipts.values()):
            durable.remove(self.folder / "shards" / shard)

    def shards_in_use(self) -> set[str]:
        """File names of all shards that a receipt names."""
        return {r.shard for r in self.receipts.values() if r.shard} | set(self.text_shards())

    def state(self) -> str:
        """16 hexadecimal digits that change whenever a video is added, changed or lost."""
        rows = [f"{r.video_id}\0{r.sha256}\0{r.duration_seconds!r}" for r in self.receipts.values() if r.has_features]
        return durable.sha256("\n".join(sorted(rows)).encode("utf-8", "surrogatepass"))[:16]

    # Texts

    @cached_property
    def _batches(self) -> dict[str, tuple[str, str]]:
        """Which shard (name, sha256) holds which text."""
        where: dict[str, tuple[str, str]] = {}
        for path in sorted((self.folder / "texts").glob("*.json")):
            if path.name.startswith(durable.TEMPORARY):
                continue
            record = durable.read_json(path)
            try:
                if "/" in record["shard"] or record["shard"].startswith("."):
                    raise CacheError(f"{path} names a shard outside its cache: {record['shard']!r}")
                if not (self.folder / "shards" / record["shard"]).exists():
                    continue  # lost: its texts count as not cached, and are encoded again
                where.update(dict.fromkeys(record["texts"], (record["shard"], record["sha256"])))
                self._pieces.update(record["pieces"])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise CacheError(f"{path} is damaged ({error!r}): delete it and run the command again") from error
        return where

    @cached_property
    def _pieces(self) -> dict[str, list[str]]:
        return {}

    @cached_property
    def _loaded(self) -> dict[str, tuple[TextFeatures, dict[str, int]]]:
        return {}

    def pieces(self, text: str) -> list[str]:
        """The parts in which a cached text was encoded: itself, or several where it is longer than the context."""
        known = self._batches
        parts = self._pieces.get(text) or [text]
        return parts if all(p in known for p in parts) else []

    def text_shards(self) -> dict[str, str]:
        """The shards of texts by file name, with their sha256."""
        return {name: digest for name, digest in self._batches.values() if name}

    def read_texts(self, name: str, digest: str) -> TextFeatures:
        """What a shard of texts holds; raises CacheError if it is not what was written."""
        return shard.read_texts(durable.read_checked(self.folder / "shards" / name, digest), name)

    def known_texts(self) -> list[str]:
        """Every text that is cached whole, parts of longer ones among them."""
        return sorted(self._batches)

    def missing_texts(self, texts: Iterable[str]) -> list[str]:
        """Those of `texts` that are not cached, each once, in order."""
        return [t for t in dict.fromkeys(texts) if not self.pieces(t)]

    def add_texts(
        self,
        texts: Iterable[str],
        encoder: TextEncoder,
        batch: int = 256,
        on_batch: Callable[[int], None] = lambda n: None,
    ) -> int:
        """Encode and keep those of `texts` that are not cached yet; returns how many there were.

        A text that is longer than the encoder's context is split at its sentences (then clauses, then words), and the
        parts are kept: nothing is cut off.
        """
        missing = self.missing_texts(texts)
        for start in range(0, len(missing), batch):
            some = missing[start : start + batch]
            parts = {t: split_to_fit(t, encoder.fits) for t in some}
            long = {t: p for t, p in parts.items() if p != [t]}
            unique = [p for p in dict.fromkeys(p for ps in parts.values() for p in ps) if p not in self._batches]
            self._commit_texts(unique, long, encoder)
            on_batch(start + len(some))
        return len(missing)

    def _commit_texts(self, texts: list[str], long: dict[str, list[str]], encoder: TextEncoder) -> None:
        record: dict[str, object] = {"shard": "", "sha256": "", "texts": texts, "pieces": long}
        name = digest = ""
        if texts:
            image = shard.texts_image(encoder.encode_text(texts))
            digest = durable.sha256(image)
            name = f"t-{digest[:20]}.h5"
            durable.write_bytes(self.folder / "shards" / name, image)
            record |= {"shard": name, "sha256": digest}
        key = durable.sha256("\0".join([*texts, *long]).encode("utf-8", "surrogatepass"))[:20]
        durable.write_json(self.folder / "texts" / f"{key}.json", record)
        self._batches.update(dict.fromkeys(texts, (name, digest)))
        self._pieces.update(long)

    def texts(self, texts: list[str]) -> TextFeatures:
        """Features of `texts` (see `pieces`), in order; raises MissingError for texts that are not cached."""
        self._require(texts)
        rows = [self._row(t) for t in texts]
        longest = max((f.mask.shape[1] for f, _ in rows), default=1)
        pooled = np.zeros((len(texts), self.spec.dim), np.float16)
        tokens = np.zeros((len(texts), longest, self.spec.dim), np.float16)
        mask = np.zeros((len(texts), longest), bool)
        for i, (features, row) in enumerate(rows):
            width = features.mask.shape[1]
            pooled[i], tokens[i, :width], mask[i, :width] = (
                features.pooled[row],
                features.tokens[row],
                features.mask[row],
            )
        return TextFeatures(tuple(texts), pooled, tokens, mask)

    def tokens(self, texts: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Each of `texts` (see `pieces`) with its real tokens `(L, D)` float16, shard by shard: no more than one is held.

        Raises:
            MissingError: a text is not cached.
            CacheError: a shard was altered.
        """
        by_shard: dict[tuple[str, str], list[str]] = {}
        for text in self._require(list(texts)):
            by_shard.setdefault(self._batches[text], []).append(text)
        for (name, digest), some in by_shard.items():
            features = self.read_texts(name, digest)
            rows = {t: i for i, t in enumerate(features.texts)}
            for text in some:
                if text not in rows:
                    raise _lacks(name, text)
                yield text, features.tokens[rows[text]][features.mask[rows[text]]]

    def _require(self, texts: list[str]) -> list[str]:
        missing = [t for t in texts if t not in self._batches]
        if missing:
            raise MissingError(
                f"{len(missing)} texts have no features, e.g. {missing[0][:80]!r}: run 'vla extract --captions'"
            )
        return texts

    def _row(self, text: str) -> tuple[TextFeatures, int]:
        name, digest = self._batches[text]
        if name not in self._loaded:
            features = self.read_texts(name, digest)
            self._loaded[name] = (features, {t: i for i, t in enumerate(features.texts)})
        features, positions = self._loaded[name]
        if text not in positions:
            raise _lacks(name, text)
        return features, positions[text]


def _lacks(name: str, text: str) -> CacheError:
    return CacheError(f"{name} lacks {text[:80]!r}, which its receipt promises: delete texts/ and run again")


def current_cache(caches: Path) -> FeatureCache:
    """The cache that this workspace goes on with; raises MissingError if nothing was extracted yet."""
    pointer = caches / "current.json"
    if not pointer.is_file():
        raise MissingError("there are no features yet: run 'vla extract PATH...' first")
    record = durable.read_json(pointer)
    fingerprint = record.get("fingerprint") if isinstance(record, dict) else None
    if not isinstance(fingerprint, str) or not fingerprint.isalnum():
        raise CacheError(f"{pointer} is damaged: delete it and run 'vla extract' again")
    return FeatureCache.open(caches / fingerprint)


def make_current(caches: Path, cache: FeatureCache) -> None:
    """Let the workspace go on with `cache`."""
    record = {"fingerprint": cache.spec.fingerprint}
    pointer = caches / "current.json"
    if not pointer.is_file() or durable.read_json(pointer) != record:
        durable.write_json(pointer, record)
