"""Import of external feature files: their videos, which of these are up to date, and conversion to
cached features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vla.cache.discovery import find_files
from vla.cache.receipts import Receipt
from vla.cache.store import FeatureCache
from vla.errors import FormatError, ShapeError, UsageError
from vla.features import FeatureSpec, FrameFeatures
from vla.formats import registry as formats
from vla.formats.base import ArrayKeys, ExternalFeatures, Format, StoredVideo, as_format_error
from vla.hints import Hint, Note
from vla.omissions import Omissions
from vla.workflows.frame_timing import Timing

UNKNOWN = "unknown"
_FILE_DIGITS, _SETTINGS_DIGITS = 24, 8


@dataclass(frozen=True)
class ImportedVideo:
    """A video that was read.

    Attributes:
        receipt: its receipt, without the fields added by the commit.
        external: features as stored in the file.
        timing: timing rule and durations from outside of the file.
    """

    receipt: Receipt
    external: ExternalFeatures
    timing: Timing

    @property
    def video_id(self) -> str:
        """Name of the video."""
        return self.receipt.video_id

    @property
    def width(self) -> int:
        """Dimension of a feature."""
        return int(self.external.values.shape[1])

    def failure(self, reason: str) -> Receipt:
        """Return the receipt of a failure."""
        return replace(self.receipt, status="failed", reason=reason)


@dataclass
class FeatureFile:
    """A file of features.

    Attributes:
        path: the file.
        format: plug-in name of its format.
        keys: keys of the arrays to read.
        timing: timing rule for files without times.
        strip: suffix to remove from names.
        names: names of its videos; the name of the file if it cannot be read.
        sidecars: companion files of each video.
        fault: reason why it cannot be read, completely or in part; empty if it can.
        omissions: arrays that are not features of a video.
    """

    path: Path
    format: str
    keys: ArrayKeys
    timing: Timing
    strip: str = ""
    names: list[str] = field(default_factory=list)
    sidecars: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    fault: str = ""
    omissions: Omissions = field(default_factory=Omissions)

    def look(self) -> None:
        """List the videos in the file."""
        try:
            # Counted only here: reading skips the same arrays again.
            with closing(self._contents(self.omissions)) as videos:
                for video in videos:
                    self.names.append(self._short(video.name))
                    self.sidecars[self.names[-1]] = video.sidecars
        except FormatError as error:
            self.fault = _without_path(error, self.path)
            # The file is reported under its own name, in addition to videos that were listed.
            name = self._short(self.path.stem)
            if name not in self.names:
                self.names.append(name)

    def done(self, cache: FeatureCache) -> dict[str, Receipt]:
        """Return current receipts of the videos that were imported from this file with the same
        settings.
        """
        receipts = {
            n: cache.receipts[n]
            for n in self.names
            if n in cache.receipts and cache.receipts[n].has_features
        }
        try:
            return {
                name: replace(receipt, mtime_ns=self._status[1])
                for name, receipt in receipts.items()
                if not self.fault
                and self._is_of_this(receipt)
                and (cache.folder / "shards" / receipt.shard).is_file()
            }
        except FormatError:
            return {}  # the file is gone; reading it reports this

    def read(self, without: Collection[str] = ()) -> Generator[ImportedVideo | Receipt, None, None]:
        """Yield each video except those in `without`; a failure receipt for unreadable ones."""
        remaining = dict.fromkeys(n for n in self.names if n not in without)
        try:
            with closing(self._contents()) as videos:
                for video in videos:
                    name = self._short(video.name)
                    if name not in remaining:
                        continue
                    del remaining[name]
                    try:
                        yield ImportedVideo(self._receipt(name), video.read(), self.timing)
                    except FormatError as error:
                        yield self._failure(name, _without_path(error, self.path))
        except FormatError as error:
            self.fault = _without_path(error, self.path)
        for name in remaining:
            yield self._failure(
                name, self.fault or "it was removed from the file during the import"
            )

    def _is_of_this(self, receipt: Receipt) -> bool:
        size, mtime_ns = self._status
        if receipt.size != size or receipt.content[_FILE_DIGITS:] != self._how(receipt.video_id):
            return False
        return receipt.mtime_ns == mtime_ns or receipt.content[:_FILE_DIGITS] == self._digest

    def _short(self, name: str) -> str:
        return name.removesuffix(self.strip) or name

    def _contents(self, omissions: Omissions | None = None) -> Generator[StoredVideo, None, None]:
        reader: Format = formats.build(self.format)
        return reader.contents(
            self.path, replace(self.keys, omissions=Omissions() if omissions is None else omissions)
        )

    def _failure(self, name: str, reason: str) -> Receipt:
        return Receipt(name, "failed", reason, 0, 0, "", codec=self.format)

    def _receipt(self, name: str) -> Receipt:
        size, mtime_ns = self._status
        return Receipt(
            name,
            "ok",
            "",
            size,
            mtime_ns,
            self._digest + self._how(name),
            coverage=1.0,
            codec=self.format,
        )

    @cached_property
    def _status(self) -> tuple[int, int]:
        with as_format_error(self.path):
            status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    @cached_property
    def _digest(self) -> str:
        # The whole file: unlike videos, feature files may differ only in the middle.
        with as_format_error(self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_FILE_DIGITS]

    def _how(self, name: str) -> str:
        """Return the digest of everything except the content that affects the result."""
        companions = [
            (p.name, p.stat().st_size, p.stat().st_mtime_ns)
            for p in self.sidecars.get(name, ())
            if p.is_file()
        ]
        settings = [self.format, self.keys.key, self.keys.times_key, self.timing.step_seconds,
                self.timing.duration_of(name), companions]  # fmt: skip
        return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:_SETTINGS_DIGITS]


def open_feature_files(
    paths: Iterable[str | Path], keys: ArrayKeys, timing: Timing, strip: str = ""
) -> list[FeatureFile]:
    """Open the feature files in `paths` and list their videos; `strip` is removed from the end of
    their names.

    Raises:
        UsageError: a path matches nothing, a file has an unknown format, there are no features, or
            a name occurs twice.
    """
    readers = {
        suffix: name for name, plugin in formats.loadable().items() for suffix in plugin.suffixes
    }
    paths_list = list(paths)
    files = []
    for path in find_files(paths_list, frozenset(readers)):
        name = readers.get(path.suffix.lower())
        if name is None:
            raise UsageError(
                f"{path}: features are read from {', '.join(sorted(readers))}, not from "
                f"{path.suffix!r}"
            )
        file = FeatureFile(path, name, keys, timing, strip)
        file.look()
        files.append(file)
    _check_unique_names(files)
    if paths_list and not any(a.names for a in files):
        raise UsageError(
            f"no features in {', '.join(map(str, paths_list))}: supported are "
            f"{', '.join(sorted(readers))}"
        )
    return files


def convert_features(video: ImportedVideo, spec: FeatureSpec) -> tuple[FrameFeatures, Receipt]:
    """Convert a video to cached features and a receipt; raises FormatError if it is not of the
    space `spec`.
    """
    external, name = video.external, video.video_id
    if video.width != spec.dim:
        raise FormatError(
            f"its features have {video.width} dimensions, those of {spec.model!r} have {spec.dim}"
        )
    if (external.origin or UNKNOWN) != spec.weights:
        raise FormatError(
            f"its features are of another space (origin {external.origin or UNKNOWN}) than those "
            f"of {spec.model!r} "
            f"({spec.weights})",
            hint=Hint("name_another_space"),
        )
    with np.errstate(over="ignore"):
        values = external.values.astype(np.float16)
    if not np.isfinite(values).all():
        raise FormatError(
            f"its features are as large as {np.abs(external.values).max():g}, too large for float16"
        )
    count = len(values)
    times = (
        video.timing.times_of(count)
        if external.timestamps_seconds is None
        else external.timestamps_seconds
    )
    duration, remark = _duration(video, times)
    receipt = replace(video.receipt, frames=count, duration_seconds=duration, reason=remark)
    try:
        return FrameFeatures(name, values, times, duration), receipt
    except ShapeError as error:
        raise FormatError(str(error).removeprefix(f"{name}: "), hint=error.hint) from error


def _duration(video: ImportedVideo, times: np.ndarray) -> tuple[float, str]:
    """Return the duration of the video in seconds, and a remark if it is unusual."""
    last = float(times[-1])
    steps = np.diff(times)
    own = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    step = own if video.external.timestamps_seconds is not None else video.timing.step_seconds
    duration_seconds = video.timing.duration_of(video.video_id) or video.external.duration_seconds
    if duration_seconds is None:
        return last + step, ""
    if duration_seconds >= last:
        return duration_seconds, ""
    if duration_seconds < last - step:
        raise FormatError(
            f"its last frame is at {last:g} s, after the end of the video at "
            f"{duration_seconds:g} s: check the times"
        )
    return last, f"declared duration {duration_seconds:g} s is before its last frame"


def _check_unique_names(files: list[FeatureFile]) -> None:
    path_of: dict[str, Path] = {}
    for file in files:
        for name in file.names:
            if name in path_of:
                raise UsageError(
                    f"two files contain features of {name!r}: {path_of[name]} and {file.path}; "
                    f"import one of them"
                )
            path_of[name] = file.path


def _without_path(error: FormatError, path: Path) -> str:
    """Return the message without the path, which receipts do not repeat."""
    return Note(str(error).removeprefix(f"{path}: ").removeprefix(f"{path} "), error.hint)
