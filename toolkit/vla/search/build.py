"""From cached features to an index of segments."""

from __future__ import annotations

import numpy as np

from vla.cache.store import FeatureCache
from vla.errors import MissingError
from vla.indexes import registry as indexes
from vla.model import AlignmentModel, segments_of
from vla.progress import Progress, ProgressCallback, silent
from vla.search.store import SearchIndex


def build_index(
    cache: FeatureCache,
    model: AlignmentModel,
    *,
    run: str = "",
    run_digest: str = "",
    backend: str = "faiss_flat",
    progress: ProgressCallback = silent,
) -> SearchIndex:
    """An index of the segments of every cached video: windows of several lengths, and the whole video.

    Raises:
        MissingError: the cache holds no video.
    """
    videos = cache.video_ids()
    if not videos:
        raise MissingError("there are no features to index: run 'vla extract PATH...' first")
    vectors: list[np.ndarray] = []
    spans: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for number, video_id in enumerate(videos):
        features = cache.frames(video_id)
        segments = segments_of(model.align_frames(features), features)
        vectors.append(segments.vectors)
        spans.append(segments.spans)
        owners.append(np.full(len(segments.spans), number, np.int32))
        progress(Progress("index", number + 1, len(videos)))
    index = indexes.build(backend, dim=vectors[0].shape[1])
    stacked = np.concatenate(vectors)
    index.add(np.arange(len(stacked)), stacked)
    return SearchIndex(
        index,
        np.concatenate(owners),
        np.concatenate(spans),
        videos,
        cache.spec,
        run,
        run_digest,
        cache.state(),
        backend,
    )
