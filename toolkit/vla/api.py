"""The library's verbs, the same as the command's: extract, train, index, search. Each takes a workspace and returns a report.

The command line adds nothing but options and tables: whatever it can do, these functions can.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla import durable
from vla.cache import captions as caption_store
from vla.cache.store import EncoderSource, FeatureCache, current_cache, make_current
from vla.errors import AnnotationError, CacheError, MissingError, UsageError
from vla.progress import Progress, ProgressCallback, silent
from vla.workspace import Workspace

if TYPE_CHECKING:
    from vla.cache.build import ExtractReport
    from vla.datasets.base import Annotation
    from vla.encoders.base import Encoder
    from vla.search.hits import Hit
    from vla.search.query import Searcher
    from vla.train.checkpoint import Run

DEFAULT_FPS = 2.0
DEFAULT_RUN = "default"
FROZEN = "none"
"""Name that stands for no run at all: the frozen encoder."""


@dataclass(frozen=True)
class EncoderChoice:
    """Which encoder to extract with. What is left at None is what the workspace used before, or else the default.

    Attributes:
        model: a preset, an open_clip name, `hf-hub:...` or `local-dir:...`.
        pretrained: tag or file of the weights.
        encoder: plug-in name.
        fps: frames a second to sample.
        device: where to run it.
        dtype: precision to run it in.
    """

    model: str | None = None
    pretrained: str | None = None
    encoder: str | None = None
    fps: float | None = None
    device: str = "auto"
    dtype: str = "auto"


def extract(
    paths: Iterable[str | Path],
    *,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    workspace: Path | None = None,
    choice: EncoderChoice = EncoderChoice(),
    decoder: str = "pyav",
    sidecars: bool = True,
    switch: bool = False,
    retry_failed: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ProgressCallback = silent,
) -> ExtractReport:
    """Cache the frozen features of every video in `paths` and of its captions; does only what is not done yet.

    Args:
        paths: files, folders and glob patterns.
        captions: a captions file (CSV, TSV, JSONL, JSON, SRT, VTT).
        columns: names of its columns where they cannot be guessed, e.g. `{"video_column": "clip"}`.
        workspace: the folder that holds `.vla/`; found upwards from the current one, or made there, when None.
        choice: which encoder, and how often to sample.
        decoder: plug-in name.
        sidecars: also read captions that lie beside a video (`x.srt`, `x.vtt`, `x.txt`, `x.json`).
        switch: let the workspace go on with another encoder than before; the old features are kept.
        retry_failed: try again what failed or came out partial before.
        overwrite: extract everything anew.
        workers: decoding threads; one for each core when None.
        progress: called often.

    Raises:
        UsageError: a path matches nothing.
        AnnotationError: the captions file cannot be used; nothing was extracted.
        SpecMismatchError: the workspace holds features of another encoder, and `switch` is False.
    """
    from vla.cache.build import default_workers, extract_videos
    from vla.cache.plan import find_videos, make_plan
    from vla.decoders import registry as decoders

    place = Workspace.open_or_create(workspace)
    annotations = _read_captions(captions, columns)
    videos = find_videos(paths)
    progress(Progress("load", message="loading the encoder"))
    encoder, cache = _encoder_and_cache(place, choice, switch)
    with _lock(place, progress):
        make_current(place.caches, cache)
        plan = make_plan(cache, videos, place, retry_failed=retry_failed, overwrite=overwrite)
        fps = float(cache.spec.sampling.removeprefix("fps="))
        report = extract_videos(
            cache, encoder, decoders.build(decoder), plan, fps, workers=workers or default_workers(), progress=progress
        )
        if sidecars:
            annotations = [*annotations, *_sidecar_captions(report, place, progress)]
        matched = caption_store.match(
            annotations, cache.video_ids(), place, captions.parent if captions else place.root
        )
        report.unknown_videos = matched.unknown
        _keep_captions(place, cache, matched.annotations, encoder, report, progress)
    return report


def train(
    *,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    workspace: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: Path | None = None,
    name: str = DEFAULT_RUN,
    overwrite: bool = False,
    device: str = "auto",
    progress: ProgressCallback = silent,
) -> Run:
    """Train projectors on the workspace's features and captions; resumes a run that was interrupted.

    Args:
        captions: train on the captions of this file; on all that the workspace knows when None.
        columns: as for `extract`.
        workspace: as for `extract`, but it must exist.
        settings: fields of `vla.train.config.TrainConfig`; they win over the recipe's.
        recipe: a TOML file of such settings.
        name: of the run; one that is finished with the same settings and captions is returned as it is.
        overwrite: train anew even then, and forget an interrupted one.
        device: where to train.
        progress: called after each epoch.

    Raises:
        MissingError: no features, no captions of cached videos, or too few videos.
        UsageError: unknown or impossible settings.
    """
    from vla.batch import load_corpus, texts_to_cache
    from vla.encoders.open_clip import choose_device
    from vla.train.checkpoint import load_state, open_run
    from vla.train.config import TrainConfig, read_recipe
    from vla.train.loop import split_rows
    from vla.train.loop import train as run_training

    if name == FROZEN or Path(name).name != name or name.startswith("."):
        raise UsageError(f"a run cannot be called {name!r}")
    values = {**(read_recipe(recipe) if recipe else {}), **(settings or {})}
    config = TrainConfig.from_mapping(values, str(recipe or "settings"))
    place = Workspace.open(workspace)
    cache = current_cache(place.caches)
    annotations = _training_captions(place, cache, captions, columns, progress)
    with _lock(place, progress):
        texts = texts_to_cache(annotations)
        encoder = None
        if cache.missing_texts(texts):
            progress(Progress("load", message="loading the encoder for captions that are not cached"))
            encoder = _encoder_of(cache, device, "auto")
            cache.add_texts(texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts))))
        folder = place.runs / name
        told = json.dumps([a.to_json() for a in annotations], sort_keys=True)
        identity = config.identity(cache.spec.fingerprint, cache.state(), durable.sha256(told.encode()))
        if overwrite:
            (folder / "progress.json").unlink(missing_ok=True)
        elif (folder / "run.json").is_file() and load_state(folder, identity) is None:
            try:
                finished = open_run(folder)
            except CacheError as error:
                progress(Progress("train", message=f"{error}; training anew", level="warning"))
            else:
                if finished.identity == identity:
                    progress(
                        Progress("train", message=f"run {name!r} is already trained with these settings", level="note")
                    )
                    return finished
        corpus = load_corpus(cache, annotations)
        named = {row: a.split for a in annotations if a.split for row in [_row_of(corpus, a.video)]}
        split = split_rows(len(corpus.videos), named, config.held_out, config.seed)
        scale = _remembered_scale(cache, encoder, device)
        return run_training(
            corpus, split, cache.spec, scale, config, folder, identity, device=choose_device(device), progress=progress
        )


@dataclass
class IndexReport:
    """What `index` made.

    Attributes:
        videos: how many.
        segments: rows of the index.
        run: the trained run whose projector made the vectors; empty for the frozen encoder.
        backend: index plug-in.
        megabytes: size of the vectors.
        notes: what a person should know.
    """

    videos: int
    segments: int
    run: str
    backend: str
    megabytes: float
    notes: list[str] = field(default_factory=list)


def index(
    *,
    workspace: Path | None = None,
    run: str | None = None,
    backend: str = "faiss_flat",
    progress: ProgressCallback = silent,
) -> IndexReport:
    """Build the index that `search` reads.

    Args:
        workspace: as for `train`.
        run: a run's name; `none` for the frozen encoder; None for the default run if it beats the frozen encoder.
        backend: index plug-in.
        progress: called for each video.

    Raises:
        MissingError: no features, or no such run.
        SpecMismatchError: the run was trained on features of another encoder.
    """
    from vla.model import frozen
    from vla.search.build import build_index
    from vla.search.store import save_index
    from vla.train.checkpoint import load_model

    place = Workspace.open(workspace)
    cache = current_cache(place.caches)
    with _lock(place, progress):
        name, notes = _choose_run(place, cache, run)
        model, digest = frozen(cache.spec.dim, 1.0), ""
        if name:
            model, found = load_model(place.runs / name)
            digest = found.digest
        built = build_index(cache, model, run=name, run_digest=digest, backend=backend, progress=progress)
        save_index(place.index, built)
    size = len(built.video_of_row) * built.vectors.dim * 4 / 1e6
    return IndexReport(len(built.videos), len(built.video_of_row), name, backend, size, notes)


@dataclass
class OpenWorkspace:
    """A workspace kept open: the encoder and the index are loaded once, at the first search.

    Attributes:
        workspace: where it is.
        device: where queries are encoded.
    """

    workspace: Workspace
    device: str = "auto"

    def search(self, query: str, k: int = 10, per_video: int = 3) -> list[Hit]:
        """The `k` moments that match `query` best; see `vla.search.query.Searcher.search`."""
        return self.searcher.search(query, k, per_video)

    @cached_property
    def searcher(self) -> Searcher:
        """The loaded index, encoder and projector."""
        return _open_searcher(self.workspace, self.device)

    def notes(self) -> list[str]:
        """What a person should know of the index: videos it does not hold, or that it is of another encoder."""
        held = self.searcher.index
        cache = current_cache(self.workspace.caches)
        if cache.spec.fingerprint != held.spec.fingerprint:
            return ["the index is of an earlier encoder of this workspace: run 'vla index' to search the new features"]
        if cache.state() == held.cache_state:
            return []
        new, gone = set(cache.video_ids()) - set(held.videos), set(held.videos) - set(cache.video_ids())
        return [
            f"the index is out of date ({len(new)} videos are missing in it, {len(gone)} are gone or changed): run 'vla index'"
        ]


def open_workspace(path: Path | str | None = None, device: str = "auto") -> OpenWorkspace:
    """The workspace of `path` (found upwards from the current folder when None), ready to be searched."""
    return OpenWorkspace(Workspace.open(Path(path) if path is not None else None), device)


def search(
    query: str,
    paths: Iterable[str | Path] = (),
    *,
    k: int = 10,
    per_video: int = 3,
    workspace: Path | None = None,
    choice: EncoderChoice = EncoderChoice(),
    progress: ProgressCallback = silent,
) -> list[Hit]:
    """The `k` moments that match `query` best.

    Args:
        query: what to look for, in words.
        paths: extract and index what is new in these first.
        k: how many.
        per_video: at most this many of one video.
        workspace: as for `extract`.
        choice: encoder for `paths`, and the device for the query.
        progress: called while extracting; also with notes on the index.
    """
    given = list(paths)
    if given:
        extract(given, workspace=workspace, choice=choice, progress=progress)
    opened = open_workspace(workspace, choice.device)
    if given:
        _index_if_needed(opened.workspace, progress)
    for note in opened.notes():
        progress(Progress("search", message=note, level="warning"))
    return opened.search(query, k, per_video)


def demo(folder: Path = Path("vla-demo"), **options: Any) -> Any:
    """Render a small world into `folder` and run every stage over it; see `vla.demo.run_demo`."""
    from vla.demo import run_demo

    return run_demo(folder, **options)


# Below: what the verbs share.


def _lock(place: Workspace, progress: ProgressCallback) -> AbstractContextManager[None]:
    note = Progress("wait", message="another vla is working in this workspace; waiting for it", level="note")
    return durable.locked(place.home / "lock", lambda: progress(note))


def _encoder_and_cache(place: Workspace, choice: EncoderChoice, switch: bool) -> tuple[Encoder, FeatureCache]:
    """The encoder that is asked for, or that was used before, and its cache; refuses to mix without `switch`."""
    from vla.encoders import registry as encoders
    from vla.encoders._presets import DEFAULT

    try:
        before: FeatureCache | None = current_cache(place.caches)
    except MissingError:
        before = None
    source = before.source if before else EncoderSource("open_clip", DEFAULT, "")
    if choice.encoder is not None and choice.encoder != source.encoder:
        source = EncoderSource(choice.encoder, choice.model or "", choice.pretrained or "")
    elif choice.model is not None:
        source = EncoderSource(source.encoder, choice.model, choice.pretrained or "")
    elif choice.pretrained is not None:
        source = replace(source, pretrained=choice.pretrained)
    fps = choice.fps if choice.fps is not None else float(before.spec.sampling[4:]) if before else DEFAULT_FPS
    if not 0 < fps <= 240:
        raise UsageError(f"--fps must be above 0 and at most 240, not {fps:g}")
    options = {"model": source.model} if source.model else {}
    encoder: Encoder = encoders.build(
        source.encoder, options, pretrained=source.pretrained, device=choice.device, dtype=choice.dtype
    )
    spec = encoder.identity.spec(f"fps={fps:g}")
    if before is not None and not switch:
        before.spec.require_same(
            spec,
            "this workspace",
            "what was asked for",
            "Ways on: leave out --model, --pretrained, --encoder and --fps to go on as before; use another --workspace; or give "
            "--switch to let this workspace go on with the new features (the old ones are kept)",
        )
    return encoder, FeatureCache.create(place.caches, spec, source)


def _encoder_of(cache: FeatureCache, device: str, dtype: str) -> Encoder:
    """The encoder of `cache`; raises SpecMismatchError if what loads today is another one."""
    from vla.encoders import registry as encoders

    source = cache.source
    options = {"model": source.model} if source.model else {}
    encoder: Encoder = encoders.build(source.encoder, options, pretrained=source.pretrained, device=device, dtype=dtype)
    cache.spec.require_same(
        encoder.identity.spec(cache.spec.sampling),
        "the cache",
        f"the encoder {source.model or source.encoder!r} as it loads now",
        "The weights or the configuration changed since the features were made: bring them back, or extract anew with --switch",
    )
    return encoder


def _read_captions(path: Path | None, columns: Mapping[str, str] | None) -> list[Annotation]:
    if path is None:
        return []
    from vla.datasets._open import read_annotations

    source = str(path.absolute())
    return [replace(a, source=source) for a in read_annotations(path, **(columns or {}))]


def _sidecar_captions(report: ExtractReport, place: Workspace, progress: ProgressCallback) -> list[Annotation]:
    """Captions that lie beside the videos of `report`; a file that cannot be read is reported and passed over."""
    from vla.datasets import registry as datasets
    from vla.datasets.sidecar import find_sidecars

    found: list[Annotation] = []
    for receipt in report.receipts:
        if not receipt.has_features:
            continue
        video = place.video_path(receipt.video_id)
        for path in find_sidecars(video):
            try:
                some = datasets.build("sidecar", {"video": video.stem}).read(path)
            except AnnotationError as error:
                progress(Progress("captions", message=str(error), level="warning"))
                continue
            found += [replace(a, video=receipt.video_id, source=place.video_id(path)) for a in some]
    return found


def _keep_captions(
    place: Workspace,
    cache: FeatureCache,
    annotations: list[Annotation],
    encoder: Encoder,
    report: ExtractReport,
    progress: ProgressCallback,
) -> None:
    from vla.batch import texts_to_cache

    if annotations:
        report.captions = caption_store.add(place, annotations)
        texts = texts_to_cache(annotations)
        report.texts = cache.add_texts(texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts))))


def _training_captions(
    place: Workspace,
    cache: FeatureCache,
    path: Path | None,
    columns: Mapping[str, str] | None,
    progress: ProgressCallback,
) -> list[Annotation]:
    """Captions of cached videos, from the file or, without one, from the workspace."""
    have = set(cache.video_ids())
    if path is None:
        known = caption_store.load(place)
        usable = [a for a in known if a.video in have]
        left_out = len({a.video for a in known} - have)
    else:
        matched = caption_store.match(_read_captions(path, columns), have, place, path.parent)
        usable, left_out = matched.annotations, len(matched.unknown)
        if usable:
            caption_store.add(place, usable)
    if left_out:
        progress(
            Progress("captions", message=f"{left_out} videos with captions have no features; left out", level="warning")
        )
    if not usable:
        where = f"{path} names none of the {len(have)} extracted videos" if path else "the workspace knows no captions"
        raise MissingError(f"{where}: give captions of extracted videos with --captions FILE")
    return usable


def _row_of(corpus: Any, video_id: str) -> int:
    return next(i for i, v in enumerate(corpus.videos) if v.video_id == video_id)


def _remembered_scale(cache: FeatureCache, encoder: Encoder | None, device: str) -> float:
    """The encoder's own temperature; kept beside the cache so that training need not load the encoder for it."""
    path = cache.folder / "scale.json"
    if path.is_file():
        return float(durable.read_json(path)["scale"])
    scale = (encoder or _encoder_of(cache, device, "auto")).scale
    durable.write_json(path, {"scale": scale})
    return scale


def _choose_run(place: Workspace, cache: FeatureCache, run: str | None) -> tuple[str, list[str]]:
    """Which run to index with (empty: the frozen encoder), and what to say about it."""
    from vla.train.checkpoint import open_run

    if run == FROZEN:
        return "", []
    try:
        found = open_run(place.runs / (run or DEFAULT_RUN))
    except MissingError:
        if run is not None:
            raise
        return "", []
    if run is not None:
        found.spec.require_same(
            cache.spec, f"run {run!r}", "the features of this workspace",
            "Train a run on these features ('vla train --name NAME'), or index without one (--run none)",
        )  # fmt: skip
        return run, []
    if found.spec.fingerprint != cache.spec.fingerprint:
        return "", ["the trained run is of other features than this workspace's; indexed with the frozen encoder"]
    if not found.is_better:
        return "", [
            "the trained run was no better than the frozen encoder on the held-out videos; indexed with the frozen encoder "
            f"(--run {DEFAULT_RUN} uses it all the same)"
        ]
    return DEFAULT_RUN, []


def _index_if_needed(place: Workspace, progress: ProgressCallback) -> None:
    """Build the index if there is none, or if it does not hold what the cache holds."""
    from vla.search.store import open_index

    cache = current_cache(place.caches)
    try:
        held = open_index(place.index)
    except MissingError:
        held = None
    name, _ = _choose_run(place, cache, None)
    current = held is not None and held.cache_state == cache.state() and held.spec.fingerprint == cache.spec.fingerprint
    if not current or (held is not None and held.run != name):
        index(workspace=place.root, progress=progress)


def _open_searcher(place: Workspace, device: str) -> Searcher:
    from vla.model import frozen
    from vla.search.query import Searcher
    from vla.search.store import open_index
    from vla.train.checkpoint import load_model

    held = open_index(place.index)
    cache = FeatureCache.open(place.caches / held.spec.fingerprint)
    held.spec.require_same(cache.spec, "the index", "the cache", "Run 'vla index' again")
    model = frozen(held.spec.dim, 1.0)
    if held.run:
        model, run = load_model(place.runs / held.run)
        if run.digest != held.run_digest:
            raise CacheError(f"run {held.run!r} was trained anew since the index was built: run 'vla index' again")
    return Searcher(held, _encoder_of(cache, device, "auto"), model, cache, place)
