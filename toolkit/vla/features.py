"""Features of videos and texts from a frozen encoder, and the identity of their feature space."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vla.errors import CacheError, ShapeError, SpecMismatchError
from vla.hints import Hint
from vla.storage import records
from vla.storage.records import Count, Positive

if TYPE_CHECKING:
    import numpy as np

LAYOUT = 1
"""Version of the feature computation, raised whenever the same input would give other numbers."""


IMPORTED_ENCODER = "imported"
"""Encoder name of imported features. Extracted features never belong to the same space."""


@dataclass(frozen=True)
class FeatureSpec:
    """Specification of a feature space: everything that determines the features of a frame or a text.

    Two caches may be mixed if and only if their fingerprints agree.

    Attributes:
        encoder: plug-in name, e.g. `open_clip`; IMPORTED for imported features.
        model: the encoder's name for the model, free of machine-specific paths; for imported features,
            the name given to their space.
        weights: sha256 of the weights, 16 hexadecimal digits; for imported features, their declared
            origin.
        preprocessing: canonical description of resize, crop and normalisation.
        sampling: sampling rule of the frames, e.g. `fps=2`.
        dim: dimension of a feature.
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
        """Whether the features were imported, so that their encoder is not certain."""
        return self.encoder == IMPORTED_ENCODER

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object of the fields and the fingerprint."""
        return {**asdict(self), "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, record: dict[str, Any], source: str = "spec") -> FeatureSpec:
        """Decode the spec in `record`.

        Raises:
            CacheError: fields are missing or of the wrong type, the layout is newer, or the fingerprint
                does not match.
        """
        spec = records.decode(
            cls, record, f"{source} does not describe features: it", Hint("make_again")
        )
        if spec.layout > LAYOUT:
            raise CacheError(
                f"{source} has feature layout {spec.layout!r}; this vla supports up to {LAYOUT}: "
                f"upgrade vla"
            )
        if record.get("fingerprint", spec.fingerprint) != spec.fingerprint:
            raise CacheError(
                f"{source} was altered: its fingerprint is {record['fingerprint']}, not "
                f"{spec.fingerprint}"
            )
        return spec

    def require_same(self, other: FeatureSpec, mine: str, theirs: str, hint: Hint) -> None:
        """Require that both specs describe the same space.

        Raises:
            SpecMismatchError: they differ; the message lists the differing fields.
        """
        if self.fingerprint == other.fingerprint:
            return
        a, b = asdict(self), asdict(other)
        lines = [f"  {k}: {a[k]!r} in {mine}, {b[k]!r} in {theirs}" for k in a if a[k] != b[k]]
        raise SpecMismatchError(
            f"{mine} and {theirs} lie in different feature spaces and cannot be mixed:\n"
            + "\n".join(lines),
            hint=hint,
        )


MAX_DURATION_SECONDS = 1e12
"""Maximum duration: beyond it, neighbouring frames would have equal times in float64."""


@dataclass(frozen=True)
class FrameFeatures:
    """Raw encoder output for the sampled frames of one video.

    Attributes:
        video_id: the video's name in its cache.
        values: `(T, D)` float16 or float32, not normalised.
        timestamps_seconds: `(T,)` float64, presentation times; 0 is the container's start.
        duration_seconds: duration of the video, at least the last timestamp.

    Raises:
        ShapeError: values and timestamps have different lengths or are not finite; times decrease, or
            exceed the duration or MAX_DURATION_SECONDS.
    """

    video_id: str
    values: np.ndarray
    timestamps_seconds: np.ndarray
    duration_seconds: float

    def __post_init__(self) -> None:
        import numpy as np

        if self.values.ndim != 2 or self.timestamps_seconds.shape != self.values.shape[:1]:
            raise ShapeError(
                f"{self.video_id}: values {self.values.shape} and timestamps "
                f"{self.timestamps_seconds.shape} disagree"
            )
        if not np.isfinite(self.values).all():
            raise ShapeError(f"{self.video_id}: features hold values that are not finite")
        if not (np.abs(self.timestamps_seconds) <= MAX_DURATION_SECONDS).all():
            raise ShapeError(
                f"{self.video_id}: timestamps are not numbers of at most {MAX_DURATION_SECONDS:g} s"
            )
        if (np.diff(self.timestamps_seconds) < 0).any():
            raise ShapeError(f"{self.video_id}: timestamps decrease")
        last = float(self.timestamps_seconds[-1]) if len(self.timestamps_seconds) else 0.0
        if not last <= self.duration_seconds <= MAX_DURATION_SECONDS:
            raise ShapeError(
                f"{self.video_id}: its duration is {self.duration_seconds} s, not between its "
                f"last frame at {last} s and "
                f"{MAX_DURATION_SECONDS:g} s"
            )

    def __repr__(self) -> str:
        t, d = self.values.shape
        return f"FrameFeatures({self.video_id!r}, {t} x {d} {self.values.dtype}, {self.duration_seconds:.2f} s)"


@dataclass(frozen=True)
class TextFeatures:
    """Raw encoder output for `Q` texts, each short enough for the encoder's context.

    Attributes:
        texts: the `Q` texts.
        pooled: `(Q, D)`, text embeddings in the space of images; not normalised.
        tokens: `(Q, L, D)`, token embeddings in the same space.
        mask: `(Q, L)` bool, True for real tokens, which come first.
    """

    texts: tuple[str, ...]
    pooled: np.ndarray
    tokens: np.ndarray
    mask: np.ndarray

    def __post_init__(self) -> None:
        import numpy as np

        q = len(self.texts)
        if (
            self.pooled.shape[:1] != (q,)
            or self.tokens.shape[:1] != (q,)
            or self.mask.shape != self.tokens.shape[:2]
        ):
            raise ShapeError(
                f"{q} texts, pooled {self.pooled.shape}, tokens {self.tokens.shape}, mask "
                f"{self.mask.shape} disagree"
            )
        if self.pooled.shape[-1] != self.tokens.shape[-1]:
            raise ShapeError(
                f"pooled width {self.pooled.shape[-1]} is not token width {self.tokens.shape[-1]}"
            )
        if (np.diff(self.mask.astype(np.int8), axis=1) > 0).any():
            raise ShapeError("a mask must be True first and False after: real tokens come first")
        if not (np.isfinite(self.pooled).all() and np.isfinite(self.tokens).all()):
            raise ShapeError("text features hold values that are not finite")

    def __repr__(self) -> str:
        return f"TextFeatures({len(self.texts)} texts, tokens {self.tokens.shape}, dim {self.pooled.shape[-1]})"
