"""`doctor`: try on this machine what `vla` does, and say what will not work and which versions to install."""

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

from vla.errors import VlaError
from vla.hints import Hint, Note
from vla.storage.workspace import Workspace
from vla.workflows import doctor_trials

_LOW = 2e9
_PACKAGES = ("torch", "torchvision", "open_clip_torch", "av", "h5py", "faiss-cpu", "numpy", "pandas", "safetensors")
_OPTIONAL = {
    "pyarrow": "Parquet files",
    "transformers": "open_clip's models with other text towers",
}


@dataclass(frozen=True)
class Check:
    """One thing that was tried.

    Attributes:
        name: what.
        finding: how it is; where it is not fine, what to do.
        is_fine: False if something will not work.
    """

    name: str
    finding: str
    is_fine: bool = True


def doctor(device: str = "auto") -> Iterator[Check]:
    """Everything that can be found out without a download, each as soon as it was tried; the quick ones first.

    A check that fails in a way that was not foreseen is a finding, too: nothing is raised.
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
        ("plug-ins", _plugins),
        ("optional", _optional),
    )
    for name, check in checks:
        try:
            yield check()
        except VlaError as error:
            yield Check(name, str(error), False)
        except Exception as error:  # a broken installation fails in any way it likes
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            yield Check(name, f"does not work here ({reason}). {_ways_on(name)}", False)


def _ways_on(name: str) -> str:
    """What to install where `name` fails, with the versions that are there."""
    suspects = {
        "shards": ("h5py", "numpy"),
        "indexes": ("faiss-cpu", "numpy"),
        "codecs": ("av", "numpy"),
        "torch": ("torch", "numpy"),
        "models": ("torch", "torchvision", "open_clip_torch"),
    }.get(name, ())
    there = ", ".join(f"{package} {_version(package)}" for package in suspects)
    lines = " ".join(f"'{doctor_trials.requirement_of(package)}'" for package in suspects)
    return f"Installed: {there}. Try: pip install --upgrade {lines}" if suspects else "Reinstall vla-toolkit"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(none)"


def _python() -> Check:
    return Check(
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores, {sys.executable}",
    )


def _versions() -> Check:
    unmet = doctor_trials.unmet_requirements()
    if unmet:
        line = " ".join(f"'{requirement.partition(' ')[0]}'" for requirement in unmet)
        return Check("versions", f"vla needs {', '.join(unmet)}: pip install {line}", False)
    return Check("versions", ", ".join(f"{package} {_version(package)}" for package in _PACKAGES))


def _terminal() -> Check:
    output, names = getattr(sys.stdout, "encoding", None) or "none", sys.getfilesystemencoding()
    finding = f"output is {output}, file names are {names}, other text is {locale.getpreferredencoding(False)}"
    if "utf" not in output.lower() or "utf" not in names.lower():
        finding += ": letters that these lack are written as escapes; PYTHONUTF8=1 (or a UTF-8 locale) shows them"
    return Check("terminal", finding)


def _disk() -> Check:
    place = Workspace.find()
    folder = place.root if place else Path.cwd()
    free = shutil.disk_usage(folder).free
    where = f"{free / 1e9:.1f} GB free in {folder}" + (" (a workspace)" if place else " (no workspace yet)")
    try:
        able = doctor_trials.try_folder(place.home if place else folder)
    except (VlaError, OSError) as error:
        return Check("disk", Note(f"{where}; no workspace can be written ({error})", Hint("move_workspace")), False)
    hours = free / (2 * 3600 * 512 * 2)
    room = f"room for the features of about {hours:,.0f} hours of video at 2 frames/s, 512 wide"
    if place and place.is_busy():
        able += "; another vla is working in this workspace just now"
    if free < _LOW:
        return Check("disk", Note(f"{where}, {room}, {able}", Hint("free_disk")), False)
    return Check("disk", f"{where}: {room}; {able}")


def _shards() -> Check:
    doctor_trials.try_shard()
    return Check("shards", f"features are written and read (h5py {_version('h5py')})")


def _indexes() -> Check:
    faults = doctor_trials.unusable_indexes()
    if not faults:
        return Check("indexes", f"every kind builds, searches and loads (faiss-cpu {_version('faiss-cpu')})")
    named = "; ".join(f"{name}: {fault}" for name, fault in faults.items())
    return Check("indexes", f"{named}. {_ways_on('indexes')}", False)


def _codecs() -> Check:
    import av

    from vla import decoders

    ffmpeg = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    with_what = f"decoder {decoders.DEFAULT}, av {_version('av')}, libavcodec {ffmpeg}"
    faults = doctor_trials.undecoded(decoders.DEFAULT)
    fine = [path.stem for path in sorted(doctor_trials.CLIPS.iterdir()) if path.stem not in faults]
    if not faults:
        return Check("codecs", f"{', '.join(fine)} are decoded right ({with_what})")
    named = "; ".join(f"{codec}: {fault}" for codec, fault in faults.items())
    return Check("codecs", f"{named}. Right: {', '.join(fine) or 'none'} ({with_what}). {_ways_on('codecs')}", False)


def _torch(device: str) -> Check:
    import torch

    from vla.encoders._device import choose_device, choose_dtype

    chosen = choose_device(device)
    doctor_trials.try_torch(str(chosen))
    dtype, why = choose_dtype("auto", chosen)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{torch.get_num_threads()} threads"
    return Check("torch", f"{torch.__version__} on {chosen} ({name}), {str(dtype).removeprefix('torch.')}: {why}")


def _models() -> Check:
    return Check("models", f"pictures and texts are encoded by the embedded model ({doctor_trials.try_encoder('cpu')})")


def _plugins() -> Check:
    faults = doctor_trials.broken_plugins()
    return Check(
        "plug-ins", "; ".join(faults) or "those of other packages that are installed can be loaded", not faults
    )


def _optional() -> Check:
    found = [f"{package} {_version(package)} (for {use})" for package, use in _OPTIONAL.items()]
    from vla.workflows.decoder_choice import candidates

    others = [f"decoder {name}: {reason if isinstance(reason, str) else 'usable'}"
              for name, reason in candidates().items() if name.startswith("torchcodec")]  # fmt: skip
    return Check("optional", "; ".join([*found, *others]))
