"""Weights of an open_clip model: the network loaded with them, and their file on this machine."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vla.encoders._packages import require_packages
from vla.encoders._presets import PRESETS
from vla.errors import EnvironmentUnfitError, MissingError, UsageError
from vla.hints import Hint

_LOCAL_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
)
"""In open_clip's order of preference."""
_WEIGHTS = Hint("fetch_weights")


def load_network(open_clip: Any, name: str, tag: str) -> tuple[Any, dict[str, Any]]:
    """Return the network in float32 and its preprocessing configuration.

    Raises:
        EnvironmentUnfitError: a package or the weights are missing, or cannot be loaded.
        UsageError: open_clip has no such model, or no such tag.
        MissingError: a file of the model is missing.
    """
    from safetensors import SafetensorError

    if name.startswith("hf-hub:"):
        _require_hub(open_clip, name, "")
        require_packages(open_clip, name)
    elif name.startswith("local-dir:"):
        require_packages(open_clip, name)
    else:
        _require_model(open_clip, name, tag)
        require_packages(open_clip, name)
        _require_hub(open_clip, name, tag)
    try:
        network = open_clip.create_model(
            name, pretrained=tag or None, device="cpu", require_pretrained=True
        )
    except FileNotFoundError as error:
        raise MissingError(f"{name}: {error}") from error
    except (RuntimeError, ValueError, OSError, KeyError, SafetensorError) as error:
        raise EnvironmentUnfitError(
            f"{name} {tag}: the weights could not be loaded ({str(error).strip().splitlines()[0]})",
            hint=_WEIGHTS,
        ) from error
    return network, dict(open_clip.get_model_preprocess_cfg(network))


def weights_file(open_clip: Any, name: str, tag: str) -> Path | None:
    """Return the path of the loaded weights; None if unknown."""
    if name.startswith("local-dir:"):
        files = [Path(name.removeprefix("local-dir:")) / file for file in _LOCAL_WEIGHTS]
        return next((file for file in files if file.is_file()), None)
    if Path(tag).is_file():
        return Path(tag)
    try:
        if name.startswith("hf-hub:"):
            return Path(open_clip.factory.download_pretrained_from_hf(name.removeprefix("hf-hub:")))
        return Path(
            open_clip.download_pretrained(open_clip.get_pretrained_cfg(name.replace("/", "-"), tag))
        )
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        return None


def _require_model(open_clip: Any, name: str, tag: str) -> None:
    if name.replace("/", "-") not in open_clip.list_models():
        import difflib

        matches = difflib.get_close_matches(name, [*PRESETS, *open_clip.list_models()], n=3)
        hint = f" Did you mean {', '.join(matches)}?" if matches else ""
        raise UsageError(
            f"open_clip has no model called {name!r}.{hint} Presets: {', '.join(PRESETS)}"
        )
    tags = open_clip.list_pretrained_tags_by_model(name.replace("/", "-"))
    if tag not in tags and not Path(tag).is_file():
        tag_list = ", ".join(tags) or "none"
        raise UsageError(
            f"model {name!r} needs weights: one of {tag_list}, or the path of a file; got {tag!r}",
            hint=Hint("name_weights"),
        )


def _require_hub(open_clip: Any, name: str, tag: str) -> None:
    """Fail within seconds, without retries, if weights are neither cached nor reachable."""
    import huggingface_hub
    from huggingface_hub import constants

    if Path(tag).is_file():
        return
    if name.startswith("hf-hub:"):
        repository = name.removeprefix("hf-hub:")
        if (
            not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?(@[\w./-]+)?", repository, re.ASCII)
            or ".." in repository
        ):
            raise UsageError(f"{name!r} names no model of the hub: write hf-hub:ORG/REPO")
    else:
        source = open_clip.get_pretrained_cfg(name.replace("/", "-"), tag)
        repository = source.get("hf_hub", "").rpartition("/")[0] if source else ""
    if not repository:
        return  # open_clip downloads it from an address of its own
    folder = Path(constants.HF_HUB_CACHE) / huggingface_hub.file_download.repo_folder_name(
        repo_id=repository.split("@")[0], repo_type="model"
    )
    if any((folder / "snapshots").glob("*/*")):
        return
    if constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set"
    elif any(os.environ.get(v) for v in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return  # only the proxy can tell whether the hub is reachable
    else:
        host = urlsplit(constants.ENDPOINT)
        try:
            socket.create_connection((host.hostname or "", host.port or 443), timeout=3).close()
            return
        except OSError as error:
            reason = f"{host.hostname} cannot be reached: {error}"
    raise EnvironmentUnfitError(
        f"the weights of {name} {tag} are not on this machine, and {reason}", hint=_WEIGHTS
    )
