"""From words, pictures and moments to hits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from vla.cache.store import FeatureCache
from vla.captions import store as caption_store
from vla.encoders.base import TextEncoder
from vla.errors import MissingError, UsageError
from vla.hints import Hint
from vla.indexing.store import SearchIndex
from vla.model import AlignmentModel
from vla.naming.matching import Names
from vla.retrieval.candidates import Candidate
from vla.retrieval.filters import Metadata, VideoFilter, check_columns, metadata_of
from vla.retrieval.hits import Hit, Hits
from vla.retrieval.hubness import HubnessCorrection
from vla.retrieval.image_query import encode_image
from vla.retrieval.indexed_videos import IndexedVideos
from vla.retrieval.query import EncodedQuery, Query, Weighted, encode_query, from_image, subtract
from vla.retrieval.ranking import Ranking
from vla.storage.workspace import Workspace

_ROUNDING = 1e-9
_NESTED = 8
"""So many moments of a video may hold the same time: as they overlap by at most 0.3, each is three times as long as the next."""


@dataclass(frozen=True)
class Searcher:
    """Everything a search needs, loaded once. Changes nothing that a search depends on, so threads may share it.

    Of the videos in `unsure` no confidence is given: the encoder knows nothing of what they show.
    """

    index: SearchIndex
    encoder: TextEncoder
    model: AlignmentModel
    cache: FeatureCache
    workspace: Workspace
    background: HubnessCorrection | None = None
    lists_missing: bool = True
    """Also moments of videos whose files are gone; else these are left out and counted."""
    unsure: frozenset[str] = frozenset()

    def search(
        self,
        query: str | Query,
        k: int = 10,
        per_video: int = 3,
        fpr: float | None = None,
        limits: VideoFilter | None = None,
    ) -> Hits:
        """The `k` moments that match `query` best, at most `per_video` of one video; what shows the same counts as one.

        Videos are looked into in the order of their best segments, until none that is left can have a better moment: the
        result is that of looking into all. (Segments that fewer queries than usual like may gain by their bias; those whose
        cosine is too low for the first thousand or more are not looked at for that.)

        Args:
            query: what to look for; words, or a `Query` of several texts.
            k: how many.
            per_video: of one video.
            fpr: leave out what queries that nothing here matches find at a higher rate; None leaves nothing out.
            limits: which videos to look at; all when None. What is found in these is what a search of all finds there.

        Raises:
            UsageError: a text is blank or longer than 2,000 characters, a number is not positive, or the rate is lower than
                the background can tell.
            MissingError: a rate is given and there is no background.
        """
        asked = Query(query) if isinstance(query, str) else query
        self._check_counts(k, per_video)
        self._check_rate(fpr)
        steps = encode_query(asked, self.encoder, self.model)
        if asked.lasting is not None:
            # In a video that is briefer nothing lasts so long.
            some = limits or VideoFilter()
            limits = replace(some, min_duration=max(some.min_duration, asked.lasting[0]))

        def find(allowed: np.ndarray | None) -> Hits:
            if len(steps) == 1:
                groups = self._ranking.moments(steps[0], k, per_video, allowed)
            else:
                groups = self._ranking.sequences(steps, asked.within, k, per_video, allowed)
            return self._hits(groups, steps, asked.title, allowed)

        hits = self._there(find, self.allowed(limits))
        if fpr is None:
            return hits
        return Hits((h for h in hits if (h.confidence or 0.0) >= 1 - fpr - _ROUNDING), hits.omissions)

    def search_picture(
        self,
        pixels: np.ndarray,
        name: str,
        k: int = 10,
        per_video: int = 3,
        limits: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """The `k` moments that look most like a picture, as `search` finds them by words; no confidence is known of them.

        Args:
            pixels: `(1, H, W, 3)` uint8.
            name: what the hits have as their query.
            k: how many.
            per_video: of one video.
            limits: which videos to look at.
            negative: texts that tell of what is not wanted, with weights.

        Raises:
            UsageError: a number is not positive.
            MissingError: the features were imported.
        """
        self._check_counts(k, per_video)
        asked = from_image(encode_image(pixels, self.encoder, self.model), name)
        return self._of_picture(self._less(asked, negative), k, per_video, limits)

    def search_like(
        self,
        video_id: str,
        seconds: float,
        k: int = 10,
        per_video: int = 3,
        limits: VideoFilter | None = None,
        negative: Sequence[Weighted] = (),
    ) -> Hits:
        """The `k` moments that are most like what a video shows then; the moment itself, also in copies, is not among them.

        Args:
            video_id: name of a video in the cache.
            seconds: when, from 0 to its end.
            k: how many.
            per_video: of one video.
            limits: which videos to look at.
            negative: texts that tell of what is not wanted, with weights.

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
        asked = self._less(from_image(vector, f"{video_id}@{seconds:g}"), negative)
        # Others that show the same are what is looked for here, so they stay results of their own.
        every = self._of_picture(asked, k + _NESTED, per_video + _NESTED, limits, merge=False)

        def is_itself(hit: Hit) -> bool:
            same = video_id == hit.video_id or bool(key and key == self.cache.receipts[hit.video_id].sha256)
            return same and hit.start <= times[frame] < hit.end

        count: dict[str, int] = defaultdict(int)
        kept = Hits((), every.omissions)
        for hit in every:
            count[hit.video_id] += not is_itself(hit)
            if not is_itself(hit) and count[hit.video_id] <= per_video and len(kept) < k:
                kept.append(replace(hit, rank=len(kept) + 1))
        return kept

    def _check_counts(self, k: int, per_video: int) -> None:
        if k < 1 or per_video < 1:
            raise UsageError(f"k and per_video must be at least 1, not {k} and {per_video}")

    def _less(self, asked: EncodedQuery, negative: Sequence[Weighted]) -> EncodedQuery:
        """What is asked, less the texts that are not wanted."""
        weighted = Query(asked.text, negative=tuple(negative)).negative
        others = [encode_query(Query(text), self.encoder, self.model)[0] for text, _ in weighted]
        return subtract(asked, others, [weight for _, weight in weighted])

    def _of_picture(
        self, asked: EncodedQuery, k: int, per_video: int, limits: VideoFilter | None, merge: bool = True
    ) -> Hits:
        def find(allowed: np.ndarray | None) -> Hits:
            groups = self._ranking.moments(asked, k, per_video, allowed, merge=merge)
            return self._hits(groups, [asked], asked.text, allowed)

        return self._there(find, self.allowed(limits))

    def _there(self, find: Callable[[np.ndarray | None], Hits], allowed: np.ndarray | None) -> Hits:
        """What `find` finds among the videos that are `allowed` `(V,)`, less those whose files are gone, which are counted.

        Files are looked for only once one of those found is gone. Of imported features the videos need never have been here.
        """
        hits = find(allowed)
        if self.lists_missing or not any(hit.is_missing for hit in hits):
            return hits
        may = np.ones(len(self.index.videos), bool) if allowed is None else allowed
        there = np.array([self.workspace.video_path(name).exists() for name in self.index.videos], bool)
        # A copy that is there stands for one that is gone.
        for videos in self._videos.copies.values():
            there[videos] = there[videos].any()
        # Where none is there, a disk is not plugged in or the workspace was copied without its videos: each hit says so.
        if not there.any():
            return hits
        hits = find(may & there)
        for number in np.flatnonzero(may & ~there):
            hits.omissions.add("missing-file", self.index.videos[number])
        return hits

    def allowed(self, limits: VideoFilter | None) -> np.ndarray | None:
        """`(V,)` bool, which videos of the index to look at; None for all."""
        if limits is None or limits.is_none:
            return None
        if limits.where:
            check_columns(limits.where, self._told)
        told = self._told if limits.where else {}
        return np.array(limits.allowed(self.names, (self.workspace.root, Path.cwd()), self.cache.receipts, told), bool)

    def _check_rate(self, fpr: float | None) -> None:
        if fpr is None:
            return
        if self.unsure.issuperset(self.index.videos):
            raise MissingError(
                "no false-positive rate is known here: the demo encoder knows nothing of these videos. Leave the rate out, or "
                "extract with another model"
            )
        if self.background is None:
            raise MissingError(
                "no false-positive rate is known here: either the index is out of date, or there are neither "
                "captions to compare with nor an encoder for queries of ours",
                hint=Hint("index_or_caption"),
            )
        self.background.check_rate(fpr)

    def _hits(
        self, groups: list[list[Candidate]], steps: list[EncodedQuery], title: str, allowed: np.ndarray | None
    ) -> Hits:
        return Hits(self._hit(rank, group, steps, title, allowed) for rank, group in enumerate(groups, 1))

    def _hit(
        self, rank: int, group: list[Candidate], steps: list[EncodedQuery], title: str, allowed: np.ndarray | None
    ) -> Hit:
        found, *same = group
        names = [self.index.videos[v] for v in self._videos.copies[found.video] if allowed is None or allowed[v]]
        paths = [self.workspace.video_path(name) for name in names]
        there = next((i for i, path in enumerate(paths) if path.exists()), None)
        name, path = names[there or 0], paths[there or 0]
        # Of imported features the videos need never have been here.
        is_elsewhere = there is None and self.index.spec.is_imported
        told, sure = [], [self._ranking.confidence(steps[0], found)]
        if found.steps is not None:
            chain = found.steps
            sure = [self._ranking.confidence(s, found, span) for s, span in zip(steps, chain.spans, strict=True)]
            parts = zip(steps, chain.spans.tolist(), chain.peaks.tolist(), strict=True)
            told = [(step.text, *span, peak) for step, span, peak in parts]
        known = [c for c in sure if c is not None]
        start, end = found.span.tolist()
        return Hit(
            rank, found.score, name, "" if is_elsewhere else str(path), start, end, found.peak, title,
            is_missing=there is None and not is_elsewhere,
            confidence=min(known) if len(known) == len(sure) and name not in self.unsure else None,
            copies=tuple(n for n in names if n != name),
            similar=tuple((self.index.videos[o.video], *o.span.tolist()) for o in same),
            steps=tuple(told),
        )  # fmt: skip

    @cached_property
    def _videos(self) -> IndexedVideos:
        return IndexedVideos(self.index, self.model, self.cache, self.background)

    @cached_property
    def _ranking(self) -> Ranking:
        return Ranking(self._videos)

    @cached_property
    def names(self) -> Names:
        """The videos of the index, by any name that means them."""
        return Names(self.index.videos, self.workspace.root)

    @cached_property
    def _told(self) -> dict[str, list[Metadata]]:
        """What captions tables say of each video."""
        return metadata_of(caption_store.load(self.workspace, lambda told: None))
