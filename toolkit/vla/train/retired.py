"""Settings of earlier versions: the values that mean what is always done now, and the runs that cannot be used any more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vla.model_config import ModelConfig

DEFAULTS: dict[str, Any] = {"phrases": 0.0, "mining": "neighbours"}
"""Settings that are gone, with the only values that still mean something."""
_LOSSES = ("mil_nce", "mil_nce_sets")
_READERS = ("residual", "temporal")
"""Projectors that had an option `tokens`."""
_OF_RETRIEVAL = ("phrases", "share", "temperature")


def is_default(key: str, value: Any) -> bool:
    """True if `key` is a retired setting and `value` is what is always done now."""
    return key in DEFAULTS and bool(value == DEFAULTS[key])


def feature_of(config: Any) -> str | None:
    """Name of the retired feature that a run's settings `config` select; None if they select none."""
    if not isinstance(config, dict):
        return None
    options = config.get("projector_options") if config.get("projector") in _READERS else None
    losses = [config.get(kind) for kind in ("global_loss", "segment_loss", "untimed_loss")]
    selected = {
        "phrases": not is_default("phrases", config.get("phrases", 0.0)),
        "the attention score": config.get("score") == "attention",
        "a projector that reads tokens": isinstance(options, dict) and bool(options.get("tokens")),
        "mining by clusters": not is_default("mining", config.get("mining", "neighbours")),
        **{f"the loss {loss}": loss in losses for loss in _LOSSES},
    }
    return next((feature for feature, is_selected in selected.items() if is_selected), None)


def without_options(model: ModelConfig) -> ModelConfig:
    """The same model without options that are gone; in runs that `feature_of` accepts they changed nothing."""
    heads = {
        name: {k: v for k, v in options.items() if name != "retrieval" or k not in _OF_RETRIEVAL}
        for name, options in model.heads.items()
    }
    options = {k: v for k, v in model.options.items() if model.projector not in _READERS or k != "tokens"}
    return replace(model, options=options, heads=heads)
