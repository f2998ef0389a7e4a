"""Trials for `doctor`: each function uses a part of `vla` as the commands do, and raises or names a fault where that fails."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import DecodeError, EnvironmentUnfitError
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.progress import silent
from vla.sampling import Sampling
from vla.storage.workspace import Workspace

DISTRIBUTION = "vla-toolkit"
CLIPS = Path(__file__).parent / "_clips"
"""One clip of each codec, named like it; made by `tests/support/doctor_clips.py`."""
FRAMES = 4
_COLOURS = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 200], [220, 210, 60]], np.uint8)
_NEAR = 24
"""Levels that a colour may be off: compression, and the rounding of colour conversions."""


def picture(number: int) -> np.ndarray:
    """`(64, 64, 3)` uint8: frame `number` of each clip, four squares whose colours move on by one from frame to frame."""
    squares = np.roll(_COLOURS, -number, 0).reshape(2, 2, 3)
    return np.ascontiguousarray(squares.repeat(32, 0).repeat(32, 1))


def unmet_requirements() -> list[str]:
    """Requirements of `vla-toolkit` that the installed versions do not meet, each with the version that is there.

    Extras are not looked at. Sources on a path without metadata have no requirements.
    """
    found = []
    for requirement in _requirements():
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            found.append(f"{requirement} (not installed)")
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            found.append(f"{requirement} ({there} is installed)")
    return found


def requirement_of(package: str) -> str:
    """`package` with the versions that `vla-toolkit` needs, as pip takes it."""
    return next((str(r) for r in _requirements() if r.name == package), package)


def _requirements() -> list[Any]:
    from packaging.requirements import Requirement

    try:
        found = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return []
    return [r for r in found if r.marker is None or r.marker.evaluate({"extra": ""})]


def undecoded(decoder_name: str) -> dict[str, str]:
    """Codecs of which `decoder_name` does not bring the frames of our own clip, each with the reason.

    Raises:
        VlaError: the decoder itself cannot be made.
    """
    from vla.decoders import registry as decoders

    faults = {}
    with closing(decoders.build(decoder_name)) as decoder:
        for path in sorted(CLIPS.iterdir()):
            try:
                with decoder.open(path) as reader:
                    chunks = list(reader.sample(Sampling.parse("fps=4"), FRAMES))
                pixels = np.concatenate([chunk.pixels for chunk in chunks])
                times = np.concatenate([chunk.timestamps_seconds for chunk in chunks])
                fault = _difference(pixels, times)
            except DecodeError as error:
                fault = str(error).removeprefix(f"{path.name}: ")
            if fault:
                faults[path.stem] = fault
    return faults


def _difference(pixels: np.ndarray, times: np.ndarray) -> str:
    """How decoded frames differ from those of our clips; empty where they are the same but for compression."""
    if len(pixels) != FRAMES or pixels.shape[1:] != (64, 64, 3):
        return f"{len(pixels)} frames of shape {pixels.shape[1:]}, not {FRAMES} of 64x64"
    if not np.allclose(times, np.arange(FRAMES) / 4, atol=0.01):
        return f"frames are shown at {', '.join(f'{t:.2f}' for t in times)} s"
    inner = np.r_[8:24, 40:56]
    off = max(
        np.abs(shown[np.ix_(inner, inner)].astype(int) - picture(i)[np.ix_(inner, inner)]).max()
        for i, shown in enumerate(pixels)
    )
    return f"colours are off by {off} of 255 levels" if off > _NEAR else ""


def try_shard() -> None:
    """Write features of a video as a shard and read them.

    Raises:
        VlaError: what is read is not what was written, or is refused.
    """
    from vla.cache.shard import frames_image, read_frames

    written = FrameFeatures("clip", np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8), np.arange(5) / 2, 2.5)
    read = read_frames(frames_image(written), "clip", 2.5)
    same = np.array_equal(read.values, written.values.astype(np.float16))
    if not same or not np.array_equal(read.timestamps_seconds, written.timestamps_seconds):
        raise EnvironmentUnfitError("a shard holds other numbers than were written")


def unusable_indexes() -> dict[str, str]:
    """Kinds of indexes that do not work here, each with the reason; every kind is tried in a process of its own."""
    from vla.indexes import registry as indexes
    from vla.indexes._trial import fault_of

    names = indexes.names()
    with ThreadPoolExecutor(3) as pool:
        return {name: fault for name, fault in zip(names, pool.map(fault_of, names), strict=True) if fault}


def try_folder(folder: Path) -> str:
    """Write, lock and delete a workspace of its own in `folder`, which says what the file system there can do.

    Returns:
        What was found, for a person.

    Raises:
        VlaError, OSError: it cannot be written or locked.
    """
    with tempfile.TemporaryDirectory(prefix=".vla-doctor-", dir=folder) as name:
        place = Workspace.open_or_create(Path(name))
        with place.locked(silent):
            # Another handle of the same process would have to wait as another process would.
            is_seen = place.is_busy()
    return "files can be written and locked" if is_seen else "files can be written; locks are not seen by others here"


def try_torch(device: str) -> None:
    """Multiply two matrices on `device` and compare with numpy.

    Raises:
        EnvironmentUnfitError: the result is another one.
    """
    import torch

    a, b = np.random.default_rng(0).standard_normal((2, 64, 64)).astype(np.float32)
    product = (torch.from_numpy(a).to(device) @ torch.from_numpy(b).to(device)).cpu().numpy()
    off = float(np.abs(product - a @ b).max())
    if not off < 0.1:  # tensor cores round to ten bits
        raise EnvironmentUnfitError(
            f"a product of two matrices on {device} is off by {off:.3g}", hint=Hint("replace_torch")
        )


def try_encoder(device: str) -> str:
    """Load open_clip with the embedded weights and encode a picture and a text; gives the versions that did it.

    Raises:
        VlaError: open_clip cannot be imported, or what it gives are no numbers.
    """
    from vla.encoders import registry as encoders

    encoder = encoders.build("open_clip", model="demo", device=device, dtype="fp32")
    values = encoder.encode_frames(encoder.prepare(picture(0)[None]))
    texts = encoder.encode_text(["a red square"]).pooled
    if not (np.isfinite(values).all() and np.isfinite(texts).all() and values.shape == texts.shape):
        raise EnvironmentUnfitError(
            f"the embedded model gives {values.shape} and {texts.shape} values that are no numbers"
        )
    return ", ".join(f"{name} {version(name)}" for name in ("open_clip_torch", "torchvision", "timm"))


def broken_plugins() -> list[str]:
    """Plug-ins of other distributions that cannot be loaded, each with its distribution and the reason."""
    from vla.registry import registries

    faults = []
    for registry in registries():
        for name in registry.foreign_names():
            try:
                registry.get(name)
            except EnvironmentUnfitError as error:
                faults.append(str(error))
    return faults
