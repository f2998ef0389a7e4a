"""Models on this machine: the presets, those of open_clip, and where their weights are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vla.encoders._embedded_model import EMBEDDED_FILES
from vla.encoders._hub_cache import HubRepository, cache_folder, digest_of, revision_of
from vla.encoders._model_fetch import source_files
from vla.encoders._model_source import CONFIG, ModelSource, hub_source, preset_source, tag_source
from vla.encoders._package_files import preset_files
from vla.encoders._presets import PRESETS
from vla.errors import EnvironmentUnfitError, UsageError


@dataclass(frozen=True)
class ModelEntry:
    """A model of `list_models`.

    Attributes:
        name: preset or `hf-hub:ORG/REPO`, as commands take it.
        model: the encoder's name of the model.
        pretrained: open_clip's tag of the weights, or empty.
        encoder: name of the encoder plug-in.
        licence: licence of the weights; empty if unknown.
        parameters: number of parameters in millions; None if unknown.
        use: what the model is good for.
        bytes: size of the files; an estimate if they are not on this machine.
        path: file of the weights; None if they are not on this machine.
        revision: revision of the repository on the hub; empty if the weights come from elsewhere.
        digest: digest of the weights as the hub's cache records it, or empty.
    """

    name: str
    model: str
    pretrained: str
    encoder: str
    licence: str
    parameters: float | None
    use: str
    bytes: int
    path: Path | None
    revision: str
    digest: str

    @property
    def is_here(self) -> bool:
        """Whether the weights are on this machine."""
        return self.path is not None

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        path = str(self.path) if self.path else None
        return {**asdict(self), "path": path, "is_here": self.is_here}


@dataclass(frozen=True)
class OpenClipEntry:
    """A model of open_clip with one set of weights.

    Attributes:
        name: `MODEL/TAG`, as `fetch_model` takes it.
        model: name of the architecture.
        pretrained: tag of the weights.
        repository: repository of the weights on the hub; empty if they come from elsewhere.
        image_size: height and width of its pictures in pixels, as open_clip states them.
        missing_packages: packages that the model needs and that are not installed.
        path: file of the weights; None if they are not on this machine.
    """

    name: str
    model: str
    pretrained: str
    repository: str
    image_size: object
    missing_packages: tuple[str, ...]
    path: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return the entry as a JSON object."""
        return {**asdict(self), "path": str(self.path) if self.path else None}


def list_models() -> list[ModelEntry]:
    """Return the presets, then other models of the hub that are on this machine.

    Neither open_clip nor torch is imported.
    """
    entries = []
    for name, preset in PRESETS.items():
        if preset.repository:
            path, paths = _hub_paths(preset_source(name, preset))
        elif name == "demo":
            path, paths = EMBEDDED_FILES[0], list(EMBEDDED_FILES)
        else:
            path, paths = _package_paths(preset.model)
        size = sum(p.stat().st_size for p in paths) or round(preset.megabytes * 1e6)
        entries.append(
            ModelEntry(
                name, preset.model, preset.pretrained, preset.encoder, preset.licence,
                preset.parameters, preset.use, size, path,
                revision_of(path) if path and preset.repository else "",
                digest_of(path) if path and preset.repository else "",
            )
        )  # fmt: skip
    return entries + _other_entries({preset.repository for preset in PRESETS.values()})


def list_open_clip() -> list[OpenClipEntry]:
    """Return all models of open_clip with each of their sets of weights."""
    from vla.encoders._open_clip_import import import_open_clip
    from vla.encoders._packages import required_modules

    open_clip = import_open_clip()
    entries = []
    for model in open_clip.list_models():
        config = open_clip.get_model_config(model) or {}
        missing = tuple(m for m in required_modules(model, config) if find_spec(m) is None)
        for tag in open_clip.list_pretrained_tags_by_model(model):
            source = tag_source(open_clip, model, tag)
            entries.append(
                OpenClipEntry(
                    f"{model}/{tag}", model, tag, source.weights.repository if source else "",
                    (config.get("vision_cfg") or {}).get("image_size"), missing,
                    source.weights.find() if source else None,
                )
            )  # fmt: skip
    return entries


def _hub_paths(source: ModelSource) -> tuple[Path | None, list[Path]]:
    path = source.find()
    return path, source_files(source) if path else []


def _package_paths(classifier: str) -> tuple[Path | None, list[Path]]:
    paths = []
    for file in preset_files(classifier):
        try:
            paths.append(file.find())
        except EnvironmentUnfitError:
            return None, []
    return paths[0], paths


def _other_entries(presets: Iterable[str]) -> list[ModelEntry]:
    """Return the models of open_clip in the hub's cache that are no presets."""
    entries = []
    for folder in sorted(cache_folder().glob("models--*")):
        repository = folder.name.removeprefix("models--").replace("--", "/")
        if repository in presets:
            continue
        try:
            source = hub_source(f"hf-hub:{repository}")
        except UsageError:
            continue  # a model of another library
        if HubRepository(repository).find((CONFIG,)) is None or (path := source.find()) is None:
            continue
        size = sum(p.stat().st_size for p in source_files(source))
        entries.append(
            ModelEntry(
                source.name, repository, "", "open_clip", "", None, "", size, path,
                revision_of(path), digest_of(path),
            )
        )  # fmt: skip
    return entries
