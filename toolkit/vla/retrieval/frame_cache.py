"""In-memory cache of aligned frames, with a limit on its size."""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np

from vla.cache.store import FeatureCache
from vla.errors import CacheError
from vla.features import FrameFeatures
from vla.model import AlignmentModel

_MAX_BYTES = 1 << 29
"""512 MiB: about 140 hours of CLIP ViT-B frames at 2 frames/s, less the raw features."""

_Frames = tuple[FrameFeatures, np.ndarray]


class FrameCache:
    """Least-recently-used cache of raw and aligned frames by video. Thread-safe.

    Args:
        cache: feature cache to read from.
        model: model that aligns the frames.
        max_bytes: size of the raw and aligned features to keep in memory.
    """

    def __init__(
        self, cache: FeatureCache, model: AlignmentModel, max_bytes: int = _MAX_BYTES
    ) -> None:
        self._cache, self._model, self._max_bytes = cache, model, max_bytes
        self._entries: OrderedDict[str, _Frames] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, video_id: str) -> _Frames | None:
        """Return raw features and aligned unit frames `(T, E)` float32 of a video.

        Returns None if the video has left the cache, or has been extracted again since the cache
        was opened.

        Raises:
            CacheError: the features are damaged.
        """
        receipt = self._cache.receipts.get(video_id)
        if receipt is None or not receipt.has_features:
            return None
        with self._lock:
            if video_id in self._entries:
                self._entries.move_to_end(video_id)
                return self._entries[video_id]
        try:
            features = self._cache.frames(video_id)
        except CacheError:
            # Another process may have removed or replaced the features since the receipts were
            # read. The index is still valid then, but new features would not belong to its rows.
            if self._cache.read_receipt(video_id) == receipt:
                raise
            return None
        entry = features, self._model.align_frames(features)
        with self._lock:
            if video_id not in self._entries:
                self._entries[video_id] = entry
                self._bytes += _nbytes(entry)
            while self._bytes > self._max_bytes and len(self._entries) > 1:
                self._bytes -= _nbytes(self._entries.popitem(last=False)[1])
        return entry


def _nbytes(entry: _Frames) -> int:
    return int(entry[0].values.nbytes + entry[1].nbytes)
