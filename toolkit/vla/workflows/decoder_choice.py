"""Which decoder reads the videos: the safe one, one that was named, or whichever is measured to be the fastest."""

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
"""Asks for a measurement. The default is not measured: safety comes first, and it is the fastest on a CPU as far as we know."""
_CHUNK, _CHUNKS = 8, 4
_WORTHWHILE = 1.2

Candidate = tuple[str, Mapping[str, Any]]


def candidates() -> dict[str, Candidate | str]:
    """By name, plug-in and options of every decoder there could be; of one that cannot be used here, the reason instead."""
    found: dict[str, Candidate | str] = {DEFAULT: (DEFAULT, {})}
    try:
        decoders.build("torchcodec").close()
    except EnvironmentUnfitError as error:
        return {**found, "torchcodec": str(error)}
    found["torchcodec"] = ("isolated", {"inner": "torchcodec"}) if DEFAULT == "isolated" else ("torchcodec", {})
    import torch

    # A GPU's driver wants more address space than a child process of ours may have.
    found["torchcodec on the GPU"] = (
        ("torchcodec", {"device": "cuda"}) if torch.cuda.is_available() else "torch sees no CUDA device"
    )
    return found


def open_decoder(name: str | None, videos: list[Path], sampling: Sampling, progress: ProgressCallback) -> Decoder:
    """The decoder called `name`: `isolated` when None, where the system can do that; `fastest` tries all on the first video.

    Raises:
        UnknownNameError: there is none of that name.
        EnvironmentUnfitError: it cannot be used here.
    """
    if name != FASTEST:
        decoder: Decoder = decoders.build(name or DEFAULT)
        return decoder
    ready = {k: v for k, v in candidates().items() if not isinstance(v, str)}
    rates = {k: frames_per_second(v, videos, sampling) for k, v in ready.items()} if len(ready) > 1 else {}
    best = max(rates, key=rates.__getitem__, default=DEFAULT)
    if rates and rates[best] < _WORTHWHILE * rates[DEFAULT]:
        best = DEFAULT
    told = ", ".join(f"{k} {v:.0f}" for k, v in rates.items()) or "it is the only one here"
    progress(Progress("load", message=f"decoder {best} (frames/s: {told})", level="note"))
    plugin, options = ready[best]
    chosen: Decoder = decoders.build(plugin, options)
    return chosen


def frames_per_second(candidate: Candidate, videos: list[Path], sampling: Sampling) -> float:
    """How fast it brings the first few sampled frames of the first video that it can read; 0 where it can read none."""
    with closing(decoders.build(*candidate)) as decoder:
        for path in videos[:8]:
            try:
                with decoder.open(path) as reader:
                    frames = reader.sample(sampling, _CHUNK)
                    next(frames, None)  # what starts once is not what is measured
                    began = time.perf_counter()
                    count = sum(len(some) for some in islice(frames, _CHUNKS))
                    if count:
                        return count / (time.perf_counter() - began)
            except VlaError:
                continue
    return 0.0
