"""Late interaction equals naive loops, and ignores padding, block size and order."""

import math

import pytest
import torch

from vla.errors import ShapeError
from vla.nn.late_interaction import TokenInteraction, TokenWeights, interaction

WORDS, FRAMES = (3, 1, 5, 2), (4, 6, 1)


def vectors(counts, width, seed, dim=5, garbage=0.0):
    generator = torch.Generator().manual_seed(seed)
    actual = torch.full((len(counts), width, dim), garbage, dtype=torch.float64)
    mask = torch.arange(width) < torch.tensor(counts)[:, None]
    for i, n in enumerate(counts):
        some = torch.randn(n, dim, generator=generator, dtype=torch.float64)
        actual[i, :n] = some / some.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return actual, mask


def shares(mask, seed):
    """Weights of sum 1, as some network might give them."""
    drawn = (
        torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        * mask
    )
    return drawn / drawn.sum(1, keepdim=True).clamp_min(1e-12)


def uniform(mask):
    """Weights of sum 1 over what is real, all alike."""
    real = mask.double()
    return real / real.sum(1, keepdim=True).clamp_min(1.0)


def plain(words, word_mask, frames, frame_mask, **more):
    """The interaction in which every word counts the same and every frame."""
    return interaction(
        words, word_mask, frames, frame_mask, uniform(word_mask), uniform(frame_mask), **more
    )


def case(width=5, length=6, garbage=0.0, words=WORDS, frames=FRAMES):
    return (
        *vectors(words, width, 0, garbage=garbage),
        *vectors(frames, length, 1, garbage=garbage),
    )


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def naive(words, word_mask, frames, frame_mask, a=None, b=None):
    actual = []
    for q in range(len(words)):
        w = [words[q, i].tolist() for i in range(words.shape[1]) if word_mask[q, i]]
        share_a = (
            [float(a[q, i]) for i in range(words.shape[1]) if word_mask[q, i]]
            if a is not None
            else None
        )
        row = []
        for v in range(len(frames)):
            f = [frames[v, i].tolist() for i in range(frames.shape[1]) if frame_mask[v, i]]
            share_b = (
                [float(b[v, i]) for i in range(frames.shape[1]) if frame_mask[v, i]]
                if b is not None
                else None
            )
            if not w or not f:
                row.append(-math.inf)
                continue
            to_frames = sum(
                (share_a[i] if share_a else 1 / len(w)) * max(dot(w[i], x) for x in f)
                for i in range(len(w))
            )
            to_words = sum(
                (share_b[i] if share_b else 1 / len(f)) * max(dot(f[i], x) for x in w)
                for i in range(len(f))
            )
            row.append((to_frames + to_words) / 2)
        actual.append(row)
    return torch.tensor(actual, dtype=torch.float64)


@pytest.mark.parametrize("elements", [1, 31, 65, 10**6])
@pytest.mark.parametrize("weighted", [False, True])
def test_interaction_matches_naive_loops(weighted, elements):
    given = case()
    weights = tuple(
        shares(m, s) if weighted else uniform(m) for m, s in ((given[1], 2), (given[3], 3))
    )
    got = interaction(*given, *weights, elements=elements)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, naive(*given, *weights), rtol=0, atol=1e-13)


@pytest.mark.parametrize("elements", [31, 10**6])
def test_its_gradients_are_its_differences(elements):
    words, word_mask, frames, frame_mask = case(words=(2, 3), frames=(3, 1, 2))
    given = [
        x.requires_grad_() for x in (words, frames, shares(word_mask, 2), shares(frame_mask, 3))
    ]
    assert torch.autograd.gradcheck(
        lambda w, f, a, b: interaction(w, word_mask, f, frame_mask, a, b, elements=elements), given
    )


def test_block_size_does_not_change_gradient():
    def gradients(elements):
        words, word_mask, frames, frame_mask = case()
        words.requires_grad_(), frames.requires_grad_()
        plain(words, word_mask, frames, frame_mask, elements=elements).exp().sum().backward()
        return words.grad, frames.grad

    for some, whole in zip(gradients(40), gradients(10**6), strict=True):
        torch.testing.assert_close(some, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("garbage", [0.0, 1e30, math.nan, math.inf])
def test_padding_is_never_read(garbage):
    short, longer = case(), case(9, 11, garbage)
    for x in longer[::2]:
        x.requires_grad_()
    net = TokenInteraction(5, 7).double()
    torch.nn.init.normal_(net.words.leave.weight)
    torch.nn.init.normal_(net.frames.leave.weight)
    torch.nn.init.constant_(net.share, 0.7)
    whole = torch.zeros(len(WORDS), len(FRAMES), dtype=torch.float64)
    torch.testing.assert_close(plain(*longer), plain(*short), rtol=0, atol=1e-13)
    scores = net(whole, *longer)
    torch.testing.assert_close(scores, net(whole, *short), rtol=0, atol=1e-13)
    scores.sum().backward()
    assert longer[0].grad.isfinite().all() and longer[2].grad.isfinite().all()
    assert (longer[0].grad[~longer[1]] == 0).all() and (longer[2].grad[~longer[3]] == 0).all()


def test_order_does_not_matter():
    words, word_mask, frames, frame_mask = case()
    expected = plain(words, word_mask, frames, frame_mask)
    q, n, v, t = ([2, 0, 3, 1], [4, 1, 0, 3, 2], [1, 2, 0], [5, 0, 3, 1, 4, 2])
    got = plain(words[q][:, n], word_mask[q][:, n], frames[v][:, t], frame_mask[v][:, t])
    torch.testing.assert_close(got, expected[q][:, v], rtol=0, atol=1e-13)


def test_empty_sides_are_ignored():
    words, word_mask, frames, frame_mask = case(words=(2, 0, 1), frames=(0, 3))
    words.requires_grad_()
    frames.requires_grad_()
    got = plain(words, word_mask, frames, frame_mask)
    assert (got == -math.inf).tolist() == [[True, False], [True, True], [True, False]]
    net = TokenInteraction(5, 4).double()
    torch.nn.init.constant_(net.share, 0.5)
    whole = torch.full((3, 2), 0.25, dtype=torch.float64)
    mixed = net(whole, words, word_mask, frames, frame_mask)
    assert (mixed == 0.25).tolist() == [[True, False], [True, True], [True, False]]
    (mixed.sum() + got[got > -math.inf].sum()).backward()
    assert words.grad.isfinite().all() and frames.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    for some in (
        (words[:0], word_mask[:0], frames, frame_mask),
        (words, word_mask, frames[:0], frame_mask[:0]),
    ):
        assert plain(*some).shape == (len(some[0]), len(some[2]))
    nothing = plain(words[:, :0], word_mask[:, :0], frames, frame_mask)
    assert nothing.shape == (3, 2) and (nothing == -math.inf).all()


def test_single_vectors_give_the_cosine():
    words, word_mask, frames, frame_mask = case(1, 1, words=(1,) * 4, frames=(1,) * 3)
    got = plain(words, word_mask, frames, frame_mask)
    torch.testing.assert_close(got, words[:, 0] @ frames[:, 0].T, rtol=0, atol=1e-13)


def test_half_precision_is_finite_and_close():
    given = case()
    low = [x.bfloat16().requires_grad_() if x.is_floating_point() else x for x in given]
    got = plain(*low)
    assert got.dtype == torch.float32
    got.sum().backward()
    assert low[0].grad.isfinite().all() and low[2].grad.isfinite().all()
    torch.testing.assert_close(got.double(), naive(*given), rtol=0, atol=2e-2)


def test_weights_are_equal_at_first_and_always_sum_to_one():
    words, mask = vectors((3, 0, 5), 5, 4)
    weights = TokenWeights(5, 8).double()
    torch.testing.assert_close(weights(words, mask), uniform(mask), rtol=0, atol=1e-15)
    torch.nn.init.normal_(weights.leave.weight, std=3)
    actual = weights(words, mask)
    torch.testing.assert_close(
        actual.sum(1), torch.tensor([1.0, 0, 1]).double(), rtol=0, atol=1e-12
    )
    assert (actual[~mask] == 0).all() and actual[0, :3].std() > 0.01


def test_weights_are_the_softmax_of_a_small_network():
    words, mask = vectors((3, 5), 5, 4)
    weights = TokenWeights(5, 8).double()
    torch.nn.init.normal_(weights.leave.weight)
    actual = weights(words, mask)
    for q, n in enumerate((3, 5)):
        logits = []
        for i in range(n):
            hidden = [
                dot(row, words[q, i].tolist()) + shift
                for row, shift in zip(
                    weights.enter.weight.tolist(), weights.enter.bias.tolist(), strict=True
                )
            ]
            active = [h * (1 + math.erf(h / math.sqrt(2))) / 2 for h in hidden]
            logits.append(math.exp(dot(weights.leave.weight[0].tolist(), active)))
        assert actual[q, :n].tolist() == pytest.approx([x / sum(logits) for x in logits], abs=1e-12)


def test_token_interaction_starts_at_whole_scores():
    torch.manual_seed(0)
    given = case()
    whole = torch.rand(len(WORDS), len(FRAMES), dtype=torch.float64)
    net = TokenInteraction(5, 8).double()
    assert torch.equal(net(whole, *given), whole)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        net(whole, *given).square().sum().backward()
        optimizer.step()
    assert [n for n, p in net.named_parameters() if not p.grad.abs().sum() > 0] == []
    with torch.no_grad():
        net.share.fill_(1.0)
        torch.nn.init.zeros_(net.words.leave.weight)
        torch.nn.init.zeros_(net.frames.leave.weight)
    torch.testing.assert_close(net(whole, *given), naive(*given), rtol=0, atol=1e-13)


def test_what_does_not_fit_is_refused():
    words, word_mask, frames, frame_mask = case()
    with pytest.raises(ShapeError, match=r"words are .*\(4, 4\)"):
        plain(words, word_mask[:, :4], frames, frame_mask)
    with pytest.raises(ShapeError, match=r"frames are .* and weights \(3, 2\)"):
        interaction(words, word_mask, frames, frame_mask, uniform(word_mask), torch.ones(3, 2))
    with pytest.raises(ShapeError, match="two spaces were mixed"):
        plain(words[..., :4], word_mask, frames, frame_mask)
