"""The best moments of all videos: videos in the order of what an index finds, and what is found in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vla.cache.store import FeatureCache
from vla.errors import CacheError
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.indexing.store import SearchIndex
from vla.model import AlignmentModel
from vla.retrieval.candidates import Found, looked_into
from vla.retrieval.duration_prior import ANY, Lasting
from vla.retrieval.frame_cache import SearchedFrames
from vla.retrieval.hubness import Background
from vla.retrieval.moments import TOGETHER, VIDEOS, Finder, Moments, Segments, Told
from vla.retrieval.near_duplicates import NEARLY_ALIKE, is_same, mean_of
from vla.retrieval.query import Sought
from vla.retrieval.sequences import Chain, chains
from vla.spans import frames_in

FIRST_ROWS = 1_000
"""Segments asked for at first; many belong to the same few videos, so more are asked for until there are enough."""
ROWS_PER_HIT = 20
_ROUNDING = 1e-9


@dataclass(frozen=True)
class _Rows:
    """Rows of the index, best first: ids and cosines less bias `(n,)`. No other row's cosine is above `bound`."""

    ids: np.ndarray
    scores: np.ndarray
    bound: float


_Look = Callable[[int, int], tuple[list[Found], bool]]
"""With so many rows of the index, the best so many; and whether no row that was not looked at could change them."""


@dataclass(frozen=True)
class Ranking:
    """What is compared, and how. Threads may share it.

    Attributes:
        index: the segments.
        model: as the index was made with; its head for moments finds these, if it has one.
        cache: the frames.
        background: bias and confidence; None where there is none.
    """

    index: SearchIndex
    model: AlignmentModel
    cache: FeatureCache
    background: Background | None = None

    def moments(
        self, asked: Sought, k: int, per_video: int, allowed: np.ndarray | None, *, merge: bool = True
    ) -> list[list[Found]]:
        """The `k` best moments, at most `per_video` of one video; each followed by those of other videos that show the same.

        Args:
            asked: what is looked for.
            k: how many.
            per_video: of one video.
            allowed: `(V,)` bool, which videos to look at; None for all.
            merge: False leaves moments that show the same apart.
        """
        seen: dict[int, Moments] = {}
        told: dict[int, Told | None] = {}

        def look(rows: int, most: int) -> tuple[list[Found], bool]:
            return self._best(asked, self._nearest(asked, rows, allowed), most, per_video, seen, told)

        return self._grown(look, k, merge)

    def sequences(
        self, steps: list[Sought], within: float, k: int, per_video: int, allowed: np.ndarray | None
    ) -> list[list[Found]]:
        """The `k` best ways in which `steps` follow each other within so many seconds; else as `moments`.

        A way scores the mean, over its steps, of the score of the video's best segment for the step less what the way's frame is
        below the video's best one; so no way scores more than the mean of the video's best segments.
        """
        tops: dict[int, float] = {}
        seen: dict[int, list[Chain]] = {}

        def look(rows: int, most: int) -> tuple[list[Found], bool]:
            near = [self._nearest(step, rows, allowed) for step in steps]
            videos = np.unique(np.concatenate([self._first[self.index.video_of_row[n.ids]] for n in near])).tolist()
            for video in videos:
                if video not in tops:
                    tops[video] = float(np.mean([self._segments(step, video).scores.max() for step in steps]))
            order = sorted(videos, key=lambda v: (-tops[v], v))

            def of(video: int) -> list[Found]:
                if video not in seen:
                    seen[video] = self._chains(steps, video, within, per_video)
                return [Found.of_chain(video, tops[video], chain) for chain in seen[video]]

            return looked_into([(v, tops[v]) for v in order], of, most, float(np.mean([n.bound for n in near])))

        return self._grown(look, k, True)

    def confidence(self, asked: Sought, found: Found, span: np.ndarray | None = None) -> float | None:
        """How sure it is that a moment is no chance: of one text by `certain`, of several that of the least sure one.

        Args:
            asked: what was looked for.
            found: where.
            span: `(2,)` seconds, where that is not the span of `found`; then, as with several texts, the span's mean frame is
                compared: no better than the best segment of all, which is what a text by chance is known by.
        """
        if self.background is None or not asked.is_of_texts:
            return None
        if asked.is_one_text and found.certain is not None:
            return float(self.background.confidence(np.array([found.certain]))[0])
        known = self.frames_of(found.video)
        if known is None:
            return None
        where = (found.span if span is None else span).tolist()
        first, last = frames_in(known[0].timestamps_seconds, known[0].duration_seconds, where)
        mean = known[1][first:last].mean(0)
        cosines = asked.wanted @ (mean / max(1e-12, float(np.linalg.norm(mean))))
        return float(self.background.confidence(cosines).min())

    def frames_of(self, video: int) -> tuple[FrameFeatures, np.ndarray] | None:
        """Raw features and unit frames `(T, E)` of a video of the index; None if it left the cache."""
        return self._frames.of(self.index.videos[video])

    @cached_property
    def copies(self) -> dict[int, list[int]]:
        """The videos of the index with the same content, by the first of them."""
        groups: dict[str, list[int]] = defaultdict(list)
        for video, name in enumerate(self.index.videos):
            receipt = self.cache.receipts.get(name)
            groups[receipt.sha256 if receipt and receipt.sha256 else name].append(video)
        return {videos[0]: videos for videos in groups.values()}

    def _grown(self, look: _Look, k: int, merge: bool) -> list[list[Found]]:
        """Looks with more rows, and for more of them, until there are `k` that nothing could change."""
        most = k
        rows = min(len(self.index.vectors), max(FIRST_ROWS, ROWS_PER_HIT * k, 1))
        while True:
            found, is_whole = look(rows, most)
            if not is_whole and rows < len(self.index.vectors):
                rows = min(len(self.index.vectors), 4 * rows)
                continue
            groups = self._merged(found) if merge else [[one] for one in found]
            if len(groups) >= k or len(found) < most:
                return groups[:k]
            most += k

    def _merged(self, found: list[Found]) -> list[list[Found]]:
        """What is `found`, best first, those of different videos that show the same together."""
        known = [self.frames_of(one.video) for one in found]
        means = [mean_of(mine[0], one.span) if mine else np.zeros(0) for one, mine in zip(found, known, strict=True)]
        groups: list[list[Found]] = []
        heads: list[int] = []
        for number, one in enumerate(found):
            for group, head in zip(groups, heads, strict=True):
                mine, its, video = known[number], known[head], found[head].video
                if mine is None or its is None or video == one.video or means[number] @ means[head] < NEARLY_ALIKE:
                    continue
                if is_same(mine[0], one.span, one.peak, its[0], found[head].span, found[head].peak):
                    group.append(one)
                    break
            else:
                groups.append([one])
                heads.append(number)
        return groups

    def _nearest(self, asked: Sought, count: int, allowed: np.ndarray | None = None) -> _Rows:
        """The `count` rows with the highest cosines, of videos that are `allowed`."""
        may = None if allowed is None else (self.index.video_of_row >= 0) & allowed[self.index.video_of_row]
        found, ids = self.index.vectors.search(asked.vector[None], count, may)
        there = ids[0] >= 0
        ids, cosines = ids[0][there], found[0][there].astype(np.float64)
        # The index may be somebody else's, with numbers in it that no extraction made.
        if (ids >= len(self.index.spans)).any() or not np.isfinite(cosines).all():
            raise CacheError("the index holds rows or values that fit nothing", hint=Hint("index"))
        # Where an index gives fewer rows than it was asked for, it has no more to give.
        is_all = len(ids) < count or count >= len(self.index.vectors)
        bound = -np.inf if is_all else float(cosines.min())
        compared = self.background if asked.is_of_texts else None
        scores = cosines if compared is None else cosines - compared.bias[ids]
        order = np.lexsort((ids, -scores))
        return _Rows(ids[order], scores[order], bound)

    def _best(
        self,
        asked: Sought,
        rows: _Rows,
        most: int,
        per_video: int,
        seen: dict[int, Moments],
        told: dict[int, Told | None],
    ) -> tuple[list[Found], bool]:
        owners = self._first[self.index.video_of_row[rows.ids]]
        starts = np.sort(np.unique(owners, return_index=True)[1])
        tops = [(int(owners[i]), float(rows.scores[i])) for i in starts]
        raw = None if self._finder.trained is None else asked.raw
        videos = None if raw is None else max(VIDEOS, most)

        def of(video: int) -> list[Found]:
            if video not in seen:
                if raw is not None and video not in told:
                    some = [v for v, _ in tops[:videos] if v not in told][:TOGETHER]
                    self._tell(some, raw, asked.lasting or ANY, told)
                seen[video] = self._moments(video, asked, per_video, told.get(video))
            m, (least, longest) = seen[video], asked.lasting or ANY
            return [
                Found(video, float(score), span, float(peak), float(certain))
                for score, span, peak, certain in zip(m.scores, m.spans, m.peaks, m.certain, strict=True)
                if least - _ROUNDING <= span[1] - span[0] <= longest + _ROUNDING
            ]

        return looked_into(tops, of, most, rows.bound, videos)

    def _tell(self, videos: list[int], raw: np.ndarray, lasting: Lasting, told: dict[int, Told | None]) -> None:
        """What the head says of `videos`, put into `told`; None of one that left the cache."""
        known = {v: self._frames_of_head.of(self.index.videos[v]) for v in videos}
        there = {v: held for v, held in known.items() if held is not None}
        told.update(dict.fromkeys(videos))
        told.update(zip(there, self._finder.told(list(there.values()), raw, lasting), strict=True))

    def _moments(self, video: int, asked: Sought, most: int, told: Told | None) -> Moments:
        features, frames = self.frames_of(video) or (None, np.zeros((0, self.index.dim), np.float32))
        mean = self.background.mean if self.background is not None and asked.is_of_texts else None
        return self._finder.find(features, frames, asked.vector, self._segments(asked, video), most, told, mean)

    def _segments(self, asked: Sought, video: int) -> Segments:
        rows = self._rows_of(video)
        lasting = asked.lasting
        scores = cosines = (self.index.vectors_of(rows) @ asked.vector).astype(np.float64)
        if not np.isfinite(cosines).all():
            raise CacheError("the index holds values that are no numbers", hint=Hint("index"))
        if self.background is not None and asked.is_of_texts:
            scores = cosines - self.background.bias[rows]
            lasting = lasting or self.background.lasting
        return Segments(self.index.spans[rows], scores, float(cosines.max()), lasting or ANY)

    def _chains(self, steps: list[Sought], video: int, within: float, most: int) -> list[Chain]:
        known = self.frames_of(video)
        if known is None:
            return []
        features, frames = known
        curves = [frames @ step.vector for step in steps]
        return chains(curves, features.timestamps_seconds, features.duration_seconds, within, most)

    def _rows_of(self, video: int) -> np.ndarray:
        order, begins = self._by_video
        rows: np.ndarray = order[begins[video] : begins[video + 1]]
        return rows

    @cached_property
    def _frames(self) -> SearchedFrames:
        return SearchedFrames(self.cache, self.model)

    @cached_property
    def _frames_of_head(self) -> SearchedFrames:
        trained = self._finder.trained
        if trained is None or bool(self.model.projector.alpha == trained.projector.alpha):
            return self._frames
        return SearchedFrames(self.cache, trained)

    @cached_property
    def _finder(self) -> Finder:
        return Finder.of(self.model)

    @cached_property
    def _by_video(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the index by video; where those of each begin, and where the last ones end."""
        order = np.argsort(self.index.video_of_row, kind="stable")
        return order, np.searchsorted(self.index.video_of_row[order], np.arange(len(self.index.videos) + 1))

    @cached_property
    def _first(self) -> np.ndarray:
        """`(V,)` of each video the first with the same content."""
        found = np.arange(len(self.index.videos))
        for first, videos in self.copies.items():
            found[videos] = first
        return found
