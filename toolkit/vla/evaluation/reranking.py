"""Searches whose best are ranked anew by a score that is no product of two vectors, as an index of vectors can be used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla.model import AlignmentModel

RERANK_DEPTH = 100
"""So many of the best by whole vectors are compared anew, for each that asks; the others follow in the order they had."""


def has_reranker(model: AlignmentModel) -> bool:
    """True if the model was trained to compare the tokens of captions with frames."""
    return model.compares_tokens


def rerank_best(
    model: AlignmentModel,
    similarity: np.ndarray,
    texts: np.ndarray,
    tokens: Sequence[np.ndarray] | None,
    frames: Sequence[np.ndarray],
    asking: tuple[np.ndarray, np.ndarray] | None = None,
    most: int = RERANK_DEPTH,
) -> tuple[np.ndarray, np.ndarray]:
    """`(A, V)` scores for texts that search videos, and `(B, Q)` for videos that search texts.

    Each row has the model's own scores of its `most` best, above all others.

    Args:
        model: one that `has_reranker`.
        similarity: `(Q, V)` cosines of whole vectors.
        texts: `(Q, E)` unit vectors.
        tokens: `(L, E)` unit tokens of each text; None where the score reads none.
        frames: `(T, E)` unit frames of each video.
        asking: `(Q,)` bool, the A texts that search, and `(V,)` bool, the B videos that do; all if None.
        most: see `RERANK_DEPTH`.
    """
    some, back = asking or (np.ones(len(texts), bool), np.ones(len(frames), bool))
    of_texts, of_videos = _best(similarity, most) & some[:, None], _best(similarity.T, most).T & back
    own = np.full(similarity.shape, np.nan)
    # Video by video: texts are short, and no video is padded.
    for video, chosen in enumerate((of_texts | of_videos).T):
        rows = np.flatnonzero(chosen).tolist()
        said = None if tokens is None else [tokens[row] for row in rows]
        if rows:
            own[rows, video] = model.rerank(texts[rows], said, [frames[video]])[:, 0]
    to_video, to_text = (
        (own[some], similarity[some], of_texts[some]),
        (own.T[back], similarity.T[back], of_videos.T[back]),
    )
    return _above(*to_video), _above(*to_text)


def _best(similarity: np.ndarray, most: int) -> np.ndarray:
    """`(Q, N)` bool, `most` in each row: the largest, of equal ones the first."""
    chosen = np.zeros(similarity.shape, bool)
    np.put_along_axis(chosen, np.argsort(-similarity, axis=1, kind="stable")[:, :most], True, axis=1)
    return chosen


def _above(own: np.ndarray, similarity: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """`own` where `chosen`, and below all of it, `similarity`."""
    lowest = np.where(chosen, own, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    highest = np.where(chosen, -np.inf, similarity).max(axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):  # of a row of which all or none is chosen, what is not finite goes unread
        return np.where(chosen, own, similarity - highest + lowest - 1)
