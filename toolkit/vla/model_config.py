"""How an alignment model is built, apart from the model: reading a run loads no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ModelConfig:
    """How to build the model.

    Attributes:
        dim: width of the features.
        projector: plug-in name.
        options: of the projector's constructor.
        scale: the first temperature.
        heads: options of the heads' constructors, by plug-in name.
    """

    dim: int
    projector: str = "identity"
    options: dict[str, Any] = field(default_factory=dict)
    scale: float = 20.0
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
