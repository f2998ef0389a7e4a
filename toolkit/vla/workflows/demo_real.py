"""`demo --real`: search real pictures by words with an encoder that comes with pip, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla.cache.discovery import find_videos
from vla.cache.store import FeatureCache, active_cache
from vla.contact_sheet import SheetHit, SheetRow, contact_sheet
from vla.decoders import DEFAULT
from vla.decoders import registry as decoders
from vla.encoders.conse import PROMPT, class_names, require_packages
from vla.errors import DecodeError, UsageError
from vla.progress import ProgressCallback, silent
from vla.retrieval.hits import Hit
from vla.stills import stills
from vla.storage import atomic
from vla.storage.workspace import Workspace
from vla.threads import small_op_threads
from vla.workflows.demo import SHEET, Stopwatch, require_folder
from vla.workflows.demo_photos import PHOTOS, PhotoVideo, photo_folder, plan_videos, write_video
from vla.workflows.encoder_choice import EncoderChoice, query_encoder
from vla.workflows.extract import extract
from vla.workflows.index import index
from vla.workflows.open_workspace import OpenWorkspace, open_workspace

DEFAULT_FOLDER, MODEL = "vla-demo-real", "offline"
MAX_VIDEOS, MAX_MINUTES = 40, 30
"""Bounds of the videos of one's own that are looked at."""
_NUM_QUERIES, _NUM_PICTURES = 8, 4
_NUM_PHOTO_PICTURES = 2
"""A photograph is in two videos, and the copy of a moment is no hit of its own."""
_STILL_SIZE = (256, 192)

IsRight = Callable[[str, Hit], bool | None]


@dataclass(frozen=True)
class RealExample:
    """A search on real pictures.

    Attributes:
        query: the text.
        rank: rank of the first right hit; 0 if none of ten is right; None if the answer is unknown.
        hits: `(video, start, end, peak)` of the best hits.
    """

    query: str
    rank: int | None
    hits: tuple[tuple[str, float, float, float], ...]


@dataclass
class RealDemoReport:
    """Result of the demo on real pictures.

    Attributes:
        folder: the folder with all files.
        videos: number of videos that are searched.
        total: number of videos that were found.
        rule: how the searches were chosen, in words.
        examples: the searches.
        sheet: path of a picture of their first hits.
        seconds: wall-clock time of each stage.
    """

    folder: str
    videos: int = 0
    total: int = 0
    rule: str = ""
    examples: list[RealExample] = field(default_factory=list)
    sheet: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def demo_real(
    folder: Path | None = None,
    videos: Iterable[str | Path] = (),
    *,
    queries: Sequence[str] = (),
    seed: int = 0,
    progress: ProgressCallback = silent,
) -> RealDemoReport:
    """Search videos of one's own, or videos of free photographs, with the encoder `offline`.

    Args:
        folder: output folder: workspace and contact sheet; None for `vla-demo-real` in the current
            folder. The videos stay where they are.
        videos: files, folders and patterns; without any, photographs of scikit-image are shown in
            videos. At most 40 videos of 30 minutes together are taken, drawn at random.
        queries: texts to search for; without any, those of the photographs, or of one's own videos
            the things that the encoder sees most clearly.
        seed: of the order of photographs, and of the draw of videos.
        progress: called during extraction, and at the start of each stage.

    Raises:
        EnvironmentUnfitError: a package of the extra `offline`, or scikit-image, is missing.
        UsageError: `folder` has other files, or there are no videos.
    """
    require_packages()
    sources = list(videos)
    photos = None if sources else photo_folder()
    folder = require_folder(folder or Path(DEFAULT_FOLDER))
    report = RealDemoReport(str(folder))
    stage = Stopwatch(report.seconds, progress)
    planned_videos: list[PhotoVideo] = []
    if photos is None:
        every = find_videos(sources)
        if not every:
            raise UsageError("no video in " + ", ".join(map(str, sources)))
        paths = _draw_videos(every, seed)
        report.total = len(every)
    Workspace.open_or_create(folder)
    if photos is not None:
        with stage("render"):
            planned_videos = plan_videos(seed)
            for video in planned_videos:
                write_video(video, folder, photos)
            paths = [folder / video.name for video in planned_videos]
            report.total = len(paths)
    with stage("extract"):
        extract(
            paths, workspace=folder, choice=EncoderChoice(model=MODEL), sidecars=False, progress=progress
        )  # fmt: skip
    with stage("index"):
        index(workspace=folder, progress=progress)
    with stage("search"), small_op_threads():
        ws = open_workspace(folder)
        report.videos = len(ws.videos())
        texts, report.rule = _choose_queries(ws, queries, is_own=photos is None)
        is_right = _truth(planned_videos)
        results = {text: list(ws.search(text, k=10)) for text in texts}
        report.examples = [_example(text, hits, is_right) for text, hits in results.items()]
        report.sheet = str(folder / SHEET)
        count = _NUM_PICTURES if photos is None else _NUM_PHOTO_PICTURES
        sheet = _draw_sheet(results, is_right, ws.workspace, report.rule, count)
        atomic.write_bytes(folder / SHEET, sheet)
    return report


def _draw_videos(paths: Sequence[Path], seed: int) -> list[Path]:
    """Return some of `paths` in random order, within the bounds; the first fits at any length.

    A video that cannot be opened is taken: extraction will give the reason.
    """
    order = np.random.default_rng([seed, 9]).permutation(len(paths))
    selection: list[Path] = []
    remaining_seconds = MAX_MINUTES * 60.0
    with closing(decoders.build(DEFAULT)) as decoder:
        for row in order:
            if len(selection) == MAX_VIDEOS:
                break
            try:
                seconds = decoder.probe(paths[row]).duration_seconds
            except DecodeError:
                seconds = 0.0
            if selection and seconds > remaining_seconds:
                continue
            selection.append(paths[row])
            remaining_seconds -= seconds
    return selection


def _choose_queries(
    ws: OpenWorkspace, queries: Sequence[str], is_own: bool
) -> tuple[list[str], str]:
    """Return the texts to search for, and how they were chosen."""
    if queries:
        return list(dict.fromkeys(queries)), "given on the command line"
    if not is_own:
        return [
            photo.query for photo in PHOTOS
        ], "one for each photograph, written before any search"
    names = _clearest_classes(active_cache(ws.workspace.caches))
    return names, (
        "the things that the encoder sees most clearly in these videos, so it finds something: "
        "judge by the pictures, or give searches of your own"
    )


def _clearest_classes(cache: FeatureCache) -> list[str]:
    """Return the ImageNet classes with the largest product with a frame, each of another video."""
    names = class_names()
    encoder = query_encoder(cache, "auto", "auto")
    vectors = encoder.encode_text([PROMPT.format(name) for name in names]).pooled
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    candidates = []
    for video in cache.video_ids():
        scores = (cache.frames(video).values.astype(np.float32) @ vectors.T).max(0, initial=-np.inf)
        best = int(scores.argmax())
        candidates.append((float(scores[best]), names[best]))
    ordered_names = [name for _, name in sorted(candidates, reverse=True)]
    return list(dict.fromkeys(ordered_names))[:_NUM_QUERIES]


def _truth(videos: Sequence[PhotoVideo]) -> IsRight:
    """Return a function that says whether a hit shows the photograph of a query; None if unknown."""
    by_name = {video.name: video for video in videos}
    known_queries = {photo.query for photo in PHOTOS}

    def is_right(query: str, hit: Hit) -> bool | None:
        if query not in known_queries or hit.video_id not in by_name:
            return None
        return by_name[hit.video_id].photo_at(hit.peak).query == query

    return is_right


def _example(query: str, hits: Sequence[Hit], is_right: IsRight) -> RealExample:
    marks = [is_right(query, hit) for hit in hits]
    rank = None
    if marks and None not in marks:
        rank = next((n for n, mark in enumerate(marks, 1) if mark), 0)
    moments = tuple((h.video_id, h.start, h.end, h.peak) for h in hits[:_NUM_PICTURES])
    return RealExample(query, rank, moments)


def _draw_sheet(
    results: dict[str, list[Hit]], is_right: IsRight, workspace: Workspace, rule: str, count: int
) -> bytes:
    """Return a PNG of the first `count` hits of each query."""
    with closing(decoders.build(DEFAULT)) as decoder:

        def picture(query: str, hit: Hit) -> SheetHit:
            path = workspace.video_path(hit.video_id)
            caption = f"{path.name}  {hit.start:.1f} - {hit.end:.1f} s"
            frames = stills(path, [hit.peak], _STILL_SIZE[0], decoder)
            return SheetHit(tuple(frames), caption, is_right(query, hit))

        rows = [
            SheetRow(query, "", (tuple(picture(query, hit) for hit in hits[:count]),))
            for query, hits in results.items()
        ]
    return contact_sheet(
        f"The first {count} hits in real pictures",
        f"Searches: {rule}. Each picture is the best frame of a moment.",
        ("",),
        rows,
        _STILL_SIZE,
    )
