"""A model measured: which video, which part of it, and what its heads answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla.corpus import Corpus, Query
from vla.errors import MissingError
from vla.evaluate.figures import Values
from vla.evaluate.heads import answer, measure, score
from vla.evaluate.moments import best_ious, moment_metrics
from vla.evaluate.reranking import reranked, reranks
from vla.evaluate.retrieval import ranks, retrieval_metrics
from vla.features import FrameFeatures
from vla.model import AlignmentModel, segments_of
from vla.spans import nms


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        metrics: by task and measure, e.g. `{"text to video": {"R@1": 41.2, ...}}`; percentages from 0 to 100.
        score: one number from 0 to 1 for choosing between models: the mean, over the tasks there are, of the mean
            reciprocal rank (retrieval), the mean IoU (moments) or the like (heads).
        search: the same of what needs no head; None where there are no captions.
        blind: what the heads' blind twins score, by task; like `metrics`.
        parts: what `search` is the mean of the means of, by task: query by query, from 0 to 1, with each query's video.
        ranks: rank of the right video for each untimed query that was judged, in order of the corpus.
        similarity: `(those queries, videos)` cosines, in order of the corpus.
    """

    metrics: dict[str, dict[str, float]]
    score: float
    search: float | None = None
    ranks: np.ndarray = field(default_factory=lambda: np.zeros(0))
    similarity: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    blind: dict[str, dict[str, float]] = field(default_factory=dict)
    parts: dict[str, Values] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Metrics and scores."""
        found = {"metrics": self.metrics, "score": self.score, "search": self.search}
        return found | ({"blind": self.blind} if self.blind else {})


def evaluate(
    model: AlignmentModel,
    corpus: Corpus,
    judged: int | None = None,
    queries: np.ndarray | None = None,
    *,
    heads: bool = True,
) -> Evaluation:
    """Measure `model` on what is told and asked of the first `judged` videos of `corpus`; of all of them when None.

    With `queries` `(Q,)` bool, those captions are judged for which it holds, whichever their videos are. Without `heads` only
    what needs none is measured.

    Untimed captions are searched among whole videos (and videos among captions). Timed captions are searched among the
    videos by their best segment, and located in their own video, as `vla search` does it: the best segment, then the
    best that does not overlap it. What is searched is always all of `corpus`: among few others, everything is found.

    A model that was trained to compare by more than mean vectors has its own score beside these, `reranked`: of the
    `RERANKED` best that the vectors find. Like a head's answers it is no part of `search`, which is what an index does.

    Raises:
        MissingError: those videos have no caption, and no question that is answered by a head.
    """
    count = len(corpus.videos) if judged is None else judged
    said = answer(model, corpus, count) if heads else {}
    metrics = {task: measure(answers) for task, answers in said.items()}
    by_heads = [score(task, figures) for task, figures in metrics.items()]
    blind = {task: measure(answers, unseen=True) for task, answers in said.items() if answers.unseen}
    chosen = np.array([q.video < count for q in corpus.queries], bool) if queries is None else queries
    captions = [q for q in corpus.queries if q.is_caption]
    counts = np.array([c for q, c in zip(corpus.queries, chosen, strict=True) if q.is_caption], bool)
    parts: dict[str, Values] = {}
    text_ranks, similarity = np.zeros(0), np.zeros((0, len(corpus.videos)))
    if counts.any():
        found = _search(model, corpus.videos, captions, corpus, counts, heads and reranks(model))
        metrics, text_ranks, similarity = found.metrics | metrics, found.ranks, found.similarity
        parts, by_heads = found.parts, [*found.reranked, *by_heads]
    by_search = [part.value for part in parts.values()]
    if not by_search + by_heads:
        raise MissingError("there are no captions and no answered questions to evaluate on")
    search = float(np.mean(by_search)) if by_search else None
    return Evaluation(metrics, float(np.mean(by_search + by_heads)), search, text_ranks, similarity, blind, parts)


@dataclass(frozen=True)
class _Found:
    metrics: dict[str, dict[str, float]]
    parts: dict[str, Values]
    reranked: list[float]
    ranks: np.ndarray
    similarity: np.ndarray


def _search(
    model: AlignmentModel,
    videos: list[FrameFeatures],
    captions: list[Query],
    corpus: Corpus,
    counts: np.ndarray,
    anew: bool,
) -> _Found:
    """Those captions for which `counts` `(Q,)` holds searched for by cosines of aligned vectors."""
    owner = np.array([q.video for q in captions], np.int64)
    timed = np.array([q.is_timed for q in captions])
    frames = model.align_videos(videos)
    texts = model.align_texts(np.stack([corpus.text_vector(q) for q in captions]))
    metrics: dict[str, dict[str, float]] = {}
    parts: dict[str, Values] = {}
    by_own: list[float] = []
    text_ranks, similarity = np.zeros(0), np.zeros((0, len(frames)))
    if (~timed & counts).any():
        means = np.stack([f.mean(0) for f in frames])
        whole = means / np.linalg.norm(means, axis=1, keepdims=True).clip(1e-12)
        among = texts[~timed] @ whole.T
        relevant = owner[~timed][:, None] == np.arange(len(frames))[None]
        there = counts[~timed]
        back = relevant[there].any(0)  # a video without a caption of its own has no right answer
        similarity, text_ranks = among[there], ranks(among[there], relevant[there])
        metrics["text to video"] = retrieval_metrics(similarity, relevant[there])
        metrics["video to text"] = retrieval_metrics(among.T[back], relevant.T[back])
        back_ranks = ranks(among.T[back], relevant.T[back])
        parts["text to video"] = Values(1 / text_ranks, owner[~timed][there])
        parts["video to text"] = Values(1 / back_ranks, np.flatnonzero(back))
        if anew:
            raw = corpus.tokens_of(q.parts for q in captions if not q.is_timed) if model.compares_tokens else None
            tokens = None if raw is None else model.align_tokens(raw)
            to_video, to_text = reranked(model, among, texts[~timed], tokens, frames, (there, back))
            metrics["text to video reranked"] = retrieval_metrics(to_video, relevant[there])
            metrics["video to text reranked"] = retrieval_metrics(to_text, relevant.T[back])
            by_own = [_reciprocal(ranks(to_video, relevant[there])), _reciprocal(ranks(to_text, relevant.T[back]))]
    if (timed & counts).any():
        told = [q for q, is_timed in zip(captions, timed & counts, strict=True) if is_timed]
        vectors = texts[timed & counts]
        cut = [segments_of(f, v, c) for f, v, c in zip(frames, videos, corpus.cuts, strict=True)]
        best = np.stack([(vectors @ s.vectors.T).max(1) for s in cut], 1)
        relevant = owner[timed & counts][:, None] == np.arange(len(frames))[None]
        metrics["moment to video"] = retrieval_metrics(best, relevant)
        predictions, truths = [], []
        for text, query in zip(vectors, told, strict=True):
            segments = cut[query.video]
            scores = segments.vectors @ text
            kept = nms(segments.spans, scores, 0.5, most=10)
            predictions.append(np.column_stack([segments.spans[kept], scores[kept]]))
            truths.append(query.spans)
        metrics["moment in its video"] = moment_metrics(predictions, truths)
        of = owner[timed & counts]
        parts["moment to video"] = Values(1 / ranks(best, relevant), of)
        parts["moment in its video"] = Values(best_ious(predictions, truths, 1), of)
    return _Found(metrics, parts, by_own, text_ranks, similarity)


def _reciprocal(found: np.ndarray) -> float:
    return float((1 / found).mean())
