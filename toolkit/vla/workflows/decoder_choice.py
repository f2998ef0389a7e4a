"""Selection of the decoder: the default, a named one, or the fastest by measurement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from vla.decoders import DEFAULT
from vla.decoders import registry as decoders
from vla.decoders.base import Decoder
from vla.errors import EnvironmentUnfitError, VlaError
from vla.progress import Progress, ProgressCallback
from vla.sampling import Sampling

FASTEST = "fastest"
"""Name that requests a measurement. The default decoder is not measured: it is chosen for safety.
"""
_CHUNK, _CHUNKS = 8, 4
_MIN_SPEEDUP = 1.2

Candidate = tuple[str, Mapping[str, Any]]


def candidates() -> dict[str, Candidate | str]:
    """Return plug-in name and options of every decoder by name; for an unusable one, the reason
    instead.
    """
    options: dict[str, Candidate | str] = {DEFAULT: (DEFAULT, {})}
    try:
        decoders.build("torchcodec").close()
    except EnvironmentUnfitError as error:
        return {**options, "torchcodec": str(error)}
    options["torchcodec"] = (
        ("isolated", {"inner": "torchcodec"}) if DEFAULT == "isolated" else ("torchcodec", {})
    )
    import torch

    # A GPU driver needs more address space than the limit of the worker process.
    options["torchcodec on the GPU"] = (
        ("torchcodec", {"device": "cuda"})
        if torch.cuda.is_available()
        else "torch sees no CUDA device"
    )
    return options


def open_decoder(
    name: str | None, videos: list[Path], sampling: Sampling, progress: ProgressCallback
) -> Decoder:
    """Open the decoder called `name`; None means `isolated`, if supported; `fastest` compares all
    on the first video.

    Raises:
        UnknownNameError: no decoder has this name.
        EnvironmentUnfitError: the decoder cannot be used on this machine.
    """
    if name != FASTEST:
        decoder: Decoder = decoders.build(name or DEFAULT)
        return decoder
    usable = {k: v for k, v in candidates().items() if not isinstance(v, str)}
    rates = (
        {k: measure_frame_rate(v, videos, sampling) for k, v in usable.items()}
        if len(usable) > 1
        else {}
    )
    best = max(rates, key=rates.__getitem__, default=DEFAULT)
    if rates and rates[best] < _MIN_SPEEDUP * rates[DEFAULT]:
        best = DEFAULT
    measurements = (
        ", ".join(f"{k} {v:.0f}" for k, v in rates.items()) or "no other decoder is available"
    )
    progress(Progress("load", message=f"decoder {best} (frames/s: {measurements})", level="note"))
    plugin, options = usable[best]
    fastest: Decoder = decoders.build(plugin, options)
    return fastest


def measure_frame_rate(candidate: Candidate, videos: list[Path], sampling: Sampling) -> float:
    """Return the decoding speed on the first readable video, in sampled frames per second; 0 if
    there is none.
    """
    with closing(decoders.build(*candidate)) as decoder:
        for path in videos[:8]:
            try:
                with decoder.open(path) as reader:
                    frames = reader.sample(sampling, _CHUNK)
                    next(frames, None)  # excludes one-time start-up
                    start = time.perf_counter()
                    count = sum(len(chunk) for chunk in islice(frames, _CHUNKS))
                    if count:
                        return count / (time.perf_counter() - start)
            except VlaError:
                continue
    return 0.0
