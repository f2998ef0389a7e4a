"""Segment order loss: dependence on order alone."""

import math

import pytest
import torch

from contract.test_losses_sets import alignments, log_sum_exp, masks, naive_in_order, sets
from vla.errors import UsageError
from vla.losses.segment_order import Loss, log_alignment_sum


def naive_backwards(similarity, segments, sentences, scale):
    videos = range(len(segments))
    scores = [
        [scale * naive_in_order(similarity[v][t], segments[v], sentences[t]) for t in videos]
        for v in videos
    ]
    told = sum(log_sum_exp(scores[v]) - scores[v][v] for v in videos)
    for t in videos:
        candidates = [scores[v][t] for v in videos]
        if segments[t] > 1 and sentences[t] > 1:
            backwards = similarity[t][t][: segments[t]][::-1]
            candidates.append(scale * naive_in_order(backwards, segments[t], sentences[t]))
        told += log_sum_exp(candidates) - scores[t][t]
    return told / 2 / len(segments)


@pytest.mark.parametrize("seed", range(3))
def test_backwards_loss_matches_naive_loops(seed):
    similarity, segment_mask, sentence_mask, segments, sentences = sets(
        seed, (3, 1, 4, 5), (2, 3, 1, 3)
    )
    got = Loss(backwards=True)(similarity, segment_mask, sentence_mask, 10.0)
    assert got.item() == pytest.approx(
        naive_backwards(similarity.tolist(), segments, sentences, 10.0), abs=1e-10
    )


@pytest.mark.parametrize("backwards", [False, True])
def test_its_gradient_is_its_differences(backwards):
    similarity, segment_mask, sentence_mask, *_ = sets()
    real = segment_mask[:, None, :, None] & sentence_mask[None, :, None, :]
    loss = Loss(0.1, backwards)
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def of(x, s):
        return loss(x.masked_fill(~real, math.nan), segment_mask, sentence_mask, s)

    assert torch.autograd.gradcheck(of, (similarity.nan_to_num().requires_grad_(), scale))


def test_low_temperature_gives_best_alignment():
    similarity = torch.rand(5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ones = torch.ones(1, 5, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    best = max(
        sum(similarity[i, j].item() for j, i in enumerate(way)) / 3 for way in alignments(5, 3)
    )
    actual = Loss(1e-5)._scores(similarity[None], *ones, 1.0)
    assert actual.item() == pytest.approx(best, abs=1e-4)


def test_alignments_are_counted():
    """With no energy the sum is their number, C(n + m - 1, m)."""
    for n in range(1, 5):
        for m in range(1, 5):
            ones = torch.ones(n, dtype=torch.bool), torch.ones(m, dtype=torch.bool)
            actual = log_alignment_sum(torch.zeros(n, m, dtype=torch.float64), *ones).exp()
            assert actual.item() == pytest.approx(math.comb(n + m - 1, m)) == len(alignments(n, m))


@pytest.mark.parametrize("backwards", [False, True])
def test_holes_do_not_matter(backwards):
    similarity, segment_mask, sentence_mask, *_ = sets()
    loss = Loss(backwards=backwards)
    expected = loss(similarity, segment_mask, sentence_mask, 10.0).item()
    wide = torch.full((3, 3, 8, 6), math.nan, dtype=torch.float64)
    wide[:, :, 1::2, 1::2] = similarity
    spread = [
        torch.stack([torch.zeros_like(mask), mask], -1).flatten(1)
        for mask in (segment_mask, sentence_mask)
    ]
    assert loss(wide, *spread, 10.0).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("backwards", [False, True])
def test_empty_sets_are_ignored(backwards):
    similarity, segment_mask, sentence_mask, *_ = sets()
    more = [torch.nn.functional.pad(mask, (0, 0, 0, 1)) for mask in (segment_mask, sentence_mask)]
    empty = torch.full((4, 4, 4, 3), math.nan, dtype=torch.float64)
    empty[:3, :3] = similarity
    low = empty.bfloat16().requires_grad_()
    empty.requires_grad_()
    loss = Loss(backwards=backwards)
    got = loss(empty, *more, 10.0)
    assert got.item() == pytest.approx(
        loss(similarity, segment_mask, sentence_mask, 10.0).item(), abs=1e-12
    )
    got.backward()
    loss(low, *more, 100.0).backward()
    assert empty.grad.isfinite().all() and low.grad.isfinite().all()
    nothing = torch.zeros(2, 2, 3, 0, requires_grad=True)
    assert loss(nothing, masks((3, 3), 3), masks((0, 0), 0), 10.0).item() == 0.0


def test_distinguishes_videos_by_order():
    """Video 1 is video 0 backwards, and so are the texts: every sentence has its perfect segment in both."""
    forth = torch.eye(4) * 0.8
    similarity = torch.stack(
        [torch.stack([forth, forth.flip(0)]), torch.stack([forth.flip(0), forth])]
    )
    ones = masks((4, 4), 4)
    assert Loss()(similarity, ones, ones, 20.0).item() < 0.01
    from vla.losses.segment_transport import Loss as Transport

    assert Transport()(similarity, ones, ones, 20.0).item() == pytest.approx(math.log(2), abs=1e-4)


def test_distinguishes_reversed_video():
    similarity, ones = (torch.eye(4) * 0.8)[None, None], masks((4,), 4)
    loss = Loss(backwards=True)
    assert loss(similarity, ones, ones, 20.0).item() < 0.01
    assert loss(similarity.flip(-1), ones, ones, 20.0).item() > 3
    # Of one sentence, nothing is backwards.
    assert loss(similarity[..., :1], ones, masks((1,), 1), 20.0).item() == 0.0


def test_rejects_non_positive_temperature():
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(UsageError, match="positive temperature"):
            Loss(wrong)
