"""Selection of the encoder of a workspace; features of two encoders are never mixed."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vla.cache.encoder_records import TEXT_TOWER_FILE
from vla.cache.store import EncoderSource, FeatureCache, active_cache
from vla.encoders import registry as encoders
from vla.encoders._presets import DEFAULT, encoder_of_model
from vla.encoders.base import Encoder, TextEncoder
from vla.errors import CacheError, MissingError, ResourceError, SpecMismatchError, UsageError
from vla.features import TextFeatures
from vla.hints import Hint
from vla.progress import ProgressCallback, silent
from vla.sampling import Sampling
from vla.storage import atomic
from vla.storage.workspace import Workspace

DEFAULT_SAMPLING = "fps=2"
_DTYPES = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class EncoderChoice:
    """Encoder, sampling and device for an extraction. A field that is None means the previous
    value of the workspace.

    Attributes:
        model: a preset, an open_clip name, `hf-hub:...` or `local-dir:...`.
        pretrained: tag or file of the weights.
        encoder: plug-in name; if None and `model` is a preset, that of the preset.
        sampling: `fps=2`, `frames=16`, `keyframes` or `scenes`; see `vla.sampling`.
        device: device for the encoder.
        dtype: precision: `auto`, `fp32`, `bf16` or `fp16`.

    Raises:
        UsageError: unknown precision, or a field is not a string.
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
                raise UsageError(f"{name} must be text, not {value!r}")
        if self.dtype not in _DTYPES:
            raise UsageError(f"unknown dtype {self.dtype!r}: use {', '.join(_DTYPES)}")


UNCHANGED = EncoderChoice()
"""The previous values of the workspace, or the defaults."""


def encoder_and_cache(
    workspace: Workspace,
    choice: EncoderChoice,
    change_encoder: bool,
    *,
    create: bool = True,
    progress: ProgressCallback = silent,
) -> tuple[Encoder, FeatureCache]:
    """Return the chosen encoder, or the previous one, with its cache; another encoder than before
    needs `change_encoder`.

    With `create=False` nothing is written in the workspace: a new cache is returned empty. Weights
    that are not on this machine are downloaded, which `progress` reports.
    """
    try:
        active: FeatureCache | None = active_cache(workspace.caches)
    except MissingError:
        active = None
    if active is not None and active.spec.is_imported:
        if not change_encoder:
            raise SpecMismatchError(
                f"the features of this workspace were imported ({active.spec.model!r}), and what "
                f"is extracted is never of the "
                "same space",
                hint=Hint("leave_imported"),
            )
        active = None
    source = _choose_source(choice, active.source if active else None)
    sampling = Sampling.parse(
        choice.sampling or (active.spec.sampling if active else DEFAULT_SAMPLING)
    )
    options = {"model": source.model} if source.model else {}
    plugin = encoders.get(source.encoder)
    if hasattr(plugin, "fetch_weights"):
        plugin.fetch_weights(source.model, source.pretrained, progress)
    encoder: Encoder = encoders.build(
        source.encoder,
        options,
        pretrained=source.pretrained,
        device=choice.device,
        dtype=choice.dtype,
    )
    spec = encoder.identity.spec(str(sampling))
    if active is not None and not change_encoder:
        active.spec.require_same(
            spec,
            "this workspace",
            "the requested settings",
            Hint("change_encoder"),
        )
    if not create:
        return encoder, FeatureCache(workspace.caches / spec.fingerprint, spec, source)
    return encoder, FeatureCache.create(workspace.caches, spec, source)


def _choose_source(choice: EncoderChoice, active: EncoderSource | None) -> EncoderSource:
    """Return the chosen encoder; what is not chosen is that of `active`, or the default."""
    source = active or EncoderSource("open_clip", DEFAULT, "")
    encoder = choice.encoder or encoder_of_model(choice.model) or source.encoder
    if encoder != source.encoder:
        return EncoderSource(encoder, choice.model or "", choice.pretrained or "")
    if choice.model is not None:
        return EncoderSource(encoder, choice.model, choice.pretrained or "")
    if choice.pretrained is not None:
        return replace(source, pretrained=choice.pretrained)
    return source


def encoder_of(cache: FeatureCache, device: str, dtype: str) -> TextEncoder:
    """Return the encoder of `cache`; raises SpecMismatchError if its weights have changed.

    For imported features the encoder is loaded when it encodes the first text; see `ImportedTexts`.
    """
    if cache.spec.is_imported:
        return _imported_texts(cache, device, dtype)
    return _load_full_encoder(cache, device, dtype)


def _imported_texts(cache: FeatureCache, device: str, dtype: str) -> TextEncoder:
    # Other searches need no reader of files of features.
    from vla.workflows.text_features import ImportedTexts

    return ImportedTexts(cache, device, dtype)


def query_encoder(cache: FeatureCache, device: str, dtype: str) -> TextEncoder:
    """Return an encoder for a few texts: only the text tower, if its description is cached; else
    as `encoder_of`.

    The description of the text tower is cached beside the features; it is valid while the weights
    file is unchanged.
    """
    if cache.spec.is_imported:
        return _imported_texts(cache, device, dtype)
    path = cache.folder / TEXT_TOWER_FILE
    plugin = encoders.get(cache.source.encoder)
    if not hasattr(plugin, "load_text_tower"):
        return _load_full_encoder(cache, device, dtype)
    record = _read_tower_record(path)
    if record and record.get("weights") == cache.spec.weights:
        texts: TextEncoder | None = plugin.load_text_tower(record, device, dtype)
        if texts is not None:
            return LazyImageEncoder(texts, cache, device, dtype)
    encoder = _load_full_encoder(cache, device, dtype)
    description = encoder.describe_text_tower()  # type: ignore[attr-defined]
    if description != record:
        # A read-only workspace can still be searched.
        with suppress(ResourceError):
            atomic.write_json(path, description or {})
    return encoder


class LazyImageEncoder:
    """A text tower alone; the full encoder is loaded when the first image is encoded."""

    def __init__(self, texts: TextEncoder, cache: FeatureCache, device: str, dtype: str) -> None:
        self._texts, self._cache, self._device, self._dtype = texts, cache, device, dtype
        self.scale = texts.scale

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Return pooled and token features, in the order of `texts`."""
        return self._texts.encode_text(texts)

    def fits(self, text: str) -> bool:
        """Return whether the encoder reads `text` without truncation."""
        return self._texts.fits(text)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Prepare pixels as the full encoder does."""
        return self._all.prepare(pixels)

    def encode_frames(self, prepared: np.ndarray) -> np.ndarray:
        """Encode frames as the full encoder does."""
        return self._all.encode_frames(prepared)

    @cached_property
    def _all(self) -> Encoder:
        return _load_full_encoder(self._cache, self._device, self._dtype)


def _read_tower_record(path: Path) -> dict[str, Any]:
    """Return the description of the text tower; empty if it is unreadable or has no checksum, as
    it affects every query.
    """
    try:
        stored_record = (
            atomic.read_record(path) if path.is_file() else atomic.JsonDocument({}, False)
        )
    except CacheError:
        return {}
    return (
        stored_record.value
        if stored_record.has_checksum and isinstance(stored_record.value, dict)
        else {}
    )


def _load_full_encoder(cache: FeatureCache, device: str, dtype: str) -> Encoder:
    source = cache.source
    options = {"model": source.model} if source.model else {}
    encoder: Encoder = encoders.build(
        source.encoder, options, pretrained=source.pretrained, device=device, dtype=dtype
    )
    cache.spec.require_same(
        encoder.identity.spec(cache.spec.sampling),
        "the cache",
        f"the encoder {source.model or source.encoder!r} as it loads now",
        Hint("restore_encoder"),
    )
    return encoder
