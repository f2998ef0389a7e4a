"""What a frozen encoder made of a video or of texts, and the identity of the space it lies in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vla.errors import CacheError, ShapeError, SpecMismatchError
from vla.hints import Hint
from vla.storage import records
from vla.storage.records import Count, Positive

LAYOUT = 1
"""Version of what the numbers of a feature mean. Raised whenever the same input would give other numbers."""


IMPORTED = "imported"
"""Stands for the encoder where features were not made here: nothing that is extracted is ever of the same space."""


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that decides which numbers a frame or a text turns into.

    Two caches may be mixed if and only if their fingerprints agree.

    Attributes:
        encoder: plug-in name, e.g. `open_clip`; IMPORTED for features that others released.
        model: the encoder's own name for the model, free of machine-specific paths; of imported features, the name that
            their space was given.
        weights: sha256 of the weights, 16 hexadecimal digits; of imported features, what they say of their origin.
        preprocessing: canonical description of resize, crop and normalisation.
        sampling: how frames were chosen, e.g. `fps=2`.
        dim: width of a feature.
        layout: see LAYOUT.
    """

    encoder: str
    model: str
    weights: str
    preprocessing: str
    sampling: str
    dim: Positive
    layout: Count = LAYOUT

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that change whenever any field does."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    @property
    def is_imported(self) -> bool:
        """True if others made the features, and with what is not known for certain."""
        return self.encoder == IMPORTED

    def to_json(self) -> dict[str, Any]:
        """A JSON object, with the fingerprint beside the fields."""
        return {**asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, record: dict[str, Any], source: str = "spec") -> FeatureSpec:
        """The spec in `record`.

        Raises:
            CacheError: fields are missing, of the wrong type, of a newer layout, or disagree with the fingerprint.
        """
        spec = records.decode(cls, record, f"{source} does not describe features: it", Hint("make_again"))
        if spec.layout > LAYOUT:
            raise CacheError(f"{source} has feature layout {spec.layout!r}; this vla knows up to {LAYOUT}: upgrade vla")
        if record.get("fingerprint", spec.fingerprint) != spec.fingerprint:
            raise CacheError(
                f"{source} was altered: its fingerprint is {record['fingerprint']}, not {spec.fingerprint}"
            )
        return spec

    def require_same(self, other: FeatureSpec, mine: str, theirs: str, hint: Hint) -> None:
        """Nothing, if both are one space.

        Raises:
            SpecMismatchError: they differ; the message names each differing field, and `hint` is the way out.
        """
        if self.fingerprint == other.fingerprint:
            return
        a, b = asdict(self), asdict(other)
        lines = [f"  {k}: {a[k]!r} in {mine}, {b[k]!r} in {theirs}" for k in a if a[k] != b[k]]
        raise SpecMismatchError(
            f"{mine} and {theirs} lie in different feature spaces and cannot be mixed:\n" + "\n".join(lines),
            hint=hint,
        )


LONGEST_SECONDS = 1e12
"""No video is longer: beyond, neighbouring frames would have the same time in float64."""


@dataclass(frozen=True)
class FrameFeatures:
    """Raw encoder output for the sampled frames of one video.

    Attributes:
        video_id: the video's name in its cache.
        values: `(T, D)` float16 or float32, not normalised.
        timestamps_seconds: `(T,)` float64, when each frame is shown; 0 is the container's start.
        duration_seconds: length of the video, not before the last timestamp.

    Raises:
        ShapeError: values and timestamps disagree, or are not finite; times decrease or pass the duration or LONGEST_SECONDS.
    """

    video_id: str
    values: np.ndarray
    timestamps_seconds: np.ndarray
    duration_seconds: float

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.timestamps_seconds.shape != self.values.shape[:1]:
            raise ShapeError(
                f"{self.video_id}: values {self.values.shape} and timestamps {self.timestamps_seconds.shape} disagree"
            )
        if not np.isfinite(self.values).all():
            raise ShapeError(f"{self.video_id}: features hold values that are not finite")
        if not (np.abs(self.timestamps_seconds) <= LONGEST_SECONDS).all():
            raise ShapeError(f"{self.video_id}: timestamps are not numbers of at most {LONGEST_SECONDS:g} s")
        if (np.diff(self.timestamps_seconds) < 0).any():
            raise ShapeError(f"{self.video_id}: timestamps decrease")
        last = float(self.timestamps_seconds[-1]) if len(self.timestamps_seconds) else 0.0
        if not last <= self.duration_seconds <= LONGEST_SECONDS:
            raise ShapeError(
                f"{self.video_id}: its duration is {self.duration_seconds} s, not between its last frame at {last} s and "
                f"{LONGEST_SECONDS:g} s"
            )

    def __repr__(self) -> str:
        t, d = self.values.shape
        return f"FrameFeatures({self.video_id!r}, {t} x {d} {self.values.dtype}, {self.duration_seconds:.2f} s)"


@dataclass(frozen=True)
class TextFeatures:
    """Raw encoder output for `Q` texts, each short enough for the encoder's context.

    Attributes:
        texts: the `Q` texts.
        pooled: `(Q, D)`, what the encoder compares with images; not normalised.
        tokens: `(Q, L, D)`, each token in the same space.
        mask: `(Q, L)` bool, True for real tokens, which come first.
    """

    texts: tuple[str, ...]
    pooled: np.ndarray
    tokens: np.ndarray
    mask: np.ndarray

    def __post_init__(self) -> None:
        q = len(self.texts)
        if self.pooled.shape[:1] != (q,) or self.tokens.shape[:1] != (q,) or self.mask.shape != self.tokens.shape[:2]:
            raise ShapeError(
                f"{q} texts, pooled {self.pooled.shape}, tokens {self.tokens.shape}, mask {self.mask.shape} disagree"
            )
        if self.pooled.shape[-1] != self.tokens.shape[-1]:
            raise ShapeError(f"pooled width {self.pooled.shape[-1]} is not token width {self.tokens.shape[-1]}")
        if (np.diff(self.mask.astype(np.int8), axis=1) > 0).any():
            raise ShapeError("a mask must be True first and False after: real tokens come first")
        if not (np.isfinite(self.pooled).all() and np.isfinite(self.tokens).all()):
            raise ShapeError("text features hold values that are not finite")

    def __repr__(self) -> str:
        return f"TextFeatures({len(self.texts)} texts, tokens {self.tokens.shape}, dim {self.pooled.shape[-1]})"
