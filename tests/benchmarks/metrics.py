"""How long the metrics take, and the memory they need beside their matrix: python tests/benchmarks/metrics.py [QUERIES]."""

import resource
import sys
import time

import numpy as np

from vla.evaluation.moment_protocol import window_scores
from vla.evaluation.retrieval_protocol import both_ways, measures
from vla.metrics.corpus_moments import first_hit_ranks
from vla.metrics.highlights import highlight_precisions


def peak():
    """MB of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 << 20 if sys.platform == "darwin" else 1 << 10
    )


def timed(name, metrics, *given):
    start, before = time.perf_counter(), peak()
    metrics(*given)
    print(
        f"{name:20} {time.perf_counter() - start:6.2f} s   {max(0, peak() - before):6.0f} MB more than ever before"
    )


def spans(draw, *shape):
    return np.sort(draw.uniform(0, 150, (*shape, 2)), axis=-1)


def main():
    n, draw = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, np.random.default_rng(0)
    print(f"{n:,} queries; retrieval among as many videos")
    similarity, own = draw.standard_normal((n, n), dtype=np.float32), np.arange(n)
    for name, search in both_ways("text", similarity, own).items():
        timed(name, measures, search)
    del similarity, search
    truths, ten = (
        list(spans(draw, n, 2)),
        np.concatenate([spans(draw, n, 10), draw.random((n, 10, 1))], axis=2),
    )
    scores, ratings = list(draw.random((n, 75))), list(draw.integers(0, 5, (n, 75, 3)))
    timed("qvhighlights", window_scores, list(ten), truths, own)
    timed("highlights", highlight_precisions, scores, ratings, 4)
    hundred = np.concatenate(
        [draw.integers(0, n, (n, 100, 1)), spans(draw, n, 100), draw.random((n, 100, 1))], axis=2
    )
    timed("corpus moments", first_hit_ranks, list(hundred), own, truths)


if __name__ == "__main__":
    main()
