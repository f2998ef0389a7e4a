"""Weights of a model: verified if they are here, downloaded if they are not."""

from __future__ import annotations

from pathlib import Path

from vla.encoders._hub_cache import HubRepository, cache_folder, digest_of, free_bytes, has_digest
from vla.encoders._hub_download import RemoteFiles, download, look_up, missing_bytes
from vla.encoders._hub_requests import require_reachable
from vla.encoders._model_source import CONFIG, HubFiles, ModelSource
from vla.errors import MissingError, ResourceError
from vla.hints import Hint
from vla.progress import ByteCounter, Progress, ProgressCallback, silent
from vla.storage.atomic import format_bytes


def require_weights(source: ModelSource, subject: str, progress: ProgressCallback = silent) -> Path:
    """Return the path of the weights; download them if they are not here.

    Args:
        source: the model.
        subject: name of the model in messages.
        progress: called frequently.

    Raises:
        EnvironmentUnfitError: the weights are not here, and the hub cannot be reached.
        MissingError: the hub has no such weights.
        ResourceError: the disk is too small.
    """
    path = source.find()
    if path is None:
        require_reachable(f"the weights of {subject}", Hint("fetch_weights", model=source.name))
        fetch_source(source, "main", progress)
        path = source.find()
    if path is None:
        raise MissingError(f"{source.name}: the hub has not all files of the model")
    return path


def fetch_source(
    source: ModelSource, revision: str, progress: ProgressCallback = silent
) -> tuple[list[RemoteFiles], int]:
    """Download what is missing of a model; return its files on the hub and the bytes transferred.

    Args:
        source: the model.
        revision: commit, branch or tag of the repository of the weights.
        progress: called frequently; a note has the size and the free space before the download.

    Raises:
        MissingError: the hub has no such repository, or not the weights.
        UsageError: there is no such revision.
        ResourceError: the disk is too small; nothing was transferred.
        EnvironmentUnfitError: the hub cannot be reached, the connection broke, or a file is not the
            one of the revision.
    """
    remotes = [_look_up(source.weights, revision)]
    if source.name.startswith("hf-hub:"):
        config = [file for file in remotes[0].files if file.name == CONFIG]
        if not config:
            raise MissingError(
                f"{source.weights.repository} has no {CONFIG}: not an open_clip model"
            )
        # Small, and names the repository of the tokenizer.
        repository = HubRepository(source.weights.repository)
        one = RemoteFiles(repository.name, remotes[0].revision, "", tuple(config))
        download([one], is_used=False)
        source = source.with_config(repository.snapshot(one.revision) / CONFIG)
    if source.tokenizer:
        remotes.append(_look_up(source.tokenizer, "main"))
    num_bytes = sum(map(missing_bytes, remotes))
    if num_bytes:
        licence = remotes[0].licence
        progress(
            Progress(
                "fetch",
                message=f"{source.name}: {format_bytes(num_bytes)} to download from "
                f"{source.weights.repository} (revision {remotes[0].revision[:12]}"
                f"{f', licence {licence}' if licence else ''}); "
                f"{format_bytes(free_bytes(cache_folder()))} free in {cache_folder()}",
                level="note",
            )
        )
    download(remotes, progress)
    return remotes, num_bytes


def _look_up(files: HubFiles, revision: str) -> RemoteFiles:
    remote = look_up(files.repository, files.names, revision)
    names = [file.name for file in remote.files]
    weights = next((name for name in files.alternatives if name in names), None)
    if weights is None:
        raise MissingError(
            f"{files.repository} has none of {', '.join(files.alternatives)} in revision "
            f"{remote.revision[:12]}: not a model that open_clip loads"
        )
    names_to_fetch = {weights, *files.others}
    return RemoteFiles(
        remote.repository, remote.revision, remote.licence,
        tuple(file for file in remote.files if file.name in names_to_fetch),
    )  # fmt: skip


def source_files(source: ModelSource) -> list[Path]:
    """Return the paths of all files of a model that is here.

    Raises:
        MissingError: it is not here.
    """
    paths = []
    for files in source.groups:
        path = files.find()
        if path is None:
            raise MissingError(
                f"the weights of {source.name} are not on this machine",
                hint=Hint("fetch_model", model=source.name),
            )
        others = (path.parent / name for name in files.others)
        paths += [path, *(other for other in others if other != path and other.is_file())]
    return paths


def verify_source(
    source: ModelSource, progress: ProgressCallback = silent
) -> tuple[list[Path], list[Path]]:
    """Compare the files of a model that is here with their digests.

    Returns:
        The corrupt files, which were deleted, and the files whose digest is unknown: on a system
        without symbolic links the cache does not record it.
    """
    paths = source_files(source)
    corrupt, unknown = [], []
    counter = ByteCounter("check", sum(path.stat().st_size for path in paths), progress)
    for path in paths:
        digest = digest_of(path)
        try:
            if not digest:
                unknown.append(path)
            elif not has_digest(path, digest, counter.add):
                corrupt.append(path)
                for name in (path.parents[2] / "blobs" / digest, path):
                    name.unlink(missing_ok=True)
        except OSError as error:
            raise ResourceError(
                f"cannot read or delete {path}: {error.strerror or error}"
            ) from error
    return corrupt, unknown
