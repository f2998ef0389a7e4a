"""`extract`: cache features of videos and captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from vla.arguments import Paths, override_fields
from vla.cache.build import ExtractReport, extract_videos
from vla.cache.discovery import Files, discover_videos
from vla.cache.plan import make_plan, missing_files
from vla.cache.store import set_active_cache
from vla.cache.workers import default_workers
from vla.datasets.sidecar import find_sidecars
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.sampling import Sampling
from vla.storage.workspace import Workspace
from vla.workflows.caption_import import (
    caption_paths,
    content_digests,
    encode_captions,
    read_captions,
    update_captions,
)
from vla.workflows.decoder_choice import open_decoder
from vla.workflows.demo_notice import demo_warning, unrendered_videos
from vla.workflows.encoder_choice import UNCHANGED, EncoderChoice, encoder_and_cache


def extract(
    paths: Iterable[str | Path],
    *,
    captions: Paths | None = None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    workspace: Path | None = None,
    choice: EncoderChoice = UNCHANGED,
    decoder: str | None = None,
    sidecars: bool = True,
    change_encoder: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ProgressCallback = silent,
    **fields: Any,
) -> ExtractReport:
    """Cache the encoder features of the videos in `paths` and of their captions; finished work is
    skipped.

    Args:
        paths: files, folders and glob patterns.
        captions: one or more caption files (CSV, TSV, JSONL, JSON, SRT, VTT).
        columns: column names that cannot be detected, e.g. `{"video_column": "clip"}`.
        format: reader of the caption files if their suffix does not determine it: a name in
            `vla.datasets`.
        workspace: the folder with `.vla/`; if None, found upwards from the current folder, or
            created there.
        choice: encoder and sampling.
        decoder: plug-in name; None means `isolated`, if the system supports it; `fastest` measures
            all decoders.
        sidecars: also read captions beside the videos (`x.srt`, `x.vtt`, `x.txt`, `x.json`).
        change_encoder: change the encoder of the workspace; the old features are kept.
        retry_failed: retry videos that failed or are partial.
        overwrite: extract everything again.
        workers: number of decoding threads; None means one per core.
        progress: called frequently.
        fields: single fields of `choice`, e.g. `model="fast"`, `sampling="fps=4"`, `device="cuda"`.

    Examples:
        >>> report = vla.extract("videos", captions="captions.csv", model="fast")  # doctest: +SKIP

    Raises:
        UsageError: a path matches nothing.
        AnnotationError: the captions file is invalid; nothing was extracted.
        SpecMismatchError: the workspace contains features of another encoder, and
            `change_encoder` is False.
        ResourceError: a path cannot be read, the disk is full, or resources for decoding are
            exhausted.
        EnvironmentUnfitError: the decoder does not work on this machine; finished videos are kept.
    """
    choice = override_fields(choice, fields)
    # Paths are resolved first: a mistyped one must not create a workspace that hides one in a
    # parent folder.
    files = discover_videos(paths)
    sources = caption_paths(captions)
    omissions = _count_skipped(files, sources, sidecars)
    annotations = read_captions(sources, columns, format, omissions)
    ws = Workspace.choose(workspace)
    if not files.paths and not sources and not ws.caches.is_dir():
        # Nothing to extract and no workspace: only validate the options.
        _, cache = encoder_and_cache(ws, choice, change_encoder, create=False, progress=progress)
        open_decoder(decoder, [], Sampling.parse(cache.spec.sampling), progress).close()
        return ExtractReport(omissions=omissions)
    ws = Workspace.open_or_create(workspace)
    progress(Progress("load", message="loading the encoder"))
    encoder, cache = encoder_and_cache(ws, choice, change_encoder, progress=progress)
    with ws.lock(progress):
        set_active_cache(ws.caches, cache)
        digests_before = content_digests(cache)
        plan = make_plan(
            cache,
            files.paths,
            ws,
            retry_failed=retry_failed,
            overwrite=overwrite,
            progress=progress,
        )
        sampling = Sampling.parse(cache.spec.sampling)
        with closing(
            open_decoder(decoder, [path for _, path in plan.todo], sampling, progress)
        ) as video_decoder:
            report = extract_videos(
                cache,
                encoder,
                video_decoder,
                plan,
                sampling,
                workers=workers or default_workers(),
                progress=progress,
            )
        report.omissions.merge(omissions)
        for name in missing_files(cache, ws, files.folders):
            report.omissions.add("missing-file", name)
        new_captions = update_captions(
            ws, cache, annotations, sources, digests_before, sidecars, report, progress
        )
        names = [receipt.video_id for receipt in report.receipts if receipt.has_features]
        if strange := unrendered_videos(ws, cache.spec, names):
            report.warnings.append(demo_warning(len(strange), len(names)))
            progress(Progress("extract", message=report.warnings[-1], level="warning"))
        encode_captions(cache, new_captions, encoder, report, progress)
    return report


def _count_skipped(files: Files, captions: Sequence[Path], sidecars: bool) -> Omissions:
    """Return the counts of skipped files in `files`; caption files are not counted."""
    caption_files = set(captions)
    if sidecars:
        caption_files |= {
            path.absolute() for beside in find_sidecars(files.paths).values() for path in beside
        }
    files.count_others(caption_files)
    return files.omissions
