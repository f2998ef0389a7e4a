"""Import open_clip, and name the versions of torch and torchvision that fit where that fails."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from vla.errors import EnvironmentUnfitError


def import_open_clip() -> Any:
    """Return the module.

    Raises:
        EnvironmentUnfitError: it, torch and torchvision cannot be imported together.
    """
    try:
        import open_clip
    except (RuntimeError, OSError, ImportError, AttributeError) as error:
        raise EnvironmentUnfitError(_mismatch(str(error).strip().partition("\n")[0])) from error
    return open_clip


def _mismatch(reason: str) -> str:
    """Name the versions that belong together: torchvision 0.N is built for torch 2.(N - 15)."""
    torch_version, vision_version = torch.__version__, "none"
    with suppress(PackageNotFoundError):
        vision_version = version("torchvision")
    release, _, build = torch_version.partition("+")
    major, minor = ([*release.split("."), "0"])[:2]
    pair = f"torch=={release}"
    pair += (
        f" 'torchvision==0.{int(minor) + 15}.*'"
        if major == "2" and minor.isdigit()
        else " torchvision"
    )
    index = (
        " from PyTorch's CPU index, as the selector on pytorch.org says" if build == "cpu" else ""
    )
    return (
        f"torch {torch_version}, torchvision {vision_version} and open_clip cannot be imported "
        f"together ({reason}). "
        f"torch and torchvision must be of one build: install both in one command{index}: pip "
        f"install --force-reinstall {pair}"
    )
