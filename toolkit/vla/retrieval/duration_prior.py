"""How long a moment lasts: no curve says whether a scene is meant or a second of it, but moments that captions tell of do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vla.cache.receipts import Receipt
from vla.datasets.base import Annotation

DurationRange = tuple[float, float]
"""Seconds that a moment lasts, at least and at most."""
ANY_DURATION: DurationRange = (0.0, float("inf"))
MIN_CAPTIONS = 50
"""So many moments say how long the others last."""
_WHOLE = 0.95
"""What takes so much of its video is all of it: files often end a little later than is said."""
_OUTSIDE = 0.05
"""This share of them may be briefer, and this share longer."""


def estimate_duration_range(annotations: Iterable[Annotation], receipts: Mapping[str, Receipt]) -> DurationRange | None:
    """How long nine in ten of the moments last that captions tell of; None where there are fewer than 50.

    Those of a split called `test` do not count, so that what is measured with them is no answer given beforehand. Nor does what
    is all of its video: where videos were cut to what is told of them, it tells nothing of moments in longer ones.

    Args:
        annotations: captions, and whatever else there is.
        receipts: of the videos that are known, by name; of others the length that their captions say is taken.
    """
    told = [a for a in annotations if a.question is None and a.split != "test"]
    whole = {name: receipt.duration_seconds for name, receipt in receipts.items()}
    spans = [(end - start, whole.get(a.video, a.duration)) for a in told for start, end in a.spans]
    seconds = [lasts for lasts, of in spans if of is None or lasts < _WHOLE * of]
    if len(seconds) < MIN_CAPTIONS:
        return None
    least, most = np.quantile(seconds, (_OUTSIDE, 1 - _OUTSIDE))
    return float(least), float(most)
