"""Contrast of timed captions: over all segments and within each video, dense or blockwise."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus
from unit.training.test_grad_cache import CPU, Exact, drawn, model_of, taken
from vla.batches.collate import build_batch
from vla.losses import registry
from vla.model import AlignmentModel, ModelConfig
from vla.training import grad_cache, segment_contrast
from vla.training import objective as objectives
from vla.training.config import TrainConfig
from vla.training.objective import Objective
from vla.training.segment_contrast import contrast, contrast_blockwise

CASES = {
    "of one video": [3, 3, 3, 3],
    "of as many videos": [0, 1, 2, 3],
    "one alone": [2, 0, 2, 1, 0, 0],
    "in any order": [7, 1, 4, 1, 7, 4, 4, 0, 9, 1],
}
"""Video of each caption."""


def made(videos, seed=0):
    """Unit captions and segments, their scale, and pairs: each with itself and some others."""
    rng = np.random.default_rng(seed)
    count = len(videos)
    queries, segments = (
        torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).requires_grad_()
        for rows in rng.standard_normal((2, count, 5))
    )
    pairs = {(i, i) for i in range(count)}
    for i, j in rng.integers(0, count, (count // 2, 2)).tolist():  # of any two videos
        pairs |= {(i, j), (j, i)}
    scale = torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
    every = sorted(pairs)
    return queries, segments, scale, torch.tensor(every + every[:2]), torch.tensor(videos)


def naive_infonce(count, scores, positives, candidates):
    """Both directions, each row with its candidates alone, by loops."""
    total = 0.0
    for transposed in (False, True):
        rows = []
        for i in range(count):
            at = [(j, i) if transposed else (i, j) for j in range(count)]
            at = [k for k in at if k in candidates]
            right = [k for k in at if k in positives]
            if right:
                sum_of_all = math.log(sum(math.exp(scores[k]) for k in at))
                rows.append(sum(sum_of_all - scores[k] for k in right) / len(right))
        total += sum(rows) / len(rows) / 2
    return total


def naive(queries, segments, scale, pairs, videos, share=0.8):
    """Return the whole, and the loss within videos, of which it has this share."""
    count = len(videos)
    scores = {
        (i, j): scale.item() * sum(a * b for a, b in zip(q, s, strict=True))
        for i, q in enumerate(queries.tolist())
        for j, s in enumerate(segments.tolist())
    }
    positives, of = {tuple(p) for p in pairs.tolist()}, videos.tolist()
    every = {(i, j) for i in range(count) for j in range(count)}
    own = {(i, j) for i, j in every if of[i] == of[j]}

    within = naive_infonce(count, scores, positives & own, own)
    everywhere = naive_infonce(count, scores, positives, every)
    return (1 - share) * everywhere + share * within, within


def dense(loss, queries, segments, scale, pairs, videos):
    positives = torch.zeros(len(videos), len(videos), dtype=torch.bool)
    positives[pairs[:, 0], pairs[:, 1]] = True
    return contrast(loss, queries @ segments.T * scale, positives, videos, 0.8)


def blockwise(loss, *given):
    return contrast_blockwise(loss, *given, 0.8)


@pytest.mark.parametrize("most", [1, 9, 30, 1 << 22])
@pytest.mark.parametrize("case", CASES)
def test_dense_and_blockwise_are_the_naive_loop(monkeypatch, case, most):
    monkeypatch.setattr(segment_contrast, "MAX_SCORES", most)
    given = made(CASES[case])
    expected = naive(*given)[0]
    loss = registry.build("infonce")
    assert dense(loss, *given).item() == pytest.approx(expected, rel=1e-12)
    assert blockwise(loss, *given).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("most", [1, 9, 30, 1 << 22])
@pytest.mark.parametrize("case", CASES)
def test_blockwise_has_value_and_gradients_of_dense(monkeypatch, case, most):
    monkeypatch.setattr(segment_contrast, "MAX_SCORES", most)
    loss, results = registry.build("infonce"), []
    for compute in (dense, blockwise):
        given = made(CASES[case])
        value = compute(loss, *given)
        results.append((value, torch.autograd.grad(value, given[:3])))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(results[1][1], results[0][1], strict=True):
        assert theirs.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_blocks_are_as_large_as_allowed(monkeypatch):
    """Videos are never divided, and their scores never a matrix of all captions."""
    sizes = []
    loss = registry.build("infonce")

    class Watch:
        from_vectors = staticmethod(loss.from_vectors)

        def __call__(self, scores, positives):
            sizes.append(len(scores))
            return loss(scores, positives)

    given = made([0] * 3 + [1] * 2 + [2] * 4 + [3] + [4] * 6)
    for most, expected in ((36, [5, 5, 6]), (1, [3, 2, 4, 1, 6]), (256, [16])):
        sizes.clear()
        monkeypatch.setattr(segment_contrast, "MAX_SCORES", most)
        blockwise(Watch(), *given)
        assert sizes == expected


def test_a_moment_alone_in_its_video_adds_nothing_within_videos():
    """Nothing is there to tell it from."""
    queries, segments, scale, _, videos = made([0, 1, 2])
    pairs = torch.arange(3).repeat(2, 1).T
    loss = registry.build("infonce")
    total = dense(loss, queries, segments, scale, pairs, videos)
    everywhere = loss(queries @ segments.T * scale, torch.eye(3, dtype=torch.bool))
    assert float(total.detach()) == pytest.approx(0.2 * float(everywhere.detach()), rel=1e-12)
    assert naive(queries, segments, scale, pairs, videos)[1] == pytest.approx(0, abs=1e-12)
    # Two of one video and one alone: the mean within videos is over all three.
    videos = torch.tensor([0, 0, 1])
    scores = (queries @ segments.T * scale)[:2, :2]
    pair = float(loss(scores, torch.eye(2, dtype=torch.bool)).detach())
    found = dense(loss, queries, segments, scale, pairs, videos).item()
    within = (found - 0.2 * float(everywhere.detach())) / 0.8
    assert within == pytest.approx(pair * 2 / 3, rel=1e-12)


@pytest.mark.parametrize(("levels", "share"), [("segment", 0.5), ("both", 0.8)])
def test_the_objective_contrasts_the_segments_of_a_batch(monkeypatch, levels, share):
    """Against the naive loop over pooled frames: with captions of equal words and moments that overlap."""
    config = TrainConfig(levels=levels, captions_per_video=3, anchor_weight=0.0)
    model, batch = model_of(dropout=0.0).double(), drawn(config, Exact).batch()
    with torch.no_grad():
        aligned = model(batch)
    rows = batch.is_timed.nonzero().squeeze(1).tolist()
    inside = [batch.inside[k] for k in rows]
    videos = [int(batch.video_of_query[k]) for k in rows]
    frames = aligned.frames
    pooled = torch.stack(
        [frames[v, : m.shape[0]][m].mean(0) for v, m in zip(videos, inside, strict=True)]
    )
    pooled = pooled / pooled.norm(dim=1, keepdim=True)
    pairs = [
        (a, b)
        for a in range(len(rows))
        for b in range(len(rows))
        if torch.equal(batch.queries[rows[a]], batch.queries[rows[b]])
        or (
            videos[a] == videos[b]
            and 2 * int((inside[a] & inside[b]).sum()) > int((inside[a] | inside[b]).sum())
        )
    ]
    assert len(pairs) > len(rows) and len(set(videos)) < len(rows)
    expected = naive(
        aligned.queries[rows],
        pooled,
        aligned.scale,
        torch.tensor(pairs),
        torch.tensor(videos),
        share,
    )[0]
    for most in (1 << 22, 1):
        monkeypatch.setattr(objectives, "MAX_SCORES", most)
        monkeypatch.setattr(segment_contrast, "MAX_SCORES", most)
        actual = Objective(config)(model, batch)["segment"]
        assert float(actual.detach()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("most", [1, 9])
def test_micro_batches_have_the_gradient_of_blocks(monkeypatch, most):
    """Blocks of a few scores, and micro-batches of a few frames."""
    config = TrainConfig(levels="segment", captions_per_video=3)
    model, objective = model_of(dropout=0.0).double(), Objective(config)
    step = drawn(config, Exact)
    whole = objective(model, step.batch())
    torch.stack(list(whole.values())).sum().backward()
    expected = taken(model)
    monkeypatch.setattr(segment_contrast, "MAX_SCORES", most)
    parts = grad_cache.gradients(model, objective, step, 0, nullcontext, CPU, 9)
    actual = taken(model)
    assert parts["segment"].item() == pytest.approx(whole["segment"].item(), rel=1e-12)
    for name, gradient in expected.items():
        if gradient is not None:
            torch.testing.assert_close(actual[name], gradient, rtol=1e-10, atol=1e-13, msg=name)


def test_a_batch_of_single_moments_has_half_the_loss():
    data = made_corpus((6, 5, 7))
    timed = [q for q in data.queries if q.is_timed]
    batch = build_batch(data, np.arange(3), timed)
    model = AlignmentModel(ModelConfig(data.dim, "identity", scale=5.0))
    found = Objective(TrainConfig(levels="segment", anchor_weight=0.0))(model, batch)["segment"]
    with torch.no_grad():
        aligned = model(batch)
        segments = aligned.pool_spans(batch.video_of_query, batch.inside)
        scores = aligned.queries @ segments.T * 5.0
        expected = registry.build("infonce")(scores, torch.eye(3, dtype=torch.bool)) / 2
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-6)
