"""Released features on their way in: which files hold which videos, what is done already, and what each video turns into."""

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
_FILE_DIGITS, _HOW_DIGITS = 24, 8


@dataclass(frozen=True)
class ImportedVideo:
    """A video that was read.

    Attributes:
        receipt: so far; without what the commit adds.
        released: its features as the file has them.
        timing: what is known beside the file.
    """

    receipt: Receipt
    released: ExternalFeatures
    timing: Timing

    @property
    def video_id(self) -> str:
        """Its name."""
        return self.receipt.video_id

    @property
    def width(self) -> int:
        """Of a feature."""
        return int(self.released.values.shape[1])

    def failed(self, reason: str) -> Receipt:
        """The receipt of a video that cannot be used."""
        return replace(self.receipt, status="failed", reason=reason)


@dataclass
class FeatureFile:
    """A file of features.

    Attributes:
        path: where it lies.
        format: its name on the shelf.
        wanted: which arrays are meant.
        timing: for what the file does not say.
        strip: what is taken off the end of names.
        names: of the videos in it; its own where it cannot be read.
        beside: for each video, further files that it is read from.
        fault: why it cannot be read; empty if it can, or can in part.
        omissions: arrays in it that are not a video's features.
    """

    path: Path
    format: str
    wanted: ArrayKeys
    timing: Timing
    strip: str = ""
    names: list[str] = field(default_factory=list)
    beside: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    fault: str = ""
    omissions: Omissions = field(default_factory=Omissions)

    def look(self) -> None:
        """Find out which videos are in the file."""
        try:
            # Counted here alone: reading passes by the same arrays again.
            with closing(self._contents(self.omissions)) as found:
                for stored in found:
                    self.names.append(self._short(stored.name))
                    self.beside[self.names[-1]] = stored.beside
        except FormatError as error:
            self.fault = _told(error, self.path)
            # Whatever else may be in it: the file itself is told of.
            name = self._short(self.path.stem)
            self.names += [name] * (name not in self.names)

    def done(self, cache: FeatureCache) -> dict[str, Receipt]:
        """Receipts, brought up to date, of the videos that were imported from this very file in this very way."""
        known = {n: cache.receipts[n] for n in self.names if n in cache.receipts and cache.receipts[n].has_features}
        try:
            return {
                name: replace(receipt, mtime_ns=self._status[1])
                for name, receipt in known.items()
                if not self.fault and self._is_of_this(receipt) and (cache.folder / "shards" / receipt.shard).is_file()
            }
        except FormatError:
            return {}  # it is gone; reading it will say so

    def read(self, without: Collection[str] = ()) -> Generator[ImportedVideo | Receipt, None, None]:
        """Each video but those in `without`; a receipt of failure for what cannot be read."""
        left = dict.fromkeys(n for n in self.names if n not in without)
        try:
            with closing(self._contents()) as found:
                for stored in found:
                    name = self._short(stored.name)
                    if name not in left:
                        continue
                    del left[name]
                    try:
                        yield ImportedVideo(self._receipt(name), stored.read(), self.timing)
                    except FormatError as error:
                        yield self._failure(name, _told(error, self.path))
        except FormatError as error:
            self.fault = _told(error, self.path)
        for name in left:
            yield self._failure(name, self.fault or "it was there a moment ago, and is gone")

    def _is_of_this(self, receipt: Receipt) -> bool:
        size, changed = self._status
        if receipt.size != size or receipt.content[_FILE_DIGITS:] != self._how(receipt.video_id):
            return False
        return receipt.mtime_ns == changed or receipt.content[:_FILE_DIGITS] == self._digest

    def _short(self, name: str) -> str:
        return name.removesuffix(self.strip) or name

    def _contents(self, omissions: Omissions | None = None) -> Generator[StoredVideo, None, None]:
        reader: Format = formats.build(self.format)
        return reader.contents(
            self.path, replace(self.wanted, omissions=Omissions() if omissions is None else omissions)
        )

    def _failure(self, name: str, reason: str) -> Receipt:
        return Receipt(name, "failed", reason, 0, 0, "", codec=self.format)

    def _receipt(self, name: str) -> Receipt:
        size, changed = self._status
        return Receipt(name, "ok", "", size, changed, self._digest + self._how(name), coverage=1.0, codec=self.format)

    @cached_property
    def _status(self) -> tuple[int, int]:
        with as_format_error(self.path):
            status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    @cached_property
    def _digest(self) -> str:
        # The whole file: unlike videos, features may differ in the middle alone.
        with as_format_error(self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:_FILE_DIGITS]

    def _how(self, name: str) -> str:
        """Digest of all that decides what is made of the file, besides its content."""
        beside = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self.beside.get(name, ()) if p.is_file()]
        told = [self.format, self.wanted.key, self.wanted.times_key, self.timing.step_seconds,
                self.timing.duration_of(name), beside]  # fmt: skip
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:_HOW_DIGITS]


def incoming(paths: Iterable[str | Path], wanted: ArrayKeys, timing: Timing, strip: str = "") -> list[FeatureFile]:
    """The files of features in `paths`, each with the videos in it; `strip` is taken off the end of their names.

    Raises:
        UsageError: a path matches nothing, a file is of no known format, there are no features, or two files (or two places
            in one) hold a video of one name.
    """
    readers = {suffix: name for name, plugin in formats.working().items() for suffix in plugin.suffixes}
    given = list(paths)
    found = []
    for path in find_files(given, frozenset(readers)):
        name = readers.get(path.suffix.lower())
        if name is None:
            raise UsageError(f"{path}: features are read from {', '.join(sorted(readers))}, not from {path.suffix!r}")
        arrival = FeatureFile(path, name, wanted, timing, strip)
        arrival.look()
        found.append(arrival)
    _require_distinct(found)
    if given and not any(a.names for a in found):
        raise UsageError(
            f"there are no features in {', '.join(map(str, given))}: looked for {', '.join(sorted(readers))}"
        )
    return found


def features_of(found: ImportedVideo, spec: FeatureSpec) -> tuple[FrameFeatures, Receipt]:
    """The features as the cache keeps them, and their receipt; raises FormatError if they are not of the space `spec`."""
    released, name = found.released, found.video_id
    if found.width != spec.dim:
        raise FormatError(f"its features are {found.width} wide, those of {spec.model!r} are {spec.dim}")
    if (released.origin or UNKNOWN) != spec.weights:
        raise FormatError(
            f"its features are of another space (origin {released.origin or UNKNOWN}) than those of {spec.model!r} "
            f"({spec.weights})",
            hint=Hint("name_another_space"),
        )
    with np.errstate(over="ignore"):
        values = released.values.astype(np.float16)
    if not np.isfinite(values).all():
        raise FormatError(f"its features go up to {np.abs(released.values).max():g}, too large for float16")
    count = len(values)
    times = found.timing.times_of(count) if released.timestamps_seconds is None else released.timestamps_seconds
    duration, remark = _duration(found, times)
    receipt = replace(found.receipt, frames=count, duration_seconds=duration, reason=remark)
    try:
        return FrameFeatures(name, values, times, duration), receipt
    except ShapeError as error:
        raise FormatError(str(error).removeprefix(f"{name}: "), hint=error.hint) from error


def _duration(found: ImportedVideo, times: np.ndarray) -> tuple[float, str]:
    """Seconds of the video, and what is odd about it."""
    last = float(times[-1])
    steps = np.diff(times)
    own = float(np.median(steps[steps > 0])) if (steps > 0).any() else 1.0
    step = own if found.released.timestamps_seconds is not None else found.timing.step_seconds
    told = found.timing.duration_of(found.video_id) or found.released.duration_seconds
    if told is None:
        return last + step, ""
    if told >= last:
        return told, ""
    if told < last - step:
        raise FormatError(f"its last frame is at {last:g} s, after the video's end at {told:g} s: are the times right?")
    return last, f"said to end at {told:g} s, which is before its last frame"


def _require_distinct(arrivals: list[FeatureFile]) -> None:
    seen: dict[str, Path] = {}
    for arrival in arrivals:
        for name in arrival.names:
            if name in seen:
                raise UsageError(
                    f"two files hold features of {name!r}: {seen[name]} and {arrival.path}. Give one of them"
                )
            seen[name] = arrival.path


def _told(error: FormatError, path: Path) -> str:
    """The message without the path, which whoever reads it knows."""
    return Note(str(error).removeprefix(f"{path}: ").removeprefix(f"{path} "), error.hint)
