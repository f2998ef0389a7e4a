"""Cache of text features, with lookup by text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vla.errors import CacheError, MissingError
from vla.features import FeatureSpec, TextFeatures
from vla.hints import Hint
from vla.language.sentences import split_to_fit
from vla.storage import atomic, records
from vla.storage.records import FileNameOrEmpty, Hex

if TYPE_CHECKING:
    import numpy as np

    from vla.encoders.base import TextEncoder

WAY_ON = Hint("encode_texts_again")


@dataclass(frozen=True)
class TextsReceipt:
    """Contents of a shard of texts.

    Attributes:
        shard: file name of the shard; empty if no text was new.
        sha256: digest of the shard.
        texts: texts in the shard.
        pieces: the pieces encoded in place of each text longer than the encoder's context.
    """

    shard: FileNameOrEmpty
    sha256: Hex
    texts: list[str]
    pieces: dict[str, list[str]]


class TextCache:
    """Text features of one feature space.

    Attributes:
        folder: folder of the cache.
        spec: the feature space.
        damaged: unusable receipts, with the reason; filled as receipts are read.
    """

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.folder = folder
        self.spec = spec
        self.damaged: dict[Path, str] = {}

    @cached_property
    def _shard_by_text(self) -> dict[str, tuple[str, str]]:
        """The shard (name, sha256) of each text."""
        shards: dict[str, tuple[str, str]] = {}
        for path in atomic.list_files(self.folder / "texts"):
            try:
                record = records.load(TextsReceipt, path, WAY_ON)
            except CacheError as error:
                self.damaged[path] = str(error)
                continue
            if not (self.folder / "shards" / record.shard).exists():
                continue  # the shard is lost: its texts are encoded again
            shards.update(dict.fromkeys(record.texts, (record.shard, record.sha256)))
            self._pieces.update(record.pieces)
        return shards

    @cached_property
    def _pieces(self) -> dict[str, list[str]]:
        return {}

    @cached_property
    def _loaded_shards(self) -> dict[str, tuple[TextFeatures, dict[str, int]]]:
        return {}

    def pieces(self, text: str) -> list[str]:
        """Return the pieces in which a text is cached; empty if it is not.

        A text that fits the encoder's context is its only piece.
        """
        shards = self._shard_by_text
        parts = self._pieces.get(text) or [text]
        return parts if all(p in shards for p in parts) else []

    def text_shards(self) -> dict[str, str]:
        """Return the sha256 of each shard of texts, by file name."""
        return {name: digest for name, digest in self._shard_by_text.values() if name}

    def read_texts(self, name: str, digest: str) -> TextFeatures:
        """Read a shard of texts; raise CacheError if it was altered."""
        from vla.cache import shard

        return shard.read_texts(atomic.read_bytes(self.folder / "shards" / name, digest), name)

    def cached_texts(self) -> list[str]:
        """Return the sorted encoded texts, including pieces of longer ones."""
        return sorted(self._shard_by_text)

    def missing_texts(self, texts: Iterable[str]) -> list[str]:
        """Return the texts that are not cached, each once, in order."""
        return [t for t in dict.fromkeys(texts) if not self.pieces(t)]

    def add_texts(
        self,
        texts: Iterable[str],
        encoder: TextEncoder,
        batch: int = 256,
        on_batch: Callable[[int], None] = lambda n: None,
    ) -> int:
        """Encode and cache the texts that are missing; return their number.

        A text longer than the encoder's context is split at its sentences (then clauses, then words), so
        that nothing is truncated.

        Args:
            texts: the texts.
            encoder: their encoder.
            batch: number of texts in one shard.
            on_batch: called after each shard with the number of texts done.
        """
        missing = self.missing_texts(texts)
        for start in range(0, len(missing), batch):
            batch_texts = missing[start : start + batch]
            parts = {t: split_to_fit(t, encoder.fits) for t in batch_texts}
            long = {t: p for t, p in parts.items() if p != [t]}
            unique = [
                p
                for p in dict.fromkeys(p for ps in parts.values() for p in ps)
                if p not in self._shard_by_text
            ]
            self._commit_texts(unique, long, encoder)
            on_batch(start + len(batch_texts))
        return len(missing)

    def _commit_texts(
        self, texts: list[str], long: dict[str, list[str]], encoder: TextEncoder
    ) -> None:
        name = digest = ""
        if texts:
            from vla.cache import shard

            image = shard.texts_image(encoder.encode_text(texts))
            digest = atomic.sha256(image)
            name = f"t-{digest[:20]}.h5"
            atomic.write_bytes(self.folder / "shards" / name, image)
        key = atomic.sha256("\0".join([*texts, *long]).encode("utf-8", "surrogatepass"))[:20]
        atomic.write_json(
            self.folder / "texts" / f"{key}.json", asdict(TextsReceipt(name, digest, texts, long))
        )
        self._shard_by_text.update(dict.fromkeys(texts, (name, digest)))
        self._pieces.update(long)

    def texts(self, texts: list[str]) -> TextFeatures:
        """Return the features of `texts` (see `pieces`), in order; raise MissingError for others."""
        import numpy as np

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
        """Yield each of `texts` (see `pieces`) with its tokens `(L, D)` float16.

        The order is by shard, so that only one shard is in memory.

        Raises:
            MissingError: a text is not cached.
            CacheError: a shard was altered.
        """
        by_shard: dict[tuple[str, str], list[str]] = {}
        for text in self._require(list(texts)):
            by_shard.setdefault(self._shard_by_text[text], []).append(text)
        for (name, digest), shard_texts in by_shard.items():
            features = self.read_texts(name, digest)
            rows = {t: i for i, t in enumerate(features.texts)}
            for text in shard_texts:
                if text not in rows:
                    raise _missing_text_error(name, text)
                yield text, features.tokens[rows[text]][features.mask[rows[text]]]

    def _require(self, texts: list[str]) -> list[str]:
        missing = [t for t in texts if t not in self._shard_by_text]
        if missing:
            raise MissingError(
                f"{len(missing)} texts have no features, e.g. {missing[0][:80]!r}",
                hint=Hint("encode_texts"),
            )
        return texts

    def _row(self, text: str) -> tuple[TextFeatures, int]:
        name, digest = self._shard_by_text[text]
        if name not in self._loaded_shards:
            features = self.read_texts(name, digest)
            self._loaded_shards[name] = (features, {t: i for i, t in enumerate(features.texts)})
        features, positions = self._loaded_shards[name]
        if text not in positions:
            raise _missing_text_error(name, text)
        return features, positions[text]


def _missing_text_error(name: str, text: str) -> CacheError:
    return CacheError(
        f"{name} lacks {text[:80]!r}, which its receipt promises: delete texts/ and run again"
    )
