"""Reranking of the best candidates by a score that no vector index can compute."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.model import AlignmentModel

RERANK_DEPTH = 100
"""Number of candidates, by whole vectors, that are reranked; the others keep their order below."""


def has_reranker(model: AlignmentModel) -> bool:
    """Return whether the model was trained to compare caption tokens with frames."""
    return model.compares_tokens


def rerank_best(
    model: AlignmentModel,
    similarity: np.ndarray,
    texts: np.ndarray,
    tokens: Sequence[np.ndarray] | None,
    frames: Sequence[np.ndarray],
    searching: tuple[np.ndarray, np.ndarray] | None = None,
    depth: int = RERANK_DEPTH,
) -> tuple[np.ndarray, np.ndarray]:
    """Rerank the best candidates of texts that search videos, and of videos that search texts.

    The `depth` best candidates of each row have the model's own scores, above all others.

    Args:
        model: one that `has_reranker`.
        similarity: `(Q, V)` cosines of whole vectors.
        texts: `(Q, E)` unit vectors.
        tokens: `(L, E)` unit tokens of each text; None if the score reads none.
        frames: `(T, E)` unit frames of each video.
        searching: `(Q,)` bool, the A texts that search, and `(V,)` bool, the B videos that search;
            all if None.
        depth: see `RERANK_DEPTH`.

    Returns:
        Scores `(A, V)` of texts and `(B, Q)` of videos.
    """
    text_mask, video_mask = searching or (np.ones(len(texts), bool), np.ones(len(frames), bool))
    text_candidates, video_candidates = (
        _top(similarity, depth) & text_mask[:, None],
        _top(similarity.T, depth).T & video_mask,
    )
    scores = np.full(similarity.shape, np.nan)
    # One video at a time: texts are short, and videos need no padding.
    for video, column in enumerate((text_candidates | video_candidates).T):
        rows = np.flatnonzero(column).tolist()
        text_tokens = None if tokens is None else [tokens[row] for row in rows]
        if rows:
            scores[rows, video] = model.rerank(texts[rows], text_tokens, [frames[video]])[:, 0]
    video_parts, text_parts = (
        (scores[text_mask], similarity[text_mask], text_candidates[text_mask]),
        (scores.T[video_mask], similarity.T[video_mask], video_candidates.T[video_mask]),
    )
    return _rank_above(*video_parts), _rank_above(*text_parts)


def _top(similarity: np.ndarray, depth: int) -> np.ndarray:
    """Return `(Q, N)` bool: the `depth` largest of each row, the first among equal ones."""
    is_best = np.zeros(similarity.shape, bool)
    np.put_along_axis(
        is_best, np.argsort(-similarity, axis=1, kind="stable")[:, :depth], True, axis=1
    )
    return is_best


def _rank_above(scores: np.ndarray, similarity: np.ndarray, is_candidate: np.ndarray) -> np.ndarray:
    """Return `scores` of candidates, and, below all of these, `similarity`."""
    lowest = np.where(is_candidate, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    highest = np.where(is_candidate, -np.inf, similarity).max(
        axis=1, keepdims=True, initial=-np.inf
    )
    with np.errstate(
        invalid="ignore"
    ):  # rows with all or no candidates: non-finite values are not used
        return np.where(is_candidate, scores, similarity - highest + lowest - 1)
