"""From words to moments: videos by their best segments, then the moments in these."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from vla.cache.store import FeatureCache
from vla.corpus import joined
from vla.encoders.base import TextEncoder
from vla.errors import CacheError, MissingError, UsageError
from vla.model import AlignmentModel
from vla.search.background import Background
from vla.search.frames import SearchedFrames
from vla.search.hits import Hit, Hits
from vla.search.limits import Limits
from vla.search.moments import Finder, Moments, Segments, of_segments
from vla.search.pictures import vector_of
from vla.search.store import SearchIndex
from vla.sentences import split_to_fit
from vla.workspace import Workspace

_MAX_QUERY = 2_000
_FIRST_ROWS = 1_000
"""Segments asked for at first; many belong to the same few videos, so more are asked for until there are enough."""
_ROWS_PER_HIT = 20
_ROUNDING = 1e-9
_NESTED = 8
"""So many moments of a video may hold the same time: as they overlap by at most 0.3, each is three times as long as the next."""


@dataclass(frozen=True)
class _Asked:
    """A query: its raw text feature `(D,)`, None of a picture, and its unit vector `(E,)` in the shared space.

    What was measured with texts, bias and confidence, holds for texts alone.
    """

    text: str
    raw: np.ndarray | None
    vector: np.ndarray


@dataclass(frozen=True)
class _Rows:
    """Rows of the index, best first: ids, cosines less bias, and cosines `(n,)`. No other row's cosine is above `bound`."""

    ids: np.ndarray
    scores: np.ndarray
    cosines: np.ndarray
    bound: float


@dataclass(frozen=True)
class Searcher:
    """Everything a search needs, loaded once. Changes nothing that a search depends on, so threads may share it."""

    index: SearchIndex
    encoder: TextEncoder
    model: AlignmentModel
    cache: FeatureCache
    workspace: Workspace
    background: Background | None = None

    def search(
        self, query: str, k: int = 10, per_video: int = 3, fpr: float | None = None, limits: Limits | None = None
    ) -> Hits:
        """The `k` moments that match `query` best, at most `per_video` of one video; copies of a video count as one.

        Videos are looked into in the order of their best segments, until none that is left can have a better moment: the
        result is that of looking into all. (Segments that fewer queries than usual like may gain by their bias; those whose
        cosine is too low for the first thousand or more are not looked at for that.)

        Args:
            query: what to look for.
            k: how many.
            per_video: of one video.
            fpr: leave out what queries that nothing here matches find at a higher rate; None leaves nothing out.
            limits: which videos to look at; all when None. What is found in these is what a search of all finds there.

        Raises:
            UsageError: the query is blank or longer than 2,000 characters, a number is not positive, or the rate is lower
                than the background can tell.
            MissingError: a rate is given and there is no background.
        """
        query = query.replace("\0", " ").strip()
        if not query or len(query) > _MAX_QUERY:
            raise UsageError(f"a query has 1 to {_MAX_QUERY} characters, not {len(query)}")
        self._check_counts(k, per_video)
        self._check_rate(fpr)
        hits = self._found(self._asked(query), k, per_video, limits)
        return hits if fpr is None else Hits(h for h in hits if (h.confidence or 0.0) >= 1 - fpr - _ROUNDING)

    def search_picture(
        self, pixels: np.ndarray, name: str, k: int = 10, per_video: int = 3, limits: Limits | None = None
    ) -> Hits:
        """The `k` moments that look most like a picture, as `search` finds them by words; no confidence is known of them.

        Args:
            pixels: `(1, H, W, 3)` uint8.
            name: what the hits have as their query.
            k: how many.
            per_video: of one video.
            limits: which videos to look at.

        Raises:
            UsageError: a number is not positive.
            MissingError: the features were imported.
        """
        self._check_counts(k, per_video)
        return self._found(_Asked(name, None, vector_of(pixels, self.encoder, self.model)), k, per_video, limits)

    def search_like(
        self, video_id: str, seconds: float, k: int = 10, per_video: int = 3, limits: Limits | None = None
    ) -> Hits:
        """The `k` moments that are most like what a video shows then; the moment itself, also in copies, is not among them.

        Args:
            video_id: name of a video in the cache.
            seconds: when, from 0 to its end.
            k: how many.
            per_video: of one video.
            limits: which videos to look at.

        Raises:
            MissingError: there are no features of that video.
            UsageError: the time is outside of it, or a number is not positive.
        """
        self._check_counts(k, per_video)
        features = self.cache.frames(video_id)
        if not 0 <= seconds <= features.duration_seconds:
            raise UsageError(
                f"{video_id} is {features.duration_seconds:.1f} s long: there is nothing like what it shows at {seconds:g} s"
            )
        times = features.timestamps_seconds
        frame = max(0, int(np.searchsorted(times, seconds, side="right")) - 1)
        vector = self.model.align_frames(features)[frame]
        key = self.cache.receipts[video_id].sha256
        every = self._found(_Asked(f"{video_id}@{seconds:g}", None, vector), k + _NESTED, per_video + _NESTED, limits)

        def is_itself(hit: Hit) -> bool:
            same = video_id == hit.video_id or bool(key and key == self.cache.receipts[hit.video_id].sha256)
            return same and hit.start <= times[frame] < hit.end

        count: dict[str, int] = defaultdict(int)
        kept = Hits()
        for hit in every:
            count[hit.video_id] += not is_itself(hit)
            if not is_itself(hit) and count[hit.video_id] <= per_video and len(kept) < k:
                kept.append(replace(hit, rank=len(kept) + 1))
        return kept

    def _check_counts(self, k: int, per_video: int) -> None:
        if k < 1 or per_video < 1:
            raise UsageError(f"k and per_video must be at least 1, not {k} and {per_video}")

    def _found(self, asked: _Asked, k: int, per_video: int, limits: Limits | None) -> Hits:
        allowed = self._allowed(limits)
        rows = min(len(self.index.vectors), max(_FIRST_ROWS, _ROWS_PER_HIT * k, 1))
        seen: dict[tuple[int, int], Moments] = {}
        while True:
            best, is_whole = self._best(asked, self._nearest(asked, rows, allowed), k, per_video, seen)
            if is_whole or rows >= len(self.index.vectors):
                break
            rows = min(len(self.index.vectors), 4 * rows)
        return Hits(
            self._hit(rank, video, moments, i, asked, allowed) for rank, (video, moments, i) in enumerate(best, 1)
        )

    def _allowed(self, limits: Limits | None) -> np.ndarray | None:
        """`(V,)` bool, which videos of the index to look at; None for all."""
        if limits is None or limits.is_none:
            return None
        return np.array([limits.allow(name, self.cache.receipts.get(name)) for name in self.index.videos], bool)

    def _check_rate(self, fpr: float | None) -> None:
        if fpr is None:
            return
        if self.background is None:
            raise MissingError(
                "no false-positive rate is known here: either the index is out of date (run 'vla index'), or there are neither "
                "captions to compare with nor an encoder for queries of ours (give captions: 'vla extract --captions FILE')"
            )
        self.background.check_rate(fpr)

    def _asked(self, query: str) -> _Asked:
        """The query; of one longer than the encoder's context, the mean direction of its parts."""
        told = self.encoder.encode_text(split_to_fit(query, self.encoder.fits))
        tokens = [rows[real] for rows, real in zip(told.tokens, told.mask, strict=True)]
        mean = self.model.align_texts(told.pooled, tokens).mean(0)
        vector = (mean / max(1e-12, float(np.linalg.norm(mean)))).astype(np.float32)
        return _Asked(query, joined(told.pooled.astype(np.float32)), vector)

    def _nearest(self, asked: _Asked, count: int, allowed: np.ndarray | None = None) -> _Rows:
        """Rows among the `count` with the highest cosines, those of videos that are `allowed`."""
        found, ids = self.index.vectors.search(asked.vector[None], count)
        there = ids[0] >= 0
        ids, cosines = ids[0][there], found[0][there].astype(np.float64)
        # The index may be somebody else's, with numbers in it that no extraction made.
        if (ids >= len(self.index.spans)).any() or not np.isfinite(cosines).all():
            raise CacheError("the index holds rows or values that fit nothing: run 'vla index' again")
        # Where an index gives fewer rows than it was asked for, it has no more to give.
        is_all = len(ids) < count or count >= len(self.index.vectors)
        bound = -np.inf if is_all else float(cosines.min())
        if allowed is not None:
            some = allowed[self.index.video_of_row[ids]]
            ids, cosines = ids[some], cosines[some]
        compared = None if asked.raw is None else self.background
        scores = cosines if compared is None else cosines - compared.bias[ids]
        order = np.lexsort((ids, -scores))
        return _Rows(ids[order], scores[order], cosines[order], bound)

    def _best(
        self, asked: _Asked, rows: _Rows, k: int, per_video: int, seen: dict[tuple[int, int], Moments]
    ) -> tuple[list[tuple[int, Moments, int]], bool]:
        """The best `k` of (video, its moments, which of them), and whether no row that was not looked at could change them."""
        owners = self._first[self.index.video_of_row[rows.ids]]
        found: list[tuple[int, Moments, int]] = []
        is_whole = True
        for start in np.sort(np.unique(owners, return_index=True)[1]):
            video, top = int(owners[start]), float(rows.scores[start])
            if len(found) >= k and _score(found[k - 1]) >= top:
                break
            if top < rows.bound:
                is_whole = False
                break
            places = np.flatnonzero(owners == video)
            key = (video, len(places))
            if key not in seen:
                best = float(rows.cosines[places].max())
                held = Segments(self.index.spans[rows.ids[places]], rows.scores[places], best)
                seen[key] = self._moments(video, asked, held, per_video)
            found += [(video, seen[key], i) for i in range(len(seen[key].scores))]
            found.sort(key=_score, reverse=True)
        found = found[:k]
        return found, is_whole and (rows.bound == -np.inf or (len(found) == k and _score(found[-1]) >= rows.bound))

    def _moments(self, video: int, asked: _Asked, held: Segments, most: int) -> Moments:
        known = self._frames.of(self.index.videos[video])
        if known is None:
            return of_segments(None, np.zeros(0), held, most)
        features, frames = known
        first, last = self._rows_of[video], self._rows_of[video + 1]
        windows = self.index.spans[self._by_video[first:last]]
        return self._finder.find(features, frames, asked.raw, asked.vector, held, windows, most)

    def _hit(
        self, rank: int, video: int, moments: Moments, place: int, asked: _Asked, allowed: np.ndarray | None
    ) -> Hit:
        names = [self.index.videos[v] for v in self._copies[video] if allowed is None or allowed[v]]
        paths = [self.workspace.video_path(name) for name in names]
        there = next((i for i, path in enumerate(paths) if path.exists()), None)
        name, path = names[there or 0], paths[there or 0]
        # Of imported features the videos need never have been here.
        is_elsewhere = there is None and self.index.spec.is_imported
        confidence = None
        if self.background is not None and asked.raw is not None:
            confidence = float(self.background.confidence(moments.certain[[place]])[0])
        (start, end), peak = moments.spans[place].tolist(), float(moments.peaks[place])
        return Hit(
            rank, float(moments.scores[place]), name, "" if is_elsewhere else str(path), start, end, peak, asked.text,
            there is None and not is_elsewhere, confidence, tuple(n for n in names if n != name),
        )  # fmt: skip

    @cached_property
    def _frames(self) -> SearchedFrames:
        return SearchedFrames(self.cache, self.model)

    @cached_property
    def _finder(self) -> Finder:
        return Finder.of(self.model)

    @cached_property
    def _by_video(self) -> np.ndarray:
        """Rows of the index by video."""
        return np.argsort(self.index.video_of_row, kind="stable")

    @cached_property
    def _rows_of(self) -> np.ndarray:
        """Where the rows of each video begin in `_by_video`, and where the last ones end."""
        return np.searchsorted(self.index.video_of_row[self._by_video], np.arange(len(self.index.videos) + 1))

    @cached_property
    def _copies(self) -> dict[int, list[int]]:
        """The videos of the index with the same content, by the first of them."""
        groups: dict[str, list[int]] = defaultdict(list)
        for video, name in enumerate(self.index.videos):
            receipt = self.cache.receipts.get(name)
            groups[receipt.sha256 if receipt and receipt.sha256 else name].append(video)
        return {videos[0]: videos for videos in groups.values()}

    @cached_property
    def _first(self) -> np.ndarray:
        """`(V,)` of each video the first with the same content."""
        found = np.arange(len(self.index.videos))
        for first, videos in self._copies.items():
            found[videos] = first
        return found


def _score(found: tuple[int, Moments, int]) -> float:
    return float(found[1].scores[found[2]])
