"""The best moments of all videos: videos in the order of what an index finds, and what is found in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from vla.retrieval.candidates import Candidate
from vla.retrieval.indexed_videos import IndexedVideos
from vla.retrieval.near_duplicates import NEARLY_ALIKE, is_near_duplicate, mean_of
from vla.retrieval.query import EncodedQuery
from vla.retrieval.scorers import MomentScorer, SequenceScorer, VideoScorer
from vla.retrieval.top_k import top_k_with_bounds
from vla.spans import frames_in

FIRST_ROWS = 1_000
"""Segments asked for at first; many belong to the same few videos, so more are asked for until there are enough."""
ROWS_PER_HIT = 20


@dataclass(frozen=True)
class Ranking:
    """Ranks moments and sequences of `videos`. Threads may share it."""

    videos: IndexedVideos

    def moments(
        self, query: EncodedQuery, k: int, per_video: int, allowed: np.ndarray | None, *, merge: bool = True
    ) -> list[list[Candidate]]:
        """The `k` best moments, at most `per_video` of one video; each followed by those of other videos that show the same.

        Args:
            query: what is looked for.
            k: how many.
            per_video: of one video.
            allowed: `(V,)` bool, which videos to look at; None for all.
            merge: False leaves moments that show the same apart.
        """
        return self._ranked(MomentScorer(self.videos, query, per_video, allowed), k, merge)

    def sequences(
        self, steps: list[EncodedQuery], within: float, k: int, per_video: int, allowed: np.ndarray | None
    ) -> list[list[Candidate]]:
        """The `k` best ways in which `steps` follow each other within so many seconds; else as `moments`."""
        return self._ranked(SequenceScorer(self.videos, steps, within, per_video, allowed), k, True)

    def confidence(self, query: EncodedQuery, found: Candidate, span: np.ndarray | None = None) -> float | None:
        """How sure it is that a moment is no chance: of one text by `certain`, of several that of the least sure one.

        Args:
            query: what was looked for.
            found: where.
            span: `(2,)` seconds, where that is not the span of `found`; then, as with several texts, the span's mean frame is
                compared: no better than the best segment of all, which is what a text by chance is known by.
        """
        background = self.videos.background_of(query)
        if background is None:
            return None
        if query.is_single_text and found.certain is not None:
            return float(background.confidence(np.array([found.certain]))[0])
        held = self.videos.frames_of(found.video)
        if held is None:
            return None
        where = (found.span if span is None else span).tolist()
        first, last = frames_in(held[0].timestamps_seconds, held[0].duration_seconds, where)
        mean = held[1][first:last].mean(0)
        cosines = query.wanted @ (mean / max(1e-12, float(np.linalg.norm(mean))))
        return float(background.confidence(cosines).min())

    def _ranked(self, scorer: VideoScorer, k: int, merge: bool) -> list[list[Candidate]]:
        """Lists more rows, and more items, until there are `k` groups that nothing could change."""
        size = len(self.videos.index.vectors)
        most = k
        rows = min(size, max(FIRST_ROWS, ROWS_PER_HIT * k, 1))
        while True:
            candidates = scorer.candidates(rows, most)
            top = top_k_with_bounds(
                candidates.upper_bounds,
                partial(scorer.score, candidates=candidates),
                most,
                unlisted_bound=candidates.unlisted_bound,
                max_groups=candidates.max_videos,
            )
            if not top.is_exact and rows < size:
                rows = min(size, 4 * rows)
                continue
            groups = self._merged(top.items) if merge else [[one] for one in top.items]
            if len(groups) >= k or len(top.items) < most:
                return groups[:k]
            most += k

    def _merged(self, found: list[Candidate]) -> list[list[Candidate]]:
        """What is `found`, best first, those of different videos that show the same together."""
        known = [self.videos.frames_of(one.video) for one in found]
        means = [mean_of(mine[0], one.span) if mine else np.zeros(0) for one, mine in zip(found, known, strict=True)]
        groups: list[list[Candidate]] = []
        heads: list[int] = []
        for number, one in enumerate(found):
            for group, head in zip(groups, heads, strict=True):
                mine, its, video = known[number], known[head], found[head].video
                if mine is None or its is None or video == one.video or means[number] @ means[head] < NEARLY_ALIKE:
                    continue
                if is_near_duplicate(mine[0], one.span, one.peak, its[0], found[head].span, found[head].peak):
                    group.append(one)
                    break
            else:
                groups.append([one])
                heads.append(number)
        return groups
