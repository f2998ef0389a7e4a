"""Prior on the duration of moments, estimated from captions with times.

A similarity curve alone cannot decide between a scene and one second of it; the durations of
captioned moments can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from vla.cache.receipts import Receipt
from vla.datasets.base import Annotation
from vla.localization.duration_range import DurationRange

MIN_CAPTIONS = 50
"""Moments that an estimate needs."""
_WHOLE_VIDEO = 0.95
"""Share of a video from which a moment counts as all of it: files often end slightly later than
their captions."""
_TAIL = 0.05
"""Share of the moments below the minimum, and above the maximum."""


def estimate_duration_range(
    annotations: Iterable[Annotation], receipts: Mapping[str, Receipt]
) -> DurationRange | None:
    """Return the duration range of the middle 90 % of captioned moments.

    None with fewer than `MIN_CAPTIONS` moments.

    Captions of the split `test` are ignored, so that evaluations do not depend on their own
    answers. Moments that cover a whole video are ignored as well: in videos that were cut to their
    captions, they say nothing about longer videos.

    Args:
        annotations: captions; questions are ignored.
        receipts: receipts by video name. For other videos, the duration given by the caption is
            used.
    """
    captions = [a for a in annotations if a.question is None and a.split != "test"]
    durations = {name: receipt.duration_seconds for name, receipt in receipts.items()}
    moments = [
        (end - start, durations.get(a.video, a.duration))
        for a in captions
        for start, end in a.spans
    ]
    seconds = [
        length for length, total in moments if total is None or length < _WHOLE_VIDEO * total
    ]
    if len(seconds) < MIN_CAPTIONS:
        return None
    shortest, longest = np.quantile(seconds, (_TAIL, 1 - _TAIL))
    return float(shortest), float(longest)
