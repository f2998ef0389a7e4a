"""`extract`: the frozen features of videos and captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from vla.arguments import Paths, collected
from vla.cache.build import ExtractReport, extract_videos
from vla.cache.discovery import Files, look_for_videos
from vla.cache.plan import make_plan, missing_files
from vla.cache.store import set_active_cache
from vla.cache.workers import default_workers
from vla.datasets.sidecar import find_sidecars
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.sampling import Sampling
from vla.storage.workspace import Workspace
from vla.workflows.caption_import import caption_paths, contents_of, encode_captions, read_captions, take_captions
from vla.workflows.decoder_choice import open_decoder
from vla.workflows.demo_notice import strangers, warning
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
        captions: a captions file, or several (CSV, TSV, JSONL, JSON, SRT, VTT).
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

    Examples:
        >>> report = vla.extract("videos", captions="captions.csv", model="fast")  # doctest: +SKIP

    Raises:
        UsageError: a path matches nothing.
        AnnotationError: the captions file cannot be used; nothing was extracted.
        SpecMismatchError: the workspace holds features of another encoder, and `switch` is False.
        ResourceError: a path cannot be read, the disk is full, or the machine has too little left to decode with.
        EnvironmentUnfitError: the decoder does not work on this machine; what was finished before is kept.
    """
    choice = collected(choice, fields)
    # A path that is mistyped leaves no workspace behind: that would hide one in a folder above.
    files = look_for_videos(paths)
    sources = caption_paths(captions)
    omissions = _passed_over(files, sources, sidecars)
    annotations = read_captions(sources, columns, format, omissions)
    place = Workspace.choose(workspace)
    if not files.paths and not sources and not place.caches.is_dir():
        # Nothing to do, and no workspace to do it in: the options are looked at all the same.
        _, cache = encoder_and_cache(place, choice, switch, create=False)
        open_decoder(decoder, [], Sampling.parse(cache.spec.sampling), progress).close()
        return ExtractReport(omissions=omissions)
    place = Workspace.open_or_create(workspace)
    progress(Progress("load", message="loading the encoder"))
    encoder, cache = encoder_and_cache(place, choice, switch)
    with place.locked(progress):
        set_active_cache(place.caches, cache)
        before = contents_of(cache)
        plan = make_plan(cache, files.paths, place, retry_failed=retry_failed, overwrite=overwrite, progress=progress)
        sampling = Sampling.parse(cache.spec.sampling)
        with closing(open_decoder(decoder, [path for _, path in plan.todo], sampling, progress)) as opener:
            report = extract_videos(
                cache, encoder, opener, plan, sampling, workers=workers or default_workers(), progress=progress
            )
        report.omissions.merge(omissions)
        for name in missing_files(cache, place, files.folders):
            report.omissions.add("missing-file", name)
        new = take_captions(place, cache, annotations, sources, before, sidecars, report, progress)
        names = [receipt.video_id for receipt in report.receipts if receipt.has_features]
        if strange := strangers(place, cache.spec, names):
            report.warnings.append(warning(len(strange), len(names)))
            progress(Progress("extract", message=report.warnings[-1], level="warning"))
        encode_captions(cache, new, encoder, report, progress)
    return report


def _passed_over(files: Files, captions: Sequence[Path], sidecars: bool) -> Omissions:
    """What was passed over among `files`, without those that hold captions."""
    used = set(captions)
    if sidecars:
        used |= {path.absolute() for beside in find_sidecars(files.paths).values() for path in beside}
    files.count_others(used)
    return files.omissions
