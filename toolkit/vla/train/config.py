"""Everything that decides what a training run comes to, beside its features and captions."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vla.durable import sha256
from vla.errors import UsageError

LEVELS = ("both", "global", "segment")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the defaults are `vla train`'s.

    Attributes:
        levels: which alignment losses: `global` (video and description), `segment` (span and sentence) or `both`.
        projector: plug-in name.
        projector_options: its constructor's options.
        global_loss: plug-in name, of the kind that takes pairs.
        segment_loss: plug-in name for timed captions, likewise.
        untimed_loss: plug-in name for captions without times, of the kind that takes sets.
        epochs: passes over the videos, at most.
        batch_videos: videos in a step.
        look_alikes: videos in a group of neighbours in the frozen space that share a step; 1 draws each by itself.
        captions_per_video: at most this many captions of a video in a step, chosen anew each time.
        learning_rate: after warm-up; falls to 1 % along a cosine.
        weight_decay: AdamW's, on matrices only.
        warmup: share of all steps.
        pull: weight of the mean squared distance between trained and frozen vectors, against forgetting what the
            frozen encoder knows of things that the captions do not mention.
        patience: epochs without a better score on the held-out videos before training stops; never in the first half of
            `epochs`.
        held_out: share of videos to hold out where the captions name no split.
        seed: of everything random.
    """

    levels: str = "both"
    projector: str = "temporal"
    projector_options: dict[str, Any] = field(default_factory=dict)
    global_loss: str = "infonce"
    segment_loss: str = "infonce"
    untimed_loss: str = "segment_transport"
    epochs: int = 40
    batch_videos: int = 64
    look_alikes: int = 4
    captions_per_video: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    pull: float = 1.0
    patience: int = 8
    held_out: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.levels not in LEVELS:
            raise UsageError(f"levels is one of {', '.join(LEVELS)}, not {self.levels!r}")
        for name in ("epochs", "batch_videos", "look_alikes", "captions_per_video", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.held_out < 1:
            raise UsageError(f"held_out is a share between 0 and 1, not {self.held_out}")
        if self.learning_rate <= 0:
            raise UsageError(f"learning_rate must be positive, not {self.learning_rate}")

    def to_json(self) -> dict[str, Any]:
        """All settings."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: dict[str, Any], source: str) -> TrainConfig:
        """Settings from a recipe; raises UsageError for keys that no setting has, naming those there are."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UsageError(
                f"{source}: no setting is called {', '.join(unknown)}; there are {', '.join(sorted(known))}"
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"{source}: {error}") from error

    def identity(self, *data: str) -> str:
        """16 hexadecimal digits that change with any setting or with `data` (fingerprints of what is trained on)."""
        return sha256(json.dumps([self.to_json(), *data], sort_keys=True).encode())[:16]


def read_recipe(path: Path) -> dict[str, Any]:
    """The settings in a TOML recipe; raises UsageError if it is not TOML."""
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} is not TOML: {error}") from error
