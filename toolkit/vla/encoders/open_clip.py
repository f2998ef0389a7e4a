"""open_clip models, named by architecture and tag, `hf-hub:`, `local-dir:` or a preset."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from vla.encoders._device import (
    DTYPES,
    choose_device,
    choose_dtype,
    one_core_per_call,
    useful_threads,
)
from vla.encoders._embedded_model import EMBEDDED as _EMBEDDED
from vla.encoders._open_clip_import import import_open_clip
from vla.encoders._packages import name_missing_packages
from vla.encoders._preprocess import Preprocess
from vla.encoders._presets import DEFAULT, PRESETS
from vla.encoders._reparameterize import choose_memory_format, reparameterize
from vla.encoders._text_encoder import TextEncoderBase
from vla.encoders._text_tower import TextTower, describe_text_tower
from vla.encoders._tokenizer import read_vocabulary
from vla.encoders._weights import fetch_weights, load_network, local_name, weights_file
from vla.encoders.base import EncoderIdentity, TextEncoder
from vla.errors import CacheError, MissingError
from vla.progress import ProgressCallback

_VOCABULARY = "bpe.txt.gz"


class Encoder(TextEncoderBase):
    """A frozen open_clip model.

    Args:
        model: a preset (`demo`, `fast`, `balanced`, `best`), an open_clip model name,
            `hf-hub:ORG/REPO`, or `local-dir:PATH` of a folder with `open_clip_config.json` and
            weights.
        pretrained: tag or path of the weights; only for open_clip's own model names.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `fp32`, `bf16` or `fp16`.

    Raises:
        EnvironmentUnfitError: torch and torchvision do not match, the device is missing, or weights
            cannot be downloaded.
        ResourceError: the disk is too small for the weights.
        UsageError: there is no such model or tag.
        MissingError: the folder of a `local-dir:` is not a saved open_clip model.
    """

    def __init__(
        self, model: str = DEFAULT, pretrained: str = "", device: str = "auto", dtype: str = "auto"
    ) -> None:
        open_clip = import_open_clip()
        name, tag = _resolve(model, pretrained)
        self._device = choose_device(device)
        self._dtype, _ = choose_dtype(dtype, self._device)
        self._is_auto = dtype == "auto"
        with _QuietLogging(), name_missing_packages(name):
            network, config = load_network(open_clip, name, tag)
            super().__init__(_tokenizer(open_clip, name))
        self._network = network.eval().requires_grad_(False)
        self._preprocess = Preprocess(config)
        weights = _digest(self._network)
        self.scale = float(self._network.logit_scale.exp())
        self._layout = choose_memory_format(network)
        if self._layout is not torch.contiguous_format:
            self._network = reparameterize(self._network)
        self._network.to(self._device, self._dtype)
        self._mean, self._std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) * 255
            for v in (self._preprocess.mean, self._preprocess.std)
        )
        with torch.inference_mode():
            height, width = self._preprocess.height, self._preprocess.width
            dim = self.encode_frames(np.zeros((1, 3, height, width), np.uint8)).shape[1]
        self.identity = EncoderIdentity(
            "open_clip", _portable_name(model, name, tag), weights, str(self._preprocess), dim
        )
        self._source = name, tag

    @staticmethod
    def fetch_weights(model: str, pretrained: str, progress: ProgressCallback) -> None:
        """Download the weights of a model if they are not here.

        Raises:
            EnvironmentUnfitError: the hub cannot be reached.
            ResourceError: the disk is too small.
        """
        open_clip = import_open_clip()
        with _QuietLogging():
            fetch_weights(open_clip, *_resolve(model or DEFAULT, pretrained), progress)

    @property
    def max_concurrency(self) -> int:
        """See `useful_threads`."""
        return useful_threads(self._device)

    def one_thread_per_call(self) -> AbstractContextManager[None]:
        """See `one_core_per_call`."""
        return one_core_per_call(self._device)

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """Return `(T, 3, h, w)` uint8."""
        return self._preprocess(pixels)

    def encode_frames(self, inputs: np.ndarray) -> np.ndarray:
        """Return `(T, D)` float32, not normalized."""
        if not len(inputs):
            return np.zeros((0, self.identity.dim), np.float32)
        with torch.inference_mode():
            return np.concatenate(self._batcher.run(torch.from_numpy(inputs), self._encode_images))

    def _encode_images(self, pixels: torch.Tensor) -> np.ndarray:
        # Copied as bytes: floats would take four times the transfer to a GPU.
        images = pixels.to(self._device).to(torch.float32, memory_format=self._layout)
        images = ((images - self._mean) / self._std).to(self._dtype)
        values: np.ndarray = self._network.encode_image(images).float().cpu().numpy()
        return values

    def _encode_ids(self, ids: torch.Tensor, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Return pooled `(Q, D)` and token features `(Q, longest, D)`."""
        out = self._network.forward_intermediates(
            text=ids.to(self._device), text_indices=1, normalize=False, normalize_intermediates=True
        )
        tokens = _project(self._network, out["text_intermediates"][-1][:, :longest])
        return out["text_features"].float().cpu().numpy(), tokens.float().cpu().numpy()

    def describe_text_tower(self) -> dict[str, Any] | None:
        """Return the record for `load_text_tower`; None if the whole model is needed."""
        if self._device.type != "cpu":
            return None
        open_clip = import_open_clip()
        name, tag = self._source
        with _QuietLogging():
            location = local_name(name)
            config = open_clip.get_model_config(
                location if ":" in location else location.replace("/", "-")
            )
            file = weights_file(open_clip, name, tag)
        text_cfg = config["text_cfg"]
        tokenizer_options = dict(text_cfg.get("tokenizer_kwargs") or {})
        vocabulary = Path(
            tokenizer_options.pop("bpe_path", "")
            or Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
        )
        if name.startswith("local-dir:"):
            local_vocabulary = Path(name.removeprefix("local-dir:")) / _VOCABULARY
            vocabulary = local_vocabulary if local_vocabulary.is_file() else vocabulary
        if tokenizer_options or type(self._tokenizer) is not open_clip.SimpleTokenizer:
            return None
        quick = bool(config.get("quick_gelu", False))
        dtype = next(name for name, kind in DTYPES.items() if kind == self._dtype), self._is_auto
        return describe_text_tower(
            self, self._network, file, vocabulary, text_cfg, quick, self.identity.weights, dtype
        )

    @staticmethod
    def load_text_tower(record: Mapping[str, Any], device: str, dtype: str) -> TextEncoder | None:
        """Return a text encoder from a record; None if the file of the weights has changed."""
        try:
            return TextTower(record, device, dtype)
        except (CacheError, KeyError, TypeError, ValueError, OSError, RuntimeError):
            return None


def _resolve(model: str, pretrained: str) -> tuple[str, str]:
    if model == "demo":
        return f"local-dir:{_EMBEDDED}", ""
    if model in PRESETS and PRESETS[model].encoder == "open_clip":
        return PRESETS[model].model, pretrained or PRESETS[model].pretrained
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:")).expanduser()
        if not (folder / "open_clip_config.json").is_file():
            raise MissingError(
                f"{folder} has no open_clip_config.json: 'local-dir:' wants a folder that "
                f"open_clip saved"
            )
        return f"local-dir:{folder}", ""
    return model, pretrained


def _tokenizer(open_clip: Any, name: str) -> Any:
    folder = Path(name.removeprefix("local-dir:"))
    if name.startswith("local-dir:") and (folder / _VOCABULARY).is_file():
        # A configuration names its vocabulary relative to the current folder; pass the full path.
        read_vocabulary(folder / _VOCABULARY)  # open_clip unpacks a file of any size
        return open_clip.get_tokenizer(name, bpe_path=str(folder / _VOCABULARY))
    location = local_name(name)
    if location != name:
        text = (open_clip.get_model_config(location) or {}).get("text_cfg") or {}
        # A tokenizer of the hub has a repository of its own, which the folder does not contain.
        name = name if text.get("hf_tokenizer_name") else location
    return open_clip.get_tokenizer(name)


def _project(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Project token outputs `(Q, L, width)` into the joint space `(Q, L, D)`."""
    projection = getattr(network, "text_projection", None)
    if projection is None and hasattr(network, "text"):
        projection = getattr(network.text, "text_projection", None)
    if projection is None:
        return tokens
    if isinstance(projection, torch.nn.Linear):
        return functional.linear(tokens, projection.weight, projection.bias)
    return tokens @ projection


def _digest(network: torch.nn.Module) -> str:
    """Return 16 hexadecimal digits of the sha256 over every tensor with its name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _portable_name(model: str, name: str, tag: str) -> str:
    """Return the name of the model in the spec, equal on every machine with the same files."""
    if model == "demo":
        return "demo"
    if name.startswith("local-dir:"):
        config = json.loads(
            (Path(name.removeprefix("local-dir:")) / "open_clip_config.json").read_text("utf-8")
        )
        canonical = json.dumps(config, sort_keys=True).encode()
        return f"local-dir {hashlib.sha256(canonical).hexdigest()[:8]}"
    return f"{name} {tag}" if tag and not Path(tag).is_file() else name


class _QuietLogging:
    """Suppress open_clip's root-level log lines while a model loads; failures raise errors."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._before)
