"""Runs on disk: a finished model, and the state from which an unfinished run goes on exactly.

runs/<name>/
  run.json             what was trained, on what, how it did; the run exists when this does
  model-<sha>.safetensors
  progress.json        of an unfinished run: where it stands
  state-<sha>.safetensors
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vla import durable
from vla.errors import CacheError, MissingError
from vla.evaluate.verdict import is_better, sentence
from vla.features import FeatureSpec
from vla.model import AlignmentModel, ModelConfig, restore, weights_of

SCHEMA = 1
FROZEN = "none"
"""Name that stands for no run at all: the frozen encoder."""


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
    """

    name: str
    identity: str
    digest: str
    spec: FeatureSpec
    model: ModelConfig
    record: dict[str, Any]

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

    content = save(weights_of(model))
    digest = durable.sha256(content)
    name = f"model-{digest[:16]}.safetensors"
    durable.write_bytes(folder / name, content)
    config = {"dim": model.config.dim, "projector": model.config.projector, "options": model.config.options,
              "scale": model.config.scale, "heads": model.config.heads}  # fmt: skip
    durable.write_json(
        folder / "run.json",
        {"schema": SCHEMA, "identity": identity, "weights": name, "sha256": digest, "spec": spec.to_json(),
         "model": config, "record": record},
    )  # fmt: skip
    _drop(folder, "model-*", keep=name)
    durable.discard(folder / "progress.json")
    _drop(folder, "state-*", keep="")
    return Run(folder.name, identity, digest[:16], spec, model.config, record)


def open_run(folder: Path) -> Run:
    """The finished run in `folder`; raises MissingError or CacheError."""
    return _read_run(folder)[0]


def load_model(folder: Path) -> tuple[AlignmentModel, Run]:
    """The finished run in `folder` and its model, ready for use; raises MissingError or CacheError."""
    from safetensors.torch import load

    run, weights, digest = _read_run(folder)
    tensors = load(durable.read_checked(folder / weights, digest))
    return restore(run.model, tensors, str(folder / weights)), run


def save_state(folder: Path, identity: str, tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> None:
    """Commit where an unfinished run stands; the state before it is dropped only afterwards."""
    from safetensors.torch import save

    content = save(tensors)
    digest = durable.sha256(content)
    name = f"state-{digest[:16]}.safetensors"
    durable.write_bytes(folder / name, content)
    durable.write_json(
        folder / "progress.json",
        {"schema": SCHEMA, "identity": identity, "state": name, "sha256": digest, "record": record},
    )
    _drop(folder, "state-*", keep=name)


def load_state(folder: Path, identity: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Where the unfinished run of this identity stands; None if there is none, or one of other settings or captions."""
    from safetensors.torch import load

    path = folder / "progress.json"
    if not path.is_file():
        return None
    try:
        record = durable.read_json(path)
        if record["identity"] != identity:
            return None
        return load(durable.read_checked(folder / record["state"], record["sha256"])), record["record"]
    except (CacheError, KeyError, TypeError):
        return None  # a damaged state costs the time since the start, never the result


def _read_run(folder: Path) -> tuple[Run, str, str]:
    path = folder / "run.json"
    if not path.is_file():
        raise MissingError(f"there is no trained run {folder.name!r}: run 'vla train' first")
    record = durable.read_json(path)
    try:
        if record["schema"] > SCHEMA:
            raise CacheError(f"{path} was written by a newer vla (schema {record['schema']}): upgrade vla")
        spec = FeatureSpec.from_json(record["spec"], str(path))
        run = Run(
            folder.name,
            record["identity"],
            record["sha256"][:16],
            spec,
            ModelConfig(**record["model"]),
            record["record"],
        )
        weights = str(record["weights"])
        if Path(weights).name != weights:
            raise CacheError(f"{path} names weights outside its folder: {weights!r}")
        return run, weights, record["sha256"]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise CacheError(f"{path} is damaged ({error!r}): train again with --overwrite") from error


def _drop(folder: Path, pattern: str, keep: str) -> None:
    for old in folder.glob(pattern):
        if old.name != keep:
            durable.discard(old)
