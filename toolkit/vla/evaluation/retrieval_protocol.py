"""Retrieval as the benchmarks ask for it: captions and videos both ways, paragraphs, and moments that lead to their video."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vla.batches.corpus import Query
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.reranking import has_reranker, rerank_best
from vla.evaluation.results import BaselineScores, PerQueryScores, Scores, ScoreTable
from vla.metrics.baselines import retrieval_chance
from vla.metrics.retrieval import PARTIAL_RECALLS, RECALLS, recalls_and_ranks
from vla.metrics.similarity_normalization import dual_softmax, querybank

MOMENT_TO_VIDEO = "moment to video"
_MOST_SCORES = 1 << 26
"""Tricks are left out of matrices larger than this: they need several copies of them."""

_IN_BANK = 5000


@dataclass(frozen=True)
class Search:
    """A matrix of scores with what is right in it.

    Attributes:
        similarity: `(Q, N)` of what asks and what is searched.
        relevant: `(Q, N)` bool.
        videos: `(Q,)` the video that each query belongs to.
        bank: `(B, N)` scores of queries that nothing is tested with; None where there are none.
        recalls: the k of R@k.
        partial: SumR stands instead of ranks.
        plain: scores are of one kind, as the tricks want them.
    """

    similarity: np.ndarray
    relevant: np.ndarray
    videos: np.ndarray
    bank: np.ndarray | None = None
    recalls: Sequence[int] = RECALLS
    partial: bool = False
    plain: bool = True


def searches(
    seen: CorpusPredictions,
    bank: CorpusPredictions | None = None,
    kinds: Collection[str] = ("retrieval", "paragraphs", "partial"),
) -> dict[str, Search]:
    """Every search of these kinds that the captions of `seen` ask for, by task; `bank` holds captions that were trained on.

    `text to video` and back: a video's captions count as one item that scores as the best of them (the rule of MSVD and
    VATEX). Where a video has several, `video to captions` takes each for an item (the rule of the full MSR-VTT).
    `paragraph to video` and back: all sentences of a video as one query. `moment to video`: timed captions find videos by
    their best segment (partially relevant video retrieval). What a model with a score of its own ranks anew is `rerank_best`.
    Captions that are not measured are candidates of the way back, and no queries.
    """
    found: dict[str, Search] = {}
    if seen.measured.any() and "retrieval" in kinds:
        found |= _searched("text", seen, seen.untimed, bank, bank.untimed if bank else [], seen.measured)
    if seen.paragraphs and "paragraphs" in kinds:
        every = np.ones(len(seen.paragraphs), bool)
        found |= _searched("paragraph", seen, seen.paragraphs, bank, bank.paragraphs if bank else [], every)
    if seen.timed and "partial" in kinds:
        others = seen.best_of(bank.texts(_some(bank.timed))) if bank and bank.timed else None
        owner = _owner(seen.timed)
        relevant = owner[:, None] == np.arange(len(seen.corpus.videos))
        found[MOMENT_TO_VIDEO] = Search(seen.found.best, relevant, owner, others, PARTIAL_RECALLS, True)
    return found


def measures(search: Search) -> ScoreTable:
    """Recalls in percent with `MedR` and `MnR`, or with `SumR`."""
    recalls, rank = recalls_and_ranks(search.similarity, search.relevant, search.recalls)
    found = {f"R@{k}": PerQueryScores(100 * by_query, search.videos) for k, by_query in recalls.items()}
    if search.partial:
        return {**found, "SumR": PerQueryScores(np.sum([v.by_query for v in found.values()], axis=0), search.videos)}
    return {
        **found,
        "MedR": PerQueryScores(rank, search.videos, median=True),
        "MnR": PerQueryScores(rank, search.videos),
    }


def baselines(search: Search) -> BaselineScores:
    """Chance: the items in any order."""
    chance = retrieval_chance(search.relevant.shape[1], search.relevant.sum(axis=1), search.recalls)
    if search.partial:
        chance = {f"R@{k}": chance[f"R@{k}"] for k in search.recalls}
        chance["SumR"] = sum(chance.values())
    return BaselineScores({"chance": chance})


def tricks(search: Search) -> dict[str, Scores]:
    """The figures of scores that have seen other queries, by the name of the trick; empty where it cannot be done."""
    if search.similarity.size > _MOST_SCORES or not search.plain:
        return {}
    found = {"+DSL": dual_softmax(search.similarity)}
    if search.bank is not None and len(search.bank):
        found["+QB-Norm"] = querybank(search.similarity, search.bank)
    return {name: _plain(replace(search, similarity=scores)) for name, scores in found.items()}


def _plain(search: Search) -> Scores:
    return {name: values.value for name, values in measures(search).items()}


def both_ways(
    name: str,
    similarity: np.ndarray,
    owner: np.ndarray,
    measured: np.ndarray | None = None,
    bank: np.ndarray | None = None,
    back_bank: np.ndarray | None = None,
    reranked: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Search]:
    """Build the searches of `searches` from scores: `{name} to video`, `video to {name}` and `video to {name}s`.

    Args:
        name: of the texts in the tasks.
        similarity: `(Q, V)` of texts and videos.
        owner: `(Q,)` column of each text's video.
        measured: `(Q,)` bool, the texts that search, and whose videos do; all if None. Every text stays a candidate.
        bank: `(B, V)` scores of other texts with these videos; None where there are none.
        back_bank: `(B, Q)` scores of other videos with these texts; None where there are none.
        reranked: scores of a reranker for the texts and the videos that search, as of `vla.evaluation.reranking.rerank_best`.
    """
    chosen = np.ones(len(owner), bool) if measured is None else measured
    captioned, first = np.unique(np.sort(owner), return_index=True)
    order = np.argsort(owner, kind="stable")
    asking = np.isin(captioned, owner[chosen])

    def by_video(scores: np.ndarray) -> np.ndarray:
        """`(N, captioned)` of `(N, Q)`: a video's captions score as the best of them."""
        best: np.ndarray = np.maximum.reduceat(scores[:, order], first, axis=1)
        return best

    back = similarity[:, captioned[asking]].T
    whole = similarity if chosen.all() else similarity[chosen]  # no copy of all scores
    to_video = Search(whole, owner[chosen, None] == np.arange(similarity.shape[1]), owner[chosen], bank)
    to_text = Search(
        by_video(back),
        captioned[asking, None] == captioned,
        captioned[asking],
        None if back_bank is None else by_video(back_bank),
    )
    found = {f"{name} to video": to_video, f"video to {name}": to_text}
    if reranked is not None:
        scores, back_scores = reranked
        found[f"{name} to video reranked"] = replace(to_video, similarity=scores, bank=None, plain=False)
        found[f"video to {name} reranked"] = replace(to_text, similarity=by_video(back_scores), bank=None, plain=False)
    if len(captioned) < len(owner):
        found[f"video to {name}s"] = Search(back, captioned[asking, None] == owner, captioned[asking], back_bank)
    return found


def _searched(
    name: str,
    seen: CorpusPredictions,
    queries: list[Query],
    bank: CorpusPredictions | None,
    others: list[Query],
    measured: np.ndarray,
) -> dict[str, Search]:
    texts, owner = seen.texts(queries), _owner(queries)
    similarity = texts @ seen.whole.T
    others = _some(others)
    asked = bank.texts(others) @ seen.whole.T if bank and others else None
    # What asks the other way round is the videos that these captions are of.
    shown = bank.whole_of(np.unique(_owner(others)).tolist()) @ texts.T if bank and others else None
    anew = None
    if seen.has_heads and has_reranker(seen.model):
        videos = np.isin(np.arange(len(seen.corpus.videos)), owner[measured])
        anew = rerank_best(seen.model, similarity, texts, seen.tokens(queries), seen.frames, (measured, videos))
    return both_ways(name, similarity, owner, measured, asked, shown, anew)


def _some(queries: list[Query]) -> list[Query]:
    """At most so many of them as a bank needs, drawn in one way for good."""
    if len(queries) <= _IN_BANK:
        return queries
    return [queries[i] for i in np.sort(np.random.default_rng(0).permutation(len(queries))[:_IN_BANK])]


def _owner(queries: Sequence[Query]) -> np.ndarray:
    return np.array([q.video for q in queries], np.int64)
