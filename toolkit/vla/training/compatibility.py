"""Settings of earlier versions: renamed keys, and features that a run can no longer be
used with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vla.model_config import ModelConfig

RENAMED: dict[str, str] = {
    "batch_videos": "batch_size",
    "held_out": "val_fraction",
    "look_alikes": "hard_negative_group_size",
    "pull": "anchor_weight",
    "withheld": "held_out_concepts",
}
"""Keys that earlier versions wrote into `run.json` and read from recipes, with their present names.
"""
DEFAULTS: dict[str, Any] = {"phrases": 0.0, "mining": "neighbours"}
"""Retired settings with the value that selects the present behaviour."""
_LOSSES = ("mil_nce", "mil_nce_sets", "sigmoid")
_TOKEN_PROJECTORS = ("residual", "temporal")
"""Projectors that had an option `tokens`."""
_RETRIEVAL_OPTIONS = ("phrases", "share", "temperature")


def is_default(key: str, value: Any) -> bool:
    """Return whether `key` is a retired setting and `value` selects the present behaviour."""
    return key in DEFAULTS and bool(value == DEFAULTS[key])


def rename_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run with the present names of their keys."""
    return {RENAMED.get(key, key): value for key, value in config.items()}


def identity_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a run's identity is computed from.

    Keys have the names of earlier versions and retired settings their defaults, so that the
    identity of a run does not change with the version.
    """
    earlier_names = {new: old for old, new in RENAMED.items()}
    return {earlier_names.get(key, key): value for key, value in config.items()} | DEFAULTS


def retired_feature(config: Any) -> str | None:
    """Return the name of the retired feature that a run's settings select.

    None if there is none.
    """
    if not isinstance(config, dict):
        return None
    options = (
        config.get("projector_options") if config.get("projector") in _TOKEN_PROJECTORS else None
    )
    losses = [config.get(kind) for kind in ("global_loss", "segment_loss", "untimed_loss")]
    is_selected = {
        # Runs of versions with a patience; their weights have a whitening, whatever the projector.
        "whitened features": "patience" in config,
        "phrases": not is_default("phrases", config.get("phrases", 0.0)),
        "the attention score": config.get("score") == "attention",
        "a projector that reads tokens": isinstance(options, dict) and bool(options.get("tokens")),
        "mining by clusters": not is_default("mining", config.get("mining", "neighbours")),
        **{f"the loss {loss}": loss in losses for loss in _LOSSES},
    }
    return next((feature for feature, value in is_selected.items() if value), None)


def drop_retired_options(model: ModelConfig) -> ModelConfig:
    """Return the same model without retired options.

    In a run without a retired feature these options had no effect.
    """
    heads = {
        name: {
            k: v for k, v in options.items() if name != "retrieval" or k not in _RETRIEVAL_OPTIONS
        }
        for name, options in model.heads.items()
    }
    options = {
        k: v
        for k, v in model.options.items()
        if model.projector not in _TOKEN_PROJECTORS or k != "tokens"
    }
    return replace(model, options=options, heads=heads)
