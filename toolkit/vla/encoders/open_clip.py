"""Any open_clip model: by name and pretrained tag, `hf-hub:ORG/REPO`, `local-dir:PATH`, or a preset's name."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
from torch.nn import functional

from vla.encoders._convolutions import fused, layout_of
from vla.encoders._device import Pieces, choose_device, choose_dtype, one_core
from vla.encoders._imports import import_open_clip
from vla.encoders._preprocess import Preprocess
from vla.encoders._presets import DEFAULT, PRESETS
from vla.encoders.base import EncoderIdentity
from vla.errors import EnvironmentUnfitError, MissingError, UsageError
from vla.features import TextFeatures

_EMBEDDED = Path(__file__).parent / "_embedded"
_VOCABULARY = "bpe.txt.gz"


class Encoder:
    """A frozen open_clip model.

    Args:
        model: a preset (`demo`, `fast`, `balanced`, `best`), an open_clip model name, `hf-hub:ORG/REPO`, or
            `local-dir:PATH` of a folder with `open_clip_config.json` and weights.
        pretrained: tag or file of the weights; only for open_clip's own model names.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `auto`, `fp32`, `bf16` or `fp16`.

    Raises:
        EnvironmentUnfitError: torch and torchvision do not fit, the device is not there, or weights cannot be fetched.
        UsageError: no such model or tag.
        MissingError: the folder of a `local-dir:` is not what it should be.
    """

    def __init__(self, model: str = DEFAULT, pretrained: str = "", device: str = "auto", dtype: str = "auto") -> None:
        open_clip = import_open_clip()
        name, tag = _resolve(model, pretrained)
        self._device = choose_device(device)
        self._dtype, _ = choose_dtype(dtype, self._device)
        with _quiet():
            network, config = _load(open_clip, name, tag)
            self._tokenizer = _tokenizer(open_clip, name)
        self._network = network.eval().requires_grad_(False)
        self._preprocess = Preprocess(config)
        self._context = int(self._tokenizer.context_length)
        # The token that fills a row is whatever an empty text ends with; CLIP pads with 0, SigLIP with 1.
        self._padding = int(self._tokenizer([""])[0, -1])
        weights = _digest(self._network)
        self.scale = float(self._network.logit_scale.exp())
        self._layout = layout_of(network)
        if self._layout is not torch.contiguous_format:
            self._network = fused(self._network)
        self._network.to(self._device, self._dtype)
        self._mean, self._std = (
            torch.tensor(v, device=self._device).view(1, 3, 1, 1) * 255
            for v in (self._preprocess.mean, self._preprocess.std)
        )
        self._pieces = Pieces()
        with torch.inference_mode():
            dim = self.encode_frames(np.zeros((1, 3, self._preprocess.height, self._preprocess.width), np.uint8)).shape[
                1
            ]
        self.identity = EncoderIdentity(
            "open_clip", _portable_name(model, name, tag), weights, str(self._preprocess), dim
        )
        # Tokenizers cache words in a plain dict, and searches may come from several threads.
        self._lock = threading.Lock()

    @property
    def lanes(self) -> int:
        """A thread for each core; on a GPU two, so that one copies while the other computes."""
        return os.cpu_count() or 1 if self._device.type == "cpu" else 2

    def side_by_side(self) -> AbstractContextManager[None]:
        """On a CPU each call keeps to one core: threads of one call would wait for cores that other calls and decoders use.

        One core also makes the same bits however many cores and threads the machine has.
        """
        return one_core() if self._device.type == "cpu" else nullcontext()

    def prepare(self, pixels: np.ndarray) -> np.ndarray:
        """`(T, 3, h, w)` uint8."""
        return self._preprocess(pixels)

    def encode_frames(self, prepared: np.ndarray) -> np.ndarray:
        """`(T, D)` float32, not normalised."""
        if not len(prepared):
            return np.zeros((0, self.identity.dim), np.float32)
        with torch.inference_mode():
            return np.concatenate(self._pieces.run(torch.from_numpy(prepared), self._encode_images))

    def encode_text(self, texts: list[str]) -> TextFeatures:
        """Pooled and token features; each token is brought into the joint space by the text projection."""
        if not texts:
            raise UsageError("there is no text to encode")
        with self._lock:
            ids = self._tokenizer(texts)
        lengths = self._lengths(ids)
        longest = int(lengths.max())
        # One at a time: each computes on all cores, so threads together would only wait for each other.
        with self._lock, torch.inference_mode():
            made = self._pieces.run(ids, lambda some: self._encode_ids(some, longest))
        pooled, tokens = (np.concatenate(parts) for parts in zip(*made, strict=True))
        mask = np.arange(longest)[None] < lengths[:, None]
        return TextFeatures(tuple(texts), pooled, tokens * mask[..., None], mask)

    def _encode_images(self, pixels: torch.Tensor) -> np.ndarray:
        images = pixels.to(self._device, torch.float32, memory_format=self._layout)
        images = ((images - self._mean) / self._std).to(self._dtype)
        values: np.ndarray = self._network.encode_image(images).float().cpu().numpy()
        return values

    def _encode_ids(self, ids: torch.Tensor, longest: int) -> tuple[np.ndarray, np.ndarray]:
        """Pooled `(Q, D)` and token features `(Q, longest, D)`."""
        out = self._network.forward_intermediates(
            text=ids.to(self._device), text_indices=1, normalize=False, normalize_intermediates=True
        )
        tokens = _project(self._network, out["text_intermediates"][-1][:, :longest])
        return out["text_features"].float().cpu().numpy(), tokens.float().cpu().numpy()

    def fits(self, text: str) -> bool:
        """True if no token of `text` would be cut off."""
        # No tokenizer makes more tokens than there are ASCII characters; some add one or two at the ends, and one in front.
        if text.isascii() and len(text) + 3 <= self._context:
            return True
        with self._lock:
            long = self._tokenizer([text], context_length=max(4096, 2 * len(text) + 16))
        return int(self._lengths(long)[0]) <= self._context

    def _lengths(self, ids: torch.Tensor) -> np.ndarray:
        """Tokens of each row up to the last that is not padding, at least 1."""
        real = (ids != self._padding).numpy()
        return np.where(real.any(1), real.shape[1] - real[:, ::-1].argmax(1), 1)


def _resolve(model: str, pretrained: str) -> tuple[str, str]:
    if model == "demo":
        return f"local-dir:{_EMBEDDED}", ""
    if model in PRESETS:
        return PRESETS[model].model, pretrained or PRESETS[model].pretrained
    if model.startswith("local-dir:"):
        folder = Path(model.removeprefix("local-dir:")).expanduser()
        if not (folder / "open_clip_config.json").is_file():
            raise MissingError(
                f"{folder} has no open_clip_config.json: 'local-dir:' wants a folder that open_clip saved"
            )
        return f"local-dir:{folder}", ""
    return model, pretrained


def _load(open_clip: Any, name: str, tag: str) -> tuple[Any, dict[str, Any]]:
    """The network in float32 and its preprocessing configuration."""
    from safetensors import SafetensorError

    if name.startswith("hf-hub:"):
        _require_hub(open_clip, name, "")
    elif not name.startswith("local-dir:"):
        _require_known(open_clip, name, tag)
        _require_hub(open_clip, name, tag)
    try:
        network = open_clip.create_model(name, pretrained=tag or None, device="cpu", require_pretrained=True)
    except FileNotFoundError as error:
        raise MissingError(f"{name}: {error}") from error
    except (RuntimeError, ValueError, OSError, KeyError, SafetensorError) as error:
        raise EnvironmentUnfitError(
            f"{name} {tag}: the weights could not be loaded ({str(error).strip().splitlines()[0]}). {_ways_on()}"
        ) from error
    return network, dict(open_clip.get_model_preprocess_cfg(network))


def _require_known(open_clip: Any, name: str, tag: str) -> None:
    if name.replace("/", "-") not in open_clip.list_models():
        import difflib

        near = difflib.get_close_matches(name, [*PRESETS, *open_clip.list_models()], n=3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise UsageError(f"open_clip has no model called {name!r}.{hint} Presets: {', '.join(PRESETS)}")
    tags = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    if tag not in tags and not Path(tag).is_file():
        known = ", ".join(tags) or "none"
        raise UsageError(
            f"model {name!r} needs weights: --pretrained TAG with one of {known}, or a weights file; got {tag!r}"
        )


def _require_hub(open_clip: Any, name: str, tag: str) -> None:
    """Fail within seconds where weights are neither here nor to be had, instead of after minutes of retries."""
    import huggingface_hub
    from huggingface_hub import constants

    if Path(tag).is_file():
        return
    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:")
    else:
        source = open_clip.get_pretrained_cfg(name.replace("/", "-"), tag)
        repository = source.get("hf_hub", "").rpartition("/")[0] if source else ""
    if not repository:
        return  # open_clip fetches it from an address of its own
    folder = Path(constants.HF_HUB_CACHE) / huggingface_hub.file_download.repo_folder_name(
        repo_id=repository.split("@")[0], repo_type="model"
    )
    if any((folder / "snapshots").glob("*/*")):
        return
    if constants.HF_HUB_OFFLINE:
        why = "HF_HUB_OFFLINE is set"
    elif any(os.environ.get(v) for v in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return  # only the proxy knows what can be reached
    else:
        host = urlsplit(constants.ENDPOINT)
        try:
            socket.create_connection((host.hostname or "", host.port or 443), timeout=3).close()
            return
        except OSError as error:
            why = f"{host.hostname} cannot be reached: {error}"
    raise EnvironmentUnfitError(f"the weights of {name} {tag} are not on this machine, and {why}. {_ways_on()}")


def _ways_on() -> str:
    return (
        "Two ways on: run the same command once with a network (the weights are kept for later, offline runs), or copy a "
        "folder that open_clip saved and use --model local-dir:FOLDER. To try vla without any download: --model demo"
    )


def _tokenizer(open_clip: Any, name: str) -> Any:
    folder = Path(name.removeprefix("local-dir:"))
    if name.startswith("local-dir:") and (folder / _VOCABULARY).is_file():
        # A configuration can only name its vocabulary relative to the current folder; we know where it lies.
        return open_clip.get_tokenizer(name, bpe_path=str(folder / _VOCABULARY))
    return open_clip.get_tokenizer(name)


def _project(network: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Token outputs `(Q, L, width)` in the joint space `(Q, L, D)`."""
    projection = getattr(network, "text_projection", None)
    if projection is None and hasattr(network, "text"):
        projection = getattr(network.text, "text_projection", None)
    if projection is None:
        return tokens
    if isinstance(projection, torch.nn.Linear):
        return functional.linear(tokens, projection.weight, projection.bias)
    return tokens @ projection


def _digest(network: torch.nn.Module) -> str:
    """sha256 of every tensor with its name, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:16]


def _portable_name(model: str, name: str, tag: str) -> str:
    """How the spec calls the model: the same on every machine that has the same files."""
    if model == "demo":
        return "demo"
    if name.startswith("local-dir:"):
        config = json.loads((Path(name.removeprefix("local-dir:")) / "open_clip_config.json").read_text("utf-8"))
        canonical = json.dumps(config, sort_keys=True).encode()
        return f"local-dir {hashlib.sha256(canonical).hexdigest()[:8]}"
    return f"{name} {tag}" if tag and not Path(tag).is_file() else name


class _quiet:
    """Silence open_clip's root-level log lines while a model loads; what matters comes back as an error."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._before)
