"""Text transformer of open_clip models, over weights as they are in the file.

open_clip, timm and torchvision are not imported, and weights of the image tower are not read. The
operations and their order equal those of open_clip's `TextTransformer`, and so do the bits
(`_text_tower.py` verifies this before use).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torch.nn import functional

from vla.storage.records import Count, Share, between

Size = Annotated[int, between(1, 1 << 20)]


@dataclass(frozen=True)
class Shape:
    """Text tower in open_clip's configuration, with its names and defaults."""

    context_length: Size = 77
    vocab_size: Size = 49408
    width: Size = 512
    heads: Size = 8
    layers: Size = 12
    eos_id: Count = 2
    no_causal_mask: bool = False
    pool_type: str = "argmax"
    quick_gelu: bool = False
    approximate: Literal["none", "tanh"] = "none"
    eps: Share = 1e-5

    @classmethod
    def of(cls, text_cfg: Mapping[str, Any], quick_gelu: bool) -> Shape | None:
        """Return the shape in a model's `text_cfg`; None if it needs an unsupported feature."""
        options = dict(text_cfg)
        activation, norm = (dict(options.pop(k, None) or {}) for k in ("act_kwargs", "norm_kwargs"))
        field_names = {f.name for f in fields(cls)} - {"quick_gelu", "approximate", "eps"}
        for name in (
            "mlp_ratio",
            "pad_id",
            "proj_bias",
            "proj_type",
            "tokenizer_kwargs",
            "hf_tokenizer_name",
        ):
            options.pop(name, None)
        if any(value for name, value in options.items() if name not in field_names):
            return None
        if set(activation) - {"approximate"} or set(norm) - {"eps"} or (quick_gelu and activation):
            return None
        shape = cls(
            **{k: v for k, v in options.items() if k in field_names},
            quick_gelu=quick_gelu,
            **activation,
            **norm,
        )
        return shape if shape.pool_type in ("first", "last", "argmax", "eos") else None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a JSON object."""
        return asdict(self)


class Tower:
    """A text transformer.

    Args:
        shape: shape of the tower.
        weights: its tensors by open_clip's names, without the prefix `text.` of some models.
    """

    def __init__(self, shape: Shape, weights: Mapping[str, torch.Tensor]) -> None:
        self._shape, self._weights = shape, dict(weights)
        position = self._weights["positional_embedding"]
        # One module serves all layers: its own weights are never used.
        self._attention = (
            nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
            .eval()
            .requires_grad_(False)
        )
        self._mask = None
        if not shape.no_causal_mask:
            self._mask = (
                torch.full((shape.context_length,) * 2, float("-inf")).triu_(1).to(position)
            )
        gelu = partial(functional.gelu, approximate=shape.approximate)
        self._activation = (lambda x: x * torch.sigmoid(1.702 * x)) if shape.quick_gelu else gelu

    def __call__(self, ids: torch.Tensor, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode `ids`, `(Q, context)`.

        Returns:
            Pooled features `(Q, D)` and token features `(Q, longest, D)`, both in the joint space.
        """
        w = self._weights
        x = functional.embedding(ids, w["token_embedding.weight"])
        x = x + w["positional_embedding"]
        for number in range(self._shape.layers):
            x = self._block(x, f"transformer.resblocks.{number}.")
        x = self._layer_norm(x, "ln_final.")
        return self._project(self._pool(x, ids)), self._project(x[:, :longest])

    def _block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        w = self._weights
        q = self._layer_norm(x, f"{name}ln_1.")
        weights = {key: w[f"{name}attn.{key}"] for key in _ATTENTION}
        options = {"need_weights": False, "attn_mask": self._mask}
        x = x + torch.func.functional_call(self._attention, weights, (q, q, q), options)[0]
        y = functional.linear(
            self._layer_norm(x, f"{name}ln_2."),
            w[f"{name}mlp.c_fc.weight"],
            w[f"{name}mlp.c_fc.bias"],
        )
        return x + functional.linear(
            self._activation(y), w[f"{name}mlp.c_proj.weight"], w[f"{name}mlp.c_proj.bias"]
        )

    def _layer_norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        w = self._weights
        return functional.layer_norm(
            x, (self._shape.width,), w[f"{name}weight"], w[f"{name}bias"], self._shape.eps
        )

    def _pool(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        if self._shape.pool_type in ("first", "last"):
            return x[:, 0 if self._shape.pool_type == "first" else -1]
        is_end = ids if self._shape.pool_type == "argmax" else (ids == self._shape.eos_id).int()
        return x[torch.arange(len(x), device=x.device), is_end.argmax(dim=-1)]

    def _project(self, x: torch.Tensor) -> torch.Tensor:
        w = self._weights
        if "text_projection.weight" in w:
            return functional.linear(x, w["text_projection.weight"], w.get("text_projection.bias"))
        return x @ w["text_projection"] if "text_projection" in w else x


_ATTENTION = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")


def tensor_names(shape: Shape, available_names: set[str]) -> list[str] | None:
    """Return open_clip's names of the tower's tensors; None if some are unavailable."""
    block_names = [f"attn.{key}" for key in _ATTENTION]
    block_names += [
        f"{part}.{kind}"
        for part in ("ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj")
        for kind in ("weight", "bias")
    ]
    names = ["token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias"]
    names += [
        f"transformer.resblocks.{n}.{part}" for n in range(shape.layers) for part in block_names
    ]
    names += [
        name
        for name in ("text_projection", "text_projection.weight", "text_projection.bias")
        if name in available_names
    ]
    return names if available_names.issuperset(names) else None
