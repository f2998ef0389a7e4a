"""What a model makes of a corpus: all that several measures share, each worked out once and only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.evaluation.head_answers import HeadAnswers, answer
from vla.evaluation.search_metrics import Retriever
from vla.features import FrameFeatures
from vla.model import AlignmentModel, Segments, pool_segments
from vla.spans import frames_in, iou, nms

_OVERLAP = 0.5
"""Moments of one video that overlap more than this (IoU) are one moment found twice."""
_IN_VIDEO = 10
_IN_CORPUS, _LISTED = 1000, 100
"""So many segments of all videos are looked at for a list of so many moments: what TVR's evaluator reads."""
_PER_VIDEO = 3
_VIDEOS = 256
# Scores of queries with segments held at once.
_BLOCK = 1 << 24


@dataclass(frozen=True)
class MomentPredictions:
    """Segments retrieved by timed queries.

    Attributes:
        best: `(Q, V)` the best score of a segment of each video.
        own: for each query `(N, 3)` of its own video: start, end (seconds), score; best first.
    """

    best: np.ndarray
    own: list[np.ndarray]


class CorpusPredictions:
    """A corpus as a model has it.

    Args:
        model: in evaluation mode, its dial where it is used.
        corpus: videos, captions, questions.
        paragraphs: all sentences of a video as one query, each.
        search: lists what a search for captions finds in these videos; None where that is not asked for.
        num_eval_videos: number of videos, from the first, whose captions and questions are measured; all if None. Every
            video and every caption stays a candidate of each search.
        queries: `(Q,)` bool, the measured captions among `corpus.queries`, whatever their videos; overrides
            `num_eval_videos` for captions.
        heads: let the model's heads answer and rerank.
        pairwise: score a query's own video by itself, not as a part of the product with all videos. The numbers are the
            same but for rounding, which decides between segments that are equal.
    """

    def __init__(
        self,
        model: AlignmentModel,
        corpus: Corpus,
        paragraphs: Sequence[Query] = (),
        search: Retriever | None = None,
        *,
        num_eval_videos: int | None = None,
        queries: np.ndarray | None = None,
        heads: bool = True,
        pairwise: bool = False,
    ) -> None:
        self.model, self.corpus, self.paragraphs, self.search = model, corpus, list(paragraphs), search
        self.num_eval_videos = len(corpus.videos) if num_eval_videos is None else num_eval_videos
        self.has_heads, self._pairwise = heads, pairwise
        measured = [q.video < self.num_eval_videos for q in corpus.queries] if queries is None else queries.tolist()
        captions = [(q, chosen) for q, chosen in zip(corpus.queries, measured, strict=True) if q.is_caption]
        self.untimed = [q for q, _ in captions if not q.is_timed]
        self.measured = np.array([chosen for q, chosen in captions if not q.is_timed], bool)
        self.timed = [q for q, chosen in captions if q.is_timed and chosen]

    @cached_property
    def frames(self) -> list[np.ndarray]:
        """`(T, E)` unit frames of each video."""
        return self.model.align_videos(self.corpus.videos)

    @cached_property
    def whole(self) -> np.ndarray:
        """`(V, E)` the direction of the mean of each video's frames."""
        return _directions(self.frames)

    def whole_of(self, rows: Sequence[int]) -> np.ndarray:
        """`(N, E)` the same of some videos; no frames are kept, and the other videos are not even looked at."""
        parts = [rows[i : i + _VIDEOS] for i in range(0, len(rows), _VIDEOS)]
        aligned = (self.model.align_videos([self.corpus.videos[i] for i in part]) for part in parts)
        return np.concatenate([_directions(frames) for frames in aligned])

    @cached_property
    def segments(self) -> list[Segments]:
        """Candidate moments of each video."""
        return [
            pool_segments(f, v, c)
            for f, v, c in zip(self.frames, self.corpus.videos, self.corpus.segment_grids, strict=True)
        ]

    def texts(self, queries: Sequence[Query]) -> np.ndarray:
        """`(Q, E)` unit vectors."""
        return self.aligned([q.chunks for q in queries])

    def tokens(self, queries: Sequence[Query]) -> list[np.ndarray] | None:
        """`(L, E)` unit tokens of each query; None where no head compares them."""
        raw = self.corpus.tokens_of(q.chunks for q in queries) if self.model.compares_tokens else None
        return None if raw is None else self.model.align_tokens(raw)

    def aligned(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """`(Q, E)` unit vectors of texts that are cached as these parts."""
        vectors = np.stack([self.corpus.vector(parts) for parts in texts])
        return self.model.align_texts(vectors)

    @cached_property
    def found(self) -> MomentPredictions:
        """Segments of each video retrieved by `timed`."""
        first = np.cumsum([0, *(len(s.spans) for s in self.segments)])
        best: list[np.ndarray] = []
        own: list[np.ndarray] = []
        texts = self.texts(self.timed)
        for scores in self._scores(texts):
            best.append(np.maximum.reduceat(scores, first[:-1], axis=1))
            for row in scores:
                video, text = self.timed[len(own)].video, texts[len(own)]
                spans, of_video = self.segments[video].spans, row[first[video] : first[video + 1]]
                if self._pairwise:
                    of_video = self.segments[video].vectors @ text
                kept = nms(spans, of_video, _OVERLAP, most=_IN_VIDEO)
                own.append(np.column_stack([spans[kept], of_video[kept]]))
        return MomentPredictions(np.concatenate(best), own)

    @cached_property
    def everywhere(self) -> list[np.ndarray]:
        """For each of `timed` `(N, 4)` moments of all videos: row of the video, start, end (seconds), score; best first."""
        spans = np.concatenate([s.spans for s in self.segments])
        owner = np.repeat(np.arange(len(self.segments)), [len(s.spans) for s in self.segments])
        blocks = self._scores(self.texts(self.timed))
        return [rank_moments(row, owner, spans) for scores in blocks for row in scores]

    @cached_property
    def listed_for_untimed(self) -> list[np.ndarray]:
        """For each of `untimed` `(V, 4)`, the videos that `search` lists, each by its best moment; none without a search."""
        return self.search.everywhere(self.untimed, 1) if self.search and self.untimed else []

    @cached_property
    def listed(self) -> list[np.ndarray]:
        """For each of `timed` `(N, 4)`, what `search` lists of all videos, at most as many of one as a search lists."""
        return self.search.everywhere(self.timed, _PER_VIDEO) if self.search and self.timed else []

    @cached_property
    def listed_in_own(self) -> list[np.ndarray]:
        """For each of `timed` `(N, 3)`, what `search` lists of its own video."""
        return self.search.in_own(self.timed) if self.search and self.timed else []

    def best_of(self, texts: np.ndarray) -> np.ndarray:
        """`(Q, V)` the best score of a segment of each video for any unit vectors `texts` `(Q, E)`."""
        first = np.cumsum([0, *(len(s.spans) for s in self.segments[:-1])])
        return np.concatenate([np.maximum.reduceat(s, first, axis=1) for s in self._scores(texts)])

    def moment_for(self, texts: np.ndarray, rows: Sequence[int]) -> np.ndarray:
        """`(Q, 2)` seconds: for each of the unit vectors `texts` `(Q, E)` the best segment of the video `rows[i]`."""
        best = [self.segments[row] for row in rows]
        return np.stack([s.spans[int((s.vectors @ text).argmax())] for text, s in zip(texts, best, strict=True)])

    def clip_scores(self, query: Query, clips: int, clip_seconds: float) -> np.ndarray:
        """`(clips,)` the cosine of the query with the mean direction of each clip's frames, clip 0 the first."""
        video, frames = self.corpus.videos[query.video], self.frames[query.video]
        means = np.stack([frames[rows].mean(0) for rows in clip_frames(video, clips, clip_seconds)])
        cosines: np.ndarray = means @ self.texts([query])[0] / np.linalg.norm(means, axis=1).clip(1e-12)
        return cosines

    @cached_property
    def answers(self) -> dict[str, HeadAnswers]:
        """Answers of the model's heads, by task; empty without heads."""
        return answer(self.model, self.corpus, self.num_eval_videos) if self.has_heads else {}

    def _scores(self, texts: np.ndarray) -> Iterator[np.ndarray]:
        """`(some queries, all segments)` cosines, block by block."""
        vectors = np.concatenate([s.vectors for s in self.segments])
        step = max(1, _BLOCK // len(vectors))
        return (texts[i : i + step] @ vectors.T for i in range(0, len(texts), step))


def _directions(frames: list[np.ndarray]) -> np.ndarray:
    means = np.stack([f.mean(0) for f in frames])
    found: np.ndarray = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    return found


def rank_moments(scores: np.ndarray, owner: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Rank the moments of all videos by TVR's rule: of two that overlap in one video, the better one stays.

    Args:
        scores: `(S,)` of the segments.
        owner: `(S,)` row of each segment's video.
        spans: `(S, 2)` seconds.

    Returns:
        `(N, 4)`, at most 100: row of the video, start, end (seconds), score; best first.
    """
    some = np.argpartition(-scores, _IN_CORPUS)[:_IN_CORPUS] if len(scores) > _IN_CORPUS else np.arange(len(scores))
    # Rows in order first: what ties is listed as it lies, whatever the partition did with it.
    rows = np.sort(some)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    # No more overlaps are worked out than a list of its length needs: there are as many lists as queries.
    kept: list[int] = []
    free = np.ones(len(rows), dtype=bool)
    for place, row in enumerate(rows):
        if free[place] and len(kept) < _LISTED:
            kept.append(int(row))
            others = np.flatnonzero(free & (owner[rows] == owner[row]))
            free[others[iou(spans[[row]], spans[rows[others]])[0] > _OVERLAP]] = False
    return np.column_stack([owner[kept], spans[kept], scores[kept]])


def clip_frames(video: FrameFeatures, clips: int, clip_seconds: float) -> list[slice]:
    """Return the frames on screen in each clip of so many seconds, clip 0 the first; beyond the end, the last frame."""
    times, end = video.timestamps_seconds, video.duration_seconds
    return [slice(*frames_in(times, end, (i * clip_seconds, (i + 1) * clip_seconds))) for i in range(clips)]
