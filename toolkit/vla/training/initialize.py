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

CENTRINGS = (0.0, 0.5, 1.0)
_WORTH = 1.02
"""So many times the score of the frozen encoder, or the gap stays: less is chance, and what the means told would be lost."""
_SCALES = np.geomspace(5.0, MAX_SCALE, 25)


def centre(model: AlignmentModel, score: Callable[[AlignmentModel], float | None]) -> bool:
    """Set `model.projector.centring` to that of `CENTRINGS` at which the untrained model has the best `score`; True if not 0.

    An encoder's images share a direction, its texts another: this gap hides what tells them apart. Taking it away teaches
    nothing about the captions, so it helps what they do not mention too. Where it does not clearly help, nothing is taken away.
    """
    best, best_score = 0.0, -math.inf
    for centring in CENTRINGS:
        model.projector.centring.fill_(centring)
        found = score(model)
        if found is not None and found > best_score:
            best, best_score = centring, max(found, found * _WORTH if centring == 0 else found)
    model.projector.centring.fill_(best)
    return best > 0


@torch.no_grad()
def warm(model: AlignmentModel, objective: Objective, batches: Iterable[AlignmentBatch]) -> None:
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
