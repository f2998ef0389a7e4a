"""`extract`: the frozen features of videos and captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from vla.cache import captions as caption_store
from vla.cache.build import ExtractReport, extract_videos
from vla.cache.plan import find_videos, make_plan
from vla.cache.store import make_current
from vla.cache.workers import default_workers
from vla.progress import Progress, ProgressCallback, silent
from vla.public import collected
from vla.sampling import Sampling
from vla.stages.captions import keep_captions, read_captions, sidecar_captions
from vla.stages.decoding import open_decoder
from vla.stages.demo_world import strangers, warning
from vla.stages.encoder import AS_BEFORE, EncoderChoice, encoder_and_cache
from vla.workspace import Workspace


def extract(
    paths: Iterable[str | Path],
    *,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    workspace: Path | None = None,
    choice: EncoderChoice = AS_BEFORE,
    decoder: str | None = None,
    sidecars: bool = True,
    switch: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ProgressCallback = silent,
    **fields: Any,
) -> ExtractReport:
    """Cache the frozen features of every video in `paths` and of its captions; does only what is not done yet.

    Args:
        paths: files, folders and glob patterns.
        captions: a captions file (CSV, TSV, JSONL, JSON, SRT, VTT).
        columns: names of its columns where they cannot be guessed, e.g. `{"video_column": "clip"}`.
        format: what the captions file is, where its suffix does not tell: a name on the shelf `datasets`.
        workspace: the folder that holds `.vla/`; found upwards from the current one, or made there, when None.
        choice: which encoder, and how often to sample.
        decoder: plug-in name; `isolated` when None, where the system can do that; `fastest`: whichever is, by trying.
        sidecars: also read captions that lie beside a video (`x.srt`, `x.vtt`, `x.txt`, `x.json`).
        switch: let the workspace go on with another encoder than before; the old features are kept.
        retry_failed: try again what failed or came out partial before.
        overwrite: extract everything anew.
        workers: decoding threads; one for each core when None.
        progress: called often.
        fields: single fields of `choice`, e.g. `model="fast"`, `sampling="fps=4"`, `device="cuda"`.

    Example:
        >>> report = vla.extract("videos", captions="captions.csv", model="fast")  # doctest: +SKIP

    Raises:
        UsageError: a path matches nothing.
        AnnotationError: the captions file cannot be used; nothing was extracted.
        SpecMismatchError: the workspace holds features of another encoder, and `switch` is False.
    """
    choice = collected(choice, fields)
    place = Workspace.open_or_create(workspace)
    annotations = read_captions(captions, columns, format)
    videos = find_videos(paths)
    progress(Progress("load", message="loading the encoder"))
    encoder, cache = encoder_and_cache(place, choice, switch)
    with place.locked(progress):
        make_current(place.caches, cache)
        plan = make_plan(cache, videos, place, retry_failed=retry_failed, overwrite=overwrite)
        sampling = Sampling.parse(cache.spec.sampling)
        with closing(open_decoder(decoder, [path for _, path in plan.todo], sampling, progress)) as opener:
            report = extract_videos(
                cache, encoder, opener, plan, sampling, workers=workers or default_workers(), progress=progress
            )
        caption_store.rename(place, report.renamed)
        if sidecars:
            annotations = [*annotations, *sidecar_captions(report, place, progress)]
        matched = caption_store.match(
            annotations, cache.video_ids(), place, captions.parent if captions else place.root
        )
        report.unknown_videos = matched.unknown
        names = [receipt.video_id for receipt in report.receipts if receipt.has_features]
        if strange := strangers(place, cache.spec, names):
            report.warnings.append(warning(len(strange), len(names)))
            progress(Progress("extract", message=report.warnings[-1], level="warning"))
        keep_captions(place, cache, matched.annotations, encoder, report, progress)
    return report
