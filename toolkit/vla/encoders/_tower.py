"""The text tower of an open_clip model by itself, over weights as they lie in their file: what a query in words needs.

Nothing of open_clip, timm or torchvision is imported, and no weight of the image tower is read. The same operations in the same
order as open_clip's `TextTransformer`, so the same bits (`_alone.py` checks that before it is used).
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
    """What open_clip's configuration says of a text tower; names and defaults are its own."""

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
        """Of a model's `text_cfg`; None where it asks for something that this tower does not have."""
        given = dict(text_cfg)
        activation, norm = (dict(given.pop(k, None) or {}) for k in ("act_kwargs", "norm_kwargs"))
        own = {f.name for f in fields(cls)} - {"quick_gelu", "approximate", "eps"}
        for name in ("mlp_ratio", "pad_id", "proj_bias", "proj_type", "tokenizer_kwargs", "hf_tokenizer_name"):
            given.pop(name, None)
        if any(value for name, value in given.items() if name not in own):
            return None
        if set(activation) - {"approximate"} or set(norm) - {"eps"} or (quick_gelu and activation):
            return None
        shape = cls(**{k: v for k, v in given.items() if k in own}, quick_gelu=quick_gelu, **activation, **norm)
        return shape if shape.pool_type in ("first", "last", "argmax", "eos") else None

    def to_json(self) -> dict[str, Any]:
        """A JSON object of its fields."""
        return asdict(self)


class Tower:
    """A text transformer.

    Args:
        shape: of the tower.
        weights: its tensors by open_clip's names, without the `text.` that some models put in front.
    """

    def __init__(self, shape: Shape, weights: Mapping[str, torch.Tensor]) -> None:
        self._shape, self._weights = shape, dict(weights)
        position = self._weights["positional_embedding"]
        # One module for all layers: its own weights are never used.
        self._attention = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True).eval().requires_grad_(False)
        self._mask = None
        if not shape.no_causal_mask:
            self._mask = torch.full((shape.context_length,) * 2, float("-inf")).triu_(1).to(position)
        gelu = partial(functional.gelu, approximate=shape.approximate)
        self._activation = (lambda x: x * torch.sigmoid(1.702 * x)) if shape.quick_gelu else gelu

    def __call__(self, ids: torch.Tensor, longest: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled `(Q, D)` and token features `(Q, longest, D)` of `ids` `(Q, context)`, both in the joint space."""
        w = self._weights
        x = functional.embedding(ids, w["token_embedding.weight"])
        x = x + w["positional_embedding"]
        for number in range(self._shape.layers):
            x = self._block(x, f"transformer.resblocks.{number}.")
        x = self._normed(x, "ln_final.")
        return self._projected(self._pooled(x, ids)), self._projected(x[:, :longest])

    def _block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        w = self._weights
        q = self._normed(x, f"{name}ln_1.")
        own = {key: w[f"{name}attn.{key}"] for key in _ATTENTION}
        given = {"need_weights": False, "attn_mask": self._mask}
        x = x + torch.func.functional_call(self._attention, own, (q, q, q), given)[0]
        y = functional.linear(self._normed(x, f"{name}ln_2."), w[f"{name}mlp.c_fc.weight"], w[f"{name}mlp.c_fc.bias"])
        return x + functional.linear(self._activation(y), w[f"{name}mlp.c_proj.weight"], w[f"{name}mlp.c_proj.bias"])

    def _normed(self, x: torch.Tensor, name: str) -> torch.Tensor:
        w = self._weights
        return functional.layer_norm(x, (self._shape.width,), w[f"{name}weight"], w[f"{name}bias"], self._shape.eps)

    def _pooled(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        if self._shape.pool_type in ("first", "last"):
            return x[:, 0 if self._shape.pool_type == "first" else -1]
        is_end = ids if self._shape.pool_type == "argmax" else (ids == self._shape.eos_id).int()
        return x[torch.arange(len(x), device=x.device), is_end.argmax(dim=-1)]

    def _projected(self, x: torch.Tensor) -> torch.Tensor:
        w = self._weights
        if "text_projection.weight" in w:
            return functional.linear(x, w["text_projection.weight"], w.get("text_projection.bias"))
        return x @ w["text_projection"] if "text_projection" in w else x


_ATTENTION = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")


def names_of(shape: Shape, known: set[str]) -> list[str] | None:
    """The tensors of the tower among `known`, by open_clip's names; None where some are missing."""
    of_block = [f"attn.{key}" for key in _ATTENTION]
    of_block += [f"{part}.{kind}" for part in ("ln_1", "ln_2", "mlp.c_fc", "mlp.c_proj") for kind in ("weight", "bias")]
    found = ["token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias"]
    found += [f"transformer.resblocks.{n}.{part}" for n in range(shape.layers) for part in of_block]
    found += [name for name in ("text_projection", "text_projection.weight", "text_projection.bias") if name in known]
    return found if known.issuperset(found) else None
