"""Weights of an open_clip model: the network loaded with them, and their file on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vla.encoders._model_fetch import require_weights
from vla.encoders._model_source import ModelSource, hub_source, require_model, tag_source
from vla.encoders._packages import require_packages
from vla.errors import EnvironmentUnfitError, MissingError
from vla.hints import Hint
from vla.progress import ProgressCallback, silent

_LOCAL_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
)
"""In open_clip's order of preference."""


def load_network(open_clip: Any, name: str, tag: str) -> tuple[Any, dict[str, Any]]:
    """Return the network in float32 and its preprocessing configuration.

    Weights that are not here are downloaded. Those that are here are used without asking the hub.

    Raises:
        EnvironmentUnfitError: a package or the weights are missing, or cannot be loaded.
        UsageError: open_clip has no such model, or no such tag.
        MissingError: a file of the model is missing.
        ResourceError: the disk is too small for the weights.
    """
    from safetensors import SafetensorError

    weights = fetch_weights(open_clip, name, tag)
    source = _source(open_clip, name, tag)
    pretrained = tag
    config: dict[str, Any] = {}
    if weights is not None and not name.startswith("hf-hub:"):
        # open_clip would ask the hub for a newer revision of a tag, but not of a file.
        pretrained = str(weights)
        config = dict(open_clip.get_pretrained_cfg(name.replace("/", "-"), tag))
    try:
        network = open_clip.create_model(
            local_name(name), pretrained=pretrained or None, device="cpu", require_pretrained=True,
            force_preprocess_cfg=config,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MissingError(f"{name}: {error}") from error
    except (RuntimeError, ValueError, OSError, KeyError, SafetensorError) as error:
        raise EnvironmentUnfitError(
            f"{name} {tag}: the weights could not be loaded ({str(error).strip().splitlines()[0]})",
            hint=Hint("fetch_weights", model=source.name) if source else None,
        ) from error
    return network, dict(open_clip.get_model_preprocess_cfg(network))


def fetch_weights(
    open_clip: Any, name: str, tag: str, progress: ProgressCallback = silent
) -> Path | None:
    """Return the path of the weights, downloaded if they are not here; None if open_clip finds them.

    Raises:
        EnvironmentUnfitError: a package is missing, or the hub cannot be reached.
        UsageError: open_clip has no such model, or no such tag.
        MissingError: the hub has no such weights.
        ResourceError: the disk is too small for the weights.
    """
    source = _source(open_clip, name, tag)
    if source is None:
        require_packages(open_clip, name)
        return None
    if not name.startswith("hf-hub:"):
        require_packages(open_clip, name)  # before the download
    path = require_weights(source, f"{name} {tag}".strip(), progress)
    if name.startswith("hf-hub:"):
        require_packages(open_clip, name, f"local-dir:{path.parent}")
    return path


def local_name(name: str) -> str:
    """Return the name of a model of the hub that is here as a folder; other names as they are.

    open_clip asks the hub for a newer revision of the former, but not of the latter.
    """
    path = hub_source(name).find() if name.startswith("hf-hub:") else None
    return f"local-dir:{path.parent}" if path else name


def weights_file(open_clip: Any, name: str, tag: str) -> Path | None:
    """Return the path of the loaded weights; None if unknown."""
    if name.startswith("local-dir:"):
        files = [Path(name.removeprefix("local-dir:")) / file for file in _LOCAL_WEIGHTS]
        return next((file for file in files if file.is_file()), None)
    if Path(tag).is_file():
        return Path(tag)
    source = _source(open_clip, name, tag)
    return source.find() if source else None


def _source(open_clip: Any, name: str, tag: str) -> ModelSource | None:
    """Return the source of a model; None if its weights are a file, or not on the hub."""
    if name.startswith("hf-hub:"):
        return hub_source(name)
    if name.startswith("local-dir:"):
        return None
    if Path(tag).is_file():
        require_model(open_clip, name, tag)
        return None
    return tag_source(open_clip, name, tag)
