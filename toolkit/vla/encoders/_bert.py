"""BERT (Devlin et al. 2019) in plain torch: token states of short texts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

HEAD_WIDTH = 32
"""Width of an attention head of MiniLM, which has 12 of them."""
_EPS = 1e-12


class Bert:
    """A BERT encoder; its shape follows from its tensors.

    Args:
        weights: tensors by the names of `transformers.BertModel`.
        device: device to compute on.

    Attributes:
        width: width of a token state.
        positions: number of positions, the greatest number of tokens.

    Raises:
        KeyError: a tensor is missing.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], device: torch.device) -> None:
        # Of the embedded tokens only some rows are read, so they may stay memory-mapped. The others
        # are copied: rounding of products depends on the address, which is arbitrary in a file.
        self._tokens = weights["embeddings.word_embeddings.weight"].to(device)
        tensors = {
            name: tensor.to(device, torch.float32, copy=True)
            for name, tensor in weights.items()
            if tensor.is_floating_point() and name != "embeddings.word_embeddings.weight"
        }
        self._positions = (
            tensors["embeddings.position_embeddings.weight"]
            + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self.positions, self.width = self._positions.shape
        self._norm = _pair(tensors, "embeddings.LayerNorm")
        self._layers: list[_Layer] = []
        while f"encoder.layer.{len(self._layers)}.output.dense.weight" in tensors:
            self._layers.append(_Layer(tensors, f"encoder.layer.{len(self._layers)}."))

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return token states `(Q, L, width)` of ids `(Q, L)`; `mask` is False for padding."""
        x = functional.embedding(ids, self._tokens).float() + self._positions[: ids.shape[1]]
        x = functional.layer_norm(x, (self.width,), *self._norm, _EPS)
        for layer in self._layers:
            x = layer(x, mask[:, None, None])
        return x


class _Layer:
    """Attention and two linear layers, each followed by the sum with its input and a norm."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], prefix: str) -> None:
        heads = [_pair(tensors, f"{prefix}attention.self.{n}") for n in ("query", "key", "value")]
        weights, biases = zip(*heads, strict=True)
        self._heads = torch.cat(weights), torch.cat(biases)
        self._merge = _pair(tensors, f"{prefix}attention.output.dense")
        self._attention_norm = _pair(tensors, f"{prefix}attention.output.LayerNorm")
        self._widen = _pair(tensors, f"{prefix}intermediate.dense")
        self._narrow = _pair(tensors, f"{prefix}output.dense")
        self._output_norm = _pair(tensors, f"{prefix}output.LayerNorm")

    def __call__(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2)
            for part in functional.linear(x, *self._heads).chunk(3, -1)
        )
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = functional.linear(y.transpose(1, 2).reshape(rows, length, width), *self._merge)
        x = functional.layer_norm(x + y, (width,), *self._attention_norm, _EPS)
        y = functional.linear(functional.gelu(functional.linear(x, *self._widen)), *self._narrow)
        return functional.layer_norm(x + y, (width,), *self._output_norm, _EPS)


def _pair(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]
