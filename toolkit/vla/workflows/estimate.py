"""`estimate`: count the videos, frames and bytes of an extraction without writing anything."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vla.arguments import collected
from vla.cache.discovery import look_for_videos
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
    """What `extract` with the same arguments would do.

    Attributes:
        todo: names of the videos that would be extracted.
        unreadable: those of them that no video can be read from, with the reason.
        done: videos that need no work.
        taken_over: videos that were renamed, copied or touched, and keep their features.
        video_seconds: length of the videos to extract, as they declare it.
        frames: frames to encode, about.
        bytes: room for their features, about.
        omissions: what would be passed over: files of other kinds, folders that cannot be read, files without video, and so on.
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
        """A JSON object."""
        return {**asdict(self), "omissions": self.omissions.to_json()}


def estimate(
    paths: Iterable[str | Path],
    *,
    workspace: Path | None = None,
    choice: EncoderChoice = UNCHANGED,
    decoder: str | None = None,
    switch: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback = silent,
    **fields: Any,
) -> Estimate:
    """Count what `extract` with the same arguments would do, from the headers of the videos.

    Raises:
        UsageError: a path matches nothing.
        SpecMismatchError: the workspace holds features of another encoder, and `switch` is False.
    """
    choice = collected(choice, fields)
    place = Workspace.choose(workspace)
    files = look_for_videos(paths)
    progress(Progress("load", message="loading the encoder"))
    _, cache = encoder_and_cache(place, choice, switch, create=False)
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
        found.video_seconds = sum(video.duration_seconds for video in declared)
        found.frames = _count_frames(declared, opener, Sampling.parse(cache.spec.sampling))
    found.bytes = found.frames * (2 * cache.spec.dim + 8) + _BYTES_PER_VIDEO * len(declared)
    return found


def _count_frames(videos: list[Video], opener: Decoder, sampling: Sampling) -> int:
    """Return about how many frames `sampling` takes of `videos`; only keyframes and scenes need some of them decoded."""
    value = float(sampling.value or 0)
    if sampling.kind == "frames":
        return round(value * len(videos))
    if sampling.kind == "fps":
        return round(sum(max(1.0, v.duration_seconds * min(value, v.fps or value)) for v in videos))
    examples = videos[:: max(1, len(videos) // _SAMPLE_VIDEOS)][:_SAMPLE_VIDEOS]
    rates = [_frame_rate(video, opener, sampling) for video in examples]
    return round(sum(max(1.0, v.duration_seconds * sum(rates) / len(rates)) for v in videos))


def _frame_rate(video: Video, opener: Decoder, sampling: Sampling) -> float:
    """Return the sampled frames per second of the beginning of `video`; 0 where nothing can be decoded."""
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
        pass  # frames before the damage count
    return count / end if end > 0 else 0.0
