"""`doctor`: check that `vla` works on this machine, with versions to install where it does not."""

from __future__ import annotations

import locale
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vla.encoders._package_files import EXTRA
from vla.errors import VlaError
from vla.hints import Hint, Note
from vla.storage.workspace import Workspace
from vla.workflows import doctor_trials

_LOW_DISK_BYTES = 2e9
_PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "av",
    "h5py",
    "faiss-cpu",
    "numpy",
    "pandas",
    "safetensors",
)
_OPTIONAL = {
    "pyarrow": "Parquet files",
    "transformers": "open_clip's models with other text towers",
}


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: name of the check.
        finding: its result; for a failure, with the remedy.
        is_fine: whether the check passed.
    """

    name: str
    finding: str
    is_fine: bool = True


def doctor(device: str = "auto") -> Iterator[Check]:
    """Yield the results of all checks that need no download, quick ones first.

    An unexpected exception of a check is reported as its result; nothing is raised.
    """
    checks: tuple[tuple[str, Callable[[], Check]], ...] = (
        ("python", _python),
        ("versions", _versions),
        ("terminal", _terminal),
        ("disk", _disk),
        ("shards", _shards),
        ("indexes", _indexes),
        ("codecs", _codecs),
        ("torch", lambda: _torch(device)),
        ("models", _models),
        ("offline", _offline),
        ("plug-ins", _plugins),
        ("optional", _optional),
    )
    for name, check in checks:
        try:
            yield check()
        except VlaError as error:
            yield Check(name, str(error), False)
        except Exception as error:  # a broken installation can raise anything
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            yield Check(name, f"does not work here ({reason}). {_suggest_fix(name)}", False)


def _suggest_fix(name: str) -> str:
    """Return the packages to install if the check `name` fails, with their installed versions."""
    suspects = {
        "shards": ("h5py", "numpy"),
        "indexes": ("faiss-cpu", "numpy"),
        "codecs": ("av", "numpy"),
        "torch": ("torch", "numpy"),
        "models": ("torch", "torchvision", "open_clip_torch"),
        "offline": ("torch", "timm", "tokenizers"),
    }.get(name, ())
    versions = ", ".join(f"{package} {_version(package)}" for package in suspects)
    lines = " ".join(f"'{doctor_trials.requirement_of(package)}'" for package in suspects)
    return (
        f"Installed: {versions}. Try: pip install --upgrade {lines}"
        if suspects
        else "Reinstall vla-toolkit"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(none)"


def _python() -> Check:
    return Check(
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, {sys.executable}",
    )


def _versions() -> Check:
    violations = doctor_trials.unmet_requirements()
    if violations:
        line = " ".join(f"'{requirement.partition(' ')[0]}'" for requirement in violations)
        return Check("versions", f"vla needs {', '.join(violations)}: pip install {line}", False)
    return Check("versions", ", ".join(f"{package} {_version(package)}" for package in _PACKAGES))


def _terminal() -> Check:
    output, names = getattr(sys.stdout, "encoding", None) or "none", sys.getfilesystemencoding()
    finding = f"output is {output}, file names are {names}, other text is {locale.getpreferredencoding(False)}"
    if "utf" not in output.lower() or "utf" not in names.lower():
        finding += ": unsupported characters are written as escapes; set PYTHONUTF8=1 (or use a UTF-8 locale)"
    return Check("terminal", finding)


def _disk() -> Check:
    workspace = Workspace.find()
    folder = workspace.root if workspace else Path.cwd()
    free = shutil.disk_usage(folder).free
    where = f"{free / 1e9:.1f} GB free in {folder}" + (
        " (a workspace)" if workspace else " (no workspace yet)"
    )
    try:
        file_system = doctor_trials.try_folder(workspace.home if workspace else folder)
    except (VlaError, OSError) as error:
        return Check(
            "disk",
            Note(f"{where}; no workspace can be written ({error})", Hint("move_workspace")),
            False,
        )
    hours = free / (2 * 3600 * 512 * 2)
    room = f"room for the features of about {hours:,.0f} hours of video at 2 frames/s, 512 wide"
    if workspace and workspace.is_busy():
        file_system += "; another vla process is using this workspace"
    if free < _LOW_DISK_BYTES:
        return Check("disk", Note(f"{where}, {room}, {file_system}", Hint("free_disk")), False)
    return Check("disk", f"{where}: {room}; {file_system}")


def _shards() -> Check:
    doctor_trials.try_shard()
    return Check("shards", f"features are written and read (h5py {_version('h5py')})")


def _indexes() -> Check:
    faults = doctor_trials.unusable_indexes()
    if not faults:
        return Check(
            "indexes", f"every kind builds, searches and loads (faiss-cpu {_version('faiss-cpu')})"
        )
    listing = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
    return Check("indexes", f"{listing}. {_suggest_fix('indexes')}", False)


def _codecs() -> Check:
    import av

    from vla import decoders

    ffmpeg = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    versions = f"decoder {decoders.DEFAULT}, av {_version('av')}, libavcodec {ffmpeg}"
    faults = doctor_trials.undecodable_codecs(decoders.DEFAULT)
    working = [
        path.stem for path in sorted(doctor_trials.CLIPS.iterdir()) if path.stem not in faults
    ]
    if not faults:
        return Check("codecs", f"{', '.join(working)} are decoded correctly ({versions})")
    listing = "; ".join(f"{codec}: {fault}" for codec, fault in faults.items())
    return Check(
        "codecs",
        f"{listing}. Correct: {', '.join(working) or 'none'} ({versions}). "
        f"{_suggest_fix('codecs')}",
        False,
    )


def _torch(device: str) -> Check:
    import torch

    from vla.encoders._device import choose_device, choose_dtype

    torch_device = choose_device(device)
    doctor_trials.try_torch(str(torch_device))
    dtype, reason = choose_dtype("auto", torch_device)
    name = (
        torch.cuda.get_device_name(torch_device)
        if torch_device.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    return Check(
        "torch",
        f"{torch.__version__} on {torch_device} ({name}), {str(dtype).removeprefix('torch.')}: "
        f"{reason}",
    )


def _models() -> Check:
    return Check(
        "models",
        f"pictures and texts are encoded by the embedded model "
        f"({doctor_trials.try_encoder('cpu')})",
    )


def _offline() -> Check:
    packages = doctor_trials.try_offline_encoder()
    return Check(
        "offline",
        f"pictures and texts are encoded by the model whose weights come from pip ({packages})"
        if packages
        else f"not installed (optional, a model whose weights come from pip: {EXTRA})",
    )


def _plugins() -> Check:
    faults = doctor_trials.broken_plugins()
    return Check(
        "plug-ins",
        "; ".join(faults) or "those of other packages that are installed can be loaded",
        not faults,
    )


def _optional() -> Check:
    packages = [f"{package} {_version(package)} (for {use})" for package, use in _OPTIONAL.items()]
    from vla.workflows.decoder_choice import candidates

    other_decoders = [f"decoder {name}: {reason if isinstance(reason, str) else 'usable'}"
              for name, reason in candidates().items() if name.startswith("torchcodec")]  # fmt: skip
    return Check("optional", "; ".join([*packages, *other_decoders]))
