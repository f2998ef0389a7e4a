"""Contract of projectors: the frozen encoder at first and at alpha 0, padding, norms, training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus
from vla.batches.collate import build_batch
from vla.features import FrameFeatures
from vla.model import AlignmentModel, ModelConfig, build_model, cpu_state_dict, zero_shot_model
from vla.nn.l2_normalize import l2_normalize
from vla.projectors import registry

pytestmark = pytest.mark.parametrize("name", registry.names())

DIM = 24


def config_of(name):
    return ModelConfig(DIM, name, scale=7.0)


def built(name, seed=0):
    torch.manual_seed(seed)
    config = config_of(name)
    return registry.build(config.projector, config.options, dim=DIM).eval()


def shaken(name, seed=0):
    """A projector with random weights in every place, so that nothing hides behind a zero."""
    projector = built(name, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return projector


def videos(lengths=(7, 3, 5), seed=0, pad=None, garbage=0.0):
    """Raw frames of videos of several lengths, padded to `pad` with `garbage`."""
    rng = np.random.default_rng(seed)
    longest = max(lengths) if pad is None else pad
    frames = np.full((len(lengths), longest, DIM), garbage, np.float32)
    seconds = np.full((len(lengths), longest), garbage, np.float32)
    mask = np.zeros((len(lengths), longest), bool)
    for i, n in enumerate(lengths):
        frames[i, :n] = rng.standard_normal((n, DIM)) * rng.uniform(0.2, 9)
        seconds[i, :n] = np.sort(rng.uniform(0, 20, n))
        mask[i, :n] = True
    return torch.from_numpy(frames), torch.from_numpy(mask), torch.from_numpy(seconds)


def texts(count=6, seed=1):
    return torch.from_numpy(
        (np.random.default_rng(seed).standard_normal((count, DIM)) * 3).astype(np.float32)
    )


def naive_unit(rows):
    rows = rows.double().numpy()
    return torch.from_numpy(rows / np.sqrt((rows**2).sum(-1, keepdims=True)))


def test_starts_as_frozen_encoder(name):
    projector = built(name)
    frames, mask, seconds = videos()
    with torch.no_grad():
        ours = projector.project_frames(frames, mask, seconds)
        queries = projector.project_text(texts())
    torch.testing.assert_close(ours[mask].double(), naive_unit(frames[mask]), rtol=0, atol=1e-6)
    scores = queries @ ours[mask].T
    expected = naive_unit(texts()) @ naive_unit(frames[mask]).T
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)


def test_starts_as_frozen_encoder_in_training(name):
    """Dropout must not touch what is not there yet."""
    projector = built(name).train()
    frames, mask, seconds = videos()
    torch.testing.assert_close(
        projector.project_frames(frames, mask, seconds)[mask].double(),
        naive_unit(frames[mask]),
        rtol=0,
        atol=1e-6,
    )


def test_alpha_zero_is_the_frozen_encoder(name):
    projector = shaken(name)
    frames, mask, seconds = videos()
    with torch.no_grad():
        moved = projector.project_frames(frames, mask, seconds)
        projector.alpha.fill_(0.0)
        ours = projector.project_frames(frames, mask, seconds)
        queries = projector.project_text(texts())
    torch.testing.assert_close(ours[mask].double(), naive_unit(frames[mask]), rtol=0, atol=1e-6)
    torch.testing.assert_close(queries.double(), naive_unit(texts()), rtol=0, atol=1e-6)
    if list(projector.parameters()):
        assert (moved - ours).abs().max() > 0.05  # the weights did matter


def test_alpha_interpolates(name):
    """Half of the change, added to the unit vector."""
    projector = shaken(name)
    with torch.no_grad():
        unit = l2_normalize(texts())
        projector.alpha.fill_(0.5)
        expected = naive_unit(
            unit.double() + 0.5 * projector.change_text(projector.text_statistics(unit)).double()
        )
        torch.testing.assert_close(
            projector.project_text(texts()).double(), expected, rtol=0, atol=1e-6
        )


def test_fit_changes_no_score(name):
    projector = built(name)
    frames, mask, seconds = videos()
    projector.fit(frames[mask], texts(200))
    with torch.no_grad():
        ours = projector.project_frames(frames, mask, seconds)
        queries = projector.project_text(texts())
    torch.testing.assert_close(ours[mask].double(), naive_unit(frames[mask]), rtol=0, atol=1e-6)
    torch.testing.assert_close(queries.double(), naive_unit(texts()), rtol=0, atol=1e-6)


def test_fit_standardizes_features(name):
    """Against numpy: no mean, a mean variance of 1, and the directions as they were to each other."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((500, DIM))
    rows[:, 0] += 12
    rows[:, 1] *= 0.01
    projector = built(name)
    frames, words = (torch.from_numpy(part.astype(np.float32)) for part in (rows[:300], rows[300:]))
    projector.fit(frames, words)
    for statistics, raw in (
        (projector.frame_statistics, frames),
        (projector.text_statistics, words),
    ):
        unit = naive_unit(raw).numpy()
        centered = unit - unit.mean(0)
        actual = statistics(l2_normalize(raw)).double().numpy()
        np.testing.assert_allclose(actual, centered / np.sqrt(centered.var(0).mean()), atol=1e-4)
        assert actual.var(0).mean() == pytest.approx(1, rel=1e-4)
        # One scale for all: the faint direction stays faint, where whitening would raise it.
        assert actual[:, 1].std() < 0.05 < 0.5 < actual[:, 2].std()


def test_equal_rows_change_no_statistics(name):
    """Neither has a variance to divide by."""
    projector = built(name)
    projector.fit(texts(50), texts(60, seed=2))
    before = {k: v.clone() for k, v in projector.state_dict().items()}
    for rows in (texts(1, seed=3), texts(1, seed=3).repeat(40, 1)):
        projector.fit(rows, rows)
        for key, value in projector.state_dict().items():
            assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("garbage", [0.0, 1e3, -7.0, 3e4])
@pytest.mark.parametrize("pad", [7, 8, 20])
def test_padding_does_not_matter(name, pad, garbage):
    projector = shaken(name)
    frames, mask, seconds = videos()
    longer = videos(pad=pad, garbage=garbage)
    with torch.no_grad():
        plain = projector.project_frames(frames, mask, seconds)
        padded = projector.project_frames(*longer)
    torch.testing.assert_close(padded[longer[1]], plain[mask], rtol=0, atol=2e-6)
    assert (padded[~longer[1]] == 0).all()


def test_videos_are_independent(name):
    projector = shaken(name)
    frames, mask, seconds = videos()
    with torch.no_grad():
        together = projector.project_frames(frames, mask, seconds)
        for i, n in enumerate(mask.sum(1).tolist()):
            alone = projector.project_frames(
                frames[i : i + 1, :n], mask[i : i + 1, :n], seconds[i : i + 1, :n]
            )
            torch.testing.assert_close(alone[0], together[i, :n], rtol=0, atol=2e-6)


def test_the_order_of_a_batch_does_not_matter(name):
    projector = shaken(name)
    frames, mask, seconds = videos((4, 9, 1, 6))
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        plain = projector.project_frames(frames, mask, seconds)
        moved = projector.project_frames(frames[order], mask[order], seconds[order])
        torch.testing.assert_close(moved, plain[order], rtol=0, atol=2e-6)
        rows = torch.tensor([5, 3, 1, 0, 2, 4])
        torch.testing.assert_close(
            projector.project_text(texts()[rows]),
            projector.project_text(texts())[rows],
            rtol=0,
            atol=2e-6,
        )


def test_everything_has_unit_norm(name):
    projector = shaken(name)
    frames, mask, seconds = videos((1, 6))
    with torch.no_grad():
        lengths = projector.project_frames(frames, mask, seconds).double().norm(dim=-1)
        told = projector.project_text(texts().view(2, 3, DIM))
    torch.testing.assert_close(lengths, mask.double(), rtol=0, atol=1e-6)
    assert told.shape == (2, 3, DIM)
    torch.testing.assert_close(
        told.double().norm(dim=-1), torch.ones(2, 3, dtype=torch.double), rtol=0, atol=1e-6
    )


def test_a_text_of_zeros_stays_zero(name):
    """Sentences are padded with zeros."""
    rows = texts(3)
    rows[1] = 0
    with torch.no_grad():
        assert (shaken(name).project_text(rows).norm(dim=-1) > 0.5).tolist() == [True, False, True]


def test_a_frame_of_zeros_gives_no_nan(name):
    frames, mask, seconds = videos()
    frames[0, 2] = 0
    frames.requires_grad_(True)
    ours = shaken(name).project_frames(frames, mask, seconds)
    ours.square().sum().backward()
    assert torch.isfinite(ours).all() and torch.isfinite(frames.grad).all()


def test_a_gradient_reaches_every_parameter(name):
    """After one step, since what starts at zero blocks what lies before it."""
    projector = built(name).train()
    parameters = dict(projector.named_parameters())
    if not parameters:
        return
    frames, mask, seconds = videos((12, 9, 12))
    optimizer = torch.optim.SGD(parameters.values(), lr=1.0)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        moved = projector.project_frames(frames, mask, seconds)[mask]
        told = projector.project_text(texts())
        loss = (moved @ texts(DIM, 5).T).square().sum() + (told @ texts(9, 7).T).exp().sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
    silent = [n for n, p in parameters.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_state_dict_round_trips(name):
    from safetensors.torch import load, save

    torch.manual_seed(3)
    config = config_of(name)
    model = AlignmentModel(config)
    model.projector = shaken(name, seed=3)
    with torch.no_grad():
        model.projector.alpha.fill_(0.5)
        model.log_scale.fill_(2.0)
    back = build_model(config, load(save(cpu_state_dict(model.eval()))), "test")
    assert not back.training
    assert {k: v.tolist() for k, v in back.state_dict().items()} == {
        k: v.tolist() for k, v in model.state_dict().items()
    }
    features = FrameFeatures("v", videos((9,))[0][0].numpy(), np.arange(9) / 2, 4.5)
    np.testing.assert_array_equal(back.align_frames(features), model.align_frames(features))
    np.testing.assert_array_equal(
        back.align_texts(texts().numpy()), model.align_texts(texts().numpy())
    )


def test_evaluation_is_deterministic(name):
    """`align_frames`, which the index uses, equals the batch's forward in evaluation mode."""
    config = replace(config_of(name), scale=20.0)
    model = AlignmentModel(config)
    model.projector = shaken(name)
    model.eval()
    corpus = made_corpus((8, 5), dim=DIM)
    batch = build_batch(corpus, np.arange(2), corpus.queries, corpus.questions)
    with torch.no_grad():
        aligned = model(batch)
    for i, n in enumerate((8, 5)):
        np.testing.assert_allclose(
            model.align_frames(corpus.videos[i]), aligned.frames[i, :n].numpy(), atol=2e-6
        )
    np.testing.assert_allclose(
        model.align_texts(batch.queries.numpy()), aligned.queries.numpy(), atol=2e-6
    )
    np.testing.assert_allclose(
        model.align_texts(batch.questions.vectors.numpy()), aligned.questions.numpy(), atol=2e-6
    )
    choice = batch.questions.choices[0].numpy()
    np.testing.assert_allclose(model.align_texts(choice), aligned.choices[0].numpy(), atol=2e-6)
    assert float(aligned.scale) == pytest.approx(20.0, rel=1e-5)


def test_one_seed_one_projector(name):
    one, other = built(name, 5).state_dict(), built(name, 5).state_dict()
    assert all(torch.equal(one[k], other[k]) for k in one) and one.keys() == other.keys()


def test_half_precision_features_are_read(name):
    """The cache keeps float16."""
    model = zero_shot_model(DIM, 500.0)
    assert float(model.scale.detach()) == pytest.approx(100.0)
    values = videos((6,))[0][0].numpy().astype(np.float16)
    actual = model.align_frames(FrameFeatures("v", values, np.arange(6.0), 6.0))
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, naive_unit(torch.from_numpy(values)).numpy(), atol=1e-6)
