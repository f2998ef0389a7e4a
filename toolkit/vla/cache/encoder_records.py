"""Small records of an encoder that lie beside its features, so that it need not be loaded for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from vla.storage.records import between

SCALE_FILE = "scale.json"
TEXT_TOWER_FILE = "text-tower.json"


@dataclass(frozen=True)
class Scale:
    """Contents of `SCALE_FILE`: the encoder's own temperature."""

    scale: Annotated[float, between(1e-6, 1e6)]
