"""Encoders: frozen models that turn frames and texts into features of one space."""

from collections.abc import Mapping
from typing import Any

from vla.registry import Registry


class _Encoders(Registry):
    """Encoders of others need only what no default can do; see `vla.encoders.base.completed`."""

    def build(self, name: str, options: Mapping[str, Any] | None = None, **given: Any) -> Any:
        from vla.encoders.base import completed

        return completed(super().build(name, options, **given), name)


registry = _Encoders("vla.encoders", "Encoder")
