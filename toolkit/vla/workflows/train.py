"""`train`: projectors on cached features."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vla.arguments import Paths
from vla.batches.corpus_reader import load_corpus, texts_to_cache
from vla.cache.encoder_records import SCALE_FILE, Scale
from vla.cache.store import FeatureCache, active_cache
from vla.datasets.base import Annotation
from vla.encoders._device import choose_device
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, UsageError
from vla.naming.portable import require_name
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic, records
from vla.storage.records import NewerRecordError
from vla.storage.workspace import Workspace
from vla.training.checkpoint import FROZEN, Run, check_run, load_state
from vla.training.config import TrainConfig, read_recipe
from vla.training.distributed import ProcessGroup
from vla.training.loop import train as run_training
from vla.training.split import hold_out_concepts, split_rows
from vla.workflows.caption_import import digest_of, training_captions
from vla.workflows.encoder_choice import encoder_of
from vla.workflows.text_features import has_encoder

DEFAULT_RUN = "default"


def train(
    *,
    captions: Paths | None = None,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    workspace: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    recipe: Path | None = None,
    name: str = DEFAULT_RUN,
    overwrite: bool = False,
    device: str = "auto",
    progress: ProgressCallback = silent,
    **fields: Any,
) -> Run:
    """Train projectors on the features and captions of a workspace.

    An interrupted run resumes at its step.

    Several processes started by torchrun share every step; the first of them writes and reports.

    Args:
        captions: caption file or files to train on; all captions of the workspace if None.
        columns: as for `extract`.
        format: as for `extract`.
        workspace: as for `extract`, but it must exist.
        settings: fields of `vla.training.config.TrainConfig`; they override those of the recipe.
        recipe: TOML file of such settings.
        name: of the run; a finished run with the same settings and captions is returned as it is.
        overwrite: train again even then, and discard an unfinished run.
        device: device to train on.
        progress: called after each epoch and about twice a second in between.
        fields: single settings, which override `settings`, e.g. `epochs=3`; see `vla.TrainConfig`.

    Examples:
        >>> run = vla.train(captions="captions.csv", epochs=20)  # doctest: +SKIP
        >>> print(run.verdict)  # doctest: +SKIP

    Raises:
        MissingError: no features, no captions of cached videos, or too few videos.
        UsageError: unknown or invalid settings.
    """
    if require_name(name, "a run") == FROZEN:
        raise UsageError(f"a run cannot be called {name!r}: that stands for the frozen encoder")
    values = {**(read_recipe(recipe) if recipe else {}), **(settings or {}), **fields}
    config = TrainConfig.from_mapping(values, str(recipe or "settings"))
    space = Workspace.open(workspace)
    cache = active_cache(space.caches)
    processes = ProcessGroup(choose_device(device))
    # The main process writes and reports; the others wait until the files that they read are
    # complete.
    is_main = processes.rank == 0
    progress = progress if is_main else silent
    omissions = Omissions()
    annotations = training_captions(space, cache, captions, columns, progress, format, omissions)
    with space.lock(progress) if is_main else nullcontext():
        folder = space.runs / name
        scale = _prepare(cache, annotations, device, progress) if is_main else 1.0
        if overwrite and is_main:
            atomic.remove(folder / "progress.json")
        scale = processes.broadcast(scale)
        cache = cache if is_main else active_cache(space.caches)
        identity = config.identity(cache.spec.fingerprint, cache.state(), digest_of(annotations))
        existing = None if overwrite else _existing_run(folder, identity, progress)
        if existing is not None:
            return replace(existing, omissions=omissions)
        corpus = load_corpus(cache, annotations, tokens=config.reads_tokens)
        rows = {video.video_id: row for row, video in enumerate(corpus.videos)}
        split_names = {rows[a.video]: a.split for a in annotations if a.split}
        split = split_rows(len(corpus.videos), split_names, config.val_fraction, config.seed)
        split = hold_out_concepts(split, corpus, config.held_out_concepts, config.seed)
        run = run_training(
            corpus,
            split,
            cache.spec,
            scale,
            config,
            folder,
            identity,
            processes=processes,
            progress=progress,
        )
        return replace(run, omissions=omissions)


def _prepare(
    cache: FeatureCache, annotations: list[Annotation], device: str, progress: ProgressCallback
) -> float:
    """Cache every text that training reads, and return the encoder's own temperature."""
    # Without an encoder for single sentences, training uses whole captions.
    can_encode = not cache.spec.is_imported or has_encoder(cache)
    texts = texts_to_cache(annotations, single=can_encode)
    encoder = None
    if cache.missing_texts(texts):
        progress(Progress("load", message="loading the encoder for captions that are not cached"))
        encoder = encoder_of(cache, device, "auto")
        cache.add_texts(
            texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts)))
        )
    return _load_scale(cache, encoder, device)


def _existing_run(folder: Path, identity: str, progress: ProgressCallback) -> Run | None:
    """Return the finished run of this identity in `folder`.

    None if there is none, or an unfinished one.
    """
    if not (folder / "run.json").is_file() or load_state(folder, identity) is not None:
        return None
    try:
        run = check_run(folder)
    except NewerRecordError:
        raise
    except CacheError as error:
        progress(Progress("train", message=f"{error}; training anew", level="warning"))
        return None
    if run.identity != identity:
        return None
    progress(
        Progress(
            "train",
            message=f"run {folder.name!r} is already trained with these settings",
            level="note",
        )
    )
    return run


def _load_scale(cache: FeatureCache, encoder: TextEncoder | None, device: str) -> float:
    """Return the encoder's own temperature, from a file beside the cache or from the encoder."""
    path = cache.folder / SCALE_FILE
    with suppress(CacheError):  # a damaged file is written again
        if path.is_file():
            return records.load(Scale, path).scale
    scale = (encoder or encoder_of(cache, device, "auto")).scale
    atomic.write_json(path, {"scale": scale})
    return scale
