"""`.pt` and `.pth`: a tensor, or a dictionary of them, as `torch.save` writes it. Weights only: nothing is unpickled."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import FormatError
from vla.formats._named import from_named, names_a_model, videos_in
from vla.formats._record import checked_name
from vla.formats.base import (
    ArrayKeys,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_declared_size,
    nbytes,
    released,
    unreadable,
)

_LIMIT_STRUCTURE = 64 << 20


class Format:
    """One video a file, or a dictionary of many: a tensor, or a dictionary of tensors, for each."""

    suffixes = (".pt", ".pth")
    holds_many = False

    def contents(self, path: Path, wanted: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """See the base class."""
        whole = checked_name(path.stem, path)
        try:
            found, size = _loaded(path)
        except FormatError as error:
            yield unreadable(whole, error)
            return
        videos = _videos(found, wanted)
        for name, value in videos.items():
            yield StoredVideo(checked_name(name, path), partial(_features, value, size, f"{path} [{name}]", wanted))
        if not videos:
            yield StoredVideo(whole, partial(_features, found, size, path, wanted))


def _videos(found: Any, wanted: ArrayKeys) -> dict[str, Any]:
    """The value of each video by its name; empty where there is one video."""
    if not isinstance(found, dict):
        return {}
    dictionaries = {str(name): value for name, value in found.items() if isinstance(value, dict)}
    if len(dictionaries) == 1 and not any(_tensor(v) is not None and _tensor(v).ndim > 1 for v in found.values()):
        # `{"features": {"v1": ...}}`: the name of the dictionary says nothing of a video.
        ((name, inner),) = dictionaries.items()
        return _videos(inner, wanted) or (
            {str(k): v for k, v in inner.items()} if names_a_model(name) else dictionaries
        )
    if dictionaries:
        wanted_only = [str(name) for name in found if str(name) not in dictionaries]
        for name in wanted_only:
            wanted.omissions.add("array", name)
        return dictionaries
    named = {str(name): _tensor(value) for name, value in found.items()}
    shapes = {name: tuple(value.shape) for name, value in named.items() if value is not None}
    names = videos_in(shapes, wanted)
    for name in named if names else ():
        if name not in names:
            wanted.omissions.add("array", name)
    return {name: named[name] for name in names}


def _loaded(path: Path) -> tuple[Any, int]:
    """What the file holds, mapped into memory, and its size."""
    import torch

    size = nbytes(path)
    with as_format_error(path):
        _look(path, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Mapped, not read: a tensor takes no memory before it is copied below.
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True), size


def _features(found: Any, size: int, path: object, wanted: ArrayKeys) -> ExternalFeatures:
    import torch

    if isinstance(found, torch.Tensor):
        return released(path, _array(found, size, path))
    if not isinstance(found, dict):
        raise FormatError(f"{path} holds a {type(found).__name__}, neither a tensor nor a dictionary of tensors")
    named = {str(k): _tensor(v) for k, v in found.items()}
    shapes = {name: tuple(value.shape) for name, value in named.items() if value is not None}
    return from_named(shapes, lambda name: _array(named[name], size, f"{path} [{name}]"), wanted, path)


def _look(path: Path, size: int) -> None:
    """Nothing, for a file in the format since torch 1.6 that holds no more than it is long."""
    if not zipfile.is_zipfile(path):
        raise FormatError(
            f"{path} is not what torch.save writes since torch 1.6: load it where it is trusted and save it again"
        )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = {Path(m.filename).name for m in members}
    is_stored = all(m.compress_type == zipfile.ZIP_STORED for m in members)
    structure = max((m.file_size for m in members if Path(m.filename).suffix == ".pkl"), default=0)
    if "constants.pkl" in names or "data.pkl" not in names:
        raise FormatError(f"{path} holds a program or something else, no tensors")
    if not is_stored or sum(m.file_size for m in members) > size or structure > _LIMIT_STRUCTURE:
        raise FormatError(f"{path} says that it holds more than its {size} bytes")


def _tensor(value: Any) -> Any:
    """`value` as a tensor, if it is one or a number or list of numbers; else None."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, float | int) or (isinstance(value, list) and all(isinstance(v, float | int) for v in value)):
        return torch.tensor(value, dtype=torch.float64)
    return None


def _array(tensor: Any, size: int, place: object) -> np.ndarray:
    import torch

    plain = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    if not plain or tensor.is_complex():
        raise FormatError(
            f"{place} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}, not plain numbers"
        )
    # A tensor may repeat its numbers by strides of 0, and be as large as it likes.
    check_declared_size(tensor.shape, tensor.element_size(), size, place, packed=False)
    with as_format_error(place):
        tensor = tensor.detach().resolve_neg()
        values = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        return np.array(values.numpy())
