"""Runs on disk: a finished model, and the state from which an unfinished run goes on exactly.

runs/<name>/
  run.json             what was trained, on what, how it did; the run exists when this does
  model-<sha>.safetensors
  progress.json        of an unfinished run: where it stands
  state-<sha>.safetensors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.errors import CacheError, MissingError, UnknownNameError, UsageError
from vla.evaluation.verdict import is_better, sentence
from vla.features import FeatureSpec
from vla.hints import Hint
from vla.model_config import ModelConfig
from vla.omissions import Omissions
from vla.storage import atomic, records
from vla.storage.records import Digest, FileName, NewerRecordError, Positive
from vla.training import compatibility

if TYPE_CHECKING:
    import torch

    from vla.model import AlignmentModel

SCHEMA = 1
_STATE_LOST = Hint("restart_run")
FROZEN = "none"
"""Name that stands for no run at all: the frozen encoder."""


@dataclass(frozen=True)
class _Finished:
    """`run.json`."""

    schema: Positive
    identity: str
    weights: FileName
    sha256: Digest
    spec: dict[str, Any]
    model: ModelConfig
    record: dict[str, Any]


@dataclass(frozen=True)
class _Progress:
    """`progress.json`."""

    schema: Positive
    identity: str
    state: FileName
    sha256: Digest
    record: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        name: the folder's name.
        identity: of settings and what was trained on.
        digest: sha256 of the weights, 16 digits; travels into the index.
        spec: the feature space it was trained in.
        model: configuration of the model.
        record: everything else: settings, history, metrics before and after.
        omissions: captions that were given and not trained on; not kept with the run.
    """

    name: str
    identity: str
    digest: str
    spec: FeatureSpec
    model: ModelConfig
    record: dict[str, Any]
    omissions: Omissions = field(default_factory=Omissions, compare=False)

    @property
    def is_better(self) -> bool:
        """True if it plainly beats the frozen encoder on the held-out videos; only then is it used without being asked for."""
        return is_better(self.record)

    @property
    def verdict(self) -> str:
        """How it compares with the frozen encoder, in words, e.g. `no measurable difference from the frozen encoder on ...`."""
        return sentence(self.record)


def save_run(folder: Path, model: AlignmentModel, spec: FeatureSpec, identity: str, record: dict[str, Any]) -> Run:
    """Commit a finished run; the state of the unfinished one is dropped."""
    from safetensors.torch import save

    from vla.model import weights_of

    content = save(weights_of(model))
    digest = atomic.sha256(content)
    name = f"model-{digest[:16]}.safetensors"
    atomic.write_bytes(folder / name, content)
    config = {"dim": model.config.dim, "projector": model.config.projector, "options": model.config.options,
              "scale": model.config.scale, "heads": model.config.heads}  # fmt: skip
    atomic.write_json(
        folder / "run.json",
        {"schema": SCHEMA, "identity": identity, "weights": name, "sha256": digest, "spec": spec.to_json(),
         "model": config, "record": record},
    )  # fmt: skip
    _drop(folder, "model-*", keep=name)
    atomic.unlink_quietly(folder / "progress.json")
    _drop(folder, "state-*", keep="")
    return Run(folder.name, identity, digest[:16], spec, model.config, record)


def open_run(folder: Path) -> Run:
    """The finished run in `folder`; raises MissingError or CacheError."""
    return _read_run(folder)[0]


def load_model(folder: Path) -> tuple[AlignmentModel, Run]:
    """The finished run in `folder` and its model, ready for use; raises MissingError or CacheError."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    from vla.model import restore

    run, weights, digest = _read_run(folder)
    content = atomic.read_checked(folder / weights, digest, _again(folder))
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CacheError(f"{folder / weights} does not hold weights ({error})", hint=_again(folder)) from error
    try:
        return restore(run.model, tensors, str(folder / weights)), run
    except (UnknownNameError, UsageError) as error:
        raise CacheError(
            f"run {folder.name!r} needs a part that is not installed or was removed ({error})", hint=_again(folder)
        ) from error


def save_state(folder: Path, identity: str, tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """Commit where an unfinished run stands; the state before it is dropped only afterwards."""
    from safetensors.torch import save

    content = save(tensors)
    digest = atomic.sha256(content)
    name = f"state-{digest[:16]}.safetensors"
    atomic.write_bytes(folder / name, content)
    atomic.write_json(
        folder / "progress.json",
        {"schema": SCHEMA, "identity": identity, "state": name, "sha256": digest, "record": record},
    )
    _drop(folder, "state-*", keep=name)


def load_state(
    folder: Path, identity: str, on_unusable: Callable[[str], None] = lambda message: None
) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Where the unfinished run of this identity stands; None if there is none, or one of other settings or captions.

    Where it is of others, and where its state is lost or damaged, `on_unusable` is called with the reason.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / "progress.json"
    if not path.is_file():
        return None
    try:
        found = records.load(_Progress, path, _STATE_LOST, schema=SCHEMA)
        if found.identity != identity:
            on_unusable(
                f"the unfinished run {folder.name!r} is of other settings, captions or features, or of another version; "
                "training starts anew"
            )
            return None
        return load(atomic.read_checked(folder / found.state, found.sha256)), found.record
    except NewerRecordError:
        raise
    except (CacheError, SafetensorError) as error:
        # A damaged state costs the time since the start, never the result.
        on_unusable(f"the unfinished run {folder.name!r} starts anew, because where it stood is lost ({error})")
        return None


def find_run(folder: Path) -> Run:
    """The finished run in `folder` if its weights are there, unread; raises MissingError or CacheError."""
    run, weights, _ = _read_run(folder)
    if not (folder / weights).is_file():
        raise CacheError(f"{folder / weights} is gone", hint=_again(folder))
    return run


def check_run(folder: Path) -> Run:
    """The finished run in `folder` if its weights are as they were written; raises MissingError or CacheError."""
    run, weights, digest = _read_run(folder)
    atomic.read_checked(folder / weights, digest, _again(folder))
    return run


def check_state(folder: Path) -> None:
    """Raises CacheError if there is an unfinished run in `folder` whose state is not as it was written."""
    path = folder / "progress.json"
    if path.is_file():
        found = records.load(_Progress, path, _STATE_LOST, schema=SCHEMA)
        atomic.read_checked(folder / found.state, found.sha256, _STATE_LOST)


def unused_files(folder: Path) -> list[Path]:
    """Weights and states in `folder` that neither its run nor its unfinished run names: what a kill left."""
    named = set()
    try:
        if (folder / "run.json").is_file():
            named.add(_read_run(folder)[1])
        if (folder / "progress.json").is_file():
            named.add(records.load(_Progress, folder / "progress.json", schema=SCHEMA).state)
    except CacheError:  # what is needed is not known
        return []
    return [p for pattern in ("model-*", "state-*") for p in folder.glob(pattern) if p.name not in named]


def _read_run(folder: Path) -> tuple[Run, str, str]:
    path = folder / "run.json"
    if not path.is_file():
        raise MissingError(f"there is no trained run {folder.name!r}", hint=Hint("train", run=folder.name))
    found = records.load(_Finished, path, _again(folder), schema=SCHEMA)
    feature = compatibility.feature_of(found.record.get("config"))
    if feature is not None:
        raise CacheError(
            f"run {folder.name!r} was trained with {feature}, which vla no longer has",
            hint=Hint("retrain_without", run=folder.name),
        )
    spec, model = FeatureSpec.from_json(found.spec, str(path)), compatibility.without_options(found.model)
    run = Run(folder.name, found.identity, found.sha256[:16], spec, model, found.record)
    return run, found.weights, found.sha256


def _again(folder: Path) -> Hint:
    return Hint("retrain", run=folder.name)


def _drop(folder: Path, pattern: str, keep: str) -> None:
    for old in folder.glob(pattern):
        if old.name != keep:
            atomic.unlink_quietly(old)
