"""`train`: projectors on cached features."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from vla.arguments import Paths
from vla.batches.corpus import load_corpus, texts_to_cache
from vla.cache.store import FeatureCache, active_cache
from vla.datasets.base import Annotation
from vla.encoders._device import choose_device
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, UsageError
from vla.naming.portable import require_name
from vla.omissions import Omissions
from vla.progress import Progress, ProgressCallback, silent
from vla.storage import atomic, records
from vla.storage.records import NewerRecordError, between
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
SCALE_FILE = "scale.json"


@dataclass(frozen=True)
class Scale:
    """The encoder's own temperature, as it is kept beside its features."""

    scale: Annotated[float, between(1e-6, 1e6)]


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
    """Train projectors on the workspace's features and captions; resumes a run that was interrupted at the step it was at.

    Started by torchrun in several processes, these share every step, and the first of them writes and reports.

    Args:
        captions: train on the captions of this file, or these; on all that the workspace knows when None.
        columns: as for `extract`.
        format: as for `extract`.
        workspace: as for `extract`, but it must exist.
        settings: fields of `vla.training.config.TrainConfig`; they win over the recipe's.
        recipe: a TOML file of such settings.
        name: of the run; one that is finished with the same settings and captions is returned as it is.
        overwrite: train anew even then, and forget an interrupted one.
        device: where to train.
        progress: called after each epoch, and now and then between.
        fields: single settings, which win over `settings`, e.g. `epochs=3`; see `vla.TrainConfig`.

    Examples:
        >>> run = vla.train(captions="captions.csv", epochs=20)  # doctest: +SKIP
        >>> print(run.verdict)  # doctest: +SKIP

    Raises:
        MissingError: no features, no captions of cached videos, or too few videos.
        UsageError: unknown or impossible settings.
    """
    if require_name(name, "a run") == FROZEN:
        raise UsageError(f"a run cannot be called {name!r}: that stands for the frozen encoder")
    values = {**(read_recipe(recipe) if recipe else {}), **(settings or {}), **fields}
    config = TrainConfig.from_mapping(values, str(recipe or "settings"))
    place = Workspace.open(workspace)
    cache = active_cache(place.caches)
    ranks = ProcessGroup(choose_device(device))
    # One of the processes that share a run writes and speaks; the others wait until what they read is there.
    first = ranks.rank == 0
    progress = progress if first else silent
    omissions = Omissions()
    annotations = training_captions(place, cache, captions, columns, progress, format, omissions)
    with place.locked(progress) if first else nullcontext():
        folder = place.runs / name
        scale = _prepared(cache, annotations, device, progress) if first else 1.0
        if overwrite and first:
            atomic.remove(folder / "progress.json")
        scale = ranks.told(scale)
        cache = cache if first else active_cache(place.caches)
        identity = config.identity(cache.spec.fingerprint, cache.state(), digest_of(annotations))
        finished = None if overwrite else _finished(folder, identity, progress)
        if finished is not None:
            return replace(finished, omissions=omissions)
        corpus = load_corpus(cache, annotations, tokens=config.reads_tokens)
        rows = {video.video_id: row for row, video in enumerate(corpus.videos)}
        named = {rows[a.video]: a.split for a in annotations if a.split}
        split = split_rows(len(corpus.videos), named, config.held_out, config.seed)
        if not any(kind.lower().startswith(("val", "dev")) for kind in named.values()):
            # Who names videos to choose by has said what matters, and wants all the others' captions learned.
            split = hold_out_concepts(split, corpus, config.withheld, config.seed)
        run = run_training(corpus, split, cache.spec, scale, config, folder, identity, ranks=ranks, progress=progress)
        return replace(run, omissions=omissions)


def _prepared(cache: FeatureCache, annotations: list[Annotation], device: str, progress: ProgressCallback) -> float:
    """The encoder's own temperature; every text that training looks up is in the cache then."""
    # Where nobody can encode single sentences, training does with whole captions.
    can_encode = not cache.spec.is_imported or has_encoder(cache)
    texts = texts_to_cache(annotations, single=can_encode)
    encoder = None
    if cache.missing_texts(texts):
        progress(Progress("load", message="loading the encoder for captions that are not cached"))
        encoder = encoder_of(cache, device, "auto")
        cache.add_texts(texts, encoder, on_batch=lambda n: progress(Progress("captions", n, len(texts))))
    return _remembered_scale(cache, encoder, device)


def _finished(folder: Path, identity: str, progress: ProgressCallback) -> Run | None:
    """The run in `folder`, if it is finished and of this identity, and none of the same is under way."""
    if not (folder / "run.json").is_file() or load_state(folder, identity) is not None:
        return None
    try:
        finished = check_run(folder)
    except NewerRecordError:
        raise
    except CacheError as error:
        progress(Progress("train", message=f"{error}; training anew", level="warning"))
        return None
    if finished.identity != identity:
        return None
    progress(Progress("train", message=f"run {folder.name!r} is already trained with these settings", level="note"))
    return finished


def _remembered_scale(cache: FeatureCache, encoder: TextEncoder | None, device: str) -> float:
    """The encoder's own temperature; kept beside the cache so that training need not load the encoder for it."""
    path = cache.folder / SCALE_FILE
    with suppress(CacheError):  # damaged: it is asked for anew
        if path.is_file():
            return records.load(Scale, path).scale
    scale = (encoder or encoder_of(cache, device, "auto")).scale
    atomic.write_json(path, {"scale": scale})
    return scale
