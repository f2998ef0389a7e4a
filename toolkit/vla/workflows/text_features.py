"""Encoders of texts for released features: vectors come from the cache, a file, or the encoder that is named for them."""

from __future__ import annotations

from functools import cached_property

from vla.cache.store import FeatureCache
from vla.encoders import registry as encoders
from vla.encoders.base import Encoder, TextEncoder
from vla.errors import MissingError, SpecMismatchError
from vla.features import IMPORTED, TextFeatures
from vla.formats._texts import normalize_whitespace, same_vector
from vla.hints import Hint

_SCALE = 100.0
"""CLIP's, which most released features are of; training goes on from there."""


class GivenTexts:
    """An encoder that knows some texts by heart: those of a file, each with its vector, whatever its length."""

    scale = _SCALE

    def __init__(self, given: TextFeatures) -> None:
        self._given = given
        self._rows = {normalize_whitespace(text): row for row, text in enumerate(given.texts)}

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """The vectors of the file; raises KeyError for other texts."""
        rows = [self._rows[text] for text in texts]
        given = self._given
        return TextFeatures(tuple(texts), given.pooled[rows], given.tokens[rows], given.mask[rows])

    def fits(self, text: str) -> bool:
        """True: the vector is of the whole text, as whoever made it saw fit."""
        return True


class ImportedTexts:
    """The encoder of texts for imported features: cached texts are looked up, the others are left to the encoder that was named.

    That encoder is loaded when a text is not cached, and only then.
    """

    scale = _SCALE

    def __init__(self, cache: FeatureCache, device: str, dtype: str) -> None:
        self._cache, self._device, self._dtype = cache, device, dtype

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Pooled and token features, order kept; float16 where they are cached.

        Raises:
            MissingError: a text is not cached, and no encoder is known.
            SpecMismatchError: the encoder makes vectors of another width than the features have.
        """
        if all(self._is_cached(t) for t in texts):
            return self._cache.texts(texts)
        if not has_encoder(self._cache):
            unknown = [t for t in texts if not self._is_cached(t)]
            raise MissingError(_no_encoder(self._cache, unknown), hint=Hint("name_encoder_or_texts"))
        return self._encoder.encode_text(texts)

    def fits(self, text: str) -> bool:
        """True for what is cached whole; without an encoder for everything, since nobody is there to cut it."""
        return self._is_cached(text) or not has_encoder(self._cache) or self._encoder.fits(text)

    def _is_cached(self, text: str) -> bool:
        return self._cache.pieces(text) == [text]

    @cached_property
    def _encoder(self) -> TextEncoder:
        source, spec = self._cache.source, self._cache.spec
        options = {"model": source.model} if source.model else {}
        encoder: Encoder = encoders.build(
            source.encoder, options, pretrained=source.pretrained, device=self._device, dtype=self._dtype
        )
        if encoder.identity.dim != spec.dim:
            raise SpecMismatchError(
                f"the imported features {spec.model!r} are {spec.dim} wide, and {source.model or source.encoder!r}, which was "
                f"named as their encoder, makes vectors {encoder.identity.dim} wide",
                hint=Hint("name_feature_encoder"),
            )
        return encoder


def has_encoder(cache: FeatureCache) -> bool:
    """True if it is known which encoder makes vectors of new texts for `cache`."""
    return cache.source.encoder != IMPORTED


def keep_texts(cache: FeatureCache, given: TextFeatures) -> tuple[int, list[str]]:
    """Keep the texts of a file in `cache`; returns how many are new, and those that have another vector here, which stays."""
    known = [t for t in given.texts if cache.pieces(t) == [normalize_whitespace(t)]]
    rows = {t: row for row, t in enumerate(given.texts)}
    other = []
    if known:
        held = cache.texts([normalize_whitespace(t) for t in known]).pooled
        for text, vector in zip(known, held, strict=True):
            if not same_vector(vector, given.pooled[rows[text]]):
                other.append(text)
    return cache.add_texts(given.texts, GivenTexts(given)), other


def _no_encoder(cache: FeatureCache, unknown: list[str]) -> str:
    more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
    return (
        f"the text {unknown[0][:80]!r}{more} has no vector here. The features of this workspace were imported "
        f"({cache.spec.model!r}, {cache.spec.dim} wide), and with what they were made is not known"
    )
