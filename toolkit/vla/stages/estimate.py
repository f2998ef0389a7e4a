"""`estimate`: what an extraction would do, how long it may take and how much room it needs. Nothing is written."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.cache.attempt import CHUNK
from vla.cache.files import look_for_videos
from vla.cache.plan import make_plan, missing_files
from vla.causes import cause_of
from vla.datasets.sidecar import find_sidecars
from vla.decoders import DEFAULT
from vla.decoders import registry as decoders
from vla.decoders.base import Decoder
from vla.encoders.base import Encoder
from vla.errors import DecodeError
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.public import collected
from vla.sampling import Sampling
from vla.stages.encoder import AS_BEFORE, EncoderChoice, encoder_and_cache
from vla.video import Video
from vla.workspace import Workspace

_TRIED_VIDEOS, _TRIED_FRAMES, _TRIED_SECONDS = 3, 48, 10.0
_BYTES_A_VIDEO = 4096
"""A shard's own structure and the receipt; rounded up from what files have."""


@dataclass
class Estimate:
    """What `extract` with the same arguments would do.

    Attributes:
        todo: names of the videos that would be extracted.
        unreadable: those of them that no video can be read from, with the reason.
        done: videos that need no work.
        taken_over: videos that were renamed, copied or touched, and keep their features.
        video_seconds: length of the videos to extract, as they declare it.
        frames: frames to encode, about.
        bytes: room for their features, about.
        seconds: time it may take on this machine, from a few frames that were really decoded and encoded.
        omissions: what would be passed over: files of other kinds, folders that cannot be read, files without video, and so on.
    """

    todo: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    done: int = 0
    taken_over: int = 0
    video_seconds: float = 0.0
    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    omissions: Omissions = field(default_factory=Omissions)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {**asdict(self), "omissions": self.omissions.to_json()}


@dataclass(frozen=True)
class _Pace:
    """What a trial showed.

    Attributes:
        a_frame: seconds of one core to decode and prepare a sampled frame.
        frames: sampled frames for each second of video; 0 where nothing could be decoded.
    """

    a_frame: float
    frames: float


def estimate(
    paths: Iterable[str | Path],
    *,
    workspace: Path | None = None,
    choice: EncoderChoice = AS_BEFORE,
    decoder: str | None = None,
    switch: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
    **fields: Any,
) -> Estimate:
    """Look at every video in `paths` without extracting it; the arguments are those of `extract`.

    Raises:
        UsageError: a path matches nothing.
        SpecMismatchError: the workspace holds features of another encoder, and `switch` is False.
    """
    choice = collected(choice, fields)
    place = Workspace.choose(workspace)
    files = look_for_videos(paths)
    progress(Progress("load", message="loading the encoder"))
    encoder, cache = encoder_and_cache(place, choice, switch, create=False)
    plan = make_plan(cache, files.paths, place, retry_failed=retry_failed, overwrite=overwrite, progress=progress)
    found = Estimate(done=len(plan.done), taken_over=len(plan.refreshed) + len(plan.renamed) + len(plan.copied))
    files.count_others({path.absolute() for beside in find_sidecars(files.paths).values() for path in beside})
    found.omissions = files.omissions
    for receipt in plan.done:
        if receipt.is_no_video:
            found.omissions.add("no-video", receipt.video_id)
    for name in missing_files(cache, place, files.folders):
        if name not in plan.renamed:
            found.omissions.add("missing-file", name)
    sampling = Sampling.parse(cache.spec.sampling)
    with closing(decoders.build(decoder or DEFAULT)) as opener:
        declared: list[Video] = []
        for number, (video_id, path) in enumerate(plan.todo, 1):
            try:
                declared.append(opener.probe(path))
            except DecodeError as error:
                if cause_of(error.reason) == "user":
                    found.omissions.add("no-video", video_id)
                    continue
                found.unreadable[video_id] = str(error).removeprefix(f"{path.name}: ")
            found.todo.append(video_id)
            progress(Progress("look", number, len(plan.todo)))
        if not declared:
            return found
        tried = declared[:: max(1, len(declared) // _TRIED_VIDEOS)][:_TRIED_VIDEOS]
        paces = [_try(v, opener, encoder, sampling) for v in tried]
    found.video_seconds = sum(v.duration_seconds for v in declared)
    usual = float(np.mean([p.frames for p in paces]))
    found.frames = round(sum(_frames_of(v, sampling, usual) for v in declared))
    found.bytes = found.frames * (2 * cache.spec.dim + 8) + _BYTES_A_VIDEO * len(declared)
    decoding = float(np.mean([p.a_frame for p in paces])) / max(1, os.cpu_count() or 1)
    found.seconds = found.frames * (decoding + _encoding(encoder))
    return found


def _frames_of(video: Video, sampling: Sampling, usual: float) -> float:
    """How many frames `sampling` takes of `video`; by what is `usual` in a second where only decoding would tell."""
    if sampling.kind == "fps":
        rate = min(float(sampling.value), video.fps or float(sampling.value))
        return max(1.0, video.duration_seconds * rate)
    if sampling.kind == "frames":
        return float(sampling.value)
    return max(1.0, video.duration_seconds * usual)


def _try(video: Video, opener: Decoder, encoder: Encoder, sampling: Sampling) -> _Pace:
    count, latest, began = 0, 0.0, time.perf_counter()
    try:
        with opener.open(video.path) as reader:
            for frames in reader.sample(sampling, 4):
                encoder.prepare(frames.pixels)
                count += len(frames)
                latest = float(frames.timestamps_seconds[-1])
                if count >= _TRIED_FRAMES or time.perf_counter() - began > _TRIED_SECONDS:
                    break
            else:
                latest = video.duration_seconds
    except DecodeError:
        pass  # a damaged video tells what it told before
    return _Pace((time.perf_counter() - began) / max(1, count), count / latest if latest > 0 else 0.0)


def _encoding(encoder: Encoder) -> float:
    """Seconds for a frame with all lanes at work."""
    batch = encoder.prepare(np.zeros((CHUNK, 64, 64, 3), np.uint8))
    with encoder.side_by_side(), ThreadPoolExecutor(encoder.lanes) as pool:
        list(pool.map(encoder.encode_frames, [batch[:1]] * encoder.lanes))
        began = time.perf_counter()
        list(pool.map(encoder.encode_frames, [batch] * encoder.lanes))
        return (time.perf_counter() - began) / (CHUNK * encoder.lanes)
