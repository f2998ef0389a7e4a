"""Predictions of a model on a corpus, shared by the protocols and computed on first use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.batches.segment_pooling import Segments, pool_segments
from vla.evaluation.head_answers import HeadAnswers, answer
from vla.evaluation.search_metrics import Retriever
from vla.features import FrameFeatures
from vla.localization.similarity_curve import SimilarityCurve
from vla.model import AlignmentModel
from vla.spans import frames_in, iou, nms

_MAX_OVERLAP = 0.5
"""IoU above which moments of one video are duplicates in a ranking of all videos."""
_MAX_IN_VIDEO = 10
_MIN_CONTRAST = 1e-9
_NUM_CANDIDATES, _MAX_IN_CORPUS = 1000, 100
"""Number of candidate segments, and of moments in the ranking, that TVR's evaluator reads."""
_VIDEOS_PER_BLOCK = 256
# Number of query-segment scores in memory.
_BLOCK = 1 << 24


@dataclass(frozen=True)
class MomentPredictions:
    """Videos and moments retrieved by timed queries.

    Attributes:
        video_scores: `(Q, V)` best segment score of each video.
        own_video: for each query `(N, 3)` moments of its own video, from its similarity curve:
            start, end (seconds), excess as a share of the largest; best first.
    """

    video_scores: np.ndarray
    own_video: list[np.ndarray]


class CorpusPredictions:
    """Predictions of a model on a corpus.

    Args:
        model: in evaluation mode, at the alpha of its use.
        corpus: videos, captions and questions.
        paragraphs: for each video, one query of all its sentences.
        search: retriever of search results for captions among these videos; None to omit these.
        num_eval_videos: number of videos, from the first, whose captions and questions are
            evaluated; all if None. Every video and every caption stays a candidate.
        queries: `(Q,)` bool, the evaluated captions among `corpus.queries`, in any video; overrides
            `num_eval_videos` for captions.
        heads: include the answers of the heads, and their reranking.
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
    ) -> None:
        self.model, self.corpus, self.paragraphs, self.search = (
            model,
            corpus,
            list(paragraphs),
            search,
        )
        self.num_eval_videos = len(corpus.videos) if num_eval_videos is None else num_eval_videos
        self.has_heads = heads
        is_evaluated = (
            [q.video < self.num_eval_videos for q in corpus.queries]
            if queries is None
            else queries.tolist()
        )
        captions = [
            (q, is_chosen)
            for q, is_chosen in zip(corpus.queries, is_evaluated, strict=True)
            if q.is_caption
        ]
        self.untimed_queries = [q for q, _ in captions if not q.is_timed]
        self.is_evaluated = np.array(
            [is_chosen for q, is_chosen in captions if not q.is_timed], bool
        )
        self.timed_queries = [q for q, is_chosen in captions if q.is_timed and is_chosen]

    @cached_property
    def frames(self) -> list[np.ndarray]:
        """Return `(T, E)` unit frame vectors of each video."""
        return self.model.align_videos(self.corpus.videos)

    @cached_property
    def video_vectors(self) -> np.ndarray:
        """Return `(V, E)` direction of the mean of each video's frames."""
        return _mean_directions(self.frames)

    def video_vectors_of(self, rows: Sequence[int]) -> np.ndarray:
        """Return `(N, E)` `video_vectors` of some videos, without caching their frames."""
        parts = [rows[i : i + _VIDEOS_PER_BLOCK] for i in range(0, len(rows), _VIDEOS_PER_BLOCK)]
        aligned = (self.model.align_videos([self.corpus.videos[i] for i in part]) for part in parts)
        return np.concatenate([_mean_directions(frames) for frames in aligned])

    @cached_property
    def segments(self) -> list[Segments]:
        """Return the candidate moments of each video."""
        return [
            pool_segments(f, v, c)
            for f, v, c in zip(
                self.frames, self.corpus.videos, self.corpus.segment_grids, strict=True
            )
        ]

    def query_vectors(self, queries: Sequence[Query]) -> np.ndarray:
        """Return `(Q, E)` unit vectors."""
        return self.text_vectors([q.chunks for q in queries])

    def query_tokens(self, queries: Sequence[Query]) -> list[np.ndarray] | None:
        """Return `(L, E)` unit tokens of each query; None unless a head compares tokens."""
        raw = (
            self.corpus.tokens_of(q.chunks for q in queries) if self.model.compares_tokens else None
        )
        return None if raw is None else self.model.align_tokens(raw)

    def text_vectors(self, texts: Sequence[tuple[str, ...]]) -> np.ndarray:
        """Return `(Q, E)` unit vectors of texts, each given as its cached chunks."""
        vectors = np.stack([self.corpus.vector(parts) for parts in texts])
        return self.model.align_texts(vectors)

    @cached_property
    def moment_predictions(self) -> MomentPredictions:
        """Return the videos and the moments retrieved by `timed_queries`."""
        texts = self.query_vectors(self.timed_queries)
        own_video = self.moments_in(texts, [q.video for q in self.timed_queries], _MAX_IN_VIDEO)
        return MomentPredictions(self.max_segment_scores(texts), own_video)

    @cached_property
    def corpus_moments(self) -> list[np.ndarray]:
        """Return, for each timed query, `(N, 4)` moments of all videos, best first.

        Columns: row of the video, start, end (seconds), score.
        """
        spans = np.concatenate([s.spans for s in self.segments])
        owner = np.repeat(np.arange(len(self.segments)), [len(s.spans) for s in self.segments])
        blocks = self._scores(self.query_vectors(self.timed_queries))
        return [rank_moments(row, owner, spans) for scores in blocks for row in scores]

    @cached_property
    def untimed_search_results(self) -> list[np.ndarray]:
        """Return, for each untimed query, `(V, 4)` search results: each video with its best moment.

        Empty without a retriever.
        """
        return (
            self.search.everywhere(self.untimed_queries, 1)
            if self.search and self.untimed_queries
            else []
        )

    @cached_property
    def search_results(self) -> list[np.ndarray]:
        """Return, for each timed query, `(N, 4)` search results of all videos.

        A video has at most as many moments as in a search. Empty without a retriever.
        """
        return (
            self.search.everywhere(self.timed_queries, None)
            if self.search and self.timed_queries
            else []
        )

    @cached_property
    def own_video_search_results(self) -> list[np.ndarray]:
        """Return, for each timed query, `(N, 3)` search results in its own video.

        Empty without a retriever.
        """
        return self.search.in_own(self.timed_queries) if self.search and self.timed_queries else []

    def max_segment_scores(self, texts: np.ndarray) -> np.ndarray:
        """Return `(Q, V)` best segment score of each video for unit vectors `texts` `(Q, E)`."""
        starts = np.cumsum([0, *(len(s.spans) for s in self.segments[:-1])])
        return np.concatenate([np.maximum.reduceat(s, starts, axis=1) for s in self._scores(texts)])

    def moments_in(
        self, texts: np.ndarray, rows: Sequence[int], max_moments: int
    ) -> list[np.ndarray]:
        """Return the moments of each text in its video, as `vla search` finds them there, then other
        windows by contrast.

        Neither side is centered, and there is no duration prior: both belong to an index. Moments
        of a search are disjoint, and few; measures that read several predictions expect others that
        overlap, so the windows of the video that overlap no better moment by more than half follow.

        Args:
            texts: `(Q, E)` unit vectors.
            rows: row of the video of each text.
            max_moments: maximum number of moments of a text, at least 1.

        Returns:
            For each text `(N, 3)`, N at least 1: start, end (seconds), score; best first. The score
            of a moment is its excess as a share of the largest, and that of a window is lower.
        """
        # One product for each text: the bits of its moments do not depend on the other texts.
        return [
            self._moments_of(self._curve(text, row), row, max_moments)
            for text, row in zip(texts, rows, strict=True)
        ]

    def _moments_of(self, curve: SimilarityCurve, row: int, max_moments: int) -> np.ndarray:
        spans, shares = curve.moments(max_moments)
        if len(spans) >= max_moments:
            return np.column_stack([spans, shares])
        windows = self.corpus.segment_grids[row][2]
        contrasts = curve.contrasts(windows)
        is_higher = contrasts > _MIN_CONTRAST
        relative = contrasts[is_higher] / max(float(contrasts.max()), _MIN_CONTRAST)
        candidates = np.concatenate([spans, windows[is_higher]])
        scores = np.concatenate([shares, shares[-1] * relative])
        # No window scores more than a moment, and of equal scores the first is taken.
        best = nms(candidates, scores, _MAX_OVERLAP, most=max_moments)
        return np.column_stack([candidates[best], scores[best]])

    def clip_scores(self, query: Query, clips: int, clip_seconds: float) -> np.ndarray:
        """Return `(clips,)` cosines of the query with the mean direction of each clip's frames."""
        video, frames = self.corpus.videos[query.video], self.frames[query.video]
        means = np.stack([frames[rows].mean(0) for rows in clip_frames(video, clips, clip_seconds)])
        cosines: np.ndarray = (
            means @ self.query_vectors([query])[0] / np.linalg.norm(means, axis=1).clip(1e-12)
        )
        return cosines

    @cached_property
    def answers(self) -> dict[str, HeadAnswers]:
        """Return the answers of the model's heads, by task; empty without heads."""
        return answer(self.model, self.corpus, self.num_eval_videos) if self.has_heads else {}

    def _curve(self, text: np.ndarray, row: int) -> SimilarityCurve:
        video = self.corpus.videos[row]
        return SimilarityCurve(
            self.frames[row] @ text, video.timestamps_seconds, video.duration_seconds
        )

    def _scores(self, texts: np.ndarray) -> Iterator[np.ndarray]:
        """Yield `(queries of a block, all segments)` cosines."""
        vectors = np.concatenate([s.vectors for s in self.segments])
        step = max(1, _BLOCK // len(vectors))
        return (texts[i : i + step] @ vectors.T for i in range(0, len(texts), step))


def _mean_directions(frames: list[np.ndarray]) -> np.ndarray:
    means = np.stack([f.mean(0) for f in frames])
    directions: np.ndarray = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
    return directions


def rank_moments(scores: np.ndarray, owner: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Rank the moments of all videos by TVR's rule: non-maximum suppression within each video.

    Args:
        scores: `(S,)` of the segments.
        owner: `(S,)` row of each segment's video.
        spans: `(S, 2)` seconds.

    Returns:
        `(N, 4)`, at most 100: row of the video, start, end (seconds), score; best first.
    """
    candidates = np.arange(len(scores))
    if len(scores) > _NUM_CANDIDATES:
        candidates = np.argpartition(-scores, _NUM_CANDIDATES)[:_NUM_CANDIDATES]
    # Sort first: ties are in the order of rows, independent of the partition.
    rows = np.sort(candidates)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    # Overlaps are computed only until the ranking is full, since this runs once for each query.
    selection: list[int] = []
    is_free = np.ones(len(rows), dtype=bool)
    for i, row in enumerate(rows):
        if is_free[i] and len(selection) < _MAX_IN_CORPUS:
            selection.append(int(row))
            others = np.flatnonzero(is_free & (owner[rows] == owner[row]))
            is_free[others[iou(spans[[row]], spans[rows[others]])[0] > _MAX_OVERLAP]] = False
    return np.column_stack([owner[selection], spans[selection], scores[selection]])


def clip_frames(video: FrameFeatures, clips: int, clip_seconds: float) -> list[slice]:
    """Return the frames on screen in each clip, from clip 0; beyond the end, the last frame.

    Args:
        video: the video.
        clips: number of clips.
        clip_seconds: duration of a clip.
    """
    times, end = video.timestamps_seconds, video.duration_seconds
    return [
        slice(*frames_in(times, end, (i * clip_seconds, (i + 1) * clip_seconds)))
        for i in range(clips)
    ]
