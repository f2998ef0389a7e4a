"""How long a moment lasts: no curve says whether a scene is meant or a second of it, but moments that captions tell of do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vla.datasets.base import Annotation

Lasting = tuple[float, float]
"""Seconds that a moment lasts, at least and at most."""
ANY: Lasting = (0.0, float("inf"))
ENOUGH = 50
"""So many moments say how long the others last."""
_WHOLE = 0.95
"""What takes so much of its video is all of it: files often end a little later than is said."""
_OUTSIDE = 0.05
"""This share of them may be briefer, and this share longer."""


def lasting_of(annotations: Iterable[Annotation], durations: Mapping[str, float]) -> Lasting | None:
    """How long nine in ten of the moments last that captions tell of; None where there are fewer than 50.

    Those of a split called `test` do not count, so that what is measured with them is no answer given beforehand. Nor does what
    is all of its video: where videos were cut to what is told of them, it tells nothing of moments in longer ones.

    Args:
        annotations: captions, and whatever else there is.
        durations: seconds of each video that is known.
    """
    told = [a for a in annotations if a.question is None and a.split != "test"]
    spans = [(end - start, durations.get(a.video, a.duration)) for a in told for start, end in a.spans]
    seconds = [lasts for lasts, whole in spans if whole is None or lasts < _WHOLE * whole]
    if len(seconds) < ENOUGH:
        return None
    least, most = np.quantile(seconds, (_OUTSIDE, 1 - _OUTSIDE))
    return float(least), float(most)
