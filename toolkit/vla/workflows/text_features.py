"""Text encoders for imported features.

Vectors come from the cache, from a file, or from a declared encoder.
"""

from __future__ import annotations

from functools import cached_property

from vla.cache.store import FeatureCache
from vla.encoders import registry as encoders
from vla.encoders.base import Encoder, TextEncoder
from vla.errors import MissingError, SpecMismatchError
from vla.features import IMPORTED_ENCODER, TextFeatures
from vla.formats._texts import normalize_whitespace, same_vector
from vla.hints import Hint

_SCALE = 100.0
"""Logit scale of CLIP, which most released features come from; training starts from it."""


class LookupTexts:
    """Text encoder that looks vectors up in a table, such as the texts of a file."""

    scale = _SCALE

    def __init__(self, features: TextFeatures) -> None:
        self._features = features
        self._rows = {normalize_whitespace(text): row for row, text in enumerate(features.texts)}

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return the vectors of `texts`; raises KeyError for a text that is not in the table."""
        rows = [self._rows[text] for text in texts]
        features = self._features
        return TextFeatures(
            tuple(texts), features.pooled[rows], features.tokens[rows], features.mask[rows]
        )

    def fits(self, text: str) -> bool:
        """Return True: the table has a vector of the whole text, whatever its length."""
        return True


class ImportedTexts:
    """Text encoder for imported features.

    Cached texts are looked up, all others are passed to the declared encoder.

    That encoder is loaded at the first text that is not cached.
    """

    scale = _SCALE

    def __init__(self, cache: FeatureCache, device: str, dtype: str) -> None:
        self._cache, self._device, self._dtype = cache, device, dtype

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return pooled and token features in the order of `texts`; float16 if they are cached.

        Raises:
            MissingError: a text is not cached, and no encoder is declared.
            SpecMismatchError: the vectors of the declared encoder have another width than the
                features.
        """
        if all(self._is_cached(t) for t in texts):
            return self._cache.texts(texts)
        if not has_encoder(self._cache):
            missing = [t for t in texts if not self._is_cached(t)]
            raise MissingError(
                _no_encoder(self._cache, missing), hint=Hint("name_encoder_or_texts")
            )
        return self._encoder.encode_text(texts)

    def fits(self, text: str) -> bool:
        """Return whether `text` is cached as a whole or fits the declared encoder.

        True without an encoder.
        """
        return self._is_cached(text) or not has_encoder(self._cache) or self._encoder.fits(text)

    def _is_cached(self, text: str) -> bool:
        return self._cache.pieces(text) == [text]

    @cached_property
    def _encoder(self) -> TextEncoder:
        source, spec = self._cache.source, self._cache.spec
        options = {"model": source.model} if source.model else {}
        encoder: Encoder = encoders.build(
            source.encoder,
            options,
            pretrained=source.pretrained,
            device=self._device,
            dtype=self._dtype,
        )
        if encoder.identity.dim != spec.dim:
            raise SpecMismatchError(
                f"the imported features {spec.model!r} are {spec.dim} wide, and "
                f"{source.model or source.encoder!r}, which was "
                f"named as their encoder, makes vectors {encoder.identity.dim} wide",
                hint=Hint("name_feature_encoder"),
            )
        return encoder


def has_encoder(cache: FeatureCache) -> bool:
    """Return whether new texts can be encoded for `cache`.

    Its features are not imported, or their encoder is declared.
    """
    return cache.source.encoder != IMPORTED_ENCODER


def add_texts(cache: FeatureCache, features: TextFeatures) -> tuple[int, list[str]]:
    """Add the texts of a file to `cache`.

    Returns:
        The number of new texts, and the texts that have another vector in the cache, which is not
        replaced.
    """
    cached = [t for t in features.texts if cache.pieces(t) == [normalize_whitespace(t)]]
    rows = {t: row for row, t in enumerate(features.texts)}
    conflicts = []
    if cached:
        vectors = cache.texts([normalize_whitespace(t) for t in cached]).pooled
        for text, vector in zip(cached, vectors, strict=True):
            if not same_vector(vector, features.pooled[rows[text]]):
                conflicts.append(text)
    return cache.add_texts(features.texts, LookupTexts(features)), conflicts


def _no_encoder(cache: FeatureCache, missing: list[str]) -> str:
    more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return (
        f"the text {missing[0][:80]!r}{more} has no vector here. The features of this workspace "
        f"were imported "
        f"({cache.spec.model!r}, {cache.spec.dim} wide), and their encoder is not known"
    )
