"""Features of texts in a cache, found by the text itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vla.cache import shard
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, MissingError
from vla.features import FeatureSpec, TextFeatures
from vla.hints import Hint
from vla.language.sentences import split_to_fit
from vla.storage import atomic, records
from vla.storage.records import FileNameOrEmpty, Hex

WAY_ON = Hint("encode_texts_again")


@dataclass(frozen=True)
class TextsReceipt:
    """What a shard of texts holds.

    Attributes:
        shard: its file name; empty where no text was new.
        sha256: of the shard.
        texts: in the shard.
        pieces: of texts longer than the encoder's context, the parts that were encoded in their place.
    """

    shard: FileNameOrEmpty
    sha256: Hex
    texts: list[str]
    pieces: dict[str, list[str]]


class TextCache:
    """The texts of one feature space.

    Attributes:
        folder: of the cache.
        spec: the feature space.
        damaged: receipts that cannot be used, with the reason; filled as they are read.
    """

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.damaged: dict[Path, str] = {}

    @cached_property
    def _batches(self) -> dict[str, tuple[str, str]]:
        """Which shard (name, sha256) holds which text."""
        where: dict[str, tuple[str, str]] = {}
        for path in atomic.listed(self.folder / "texts"):
            try:
                record = records.load(TextsReceipt, path, WAY_ON)
            except CacheError as error:
                self.damaged[path] = str(error)
                continue
            if not (self.folder / "shards" / record.shard).exists():
                continue  # lost: its texts count as not cached, and are encoded again
            where.update(dict.fromkeys(record.texts, (record.shard, record.sha256)))
            self._pieces.update(record.pieces)
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
        return shard.read_texts(atomic.read_checked(self.folder / "shards" / name, digest), name)

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
        name = digest = ""
        if texts:
            image = shard.texts_image(encoder.encode_text(texts))
            digest = atomic.sha256(image)
            name = f"t-{digest[:20]}.h5"
            atomic.write_bytes(self.folder / "shards" / name, image)
        key = atomic.sha256("\0".join([*texts, *long]).encode("utf-8", "surrogatepass"))[:20]
        atomic.write_json(self.folder / "texts" / f"{key}.json", asdict(TextsReceipt(name, digest, texts, long)))
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
                f"{len(missing)} texts have no features, e.g. {missing[0][:80]!r}",
                hint=Hint("encode_texts"),
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
