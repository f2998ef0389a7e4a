"""Long videos made of clips, one after the other, with the times of what they show; for moment_heads.py and search_world.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vla.batches.corpus import Corpus, Query
from vla.features import FrameFeatures


def timed(corpus: Corpus) -> list[Query]:
    return [q for q in corpus.queries if q.is_timed]


def end_to_end(name: str, parts: Sequence[FrameFeatures]) -> tuple[FrameFeatures, np.ndarray]:
    """One video of all `parts`, and `(N + 1,)` seconds at which each begins, and the last one ends."""
    begins = np.cumsum([0.0, *(v.duration_seconds for v in parts)])
    times = np.concatenate(
        [v.timestamps_seconds + b for v, b in zip(parts, begins[:-1], strict=True)]
    )
    return FrameFeatures(
        name, np.concatenate([v.values for v in parts]), times, float(begins[-1])
    ), begins


def joined(corpus: Corpus, many: int, seed: int) -> Corpus:
    """Videos of `many` clips each; a caption that is told of two of its clips is left out."""
    order = np.random.default_rng(seed).permutation(len(corpus.videos))
    videos, queries = [], []
    for start in range(0, len(order) - many + 1, many):
        rows = order[start : start + many]
        parts = [corpus.videos[int(i)] for i in rows]
        video, begins = end_to_end(f"joined-{len(videos)}", parts)
        told = [[q for q in timed(corpus) if q.video == i] for i in rows]
        for k, own in enumerate(told):
            others = {q.text for i, some in enumerate(told) if i != k for q in some}
            queries += [
                replace(q, video=len(videos), spans=q.spans + begins[k])
                for q in own
                if q.text not in others
            ]
        videos.append(video)
    return replace(corpus, videos=videos, queries=queries, questions=())
