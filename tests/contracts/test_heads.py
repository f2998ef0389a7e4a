"""Every head: blind to padding and to the order of a batch, and right on perfect inputs."""

import numpy as np
import pytest
import torch

from vla.batch import Aligned, AlignmentBatch
from vla.heads import registry

pytestmark = pytest.mark.parametrize("name", registry.names())

DIM = 8


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def case(lengths=(4, 2, 3), owners=(0, 2, 1, 0, 2), pad=None, garbage=0.0, seed=0):
    """A batch and its aligned vectors, at random."""
    rng = np.random.default_rng(seed)
    longest = pad or max(lengths)
    frames, mask = np.zeros((len(lengths), longest, DIM), np.float32), np.zeros((len(lengths), longest), bool)
    for i, n in enumerate(lengths):
        frames[i, :n], mask[i, :n] = unit(rng.standard_normal((n, DIM))), True
    frames[~mask] = garbage
    queries = unit(rng.standard_normal((len(owners), DIM))).astype(np.float32)
    rows = np.array(owners)
    t = torch.from_numpy
    aligned = Aligned(t(frames), t(mask), t(queries), t(queries[:, None]), torch.tensor(10.0))
    batch = AlignmentBatch(
        t(frames), t(mask), torch.zeros(mask.shape), torch.ones(len(lengths)), t(queries), t(rows),
        torch.zeros(len(rows), dtype=torch.bool), t(mask[rows]), t(queries[:, None]),
        torch.ones(len(rows), 1, dtype=torch.bool),
    )  # fmt: skip
    return aligned, batch


def test_padding_does_not_matter(name):
    head = registry.build(name)
    plain = head(*case())
    torch.testing.assert_close(head(*case(pad=9)), plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(head(*case(pad=9, garbage=50.0)), plain, rtol=0, atol=1e-6)


def test_positives_fit_the_predictions(name):
    head = registry.build(name)
    aligned, batch = case()
    positives = head.positives(batch)
    assert positives.shape == head(aligned, batch).shape and positives.dtype == torch.bool
    assert positives.any(1).all()


def test_the_order_of_queries_does_not_matter(name):
    head = registry.build(name)
    order = [3, 1, 4, 0, 2]
    aligned, batch = case()
    owners = tuple(np.array((0, 2, 1, 0, 2))[order].tolist())
    moved = AlignmentBatch(**{
        **batch.__dict__, "queries": batch.queries[order], "video_of_query": torch.tensor(owners),
        "inside": batch.inside[order], "sentences": batch.sentences[order],
    })  # fmt: skip
    turned = Aligned(
        aligned.frames, aligned.frame_mask, aligned.queries[order], aligned.sentences[order], aligned.scale
    )
    torch.testing.assert_close(head(turned, moved), head(aligned, batch)[order], rtol=0, atol=1e-6)
    assert torch.equal(head.positives(moved), head.positives(batch)[order])


def test_perfect_inputs_rank_the_right_answer_first(name):
    """Each video shows one direction and its captions are that direction."""
    head = registry.build(name)
    aligned, batch = case()
    axes = torch.eye(DIM)[:3]
    perfect = Aligned(
        axes[:, None].expand(3, 4, DIM) * batch.frame_mask[..., None], batch.frame_mask, axes[batch.video_of_query],
        axes[batch.video_of_query][:, None], torch.tensor(10.0),
    )  # fmt: skip
    scores, positives = head(perfect, batch), head.positives(batch)
    worst_right = scores.masked_fill(~positives, torch.inf).min(1).values
    best_wrong = scores.masked_fill(positives, -torch.inf).max(1).values
    assert (worst_right > best_wrong).all()
    torch.testing.assert_close(scores[positives], torch.ones(int(positives.sum())), rtol=0, atol=1e-6)


def test_retrieval_is_the_naive_loop(name):
    if name != "retrieval":
        return
    aligned, batch = case(seed=4)
    scores = registry.build(name)(aligned, batch)
    for q in range(5):
        for v in range(3):
            frames = [f.double().numpy() for f, m in zip(aligned.frames[v], aligned.frame_mask[v], strict=True) if m]
            mean = sum(frames) / len(frames)
            wanted = float(aligned.queries[q].double().numpy() @ (mean / np.sqrt((mean**2).sum())))
            assert float(scores[q, v]) == pytest.approx(wanted, abs=1e-6)
    assert registry.build(name).positives(batch).int().argmax(1).tolist() == [0, 2, 1, 0, 2]
