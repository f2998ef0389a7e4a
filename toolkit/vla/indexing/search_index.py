"""All fragments of an index as one, with the features and the run that they were built from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla.features import FeatureSpec
from vla.indexing.config import IndexBenchmark, IndexConfig
from vla.indexing.fragments import Fragment, FragmentedIndex


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """Index of the segments of videos.

    Attributes:
        parts: fragments that hold the segments.
        dim: width of the vectors.
        spec: the feature space.
        run: name of the trained run whose projector made the vectors; empty for the frozen encoder.
        run_digest: digest of its weights.
        cache_state: `FeatureCache.state()` at the last complete update; empty during an update.
        config: requested configuration.
        benchmarks: benchmarks of the kinds of index compared for the largest fragment.
        segmentation: name of the segmentation, see `vla.indexing.segments`; empty for older
            versions.
    """

    parts: tuple[Fragment, ...]
    dim: int
    spec: FeatureSpec
    run: str
    run_digest: str
    cache_state: str
    config: IndexConfig = IndexConfig()  # noqa: RUF009 - it is frozen
    benchmarks: tuple[IndexBenchmark, ...] = ()
    segmentation: str = ""

    @cached_property
    def vectors(self) -> FragmentedIndex:
        """All fragments as one index, whose ids are rows of the arrays below."""
        return FragmentedIndex(self.parts, self.dim)

    @cached_property
    def video_of_row(self) -> np.ndarray:
        """`(N,)` int32, positions in `videos`.

        -1 for rows of deleted videos, which no search returns.
        """
        owners, first = [], 0
        for part in self.parts:
            numbers = np.full(len(part.videos), -1, np.int32)
            for number, (position, _, _) in enumerate(part.live_videos(), first):
                numbers[position] = number
            first += int((numbers >= 0).sum())
            owners.append(numbers[part.video_of_row])
        return np.concatenate(owners) if owners else np.zeros(0, np.int32)

    @cached_property
    def spans(self) -> np.ndarray:
        """`(N, 2)` float64 seconds."""
        return np.concatenate([np.zeros((0, 2)), *(p.spans for p in self.parts)])

    @cached_property
    def videos(self) -> list[str]:
        """Names of the videos."""
        return [name for part in self.parts for _, name, _ in part.live_videos()]

    def vectors_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the vectors `(n, E)` of `rows`, float32; their precision is that of the files."""
        vectors = np.empty((len(rows), self.dim), np.float32)
        first = 0
        for part in self.parts:
            is_own = (rows >= first) & (rows < first + len(part.spans))
            vectors[is_own] = part.vectors[rows[is_own] - first]
            first += len(part.spans)
        return vectors

    @property
    def nbytes(self) -> int:
        """Size of the loaded index in memory, in bytes, without mapped vectors."""
        return sum(int(p.files["bytes"]) for p in self.parts)

    @property
    def backend(self) -> str:
        """Name of the plug-in of the largest fragment."""
        return max(self.parts, key=lambda p: len(p.spans)).backend if self.parts else ""
