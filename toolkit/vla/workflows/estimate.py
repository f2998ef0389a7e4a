"""`estimate`: count the videos, frames and bytes of an extraction without writing anything."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla.arguments import override_fields
from vla.cache.discovery import discover_videos
from vla.cache.plan import make_plan, missing_files
from vla.causes import cause_of
from vla.datasets.sidecar import find_sidecars
from vla.decoders import DEFAULT
from vla.decoders import registry as decoders
from vla.decoders.base import Decoder
from vla.errors import DecodeError
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.sampling import Sampling
from vla.storage.workspace import Workspace
from vla.video import Video
from vla.workflows.encoder_choice import UNCHANGED, EncoderChoice, encoder_and_cache

_SAMPLE_VIDEOS, _SAMPLE_FRAMES, _SAMPLE_SECONDS = 3, 48, 10.0
_BYTES_PER_VIDEO = 4096
"""Structure of a shard and its receipt, rounded up."""


@dataclass
class Estimate:
    """Work that `extract` with the same arguments would do.

    Attributes:
        todo: names of the videos to extract.
        unreadable: those of them without a readable video stream, with the reason.
        done: number of videos that need no work.
        taken_over: number of renamed, copied or touched videos that keep their features.
        video_seconds: declared duration of the videos to extract.
        frames: approximate number of frames to encode.
        bytes: approximate size of their features.
        omissions: counts of files and folders that would be skipped, by reason.
    """

    todo: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    done: int = 0
    taken_over: int = 0
    video_seconds: float = 0.0
    frames: int = 0
    bytes: int = 0
    omissions: Omissions = field(default_factory=Omissions)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "omissions": self.omissions.to_json()}


def estimate(
    paths: Iterable[str | Path],
    *,
    workspace: Path | None = None,
    choice: EncoderChoice = UNCHANGED,
    decoder: str | None = None,
    change_encoder: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
    **fields: Any,
) -> Estimate:
    """Estimate the work of `extract` with the same arguments from the headers of the videos.

    Raises:
        UsageError: a path matches nothing.
        SpecMismatchError: the workspace contains features of another encoder, and
            `change_encoder` is False.
    """
    choice = override_fields(choice, fields)
    ws = Workspace.choose(workspace)
    files = discover_videos(paths)
    progress(Progress("load", message="loading the encoder"))
    _, cache = encoder_and_cache(ws, choice, change_encoder, create=False, progress=progress)
    plan = make_plan(
        cache, files.paths, ws, retry_failed=retry_failed, overwrite=overwrite, progress=progress
    )
    result = Estimate(
        done=len(plan.done), taken_over=len(plan.updates) + len(plan.renamed) + len(plan.copies)
    )
    files.count_others(
        {path.absolute() for beside in find_sidecars(files.paths).values() for path in beside}
    )
    result.omissions = files.omissions
    for receipt in plan.done:
        if receipt.is_no_video:
            result.omissions.add("no-video", receipt.video_id)
    for name in missing_files(cache, ws, files.folders):
        if name not in plan.renamed:
            result.omissions.add("missing-file", name)
    with closing(decoders.build(decoder or DEFAULT)) as video_decoder:
        headers: list[Video] = []
        for number, (video_id, path) in enumerate(plan.todo, 1):
            try:
                headers.append(video_decoder.probe(path))
            except DecodeError as error:
                if cause_of(error.reason) == "user":
                    result.omissions.add("no-video", video_id)
                    continue
                result.unreadable[video_id] = str(error).removeprefix(f"{path.name}: ")
            result.todo.append(video_id)
            progress(Progress("look", number, len(plan.todo)))
        result.video_seconds = sum(video.duration_seconds for video in headers)
        result.frames = _count_frames(headers, video_decoder, Sampling.parse(cache.spec.sampling))
    result.bytes = result.frames * (2 * cache.spec.dim + 8) + _BYTES_PER_VIDEO * len(headers)
    return result


def _count_frames(videos: list[Video], opener: Decoder, sampling: Sampling) -> int:
    """Return the approximate number of frames; `keyframes` and `scenes` sampling decode a few of
    the videos.
    """
    value = float(sampling.value or 0)
    if sampling.kind == "frames":
        return round(value * len(videos))
    if sampling.kind == "fps":
        return round(sum(max(1.0, v.duration_seconds * min(value, v.fps or value)) for v in videos))
    examples = videos[:: max(1, len(videos) // _SAMPLE_VIDEOS)][:_SAMPLE_VIDEOS]
    rates = [_frame_rate(video, opener, sampling) for video in examples]
    return round(sum(max(1.0, v.duration_seconds * sum(rates) / len(rates)) for v in videos))


def _frame_rate(video: Video, opener: Decoder, sampling: Sampling) -> float:
    """Return the number of sampled frames per second at the beginning of `video`; 0 if it cannot
    be decoded.
    """
    count, end, began = 0, 0.0, time.monotonic()
    try:
        with opener.open(video.path) as reader:
            for frames in reader.sample(sampling, 4):
                count += len(frames)
                end = float(frames.timestamps_seconds[-1])
                if count >= _SAMPLE_FRAMES or time.monotonic() - began > _SAMPLE_SECONDS:
                    break
            else:
                end = video.duration_seconds
    except DecodeError:
        pass  # frames before the corruption count
    return count / end if end > 0 else 0.0
