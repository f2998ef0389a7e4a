"""Configuration of an alignment model, in a module of its own: reading a run does not
import torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from vla.storage.records import Positive, between


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of an alignment model.

    Attributes:
        dim: width of the features.
        projector: plug-in name.
        options: of the projector's constructor.
        scale: initial factor of cosines.
        heads: options of the heads' constructors, by plug-in name.
    """

    dim: Positive
    projector: str = "identity"
    options: dict[str, Any] = field(default_factory=dict)
    scale: Annotated[float, between(1e-6, 1e6)] = 20.0
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
