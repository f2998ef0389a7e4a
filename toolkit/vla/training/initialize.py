"""Where training begins: how far each side is centred, and the temperature that fits the vectors as they then are."""

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
"""So many times the score of the frozen encoder, or the gap stays: less is chance, and what the means told would be lost."""
_SCALES = np.geomspace(5.0, MAX_SCALE, 25)


def fit_centering(model: AlignmentModel, score: Callable[[AlignmentModel], float | None]) -> bool:
    """Choose how much of each modality's mean to subtract, and set it on the projector; return True unless that is 0.

    Image and text embeddings occupy different cones (the modality gap, Liang et al. 2022). Subtracting the means closes the gap
    without learning anything from the captions, so unseen concepts benefit too. A candidate must beat no centering by the
    factor `MIN_GAIN`: smaller differences are noise.
    """
    best, best_score = 0.0, -math.inf
    for centring in CENTERING_CANDIDATES:
        model.projector.centring.fill_(centring)
        found = score(model)
        if found is not None and found > best_score:
            best, best_score = centring, max(found, found * MIN_GAIN if centring == 0 else found)
    model.projector.centring.fill_(best)
    return best > 0


@torch.no_grad()
def fit_temperature(model: AlignmentModel, objective: Objective, batches: Iterable[AlignmentBatch]) -> None:
    """Set the temperature to that at which the untrained model's alignment loss on `batches` is least; 100 at most.

    CLIP's own, 100, fits its features with the gap between images and texts. Without the gap cosines spread three times as
    wide, and at 100 a few wrong pairs would outweigh everything else, the pull towards the frozen encoder first.
    """
    losses = np.zeros(len(_SCALES))
    model.eval()
    for batch in batches:
        aligned = model(batch)
        for i, scale in enumerate(_SCALES):
            parts = objective.alignment(model, replace(aligned, scale=aligned.scale.new_tensor(scale)), batch)
            losses[i] += sum(float(loss) for loss in parts.values())
    if losses.any():
        model.log_scale.fill_(math.log(_SCALES[int(losses.argmin())]))
