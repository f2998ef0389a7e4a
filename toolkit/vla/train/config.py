"""Everything that decides what a training run comes to, beside its features and captions."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vla.durable import sha256
from vla.errors import UsageError
from vla.inputs import read_regular
from vla.train import retired

SCORES = ("mean", "tokens")
LEVELS = ("both", "global", "segment", "none")
MOST_SEED = 2**32 - 1
HEADS_BY_QUESTION = {"choice": "choice_qa", "open": "open_qa", "count": "counting"}
"""The head for each kind of question, where nobody names one."""


_KINDS: dict[str, tuple[Any, str]] = {
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": (int | float, "a number"),
    "bool": (bool, "true or false"),
    "dict": (dict, "a table"),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; the defaults are `vla train`'s.

    Attributes:
        levels: which alignment losses: `global` (video and description), `segment` (span and sentence), `both`, or
            `none`: only the heads' own.
        segment_weight: what the losses of the segment level are multiplied with in steps in which the global level has one, too,
            whose weight is 1.
        score: how the global level compares a caption with a video: `mean` by the mean frame, as the index does; `tokens`
            also by its tokens, as far as that is learned to help. See `vla.heads.retrieval`, whose other options are
            `head_options.retrieval`.
        heads: plug-in names with commas between, or a list of them, trained together with the alignment; `auto`: one for
            each kind of question there is.
        head_options: options of their constructors, by name.
        head_weights: what their losses are multiplied with, by name; 1 where nothing is said.
        projector: plug-in name.
        projector_options: its constructor's options.
        global_loss: plug-in name, of the kind that takes pairs.
        segment_loss: plug-in name for timed captions, likewise.
        untimed_loss: plug-in name for captions without times, of the kind that takes sets.
        epochs: passes over the videos, at most.
        batch_videos: videos in a step.
        look_alikes: videos in a group of neighbours in the frozen space that share a step; 1 draws each by itself.
        captions_per_video: at most this many captions of a video in a step, chosen anew each time.
        questions_per_video: at most this many questions about a video in a step, likewise.
        learning_rate: after warm-up; falls to 1 % along a cosine.
        weight_decay: AdamW's, on matrices only.
        warmup: share of all steps.
        pull: weight of the mean squared distance between trained and frozen vectors, against forgetting what the
            frozen encoder knows of things that the captions do not mention.
        patience: epochs without a better score on the held-out videos before training stops; never in the first half of
            `epochs`.
        held_out: share of videos to hold out where the captions name no split.
        withheld: share of the captions' content that training is not told of, by which it is seen what becomes of
            everything that the captions do not mention; at 0, or where the captions name videos to hold out, nothing
            guards that.
        seed: of everything random.
        precision: of the projector while it learns: `fp32`, `bf16`, or `auto`: bf16 where the processor has matrix hardware for
            it. Weights and losses are always float32.
        deterministic: the same bits from run to run on a GPU, too, at some cost; on a CPU they always are.
    """

    levels: str = "both"
    segment_weight: float = 0.5
    score: str = "mean"
    heads: str = "auto"
    head_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    head_weights: dict[str, float] = field(default_factory=dict)
    projector: str = "temporal"
    projector_options: dict[str, Any] = field(default_factory=dict)
    global_loss: str = "infonce"
    segment_loss: str = "infonce"
    untimed_loss: str = "segment_transport"
    epochs: int = 40
    batch_videos: int = 64
    look_alikes: int = 4
    captions_per_video: int = 4
    questions_per_video: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    pull: float = 1.0
    patience: int = 8
    held_out: float = 0.15
    withheld: float = 0.1
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
        known = {*self.head_names, *HEADS_BY_QUESTION.values(), *(("retrieval",) if self.reads_tokens else ())}
        for name in sorted({*self.head_options, *self.head_weights} - known):
            raise UsageError(f"{name!r} has options or a weight, and is none of the heads {self.heads}")
        for name in (
            "epochs", "batch_videos", "look_alikes", "captions_per_video", "questions_per_video", "patience",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.batch_videos < 2 and self.levels in ("both", "global"):
            raise UsageError(
                f"batch_videos must be at least 2 with levels {self.levels}, not {self.batch_videos}: the loss compares the "
                "videos of a step with each other, and of a single one it is 0"
            )
        if self.precision not in ("auto", "fp32", "bf16"):
            raise UsageError(f"precision is auto, fp32 or bf16, not {self.precision!r}")
        self._check_measures()

    def _check_comparison(self) -> None:
        if self.score not in SCORES:
            raise UsageError(f"score is one of {', '.join(SCORES)}, not {self.score!r}")
        if self.score != "mean" and self.levels not in ("both", "global") and "retrieval" not in self.head_names:
            raise UsageError(
                f"score {self.score} is of the global level, which levels {self.levels} leaves out: take both or global"
            )
        if "score" in self.head_options.get("retrieval", {}):
            raise UsageError("score of the head retrieval: set it by the setting of that name")

    @property
    def reads_tokens(self) -> bool:
        """True if tokens of captions are read, to be compared with frames."""
        return self.score == "tokens"

    @property
    def head_names(self) -> list[str]:
        """The names in `heads`, each once."""
        return list(dict.fromkeys(name.strip() for name in self.heads.split(",") if name.strip()))

    def to_json(self) -> dict[str, Any]:
        """All settings."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: dict[str, Any], source: str) -> TrainConfig:
        """Settings from a recipe; raises UsageError for keys that no setting has, naming those there are.

        Keys of `retired.DEFAULTS` are accepted with these values, which say what is always done now.
        """
        values = {k: v for k, v in values.items() if not retired.is_default(k, v)}
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

    def _check_kinds(self) -> None:
        """Recipes are written by hand: a text where a number belongs is told of by name."""
        for setting in fields(self):
            value, kind = getattr(self, setting.name), str(setting.type).split("[")[0]
            accepted, wanted = _KINDS[kind]
            if not isinstance(value, accepted) or (isinstance(value, bool) and kind != "bool"):
                raise UsageError(f"{setting.name} is {wanted}, not {value!r}")
        for name, weight in self.head_weights.items():
            if not isinstance(weight, int | float):
                raise UsageError(f"head_weights.{name} is a number, not {weight!r}")
        for name, options in self.head_options.items():
            if not isinstance(options, dict):
                raise UsageError(f"head_options.{name} is a table of options, not {options!r}")

    def _check_measures(self) -> None:
        if not 0 < self.held_out < 1:
            raise UsageError(f"held_out is a share between 0 and 1, not {self.held_out}")
        if not 0 <= self.withheld < 1:
            raise UsageError(f"withheld is a share from 0 to below 1, not {self.withheld}")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate must be a positive number, not {self.learning_rate}")
        weights = {f"head_weights.{name}": weight for name, weight in self.head_weights.items()}
        for name, value in {
            "weight_decay": self.weight_decay,
            "pull": self.pull,
            "segment_weight": self.segment_weight,
            **weights,
        }.items():
            if not 0 <= value < math.inf:
                raise UsageError(f"{name} must be 0 or a positive number, not {value}")
        if not 0 <= self.seed <= MOST_SEED:
            raise UsageError(f"seed must be between 0 and {MOST_SEED}, not {self.seed}")
        if not 0 <= self.warmup <= 1:
            raise UsageError(f"warmup is a share from 0 to 1, not {self.warmup}")

    def identity(self, *data: str) -> str:
        """16 hexadecimal digits that change with any setting or with `data` (fingerprints of what is trained on).

        Retired settings count as if they still had their defaults: runs of earlier versions are recognised.
        """
        return sha256(json.dumps([{**self.to_json(), **retired.DEFAULTS}, *data], sort_keys=True).encode())[:16]


def read_recipe(path: Path) -> dict[str, Any]:
    """The settings in a TOML recipe; raises UsageError if it is not TOML."""
    import tomllib

    try:
        return tomllib.loads(read_regular(path, what="recipe").decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} is not TOML: {error}") from error
