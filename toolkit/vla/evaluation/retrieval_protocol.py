"""Retrieval protocols of the benchmarks: captions and videos, paragraphs, and PRVR."""

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
_MAX_TRICK_SCORES = 1 << 26
"""Matrix size above which inference tricks are omitted: they need several copies."""

_MAX_BANK_SIZE = 5000


@dataclass(frozen=True)
class Search:
    """A matrix of scores with its relevant items.

    Attributes:
        similarity: `(Q, N)` of queries and candidates.
        relevant: `(Q, N)` bool.
        videos: `(Q,)` the video of each query.
        bank: `(B, N)` scores of queries outside the test; None without any.
        recalls: the k of R@k.
        partial: report SumR instead of ranks.
        plain: whether all scores are of one kind, as inference tricks need.
    """

    similarity: np.ndarray
    relevant: np.ndarray
    videos: np.ndarray
    bank: np.ndarray | None = None
    recalls: Sequence[int] = RECALLS
    partial: bool = False
    plain: bool = True


def searches(
    predictions: CorpusPredictions,
    bank: CorpusPredictions | None = None,
    kinds: Collection[str] = ("retrieval", "paragraphs", "partial"),
) -> dict[str, Search]:
    """Return the searches of these kinds that the captions allow, by task.

    `text to video` and `video to text`: the captions of a video are one item with the score of the
    best of them (the rule of MSVD and VATEX). If a video has several, `video to texts` takes each
    as an item (the rule of the full MSR-VTT). `paragraph to video` and back: all sentences of a
    video are one query. `moment to video`: timed captions find videos by their best segment
    (partially relevant video retrieval, PRVR). A model with a reranker also has `reranked` tasks.
    Captions that are not evaluated are candidates, but no queries.

    Args:
        predictions: of the model on the corpus.
        bank: predictions on the training corpus, for QB-Norm.
        kinds: of `retrieval`, `paragraphs` and `partial`.
    """
    by_task: dict[str, Search] = {}
    if predictions.is_evaluated.any() and "retrieval" in kinds:
        by_task |= _search_both_ways(
            "text",
            predictions,
            predictions.untimed_queries,
            bank,
            bank.untimed_queries if bank else [],
            predictions.is_evaluated,
        )
    if predictions.paragraphs and "paragraphs" in kinds:
        every = np.ones(len(predictions.paragraphs), bool)
        by_task |= _search_both_ways(
            "paragraph",
            predictions,
            predictions.paragraphs,
            bank,
            bank.paragraphs if bank else [],
            every,
        )
    if predictions.timed_queries and "partial" in kinds:
        bank_scores = (
            predictions.max_segment_scores(bank.query_vectors(_sample_bank(bank.timed_queries)))
            if bank and bank.timed_queries
            else None
        )
        owner = _video_rows(predictions.timed_queries)
        relevant = owner[:, None] == np.arange(len(predictions.corpus.videos))
        by_task[MOMENT_TO_VIDEO] = Search(
            predictions.moment_predictions.video_scores,
            relevant,
            owner,
            bank_scores,
            PARTIAL_RECALLS,
            True,
        )
    return by_task


def measures(search: Search) -> ScoreTable:
    """Compute recalls in percent, with `MedR` and `MnR` or with `SumR`."""
    recalls, rank = recalls_and_ranks(search.similarity, search.relevant, search.recalls)
    table = {
        f"R@{k}": PerQueryScores(100 * by_query, search.videos) for k, by_query in recalls.items()
    }
    if search.partial:
        return {
            **table,
            "SumR": PerQueryScores(
                np.sum([v.by_query for v in table.values()], axis=0), search.videos
            ),
        }
    return {
        **table,
        "MedR": PerQueryScores(rank, search.videos, median=True),
        "MnR": PerQueryScores(rank, search.videos),
    }


def baselines(search: Search) -> BaselineScores:
    """Score chance: the items in random order."""
    chance = retrieval_chance(search.relevant.shape[1], search.relevant.sum(axis=1), search.recalls)
    if search.partial:
        chance = {f"R@{k}": chance[f"R@{k}"] for k in search.recalls}
        chance["SumR"] = sum(chance.values())
    return BaselineScores({"chance": chance})


def inference_tricks(search: Search) -> dict[str, Scores]:
    """Score a search with similarities normalized over other queries, by name of the trick.

    Empty where this is impossible.
    """
    if search.similarity.size > _MAX_TRICK_SCORES or not search.plain:
        return {}
    similarities = {"+DSL": dual_softmax(search.similarity)}
    if search.bank is not None and len(search.bank):
        similarities["+QB-Norm"] = querybank(search.similarity, search.bank)
    return {
        name: _values(replace(search, similarity=scores)) for name, scores in similarities.items()
    }


def _values(search: Search) -> Scores:
    return {name: values.value for name, values in measures(search).items()}


def both_ways(
    name: str,
    similarity: np.ndarray,
    owner: np.ndarray,
    is_evaluated: np.ndarray | None = None,
    bank: np.ndarray | None = None,
    back_bank: np.ndarray | None = None,
    rerank_scores: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Search]:
    """Build both directions: `{name} to video`, `video to {name}` and `video to {name}s`.

    Args:
        name: of the texts in the tasks.
        similarity: `(Q, V)` of texts and videos.
        owner: `(Q,)` column of each text's video.
        is_evaluated: `(Q,)` bool, the texts that search, and whose videos do; all if None. Every
            text stays a candidate.
        bank: `(B, V)` scores of other texts with these videos; None without any.
        back_bank: `(B, Q)` scores of other videos with these texts; None without any.
        rerank_scores: scores of the texts and the videos that search, as of
            `vla.evaluation.reranking.rerank_best`.
    """
    query_mask = np.ones(len(owner), bool) if is_evaluated is None else is_evaluated
    videos, first = np.unique(np.sort(owner), return_index=True)
    order = np.argsort(owner, kind="stable")
    is_searching = np.isin(videos, owner[query_mask])

    def by_video(scores: np.ndarray) -> np.ndarray:
        """Return `(N, videos)` of `(N, Q)`: the best score of each video's captions."""
        best: np.ndarray = np.maximum.reduceat(scores[:, order], first, axis=1)
        return best

    back = similarity[:, videos[is_searching]].T
    whole = similarity if query_mask.all() else similarity[query_mask]  # no copy of all scores
    to_video = Search(
        whole, owner[query_mask, None] == np.arange(similarity.shape[1]), owner[query_mask], bank
    )
    to_text = Search(
        by_video(back),
        videos[is_searching, None] == videos,
        videos[is_searching],
        None if back_bank is None else by_video(back_bank),
    )
    by_task = {f"{name} to video": to_video, f"video to {name}": to_text}
    if rerank_scores is not None:
        scores, back_scores = rerank_scores
        by_task[f"{name} to video reranked"] = replace(
            to_video, similarity=scores, bank=None, plain=False
        )
        by_task[f"video to {name} reranked"] = replace(
            to_text, similarity=by_video(back_scores), bank=None, plain=False
        )
    if len(videos) < len(owner):
        by_task[f"video to {name}s"] = Search(
            back, videos[is_searching, None] == owner, videos[is_searching], back_bank
        )
    return by_task


def _search_both_ways(
    name: str,
    predictions: CorpusPredictions,
    queries: list[Query],
    bank: CorpusPredictions | None,
    bank_queries: list[Query],
    is_evaluated: np.ndarray,
) -> dict[str, Search]:
    texts, owner = predictions.query_vectors(queries), _video_rows(queries)
    similarity = texts @ predictions.video_vectors.T
    bank_queries = _sample_bank(bank_queries)
    bank_scores = (
        bank.query_vectors(bank_queries) @ predictions.video_vectors.T
        if bank and bank_queries
        else None
    )
    # In the other direction the bank consists of the videos of these captions.
    back_bank_scores = (
        bank.video_vectors_of(np.unique(_video_rows(bank_queries)).tolist()) @ texts.T
        if bank and bank_queries
        else None
    )
    rerank_scores = None
    if predictions.has_heads and has_reranker(predictions.model):
        videos = np.isin(np.arange(len(predictions.corpus.videos)), owner[is_evaluated])
        rerank_scores = rerank_best(
            predictions.model,
            similarity,
            texts,
            predictions.query_tokens(queries),
            predictions.frames,
            (is_evaluated, videos),
        )
    return both_ways(
        name, similarity, owner, is_evaluated, bank_scores, back_bank_scores, rerank_scores
    )


def _sample_bank(queries: list[Query]) -> list[Query]:
    """Return at most `_MAX_BANK_SIZE` of the queries, in a fixed random sample."""
    if len(queries) <= _MAX_BANK_SIZE:
        return queries
    return [
        queries[i]
        for i in np.sort(np.random.default_rng(0).permutation(len(queries))[:_MAX_BANK_SIZE])
    ]


def _video_rows(queries: Sequence[Query]) -> np.ndarray:
    return np.array([q.video for q in queries], np.int64)
