"""Frames of the videos that searches look into, in the shared space, kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from vla.cache.store import FeatureCache
from vla.errors import CacheError
from vla.features import FrameFeatures
from vla.model import AlignmentModel

_ROOM = 1 << 29
"""Bytes: 512 MiB are about 140 hours of CLIP-B frames, two a second, less the raw features."""


class FrameCache:
    """Reads a video's features and aligns them once, and forgets what was not asked for longest. Threads may share it.

    Args:
        cache: where features are read.
        model: that aligns them.
        room: bytes of raw and aligned features to keep.
    """

    def __init__(self, cache: FeatureCache, model: AlignmentModel, room: int = _ROOM) -> None:
        self._cache, self._model, self._room = cache, model, room
        self._held: OrderedDict[str, tuple[FrameFeatures, np.ndarray]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, video_id: str) -> tuple[FrameFeatures, np.ndarray] | None:
        """Raw features and unit frames `(T, E)` float32; None for a video that left the cache, or was extracted anew since.

        Raises:
            CacheError: its features are damaged.
        """
        receipt = self._cache.receipts.get(video_id)
        if receipt is None or not receipt.has_features:
            return None
        with self._lock:
            if video_id in self._held:
                self._held.move_to_end(video_id)
                return self._held[video_id]
        try:
            features = self._cache.frames(video_id)
        except CacheError:
            # Another process may have removed or replaced the features since the receipts were read: then the index is still
            # whole, and new features would be of another video to it.
            if self._cache.read_receipt(video_id) == receipt:
                raise
            return None
        found = features, self._model.align_frames(features)
        with self._lock:
            if video_id not in self._held:
                self._held[video_id] = found
                self._bytes += _size(found)
            while self._bytes > self._room and len(self._held) > 1:
                self._bytes -= _size(self._held.popitem(last=False)[1])
        return found


def _size(held: tuple[FrameFeatures, np.ndarray]) -> int:
    return int(held[0].values.nbytes + held[1].nbytes)
