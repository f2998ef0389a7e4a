"""`.pt` and `.pth`: tensors or dictionaries of them from `torch.save`; nothing is unpickled."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import FormatError
from vla.formats._array_keys import is_model_name, select_features, video_keys
from vla.formats._record import check_name
from vla.formats.base import (
    ArrayKeys,
    ExternalFeatures,
    StoredVideo,
    as_format_error,
    check_declared_size,
    check_features,
    nbytes,
    unreadable_video,
)

_MAX_PICKLE_BYTES = 64 << 20


class Format:
    """One video per file, or a dictionary of many: a tensor or a dictionary of tensors for each."""

    suffixes = (".pt", ".pth")
    holds_many = False

    def contents(self, path: Path, keys: ArrayKeys) -> Generator[StoredVideo, None, None]:
        """Yield the videos in the file; see the base class."""
        file_name = check_name(path.stem, path)
        try:
            content, size = _load(path)
        except FormatError as error:
            yield unreadable_video(file_name, error)
            return
        videos = _videos(content, keys)
        for name, value in videos.items():
            yield StoredVideo(
                check_name(name, path), partial(_features, value, size, f"{path} [{name}]", keys)
            )
        if not videos:
            yield StoredVideo(file_name, partial(_features, content, size, path, keys))


def _videos(content: Any, keys: ArrayKeys) -> dict[str, Any]:
    """Return the value of each video by its name; empty if the file holds one video."""
    if not isinstance(content, dict):
        return {}
    dictionaries = {str(name): value for name, value in content.items() if isinstance(value, dict)}
    if len(dictionaries) == 1 and not any(
        _tensor(v) is not None and _tensor(v).ndim > 1 for v in content.values()
    ):
        # `{"features": {"v1": ...}}`: the name of the outer dictionary does not name a video.
        ((name, inner),) = dictionaries.items()
        return _videos(inner, keys) or (
            {str(k): v for k, v in inner.items()} if is_model_name(name) else dictionaries
        )
    if dictionaries:
        for name in (str(name) for name in content if str(name) not in dictionaries):
            keys.omissions.add("array", name)
        return dictionaries
    tensors = {str(name): _tensor(value) for name, value in content.items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items() if value is not None}
    names = video_keys(shapes, keys)
    for name in tensors if names else ():
        if name not in names:
            keys.omissions.add("array", name)
    return {name: tensors[name] for name in names}


def _load(path: Path) -> tuple[Any, int]:
    """Return the content of the file, mapped into memory, and the file's size."""
    import torch

    size = nbytes(path)
    with as_format_error(path):
        _check_archive(path, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Mapped, not read: a tensor takes no memory until it is copied below.
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True), size


def _features(content: Any, size: int, path: object, keys: ArrayKeys) -> ExternalFeatures:
    import torch

    if isinstance(content, torch.Tensor):
        return check_features(path, _array(content, size, path))
    if not isinstance(content, dict):
        raise FormatError(
            f"{path} holds a {type(content).__name__}, neither a tensor nor a dictionary of tensors"
        )
    tensors = {str(k): _tensor(v) for k, v in content.items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items() if value is not None}
    return select_features(
        shapes, lambda name: _array(tensors[name], size, f"{path} [{name}]"), keys, path
    )


def _check_archive(path: Path, size: int) -> None:
    """Refuse files not in the format since torch 1.6, and those that claim more than their size."""
    if not zipfile.is_zipfile(path):
        raise FormatError(
            f"{path} is not in the format of torch.save since torch 1.6: load it where it is "
            f"trusted, save it again"
        )
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = {Path(m.filename).name for m in members}
    is_uncompressed = all(m.compress_type == zipfile.ZIP_STORED for m in members)
    pickle_bytes = max(
        (m.file_size for m in members if Path(m.filename).suffix == ".pkl"), default=0
    )
    if "constants.pkl" in names or "data.pkl" not in names:
        raise FormatError(f"{path} holds a program or other data, not tensors")
    if (
        not is_uncompressed
        or sum(m.file_size for m in members) > size
        or pickle_bytes > _MAX_PICKLE_BYTES
    ):
        raise FormatError(f"{path} declares a content larger than its {size} bytes")


def _tensor(value: Any) -> Any:
    """Return a tensor, a number or a list of numbers as a tensor; None for anything else."""
    import torch

    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, float | int) or (
        isinstance(value, list) and all(isinstance(v, float | int) for v in value)
    ):
        return torch.tensor(value, dtype=torch.float64)
    return None


def _array(tensor: Any, size: int, location: object) -> np.ndarray:
    import torch

    plain = (
        tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    )
    if not plain or tensor.is_complex():
        raise FormatError(
            f"{location} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}, not "
            f"plain numbers"
        )
    # A tensor with strides of 0 repeats its values, and may declare any size.
    check_declared_size(tensor.shape, tensor.element_size(), size, location, packed=False)
    with as_format_error(location):
        tensor = tensor.detach().resolve_neg()
        values = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        return np.array(values.numpy())
