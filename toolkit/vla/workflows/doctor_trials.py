"""Trials for `doctor`: each function exercises a part of `vla` and raises or returns its faults."""

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
"""One clip per codec, with its name; made by `tests/support/doctor_clips.py`."""
FRAMES = 4
_COLOURS = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 200], [220, 210, 60]], np.uint8)
_COLOR_TOLERANCE = 24
"""Colour tolerance in levels, for compression and rounding of colour conversions."""


def picture(number: int) -> np.ndarray:
    """Return frame `number` of each clip, `(64, 64, 3)` uint8: four squares whose colours shift by
    one per frame.
    """
    squares = np.roll(_COLOURS, -number, 0).reshape(2, 2, 3)
    return np.ascontiguousarray(squares.repeat(32, 0).repeat(32, 1))


def unmet_requirements() -> list[str]:
    """Return the requirements of `vla-toolkit` that installed versions do not satisfy, each with
    the installed version.

    Extras are ignored. Sources without package metadata have no requirements.
    """
    violations = []
    for requirement in _requirements():
        try:
            installed_version = version(requirement.name)
        except PackageNotFoundError:
            violations.append(f"{requirement} (not installed)")
            continue
        if not requirement.specifier.contains(installed_version, prereleases=True):
            violations.append(f"{requirement} ({installed_version} is installed)")
    return violations


def requirement_of(package: str) -> str:
    """Return the pip requirement of `package` in `vla-toolkit`."""
    return next((str(r) for r in _requirements() if r.name == package), package)


def _requirements() -> list[Any]:
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(line) for line in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return []
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def undecodable_codecs(decoder_name: str) -> dict[str, str]:
    """Return the codecs that `decoder_name` does not decode correctly, with the reasons; uses one
    clip per codec.

    Raises:
        VlaError: the decoder cannot be built.
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
    """Return how decoded frames differ from the original ones; empty if they are equal up to
    compression.
    """
    if len(pixels) != FRAMES or pixels.shape[1:] != (64, 64, 3):
        return f"{len(pixels)} frames of shape {pixels.shape[1:]}, not {FRAMES} of 64x64"
    if not np.allclose(times, np.arange(FRAMES) / 4, atol=0.01):
        return f"frames are shown at {', '.join(f'{t:.2f}' for t in times)} s"
    inner = np.r_[8:24, 40:56]
    max_difference = max(
        np.abs(frame[np.ix_(inner, inner)].astype(int) - picture(i)[np.ix_(inner, inner)]).max()
        for i, frame in enumerate(pixels)
    )
    return (
        f"colours are off by {max_difference} of 255 levels"
        if max_difference > _COLOR_TOLERANCE
        else ""
    )


def try_shard() -> None:
    """Write the features of a video to a shard and read them.

    Raises:
        VlaError: reading fails, or returns other values.
    """
    from vla.cache.shard import frames_image, read_frames

    original = FrameFeatures(
        "clip", np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8), np.arange(5) / 2, 2.5
    )
    read = read_frames(frames_image(original), "clip", 2.5)
    same = np.array_equal(read.values, original.values.astype(np.float16))
    if not same or not np.array_equal(read.timestamps_seconds, original.timestamps_seconds):
        raise EnvironmentUnfitError("a shard does not contain the values that were written")


def unusable_indexes() -> dict[str, str]:
    """Return the kinds of indexes that do not work here, with the reasons; each is tried in its
    own process.
    """
    from vla.indexes import registry as indexes
    from vla.indexes._trial import trial_error

    names = indexes.names()
    with ThreadPoolExecutor(3) as pool:
        return {
            name: fault
            for name, fault in zip(names, pool.map(trial_error, names), strict=True)
            if fault
        }


def try_folder(folder: Path) -> str:
    """Write, lock and delete a temporary workspace in `folder`.

    Returns:
        Description of the file system's abilities, for users.

    Raises:
        VlaError, OSError: the folder cannot be written or locked.
    """
    with tempfile.TemporaryDirectory(prefix=".vla-doctor-", dir=folder) as name:
        workspace = Workspace.open_or_create(Path(name))
        with workspace.lock(silent):
            # A second handle in this process behaves as one of another process would.
            is_effective = workspace.is_busy()
    return (
        "files can be written and locked"
        if is_effective
        else "files can be written; locks have no effect here"
    )


def try_torch(device: str) -> None:
    """Multiply two matrices on `device` and compare with numpy.

    Raises:
        EnvironmentUnfitError: the results differ.
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
    """Load open_clip with the embedded weights and encode an image and a text; returns the
    versions of its packages.

    Raises:
        VlaError: open_clip cannot be imported, or what it gives are no numbers.
    """
    _encode_both("open_clip", "demo", device)
    return ", ".join(
        f"{name} {version(name)}" for name in ("open_clip_torch", "torchvision", "timm")
    )


def try_offline_encoder() -> str:
    """Encode an image and a text with the encoder whose weights are in packages; returns the
    names of these packages, empty if none is installed.

    Raises:
        VlaError: only some are installed, a file is not the expected one, or the values are no
            numbers.
    """
    from vla.encoders import _package_files as files

    weights = (files.CLASSIFIER_WEIGHTS["lite2"], files.SENTENCE_WEIGHTS)
    if not any(file.is_installed for file in weights):
        return ""
    _encode_both("conse", "lite2", "cpu")
    return ", ".join(file.distribution.replace("==", " ") for file in weights)


def _encode_both(name: str, model: str, device: str) -> None:
    """Encode an image and a text.

    Raises:
        VlaError: the encoder cannot be built, or its values are no numbers.
    """
    from vla.encoders import registry as encoders

    encoder = encoders.build(name, model=model, device=device, dtype="fp32")
    values = encoder.encode_frames(encoder.prepare(picture(0)[None]))
    texts = encoder.encode_text(["a red square"]).pooled
    if not (np.isfinite(values).all() and np.isfinite(texts).all() and values.shape == texts.shape):
        raise EnvironmentUnfitError(
            f"the model {model!r} returns non-finite values, of shapes {values.shape} and "
            f"{texts.shape}"
        )


def broken_plugins() -> list[str]:
    """Return the third-party plug-ins that cannot be loaded, with their distributions and reasons."""
    from vla.registry import registries

    faults = []
    for registry in registries():
        for name in registry.third_party_names():
            try:
                registry.get(name)
            except EnvironmentUnfitError as error:
                faults.append(str(error))
    return faults
