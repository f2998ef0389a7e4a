"""Runs on disk: a finished model, and the state that an unfinished run resumes from.

runs/<name>/
  run.json             settings, provenance and results; the run exists when this file does
  model-<sha>.safetensors
  progress.json        progress of an unfinished run
  state-<sha>.safetensors
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla.errors import CacheError, MissingError, UnknownNameError, UsageError
from vla.evaluation.verdict import head_sentences, is_better, sentence
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
_RESTART_HINT = Hint("restart_run")
FROZEN = "none"
"""Name of the frozen encoder where a run is expected."""


@dataclass(frozen=True)
class _RunRecord:
    """Schema of `run.json`."""

    schema: Positive
    identity: str
    weights: FileName
    sha256: Digest
    spec: dict[str, Any]
    model: ModelConfig
    record: dict[str, Any]


@dataclass(frozen=True)
class _ProgressRecord:
    """Schema of `progress.json`."""

    schema: Positive
    identity: str
    state: FileName
    sha256: Digest
    record: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        name: name of the folder.
        identity: digest of the settings, features and captions.
        digest: first 16 digits of the sha256 of the weights; also recorded in the index.
        spec: feature space of the training data.
        model: configuration of the model.
        record: settings (`config`), history, metrics before and after.
        omissions: captions that were not trained on; not saved with the run.
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
        """Whether it is significantly better than the frozen encoder on the validation videos.

        Only such a run is used by default.
        """
        return is_better(self.record)

    @property
    def verdict(self) -> str:
        """Comparison with the frozen encoder, e.g. `no measurable difference from the frozen
        encoder on ...`.
        """
        return sentence(self.record)

    @property
    def head_verdicts(self) -> dict[str, str]:
        """Comparison of each head with the untrained head on the frozen encoder, by task."""
        return head_sentences(self.record)


def save_run(
    folder: Path, model: AlignmentModel, spec: FeatureSpec, identity: str, record: dict[str, Any]
) -> Run:
    """Commit a finished run, and delete its state."""
    from safetensors.torch import save

    from vla.model import cpu_state_dict

    content = save(cpu_state_dict(model))
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
    """Return the finished run in `folder`; raise MissingError or CacheError."""
    return _read_run(folder)[0]


def load_model(folder: Path) -> tuple[AlignmentModel, Run]:
    """Return the finished run in `folder` and its model in evaluation mode.

    Raise MissingError or CacheError.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from vla.model import build_model

    run, weights, digest = _read_run(folder)
    content = atomic.read_bytes(folder / weights, digest, _retrain_hint(folder))
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise CacheError(
            f"{folder / weights} does not hold weights ({error})", hint=_retrain_hint(folder)
        ) from error
    try:
        return build_model(run.model, tensors, str(folder / weights)), run
    except CacheError as error:  # weights of another version, or damaged
        raise CacheError(str(error), hint=_retrain_hint(folder)) from error
    except (UnknownNameError, UsageError) as error:
        raise CacheError(
            f"run {folder.name!r} needs a part that is not installed or was removed ({error})",
            hint=_retrain_hint(folder),
        ) from error


def save_state(
    folder: Path, identity: str, tensors: dict[str, torch.Tensor], record: dict[str, Any]
) -> None:
    """Commit the state of an unfinished run, then delete the previous one."""
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
    """Return the tensors and the record of the unfinished run in `folder`.

    None if there is no usable one.

    Args:
        folder: of the run.
        identity: of the run that resumes; a state of another identity is not usable.
        on_unusable: called with the reason why a state is not usable.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / "progress.json"
    if not path.is_file():
        return None
    try:
        progress = records.load(_ProgressRecord, path, _RESTART_HINT, schema=SCHEMA)
        if progress.identity != identity:
            on_unusable(
                f"the unfinished run {folder.name!r} is of other settings, captions or features, "
                f"or of another version; "
                "training starts anew"
            )
            return None
        return load(atomic.read_bytes(folder / progress.state, progress.sha256)), progress.record
    except NewerRecordError:
        raise
    except (CacheError, SafetensorError) as error:
        # A damaged state costs time, never the result.
        on_unusable(
            f"the unfinished run {folder.name!r} starts anew, because where it stood is lost "
            f"({error})"
        )
        return None


def find_run(folder: Path) -> Run:
    """Return the finished run in `folder` without reading its weights, which must exist.

    Raises:
        MissingError: there is no finished run.
        CacheError: its weights are missing, or its record is damaged.
    """
    run, weights, _ = _read_run(folder)
    if not (folder / weights).is_file():
        raise CacheError(f"{folder / weights} is gone", hint=_retrain_hint(folder))
    return run


def check_run(folder: Path) -> Run:
    """Return the finished run in `folder` after verifying the checksum of its weights.

    Raises:
        MissingError: there is no finished run.
        CacheError: its weights or its record are damaged.
    """
    run, weights, digest = _read_run(folder)
    atomic.read_bytes(folder / weights, digest, _retrain_hint(folder))
    return run


def check_state(folder: Path) -> None:
    """Raise CacheError if the state of an unfinished run in `folder` is damaged."""
    path = folder / "progress.json"
    if path.is_file():
        progress = records.load(_ProgressRecord, path, _RESTART_HINT, schema=SCHEMA)
        atomic.read_bytes(folder / progress.state, progress.sha256, _RESTART_HINT)


def unused_files(folder: Path) -> list[Path]:
    """Return weights and states in `folder` that no record names: remains of a killed process."""
    names = set()
    try:
        if (folder / "run.json").is_file():
            names.add(_read_run(folder)[1])
        if (folder / "progress.json").is_file():
            names.add(records.load(_ProgressRecord, folder / "progress.json", schema=SCHEMA).state)
    except CacheError:  # a damaged record: the names are unknown
        return []
    return [
        p for pattern in ("model-*", "state-*") for p in folder.glob(pattern) if p.name not in names
    ]


def _read_run(folder: Path) -> tuple[Run, str, str]:
    path = folder / "run.json"
    if not path.is_file():
        raise MissingError(
            f"there is no trained run {folder.name!r}", hint=Hint("train", run=folder.name)
        )
    content = records.load(_RunRecord, path, _retrain_hint(folder), schema=SCHEMA)
    feature = compatibility.retired_feature(content.record.get("config"))
    if feature is not None:
        raise CacheError(
            f"run {folder.name!r} was trained with {feature}, which vla no longer has",
            hint=Hint("retrain_without", run=folder.name),
        )
    spec, model = (
        FeatureSpec.from_json(content.spec, str(path)),
        compatibility.drop_retired_options(content.model),
    )
    record = content.record
    if isinstance(record.get("config"), dict):
        record = {**record, "config": compatibility.rename_keys(record["config"])}
    run = Run(folder.name, content.identity, content.sha256[:16], spec, model, record)
    return run, content.weights, content.sha256


def _retrain_hint(folder: Path) -> Hint:
    return Hint("retrain", run=folder.name)


def _drop(folder: Path, pattern: str, keep: str) -> None:
    for old in folder.glob(pattern):
        if old.name != keep:
            atomic.unlink_quietly(old)
