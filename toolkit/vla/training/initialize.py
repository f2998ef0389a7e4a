"""Initialisation of a run: the centering of each modality and the temperature of the contrastive
loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch

from vla.batches.batch import AlignmentBatch
from vla.model import MAX_SCALE, AlignmentModel
from vla.training.objective import Objective

CENTERING_CANDIDATES = (0.0, 0.5, 1.0)
MIN_GAIN = 1.02
"""Factor by which centering must raise the score: less is noise, and the information in the means
is lost.
"""
_SCALES = np.geomspace(5.0, MAX_SCALE, 25)


def fit_centering(
    model: AlignmentModel, validate: Callable[[AlignmentModel], float | None]
) -> bool:
    """Choose how much of each modality's mean to subtract, and set it on the projector.

    Image and text embeddings occupy different cones (the modality gap, Liang et al. 2022).
    Subtracting the means closes the gap without learning anything from the captions, so unseen
    concepts benefit too. A candidate must beat no centering by the factor `MIN_GAIN`.

    Args:
        model: the untrained model; its projector is modified in place.
        validate: returns the validation score of a model; None if there is nothing to validate on.

    Returns:
        Whether any of the mean is subtracted.
    """
    best, best_score = 0.0, -math.inf
    for strength in CENTERING_CANDIDATES:
        model.projector.centring.fill_(strength)
        score = validate(model)
        if score is not None and score > best_score:
            best, best_score = strength, max(score, score * MIN_GAIN if strength == 0 else score)
    model.projector.centring.fill_(best)
    return best > 0


@torch.no_grad()
def fit_temperature(
    model: AlignmentModel, objective: Objective, batches: Iterable[AlignmentBatch]
) -> None:
    """Set the temperature of the untrained model to that of the lowest alignment loss.

    The scale is at most 100.

    CLIP's own scale, 100, fits features with the modality gap. Without the gap cosines spread three
    times as wide, and at 100 a few wrong pairs would outweigh everything else, the anchor term
    first.

    Args:
        model: modified in place.
        objective: its losses of the levels are evaluated.
        batches: at least one, on the device of the model.
    """
    losses = np.zeros(len(_SCALES))
    model.eval()
    for batch in batches:
        aligned = model(batch)
        for i, scale in enumerate(_SCALES):
            parts = objective.alignment(
                model, replace(aligned, scale=aligned.scale.new_tensor(scale)), batch
            )
            losses[i] += sum(float(loss) for loss in parts.values())
    if losses.any():
        model.log_scale.fill_(math.log(_SCALES[int(losses.argmin())]))
