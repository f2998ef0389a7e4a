"""Converter of ranked candidates to hits: file, duplicates, confidence and steps of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla.retrieval.candidates import Candidate
from vla.retrieval.hits import Hit, Hits
from vla.retrieval.query import EncodedQuery
from vla.retrieval.ranking import Ranking
from vla.storage.workspace import Workspace


@dataclass(frozen=True)
class HitConverter:
    """Converter of the candidates of a ranking to hits. Thread-safe.

    Attributes:
        ranking: the ranking.
        workspace: the workspace of the videos.
        videos_without_confidence: names of videos whose hits have no confidence.
    """

    ranking: Ranking
    workspace: Workspace
    videos_without_confidence: frozenset[str] = frozenset()

    def hits(
        self,
        groups: list[list[Candidate]],
        steps: list[EncodedQuery],
        title: str,
        video_mask: np.ndarray | None,
    ) -> Hits:
        """Return a hit for each of `groups`, in order.

        Args:
            groups: candidates, each followed by its near-duplicates.
            steps: the query, or the steps of a sequence.
            title: query of the hits.
            video_mask: `(V,)` bool, the videos that were searched; None for all.
        """
        return Hits(
            self._hit(rank, group, steps, title, video_mask) for rank, group in enumerate(groups, 1)
        )

    def _hit(
        self,
        rank: int,
        group: list[Candidate],
        steps: list[EncodedQuery],
        title: str,
        video_mask: np.ndarray | None,
    ) -> Hit:
        best, *near_duplicates = group
        index = self.ranking.videos.index
        duplicates = self.ranking.videos.duplicates[best.video]
        names = [index.videos[v] for v in duplicates if video_mask is None or video_mask[v]]
        paths = [self.workspace.video_path(name) for name in names]
        existing = next((i for i, path in enumerate(paths) if path.exists()), None)
        name, path = names[existing or 0], paths[existing or 0]
        # Videos with imported features need not have files.
        is_elsewhere = existing is None and index.spec.is_imported
        start, end = best.span.tolist()
        return Hit(
            rank,
            best.score,
            name,
            "" if is_elsewhere else str(path),
            start,
            end,
            best.peak,
            title,
            is_missing=existing is None and not is_elsewhere,
            confidence=None
            if name in self.videos_without_confidence
            else self._confidence(best, steps),
            duplicates=tuple(n for n in names if n != name),
            near_duplicates=tuple(
                (index.videos[c.video], *c.span.tolist()) for c in near_duplicates
            ),
            steps=_step_spans(best, steps),
        )

    def _confidence(self, candidate: Candidate, steps: list[EncodedQuery]) -> float | None:
        """Return the lowest confidence of the steps; None if that of any is unknown."""
        spans = [None] if candidate.sequence is None else list(candidate.sequence.spans)
        confidences = [
            self.ranking.confidence(step, candidate, span)
            for step, span in zip(steps, spans, strict=True)
        ]
        numbers = [c for c in confidences if c is not None]
        return min(numbers) if len(numbers) == len(confidences) else None


def _step_spans(
    candidate: Candidate, steps: list[EncodedQuery]
) -> tuple[tuple[str, float, float, float], ...]:
    """Return text, start, end and peak of each step of a sequence; none for a moment."""
    if candidate.sequence is None:
        return ()
    spans, peaks = candidate.sequence.spans.tolist(), candidate.sequence.peaks.tolist()
    return tuple(
        (step.text, start, end, peak)
        for step, (start, end), peak in zip(steps, spans, peaks, strict=True)
    )
