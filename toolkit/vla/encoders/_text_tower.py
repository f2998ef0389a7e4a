"""A text tower that was loaded with its model once, and is loaded without it from then on: what is remembered of it, and checked.

What is remembered names the file of the weights with its size and time, so that no digest of it has to be made anew: whoever
changes the file changes these, and then the whole model is loaded and looked at again.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch

from vla.encoders._device import DTYPES, choose_device, choose_dtype
from vla.encoders._text_encoder import TextEncoderBase
from vla.encoders._tokenizer import tokenizer
from vla.encoders._tower import Shape, Tower, names_of
from vla.errors import CacheError
from vla.hints import Hint
from vla.storage import records
from vla.storage.records import Count, Name, between

SCHEMA = 2
WAY_ON = Hint("load_again")
_PROBES = [
    "a dog jumps over a fence",
    "",
    "It's 12:30 &amp; Zo\u00eb's caf\u00e9 \u2014 \u201cna\u00efve\u201d \u65e5\u672c <end_of_text>",
    "two people play chess in a park, and a third one looks on " * 9,
]


@dataclass(frozen=True)
class Remembered:
    """The record of a text tower.

    Attributes:
        schema: version of this record.
        file: of the weights.
        looks: its size and time.
        weights: digest of all weights.
        prefix: of the tower's tensors in the file.
        names: of these tensors.
        shape: of the tower.
        vocabulary: file of the tokenizer.
        scale: the encoder's own temperature.
        machine: on which `auto` was chosen.
        auto: precision that was chosen there; empty where it was asked for.
    """

    schema: Literal[SCHEMA]  # type: ignore[valid-type]
    file: Name
    looks: tuple[Count, int]
    weights: str
    prefix: Literal["", "text."]
    names: list[str]
    shape: Shape
    vocabulary: Name
    scale: Annotated[float, between(1e-6, 1e6)]
    machine: str
    auto: Literal["", "fp32", "bf16", "fp16"]


class TextTower(TextEncoderBase):
    """A text tower by itself, over its weights in a mapped file.

    Args:
        record: as `describe_text_tower` made it.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `fp32`, `bf16`, `fp16`, or `auto`: on a CPU what the whole model chose on this machine, since it takes long to
            measure that; a query has the bits that the captions of a cache have.

    Raises:
        CacheError: the record is not one.
        KeyError, TypeError, ValueError or OSError: it no longer fits its file.
    """

    def __init__(self, record: Mapping[str, Any], device: str, dtype: str) -> None:
        told = records.decode(Remembered, dict(record), "what is remembered of the text tower", WAY_ON)
        if _looks(Path(told.file)) != told.looks:
            raise ValueError(f"{told.file} is not what it was")
        self._device = choose_device(device)
        if dtype == "auto" and self._device.type == "cpu":
            if told.machine != platform.node() or not told.auto:
                raise ValueError("nobody has seen what is fast on this machine")
            chosen = DTYPES[told.auto]
        else:
            chosen = choose_dtype(dtype, self._device)[0]
        shape = told.shape
        weights = {
            # In a file tensors lie at any address, and products round by the address; of the words only a few rows are looked at.
            name: tensor.to(self._device, chosen, copy=name != "token_embedding.weight")
            for name, tensor in _tensors(Path(told.file), told.prefix, told.names).items()
        }
        self.scale = told.scale
        self._tower = Tower(shape, weights)
        super().__init__(tokenizer(Path(told.vocabulary), shape.context_length))

    def _encode_ids(self, ids: torch.Tensor, longest: int) -> tuple[np.ndarray, np.ndarray]:
        pooled, tokens = self._tower(ids.to(self._device), longest)
        return pooled.float().cpu().numpy(), tokens.float().cpu().numpy()


def describe_text_tower(
    whole: TextEncoderBase,
    network: Any,
    file: Path | None,
    vocabulary: Path,
    text_cfg: Mapping[str, Any],
    quick_gelu: bool,
    weights: str,
    dtype: tuple[str, bool],
) -> dict[str, Any] | None:
    """A JSON object by which `TextTower` makes what `whole` makes; None where it would not, to the last bit.

    Args:
        whole: the encoder with all of its model, on a CPU.
        network: its model.
        file: of the weights; None where that is not known.
        vocabulary: of the tokenizer.
        text_cfg: of the model's configuration.
        quick_gelu: likewise.
        weights: digest of all weights.
        dtype: name of its precision, and whether it is what `auto` chose.
    """
    shape = Shape.of(text_cfg, quick_gelu)
    own = network.state_dict()
    prefix = "text." if hasattr(network, "text") else ""
    names = shape and names_of(shape, {name.removeprefix(prefix) for name in own})
    if shape is None or file is None or file.suffix != ".safetensors" or not names or not vocabulary.is_file():
        return None
    record = {
        "schema": SCHEMA, "file": str(file.absolute()), "looks": list(_looks(file)), "weights": weights, "prefix": prefix,
        "names": names, "shape": shape.to_json(), "vocabulary": str(vocabulary.absolute()),
        "scale": whole.scale, "machine": platform.node(), "auto": dtype[0] if dtype[1] else "",
    }  # fmt: skip
    try:
        kept = _tensors(file, prefix, names)
        if any(not torch.equal(kept[name].to(own[prefix + name].dtype), own[prefix + name]) for name in names):
            return None  # made fit when it was loaded: other positions, say
        alone = TextTower(record, "cpu", dtype[0])
        for text in _PROBES:
            ours, theirs = alone.encode_text([text]), whole.encode_text([text])
            if not (np.array_equal(ours.pooled, theirs.pooled) and np.array_equal(ours.tokens, theirs.tokens)):
                return None
    except (CacheError, KeyError, TypeError, ValueError, OSError, RuntimeError):
        return None
    return record


def _looks(file: Path) -> tuple[int, int]:
    """Size and time of a file."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _tensors(file: Path, prefix: str, names: list[str]) -> dict[str, torch.Tensor]:
    """By name, mapped from `file`: what is not looked at is not read. Raises ValueError where some are not there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as held:
            return {name: held.get_tensor(prefix + name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{file}: {error}") from error
