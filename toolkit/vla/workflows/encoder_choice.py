"""Which encoder a workspace goes on with, and the refusal to mix two."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vla.cache.store import EncoderSource, FeatureCache, active_cache
from vla.encoders import registry as encoders
from vla.encoders._presets import DEFAULT
from vla.encoders.base import Encoder, TextEncoder
from vla.errors import CacheError, MissingError, ResourceError, SpecMismatchError, UsageError
from vla.features import TextFeatures
from vla.hints import Hint
from vla.sampling import Sampling
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.workflows.text_features import ImportedTexts

DEFAULT_SAMPLING = "fps=2"
REMEMBERED = "text-tower.json"
_DTYPES = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder to extract with. What is left at None is what the workspace used before, or else the default.

    Attributes:
        model: a preset, an open_clip name, `hf-hub:...` or `local-dir:...`.
        pretrained: tag or file of the weights.
        encoder: plug-in name.
        sampling: which frames to take: `fps=2`, `frames=16`, `keyframes` or `scenes`; see `vla.sampling`.
        device: where to run it.
        dtype: precision to run it in: `auto`, `fp32`, `bf16` or `fp16`.

    Raises:
        UsageError: no such precision, or a field that is not a text.
    """

    model: str | None = None
    pretrained: str | None = None
    encoder: str | None = None
    sampling: str | None = None
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, str) and (value is not None or name in ("device", "dtype")):
                raise UsageError(f"{name} is a text, not {value!r}")
        if self.dtype not in _DTYPES:
            raise UsageError(f"there is no dtype called {self.dtype!r}; use {', '.join(_DTYPES)}")


UNCHANGED = EncoderChoice()
"""What the workspace used before, or the defaults."""


def encoder_and_cache(
    place: Workspace, choice: EncoderChoice, switch: bool, *, create: bool = True
) -> tuple[Encoder, FeatureCache]:
    """The encoder that is asked for, or that was used before, and its cache; refuses to mix without `switch`.

    Without `create` nothing is written: a cache that is not there yet is empty.
    """
    try:
        before: FeatureCache | None = active_cache(place.caches)
    except MissingError:
        before = None
    if before is not None and before.spec.is_imported:
        if not switch:
            raise SpecMismatchError(
                f"the features of this workspace were imported ({before.spec.model!r}), and what is extracted is never of the "
                "same space",
                hint=Hint("leave_imported"),
            )
        before = None
    source = before.source if before else EncoderSource("open_clip", DEFAULT, "")
    if choice.encoder is not None and choice.encoder != source.encoder:
        source = EncoderSource(choice.encoder, choice.model or "", choice.pretrained or "")
    elif choice.model is not None:
        source = EncoderSource(source.encoder, choice.model, choice.pretrained or "")
    elif choice.pretrained is not None:
        source = replace(source, pretrained=choice.pretrained)
    sampling = Sampling.parse(choice.sampling or (before.spec.sampling if before else DEFAULT_SAMPLING))
    options = {"model": source.model} if source.model else {}
    encoder: Encoder = encoders.build(
        source.encoder, options, pretrained=source.pretrained, device=choice.device, dtype=choice.dtype
    )
    spec = encoder.identity.spec(str(sampling))
    if before is not None and not switch:
        before.spec.require_same(
            spec,
            "this workspace",
            "what was asked for",
            Hint("change_encoder"),
        )
    if not create:
        return encoder, FeatureCache(place.caches / spec.fingerprint, spec, source)
    return encoder, FeatureCache.create(place.caches, spec, source)


def encoder_of(cache: FeatureCache, device: str, dtype: str) -> TextEncoder:
    """The encoder of `cache`; raises SpecMismatchError if what loads today is another one.

    For imported features nothing is loaded before a text asks for it; see `ImportedTexts`.
    """
    return ImportedTexts(cache, device, dtype) if cache.spec.is_imported else _whole(cache, device, dtype)


def query_encoder(cache: FeatureCache, device: str, dtype: str) -> TextEncoder:
    """The encoder of `cache` for a few texts: its text tower alone, where that was loaded whole before; else as `encoder_of`.

    What is remembered of the tower is kept beside the features, and holds as long as the file of the weights is what it was.
    """
    if cache.spec.is_imported:
        return ImportedTexts(cache, device, dtype)
    path = cache.folder / REMEMBERED
    plugin = encoders.get(cache.source.encoder)
    if not hasattr(plugin, "texts_alone"):
        return _whole(cache, device, dtype)
    record = _record(path)
    if record and record.get("weights") == cache.spec.weights:
        texts: TextEncoder | None = plugin.texts_alone(record, device, dtype)
        if texts is not None:
            return LazyImageEncoder(texts, cache, device, dtype)
    encoder = _whole(cache, device, dtype)
    found = encoder.remembered()  # type: ignore[attr-defined]
    if found != record:
        # A workspace that cannot be written can be searched all the same.
        with suppress(ResourceError):
            atomic.write_json(path, found or {})
    return encoder


class LazyImageEncoder:
    """A text tower alone; the whole encoder is loaded when a picture asks for it."""

    def __init__(self, texts: TextEncoder, cache: FeatureCache, device: str, dtype: str) -> None:
        self._texts, self._cache, self._device, self._dtype = texts, cache, device, dtype
        self.scale = texts.scale

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Pooled and token features, order kept."""
        return self._texts.encode_text(texts)

    def fits(self, text: str) -> bool:
        """True if the encoder reads the whole of `text`."""
        return self._texts.fits(text)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """As the whole encoder does."""
        return self._all.prepare(pixels)

    def encode_frames(self, prepared: np.ndarray) -> np.ndarray:
        """As the whole encoder does."""
        return self._all.encode_frames(prepared)

    @cached_property
    def _all(self) -> Encoder:
        return _whole(self._cache, self._device, self._dtype)


def _record(path: Path) -> dict[str, Any]:
    """What is remembered; nothing where that cannot be read, or no checksum vouches for it: it decides what every query means."""
    try:
        found = atomic.read_record(path) if path.is_file() else atomic.Stored({}, False)
    except CacheError:
        return {}
    return found.value if found.is_checked and isinstance(found.value, dict) else {}


def _whole(cache: FeatureCache, device: str, dtype: str) -> Encoder:
    source = cache.source
    options = {"model": source.model} if source.model else {}
    encoder: Encoder = encoders.build(source.encoder, options, pretrained=source.pretrained, device=device, dtype=dtype)
    cache.spec.require_same(
        encoder.identity.spec(cache.spec.sampling),
        "the cache",
        f"the encoder {source.model or source.encoder!r} as it loads now",
        Hint("restore_encoder"),
    )
    return encoder
