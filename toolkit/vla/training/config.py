"""Settings of a training run: everything but its features and captions that decides its result."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vla.errors import UsageError
from vla.storage.atomic import sha256
from vla.storage.regular_files import read_regular
from vla.training import compatibility

SCORES = ("mean", "tokens")
LEVELS = ("both", "global", "segment", "none")
MAX_SEED = 2**32 - 1
HEADS_BY_QUESTION = {"choice": "choice_qa", "open": "open_qa", "count": "counting"}
"""Default head for each kind of question."""

_NUM_VIDEO_PASSES, _MIN_EPOCHS, _MAX_EPOCHS = 20_000, 10, 80
"""Default length of a training: videos shown, with repeats, and bounds of its epochs."""

_KINDS: dict[str, tuple[Any, str]] = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
    "bool": (bool, "true or false"),
    "dict": (dict, "a table"),
}
_POSITIVE_COUNTS = (
    "epochs", "batch_size", "hard_negative_group_size", "captions_per_video", "questions_per_video", "validate_every",
)  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the defaults are those of `vla train`.

    Attributes:
        levels: alignment losses: `global` (video and description), `segment` (span and sentence),
            `both`, or `none` (the losses of the heads alone).
        segment_weight: factor of the losses of the segment level, in steps where the global level,
            of weight 1, has a loss too.
        score: comparison of a caption with a video at the global level: `mean` (cosine with the
            mean frame, as in the index) or `tokens` (also late interaction of tokens and frames,
            by a learned share). Further options are in `head_options.retrieval`; see
            `vla.heads.retrieval`.
        heads: plug-in names separated by commas, or a list of them, trained together with the
            alignment; `auto`: one for each kind of question in the data.
        head_options: options of the heads' constructors, by name.
        head_weights: factors of the heads' losses, by name; 1 by default.
        projector: plug-in name.
        projector_options: options of the projector's constructor.
        global_loss: plug-in name, of the kind `pairs`.
        segment_loss: plug-in name for timed captions, of the kind `pairs`.
        untimed_loss: plug-in name for captions without times, of the kind `sets`.
        epochs: passes over the videos; by default as many as show 20,000 videos, from 10 to 80.
        batch_size: videos in a step.
        hard_negative_group_size: videos in a group of neighbours in the frozen space that share a
            step; 1 draws each video by itself.
        captions_per_video: maximum number of captions of a video in a step, drawn anew each time.
        questions_per_video: maximum number of questions about a video in a step, likewise.
        learning_rate: rate after warm-up; it falls to 1 % along a cosine.
        weight_decay: of AdamW, on matrices only.
        warmup: share of all steps.
        anchor_weight: weight of the mean squared distance between trained and frozen vectors
            (L2-SP), against forgetting content that the captions do not mention.
        select: measure that the weights are selected by, as `vla eval` prints it, e.g. `moment by
            head mAP`; `auto`: the scores of the heads, or without heads those of search.
        validate_every: epochs between validations; by default so many that validation takes at most
            about a fifth of the time, and at most ten validations are made.
        val_fraction: fraction of videos used for validation where the captions name no split.
        held_out_concepts: fraction of the captions' content held out from training, to measure how
            content that no caption mentions is affected; at 0, or where the captions name
            validation videos, this is not measured.
        seed: random seed.
        precision: of the projector in training: `fp32`, `bf16`, or `auto` (bf16 where the processor
            has matrix hardware for it). Weights and losses are always float32.
        deterministic: equal bits from run to run on a GPU, too, at some cost; on a CPU they always
            are.
    """

    levels: str = "both"
    segment_weight: float = 1.0
    score: str = "mean"
    heads: str = "auto"
    head_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    head_weights: dict[str, float] = field(default_factory=dict)
    projector: str = "temporal"
    projector_options: dict[str, Any] = field(default_factory=dict)
    global_loss: str = "infonce"
    segment_loss: str = "infonce"
    untimed_loss: str = "segment_transport"
    epochs: int | None = None
    batch_size: int = 64
    hard_negative_group_size: int = 4
    captions_per_video: int = 4
    questions_per_video: int = 8
    learning_rate: float = 3e-4
    weight_decay: float = 0.05
    warmup: float = 0.05
    anchor_weight: float = 1.0
    select: str = "auto"
    validate_every: int | None = None
    val_fraction: float = 0.15
    held_out_concepts: float = 0.1
    seed: int = 0
    precision: str = "auto"
    deterministic: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.heads, list | tuple):  # in a recipe
            object.__setattr__(self, "heads", ",".join(map(str, self.heads)))
        self._check_kinds()
        if self.levels not in LEVELS:
            raise UsageError(f"levels is one of {', '.join(LEVELS)}, not {self.levels!r}")
        if "auto" in self.head_names and len(self.head_names) > 1:
            raise UsageError(f"heads is auto or names, not {self.heads}")
        self._check_comparison()
        heads = {
            *self.head_names,
            *HEADS_BY_QUESTION.values(),
            *(("retrieval",) if self.reads_tokens else ()),
        }
        for name in sorted({*self.head_options, *self.head_weights} - heads):
            raise UsageError(
                f"{name!r} has options or a weight, and is none of the heads {self.heads}"
            )
        for name in _POSITIVE_COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, not {value}")
        if self.batch_size < 2 and self.levels in ("both", "global"):
            raise UsageError(
                f"batch_size must be at least 2 with levels {self.levels}, not {self.batch_size}: "
                "the loss compares the videos of a step with each other, and of a single one it "
                "is 0"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise UsageError(f"precision is auto, fp32 or bf16, not {self.precision!r}")
        self._check_ranges()

    def _check_comparison(self) -> None:
        if self.score not in SCORES:
            raise UsageError(f"score is one of {', '.join(SCORES)}, not {self.score!r}")
        if (
            self.score != "mean"
            and self.levels not in ("both", "global")
            and "retrieval" not in self.head_names
        ):
            raise UsageError(
                f"score {self.score} is of the global level, which levels {self.levels} leaves "
                f"out: take both or global"
            )
        if "score" in self.head_options.get("retrieval", {}):
            raise UsageError("score of the head retrieval: set it by the setting of that name")

    @property
    def reads_tokens(self) -> bool:
        """Whether tokens of captions are read, to be compared with frames."""
        return self.score == "tokens"

    @property
    def head_names(self) -> list[str]:
        """Names in `heads`, without repeats."""
        return list(dict.fromkeys(name.strip() for name in self.heads.split(",") if name.strip()))

    def num_epochs(self, num_videos: int) -> int:
        """Return `epochs`, or the default for so many training videos."""
        if self.epochs is not None:
            return self.epochs
        return min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(_NUM_VIDEO_PASSES / max(1, num_videos))))

    def to_json(self) -> dict[str, Any]:
        """Return all settings."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: dict[str, Any], source: str) -> TrainConfig:
        """Return the settings in `values`.

        Retired settings are accepted with the value that selects the present behaviour.

        Args:
            values: settings by name, for instance of a recipe.
            source: their origin, for messages.

        Raises:
            UsageError: an unknown or renamed key, or an invalid value.
        """
        values = {k: v for k, v in values.items() if not compatibility.is_default(k, v)}
        for old, new in compatibility.RENAMED.items():
            if old in values:
                raise UsageError(f"{source}: the setting {old} is now called {new}")
        names = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise UsageError(
                f"{source}: no setting is called {', '.join(unknown)}; there are "
                f"{', '.join(sorted(names))}"
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise UsageError(f"{source}: {error}") from error

    def _check_kinds(self) -> None:
        """Raise UsageError for a value of the wrong type: recipes are written by hand."""
        for setting in fields(self):
            value, kind = getattr(self, setting.name), str(setting.type).split("[")[0]
            kind, _, optional = kind.partition(" | ")
            types, description = _KINDS[kind]
            if value is None and optional:
                continue
            if not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"):
                raise UsageError(f"{setting.name} is {description}, not {value!r}")
        for name, weight in self.head_weights.items():
            if not isinstance(weight, int | float):
                raise UsageError(f"head_weights.{name} is a number, not {weight!r}")
        for name, options in self.head_options.items():
            if not isinstance(options, dict):
                raise UsageError(f"head_options.{name} is a table of options, not {options!r}")

    def _check_ranges(self) -> None:
        if not 0 < self.val_fraction < 1:
            raise UsageError(f"val_fraction is between 0 and 1, not {self.val_fraction}")
        if not 0 <= self.held_out_concepts < 1:
            raise UsageError(
                f"held_out_concepts is from 0 to below 1, not {self.held_out_concepts}"
            )
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate must be a positive number, not {self.learning_rate}")
        weights = {f"head_weights.{name}": weight for name, weight in self.head_weights.items()}
        for name, value in {
            "weight_decay": self.weight_decay,
            "anchor_weight": self.anchor_weight,
            "segment_weight": self.segment_weight,
            **weights,
        }.items():
            if not 0 <= value < math.inf:
                raise UsageError(f"{name} must be 0 or a positive number, not {value}")
        if not 0 <= self.seed <= MAX_SEED:
            raise UsageError(f"seed must be between 0 and {MAX_SEED}, not {self.seed}")
        if not 0 <= self.warmup <= 1:
            raise UsageError(f"warmup is a share from 0 to 1, not {self.warmup}")

    def identity(self, *data: str) -> str:
        """Return 16 hexadecimal digits that change with any setting and with `data`.

        Args:
            data: fingerprints of the features and captions that are trained on.
        """
        settings = compatibility.identity_settings(self.to_json())
        return sha256(json.dumps([settings, *data], sort_keys=True).encode())[:16]


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the settings in a TOML recipe; raise UsageError if it is not TOML."""
    import tomllib

    try:
        return tomllib.loads(read_regular(path, what="recipe").decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} is not TOML: {error}") from error
