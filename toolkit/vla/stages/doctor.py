"""`doctor`: whether this machine has what `vla` needs, and what it will use and why."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from vla import decoders, indexes
from vla.encoders._device import choose_device, choose_dtype
from vla.errors import VlaError
from vla.stages.decoding import candidates
from vla.workspace import Workspace

_LOW = 2e9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        finding: how it is; where it is not fine, what to do.
        is_fine: False if something will not work.
    """

    name: str
    finding: str
    is_fine: bool = True


def doctor(device: str = "auto") -> list[Check]:
    """Everything that can be found out without a download, in the order in which it matters."""
    looks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("torch and torchvision", _torchvision),
        ("device", lambda: _device(device)),
        ("decoders", _decoders),
        ("indexes", _indexes),
        ("disk", _disk),
    )
    found = []
    for name, look in looks:
        try:
            found.append(look())
        except (VlaError, ImportError, RuntimeError, OSError) as error:
            found.append(Check(name, str(error), False))
    return found


def _python() -> Check:
    return Check(
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores, {sys.executable}",
    )


def _packages() -> Check:
    names = ("vla-toolkit", "torch", "open_clip_torch", "av", "h5py", "faiss-cpu", "numpy")
    return Check("packages", ", ".join(f"{name} {version(name)}" for name in names))


def _torchvision() -> Check:
    import torchvision

    return Check("torch and torchvision", f"torchvision {torchvision.__version__} works with this torch")


def _device(device: str) -> Check:
    import torch

    chosen = choose_device(device)
    dtype, why = choose_dtype("auto", chosen)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{torch.get_num_threads()} threads"
    return Check("device", f"{chosen} ({name}), {str(dtype).removeprefix('torch.')}: {why}")


def _decoders() -> Check:
    import av

    ffmpeg = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    others = []
    for name, candidate in candidates().items():
        if name != decoders.DEFAULT:
            others.append(
                f"{name}: {candidate if isinstance(candidate, str) else 'usable, --decoder fastest tries it'}"
            )
    why = (
        "in a process of its own with limits on memory and time: a video that crashes or hangs it costs that video"
        if decoders.DEFAULT == "isolated"
        else ""
    )
    # Opened and closed: that the package can be imported does not mean that it works.
    decoders.registry.build(decoders.DEFAULT).close()
    return Check(
        "decoders",
        f"{decoders.DEFAULT} is used ({why or 'the one that works here'}); libavcodec {ffmpeg}; {'; '.join(others)}",
    )


def _indexes() -> Check:
    for name in indexes.registry.names():
        indexes.registry.get(name)
    return Check("indexes", ", ".join(indexes.registry.names()))


def _disk() -> Check:
    place = Workspace.find()
    folder = place.root if place else Path.cwd()
    free = shutil.disk_usage(folder).free
    where = f"{free / 1e9:.1f} GB free in {folder}" + (" (a workspace)" if place else " (no workspace yet)")
    writable = os.access(folder, os.W_OK)
    if not writable:
        return Check("disk", f"{folder} is not writable: use --workspace or VLA_WORKSPACE", False)
    hours = free / (2 * 3600 * 512 * 2)
    room = f"room for the features of about {hours:,.0f} hours of video at 2 frames/s, 512 wide"
    if free < _LOW:
        return Check(
            "disk", f"{where}, {room}: free some ('vla gc' deletes what is not used), or use --workspace", False
        )
    return Check("disk", f"{where}: {room}")
