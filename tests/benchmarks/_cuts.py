"""Another way to cut videos for an index, which search_quality.py and localisers.py compare with that of `vla index`."""

from __future__ import annotations

import numpy as np

from vla.corpus import Cut, cut_of
from vla.features import FrameFeatures
from vla.search.cuts import cut_at_changes


def windows_and_changes(video: FrameFeatures) -> Cut:
    """The windows, then what lies between changes and is none of them."""
    windows, changes = cut_of(video), cut_at_changes(video)
    first, last, spans = (np.concatenate(pair) for pair in zip(windows, changes, strict=True))
    _, once = np.unique(np.column_stack([first, last]), axis=0, return_index=True)
    once.sort()
    return first[once], last[once], spans[once]
