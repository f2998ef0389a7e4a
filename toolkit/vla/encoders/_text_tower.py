"""A text tower without its image tower, loaded from a record of the whole model.

The record holds the path, size and time of the weights file, so that no digest needs to be computed
again. If the file changes, the whole model is loaded and recorded again.
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
from vla.encoders._tokenizer import make_tokenizer
from vla.encoders._tower import Shape, Tower, tensor_names
from vla.errors import CacheError
from vla.hints import Hint
from vla.storage import records
from vla.storage.records import Count, Name, between

SCHEMA = 2
WAY_ON = Hint("load_again")
_TEST_TEXTS = [
    "a dog jumps over a fence",
    "",
    "It's 12:30 &amp; Zo\u00eb's caf\u00e9 \u2014 \u201cna\u00efve\u201d \u65e5\u672c "
    "<end_of_text>",
    "two people play chess in a park, and a third one looks on " * 9,
]


@dataclass(frozen=True)
class TextTowerRecord:
    """Record of a text tower.

    Attributes:
        schema: version of this record.
        file: path of the weights.
        looks: size and modification time of that file.
        weights: digest of all weights.
        prefix: prefix of the tower's tensors in the file.
        names: names of these tensors.
        shape: shape of the tower.
        vocabulary: path of the tokenizer's vocabulary.
        scale: the encoder's learned temperature.
        machine: name of the machine on which `auto` was resolved.
        auto: precision of `auto` there; empty if a precision was requested.
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
    """A text tower over weights in a memory-mapped file.

    Args:
        record: from `describe_text_tower`.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `fp32`, `bf16`, `fp16`, or `auto`: on a CPU the precision of the whole model on this
            machine, so that queries have the same bits as cached captions.

    Raises:
        CacheError: the record is invalid.
        KeyError, TypeError, ValueError or OSError: it no longer fits its file.
    """

    def __init__(self, record: Mapping[str, Any], device: str, dtype: str) -> None:
        entry = records.decode(
            TextTowerRecord, dict(record), "what is remembered of the text tower", WAY_ON
        )
        if _file_state(Path(entry.file)) != entry.looks:
            raise ValueError(f"{entry.file} has changed")
        self._device = choose_device(device)
        if dtype == "auto" and self._device.type == "cpu":
            if entry.machine != platform.node() or not entry.auto:
                raise ValueError("the precision for this machine is not recorded")
            torch_dtype = DTYPES[entry.auto]
        else:
            torch_dtype = choose_dtype(dtype, self._device)[0]
        shape = entry.shape
        weights = {
            # Tensors lie at any address in a file, and rounding of products depends on the address.
            # Of the token embedding only some rows are read.
            name: tensor.to(self._device, torch_dtype, copy=name != "token_embedding.weight")
            for name, tensor in _tensors(Path(entry.file), entry.prefix, entry.names).items()
        }
        self.scale = entry.scale
        self._tower = Tower(shape, weights)
        super().__init__(make_tokenizer(Path(entry.vocabulary), shape.context_length))

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
    """Return the record from which `TextTower` reproduces `whole`; None if any bit would differ.

    Args:
        whole: the encoder with its whole model, on a CPU.
        network: its model.
        file: path of the weights; None if unknown.
        vocabulary: path of the tokenizer's vocabulary.
        text_cfg: `text_cfg` of the model's configuration.
        quick_gelu: `quick_gelu` of the model's configuration.
        weights: digest of all weights.
        dtype: name of its precision, and whether `auto` chose it.
    """
    shape = Shape.of(text_cfg, quick_gelu)
    state_dict = network.state_dict()
    prefix = "text." if hasattr(network, "text") else ""
    names = shape and tensor_names(shape, {name.removeprefix(prefix) for name in state_dict})
    if (
        shape is None
        or file is None
        or file.suffix != ".safetensors"
        or not names
        or not vocabulary.is_file()
    ):
        return None
    record = {
        "schema": SCHEMA, "file": str(file.absolute()), "looks": list(_file_state(file)), "weights": weights, "prefix": prefix,
        "names": names, "shape": shape.to_json(), "vocabulary": str(vocabulary.absolute()),
        "scale": whole.scale, "machine": platform.node(), "auto": dtype[0] if dtype[1] else "",
    }  # fmt: skip
    try:
        tensors = _tensors(file, prefix, names)
        if any(
            not torch.equal(
                tensors[name].to(state_dict[prefix + name].dtype), state_dict[prefix + name]
            )
            for name in names
        ):
            return None  # loading changed the weights, for example interpolated positions
        tower = TextTower(record, "cpu", dtype[0])
        for text in _TEST_TEXTS:
            result, reference = tower.encode_text([text]), whole.encode_text([text])
            if not (
                np.array_equal(result.pooled, reference.pooled)
                and np.array_equal(result.tokens, reference.tokens)
            ):
                return None
    except (CacheError, KeyError, TypeError, ValueError, OSError, RuntimeError):
        return None
    return record


def _file_state(file: Path) -> tuple[int, int]:
    """Return the size and modification time of a file."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _tensors(file: Path, prefix: str, names: list[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of these names, memory-mapped from `file`: unused values are not read.

    Raises:
        ValueError: some are missing.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(prefix + name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{file}: {error}") from error
