"""Encoders: frozen models that embed frames and texts in one space."""

from collections.abc import Mapping
from typing import Any

from vla.registry import Registry


class _Encoders(Registry):
    """Registry that completes the encoders of plug-ins; see `with_defaults`."""

    def build(self, name: str, options: Mapping[str, Any] | None = None, **arguments: Any) -> Any:
        from vla.encoders.base import with_defaults

        return with_defaults(super().build(name, options, **arguments), name)


registry = _Encoders("vla.encoders", "Encoder")
