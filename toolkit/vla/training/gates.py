"""Gates of a trained run: how much of what was learned is used, by vectors and by heads.

Interpolation between a model before and after fine-tuning: WiSE-FT (Wortsman et al., CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import torch

from vla.evaluation.head_answers import TASKS
from vla.evaluation.validation import ValidationResult
from vla.model import AlignmentModel
from vla.training.validator import Validator

ALPHAS = (0.125, 0.25, 0.5, 0.75, 1.0)
VALIDATION_ALPHA = 0.5
"""Alpha of vectors and heads at which epochs are compared. At 1 every epoch could look worse than
none after few captions.
"""
_HEAD_ALPHAS = (0.25, 0.5, 1.0)
_HEAD_SHARES = (0.0, 0.5, 1.0)
_ENDS = "contrast_ends"
"""Buffer of a head for moments: whether their ends move by contrast. See `vla.heads.moments`."""


@dataclass(frozen=True)
class HeadGate:
    """Share of what was learned that the heads use.

    Attributes:
        alpha: the projector's alpha for heads.
        shares: for each head, the share of the way from its initial to its trained weights.
        contrast_ends: for each head for moments, whether the ends of moments move by contrast.
    """

    alpha: float
    shares: dict[str, float]
    contrast_ends: dict[str, bool] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def validate_epoch(
    model: AlignmentModel, initial: dict[str, torch.Tensor], validator: Validator
) -> ValidationResult:
    """Return the scores of the model after an epoch, with trained heads or with initial ones, of
    which the ends of moments move by contrast, whichever are better: it is used with the better
    ones.

    Args:
        model: its gate is restored afterwards.
        initial: weights of the model before the first step.
        validator: of the run.
    """
    names = _scored_heads(model)
    trained_weights = {k: v.clone() for k, v in model.state_dict().items()} if names else {}
    results = []
    for share in (1.0, 0.0) if names else ():
        gate = _gate(model, VALIDATION_ALPHA, dict.fromkeys(names, (share, share == 0)))
        _set_gate(model, initial, trained_weights, gate)
        results.append(validator(model, VALIDATION_ALPHA))
    if not names:
        return validator(model, VALIDATION_ALPHA)
    model.load_state_dict(trained_weights)
    return max(results, key=lambda result: result.score)


def select_alpha(
    model: AlignmentModel, validator: Validator, before: ValidationResult
) -> float | None:
    """Return the alpha of the best search score; None if none is better than the frozen encoder.

    An alpha is admissible if held-out concepts score at least as high as by the frozen encoder. At
    most half of the gain of centering on them may be lost.

    Args:
        model: with the selected weights.
        validator: of the run.
        before: scores of the frozen encoder.
    """
    if before.search is None:
        return None
    best, best_score, min_held_out = None, before.search, validator.held_out_score(before)
    for alpha in (0.0, *ALPHAS) if model.projector.centring > 0 else ALPHAS:
        result = validator(model, alpha, heads=False)
        score, held_out = result.search or 0.0, validator.held_out_score(result)
        if alpha == 0:
            min_held_out = max(min_held_out, (min_held_out + held_out) / 2)
        if score > best_score and held_out >= min_held_out:
            best, best_score = alpha, score
    return best


def select_head_gate(
    model: AlignmentModel, initial: dict[str, torch.Tensor], validator: Validator, alpha: float
) -> HeadGate | None:
    """Set the gate of the heads on `model`, and return it; None without heads that are scored.

    The untrained heads at alpha 0 are the first candidate. Another gate is admissible if the heads
    find held-out concepts at least as well as these do.

    Args:
        model: with the selected weights; modified.
        initial: weights of the model before the first step.
        validator: of the run.
        alpha: the projector's alpha for vectors.
    """
    names = _scored_heads(model)
    if not names:
        return None
    trained_weights = {k: v.clone() for k, v in model.state_dict().items()}
    start_gate = _gate(model, 0.0, dict.fromkeys(names, (0.0, True)))
    _set_gate(model, initial, trained_weights, start_gate)
    start = validator.head_scores(model)
    if not start:
        whole = _gate(model, 1.0, dict.fromkeys(names, (1.0, True)))
        _set_gate(model, initial, trained_weights, whole)
        return None
    # Heads without a score on validation videos keep their trained weights.
    names = [name for name in names if TASKS[model.heads[name].task] in start]
    best = _gate(model, 0.0, dict.fromkeys(names, (0.0, True)))
    best_score = _mean({k: score for k, (score, _) in start.items()})
    has_ends = any(hasattr(model.heads[name], _ENDS) for name in names)
    for head_alpha in sorted({*_HEAD_ALPHAS, alpha} - {0.0}):
        scores: dict[str, float] = {}
        forms: dict[str, tuple[float, bool]] = {}
        for share, ends in product(_HEAD_SHARES, (True, False) if has_ends else (True,)):
            if share == 0 and not ends:
                continue
            gate = _gate(model, head_alpha, dict.fromkeys(names, (share, ends)))
            _set_gate(model, initial, trained_weights, gate)
            # Held-out concepts have admitted the alpha of the vectors already; untrained heads add
            # nothing to it.
            is_admitted = head_alpha == alpha and share == 0
            for task, (score, held_out) in validator.head_scores(model).items():
                is_admissible = is_admitted or held_out >= start[task][1]
                if is_admissible and score > scores.get(task, -1.0):
                    scores[task], forms[task] = score, (share, ends)
        if scores.keys() == start.keys() and _mean(scores) > best_score:
            of_head = {name: forms[TASKS[model.heads[name].task]] for name in names}
            best, best_score = _gate(model, head_alpha, of_head), _mean(scores)
    _set_gate(model, initial, trained_weights, best)
    return best


def _gate(model: AlignmentModel, alpha: float, forms: Mapping[str, tuple[float, bool]]) -> HeadGate:
    """Return the gate with a share and the choice of ends for each head."""
    ends = {name: ends for name, (_, ends) in forms.items() if hasattr(model.heads[name], _ENDS)}
    return HeadGate(alpha, {name: share for name, (share, _) in forms.items()}, ends)


def _scored_heads(model: AlignmentModel) -> list[str]:
    return [name for name, head in model.heads.items() if head.task in TASKS]


def _mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)


def _set_gate(
    model: AlignmentModel,
    initial: dict[str, torch.Tensor],
    trained_weights: dict[str, torch.Tensor],
    gate: HeadGate,
) -> None:
    weights = dict(trained_weights)
    for name, share in gate.shares.items():
        for key, value in trained_weights.items():
            if key.startswith(f"heads.{name}.") and value.is_floating_point():
                weights[key] = torch.lerp(initial[key].to(value), value, share)
    for name, has_contrast_ends in gate.contrast_ends.items():
        weights[f"heads.{name}.{_ENDS}"] = torch.tensor(has_contrast_ends)
    model.load_state_dict(weights)
    model.head_alpha.fill_(gate.alpha)
