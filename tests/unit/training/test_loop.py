"""Training: exact start at the frozen encoder, settings, and the verdict on a run."""

from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus
from support.refusals import refused
from vla.batches.collate import build_batch
from vla.batches.corpus import Corpus, Query
from vla.errors import CacheError, MissingError, UsageError
from vla.evaluation import retrieval_protocol
from vla.evaluation.predictions import CorpusPredictions
from vla.features import FeatureSpec, FrameFeatures
from vla.losses.infonce import Loss
from vla.model import AlignmentModel, ModelConfig, zero_shot_model
from vla.training.checkpoint import load_model, open_run, save_run
from vla.training.config import TrainConfig
from vla.training.loop import train
from vla.training.objective import Objective
from vla.training.split import Split, split_rows

DIM = 16
SPEC = FeatureSpec("toy", "16", "none", "none", "fps=2", DIM)


def similarity(model, data):
    return retrieval_protocol.searches(CorpusPredictions(model, data))["text to video"].similarity


def corpus(count=24, seed=0):
    """Videos that drift along a direction which their caption names; single frames do not show the direction's sign."""
    rng = np.random.default_rng(seed)
    words = rng.standard_normal((2, DIM)).astype(np.float32)
    way = rng.standard_normal(DIM)
    videos, queries, vectors = [], [], {"forth": words[0], "back": words[1]}
    for i in range(count):
        length = int(rng.integers(6, 12))
        ramp = np.linspace(-1, 1, length)[:, None] * way * (1 if i % 2 else -1)
        values = (ramp + 0.05 * rng.standard_normal((length, DIM)) + 1).astype(np.float16)
        videos.append(FrameFeatures(f"v{i}", values, np.arange(length) / 2, length / 2))
        text = f"{'forth' if i % 2 else 'back'} {i}"
        vectors[text] = words[0 if i % 2 else 1] + 0.1 * rng.standard_normal(DIM).astype(np.float32)
        queries.append(Query(text, (text,), (text,), i, np.zeros((0, 2))))
        queries.append(Query(text, (text,), (text,), i, np.array([[0.0, 1.5]])))
    return Corpus(videos, queries, vectors)


SETTINGS = {
    "projector_options": {"width": 16, "heads": 2},
    "epochs": 4,
    "batch_size": 8,
}


def run(folder, data, config, progress=lambda p: None, identity="same"):
    split = split_rows(len(data.videos), {}, config.val_fraction, config.seed)
    return train(data, split, SPEC, 20.0, config, folder, identity, progress=progress)


def test_untrained_model_matches_frozen_encoder():
    data = corpus()
    options = SETTINGS["projector_options"]
    for projector in ("temporal", "residual"):
        chosen = options if projector == "temporal" else {"width": 8}
        untrained = AlignmentModel(ModelConfig(DIM, projector, chosen)).eval()
        np.testing.assert_allclose(
            similarity(untrained, data), similarity(zero_shot_model(DIM, 1.0), data), atol=1e-5
        )
    # and the frozen score is the plain one: cosine of the text and the mean of the unit frames
    values = data.videos[3].values.astype(np.float64)
    mean = (values / np.linalg.norm(values, axis=1, keepdims=True)).mean(0)
    text = data.vectors["forth 1"].astype(np.float64)
    expected = text @ mean / np.linalg.norm(text) / np.linalg.norm(mean)
    assert similarity(zero_shot_model(DIM, 1.0), data)[1, 3] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("every", "validated"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (9, [5])]
)
def test_every_epoch_runs_and_some_are_validated(tmp_path, every, validated):
    seen = []
    config = TrainConfig(**{**SETTINGS, "epochs": 5, "validate_every": every})
    record = run(tmp_path / "r", corpus(), config, seen.append).record
    assert record["epochs"] == 5
    assert [row["epoch"] for row in record["history"]] == validated
    reports = {p.done: p.values for p in seen if p.values and not p.part}
    assert list(reports) == [1, 2, 3, 4, 5]
    assert [done for done, values in reports.items() if "score" in values] == validated
    # The losses of a row are those of its own epoch.
    for row in record["history"]:
        assert {k: reports[row["epoch"]][k] for k in row["losses"]} == row["losses"]


def test_validation_changes_no_step(tmp_path):
    """Nor does its interval: the losses of an epoch are the same, validated or not."""
    losses = []
    for every in (1, 2, 4):
        seen = []
        config = TrainConfig(**SETTINGS, validate_every=every)
        run(tmp_path / str(every), corpus(), config, seen.append)
        names = ("global", "segment", "pull")
        losses.append([[p.values[k] for k in names] for p in seen if p.values and not p.part])
    assert len(losses[0]) == 4 and losses[0] == losses[1] == losses[2]


def test_the_callers_random_state_is_left_alone(tmp_path):
    data = corpus(12)
    first = run(tmp_path / "a", data, TrainConfig(**SETTINGS))
    before = torch.get_rng_state()
    torch.rand(7)
    assert run(tmp_path / "b", data, TrainConfig(**SETTINGS)).digest == first.digest
    torch.set_rng_state(before)
    run(tmp_path / "c", data, TrainConfig(**SETTINGS))
    assert torch.equal(torch.get_rng_state(), before)


def twins(things, seed):
    """Every thing forth and back: the frozen encoder knows things in frames and texts alike, and the two words only in texts."""
    rng = np.random.default_rng(seed)
    way, word = np.eye(DIM)[0], np.eye(DIM)[1]
    videos, queries, vectors = [], [], {}
    for i in range(things):
        thing = rng.standard_normal(DIM)
        thing[:2] = 0
        thing /= np.linalg.norm(thing)
        for sign in (1, -1):
            name, length = f"{i} {'forth' if sign > 0 else 'back'}", int(rng.integers(6, 12))
            ramp = np.linspace(-1, 1, length)[:, None] * way * sign
            values = (thing + 0.5 * ramp + 0.05 * rng.standard_normal((length, DIM))).astype(
                np.float16
            )
            vectors[name] = (thing + 0.3 * sign * word + 0.05 * rng.standard_normal(DIM)).astype(
                np.float32
            )
            queries.append(Query(name, (name,), (name,), len(videos), np.zeros((0, 2))))
            videos.append(FrameFeatures(name, values, np.arange(length) / 2, length / 2))
    return Corpus(videos, queries, vectors)


def test_learns_order_of_events(tmp_path):
    """Mean vectors cannot tell forth from back; a temporal projector can, for things that it was not trained on."""
    config = TrainConfig(**{**SETTINGS, "epochs": 30, "levels": "global", "learning_rate": 3e-3})
    done = run(tmp_path / "r", twins(60, 1), config)
    assert done.record["verdict"]["videos"] == 18 and done.is_better
    assert "better than the frozen encoder on 18 held-out videos" in done.verdict
    fresh = twins(60, 2)

    def choices(model):
        texts = model.align_texts(np.stack([fresh.vectors[q.text] for q in fresh.queries]))
        means = np.stack(
            [v.mean(0) / np.linalg.norm(v.mean(0)) for v in model.align_videos(fresh.videos)]
        )
        scores = texts @ means.T
        other = np.arange(len(scores)) ^ 1
        return float((scores.diagonal() > scores[np.arange(len(scores)), other]).mean())

    assert abs(choices(zero_shot_model(DIM, 20.0)) - 0.5) < 0.15
    assert choices(load_model(tmp_path / "r")[0]) > 0.9


def test_useless_run_is_not_better(tmp_path):
    """Captions that are right already: nothing beats the frozen encoder, so the run must not be used by default."""
    rng = np.random.default_rng(0)
    videos, queries, vectors = [], [], {}
    for i in range(12):
        direction = rng.standard_normal(DIM)
        videos.append(
            FrameFeatures(
                f"v{i}", np.tile(direction, (4, 1)).astype(np.float16), np.arange(4.0), 4.0
            )
        )
        vectors[f"t{i}"] = direction.astype(np.float32)
        queries.append(Query(f"t{i}", (f"t{i}",), (f"t{i}",), i, np.zeros((0, 2))))
    done = run(tmp_path / "r", Corpus(videos, queries, vectors), TrainConfig(**SETTINGS))
    assert not done.is_better
    assert not open_run(tmp_path / "r").is_better


def test_splits_are_disjoint_and_exclude_test():
    named = {
        0: "test",
        1: "val",
        2: "train",
        3: "validation",
        6: "val_1",
        7: "Dev",
        8: "test_public",
    }
    split = split_rows(9, named, 0.5, 0)
    assert split.val.tolist() == [1, 3, 6, 7]
    assert split.train.tolist() == [2, 4, 5]
    random = split_rows(20, {0: "test"}, 0.2, 1)
    assert len(random.val) == 4 and 0 not in random.train and 0 not in random.val
    assert not set(random.train) & set(random.val)
    with pytest.raises(MissingError, match="at least 3 videos"):
        split_rows(2, {}, 0.5, 0)


@pytest.mark.parametrize(
    ("levels", "parts"),
    [
        ("global", {"global", "pull"}),
        ("segment", {"segment", "pull"}),
        ("both", {"global", "segment", "pull"}),
    ],
)
def test_levels_select_losses(levels, parts):
    data = corpus(6)
    batch = build_batch(data, np.arange(6), data.queries)
    model = AlignmentModel(ModelConfig(DIM, "identity"))
    actual = Objective(TrainConfig(levels=levels))(model, batch)
    assert set(actual) == parts
    assert all(torch.isfinite(v) for v in actual.values())


def test_captions_without_times_are_softly_aligned():
    data = corpus(6)
    untimed = [q for q in data.queries if not q.is_timed]
    batch = build_batch(data, np.arange(6), untimed)
    model = AlignmentModel(ModelConfig(DIM, "residual", {"width": 8}))
    actual = Objective(TrainConfig(levels="segment"))(model, batch)
    assert set(actual) == {"alignment", "pull"}
    actual["alignment"].backward()
    assert model.projector.text.layers[-1].weight.grad.abs().sum() > 0


def test_anchor_term_grows_with_distance():
    data = corpus(6)
    batch = build_batch(data, np.arange(6), data.queries)
    model = AlignmentModel(ModelConfig(DIM, "residual", {"width": 8})).eval()
    objective = Objective(TrainConfig(anchor_weight=1.0))
    assert float(objective(model, batch)["pull"].detach()) == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        model.projector.text.layers[-1].bias += 1.0
    expected = (
        (model(batch).queries - batch.queries / batch.queries.norm(dim=1, keepdim=True))
        .square()
        .sum(1)
        .mean()
    )
    assert float(objective(model, batch)["pull"].detach()) == pytest.approx(
        float(expected.detach()), rel=1e-5
    )


def test_unknown_settings_are_named():
    with pytest.raises(
        UsageError, match="no setting is called speed; there are anchor_weight, batch_size"
    ):
        TrainConfig.from_mapping({"speed": 3}, "recipe.toml")
    with pytest.raises(UsageError, match="levels is one of both, global, segment"):
        TrainConfig(levels="neither")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("learning_rate", float("nan"), "learning_rate must be a positive number, not nan"),
        ("learning_rate", float("inf"), "learning_rate must be a positive number, not inf"),
        ("weight_decay", -1.0, "weight_decay must be 0 or a positive number, not -1.0"),
        ("anchor_weight", float("nan"), "anchor_weight must be 0 or a positive number, not nan"),
        ("epochs", "ten", "epochs is a whole number, not 'ten'"),
        ("batch_size", 2.5, "batch_size is a whole number, not 2.5"),
        ("seed", -1, "seed must be between 0 and 4294967295, not -1"),
        ("deterministic", "yes", "deterministic is true or false, not 'yes'"),
        ("head_weights", {"moments": "1"}, "head_weights.moments is a number, not '1'"),
        ("head_options", {"moments": 1}, "head_options.moments is a table of options, not 1"),
        ("warmup", 1.5, "warmup is a share from 0 to 1, not 1.5"),
        (
            "head_weights",
            {"moments": float("inf")},
            "head_weights.moments must be 0 or a positive number, not inf",
        ),
    ],
)
def test_rejects_invalid_settings(name, value, says):
    with pytest.raises(UsageError, match=says):
        TrainConfig(**{"heads": "moments", name: value})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"width": -1}, "option width must be a whole number of at least 1, not -1"),
        ({"width": 10, "heads": 3}, "10 is no multiple of 3"),
    ],
)
def test_rejects_invalid_projector(tmp_path, options, says):
    with pytest.raises(UsageError, match=says):
        run(tmp_path, corpus(), TrainConfig(projector_options=options))


@pytest.mark.parametrize(
    ("setting", "name", "says"),
    [
        (
            "global_loss",
            "segment_transport",
            "global_loss is a loss over pairs, one of infonce; 'segment_transport'",
        ),
        ("segment_loss", "segment_order", "segment_loss is a loss over pairs"),
        (
            "untimed_loss",
            "infonce",
            "untimed_loss is a loss over sets, one of segment_order, segment_transport;",
        ),
    ],
)
def test_a_loss_of_another_kind_is_refused(tmp_path, setting, name, says):
    with pytest.raises(UsageError, match=says):
        run(tmp_path, corpus(), TrainConfig(**SETTINGS, **{setting: name}))


def test_rejects_run_without_parameters(tmp_path):
    with pytest.raises(
        UsageError, match="nothing to train: levels is none, and no head of heads 'auto'"
    ):
        run(tmp_path, corpus(), TrainConfig(**SETTINGS, levels="none"))
    assert not list(tmp_path.iterdir())


def test_large_batches_have_the_same_loss(monkeypatch):
    """From vectors, block by block, as from the whole matrix: value and gradients, with captions that several videos share."""
    data = corpus(12)
    for i in (3, 5):
        data.vectors[data.queries[2 * i].text] = data.vectors[data.queries[2].text].copy()
    batch = build_batch(data, np.arange(12), data.queries)
    actual, blocks = [], []
    from_vectors = Loss.from_vectors
    monkeypatch.setattr(
        Loss,
        "from_vectors",
        lambda *given, **named: blocks.append(0) or from_vectors(*given, **named),
    )
    for most in (1 << 22, 1):
        monkeypatch.setattr("vla.training.objective.MAX_SCORES", most)
        torch.manual_seed(0)
        model = AlignmentModel(ModelConfig(DIM, "residual", {"width": 8})).eval()
        loss = Objective(TrainConfig(levels="global", anchor_weight=0.0))(model, batch)["global"]
        loss.backward()
        actual.append((float(loss.detach()), model.projector.text.layers[-1].weight.grad.clone()))
    assert len(blocks) == 1
    assert actual[0][0] == pytest.approx(actual[1][0], rel=1e-6)
    torch.testing.assert_close(actual[0][1], actual[1][1], rtol=1e-5, atol=1e-6)


def test_rejects_run_with_removed_head(tmp_path):
    """The way out is to train again."""
    model = AlignmentModel(ModelConfig(DIM))
    model.config = replace(model.config, heads={"conv_se": {}})
    save_run(tmp_path / "old", model, SPEC, "identity", {})
    with refused(
        CacheError,
        "retrain",
        "run 'old' needs a part .* removed .*no head is called 'conv_se'",
        run="old",
    ):
        load_model(tmp_path / "old")


def test_rejects_run_without_a_weight_of_its_head(tmp_path):
    """As a version before that weight wrote it: the message names it, the way out is to train."""
    model = AlignmentModel(ModelConfig(DIM, heads={"moments": {}}))
    del model.heads["moments"]._buffers["contrast_ends"]
    save_run(tmp_path / "old", model, SPEC, "identity", {})
    message = r"does not fit .*Missing key.*heads\.moments\.contrast_ends"
    with refused(CacheError, "retrain", message, run="old"):
        load_model(tmp_path / "old")


def test_rejects_two_heads_for_one_task(tmp_path, monkeypatch):
    """Their figures would be one."""
    other = EntryPoint("other", "vla.heads.moments:Head", "vla.heads")
    monkeypatch.setattr(
        "vla.registry.entry_points", lambda group: [other] if group == other.group else []
    )
    with pytest.raises(UsageError, match="heads moments and other handle the same task"):
        run(tmp_path, corpus(), TrainConfig(**SETTINGS, heads="moments,other"))
    assert not list(tmp_path.iterdir())


def test_initial_temperature_uses_few_batches(tmp_path, monkeypatch):
    """A step of thousands of videos is not gone through at 25 temperatures."""
    seen = []
    monkeypatch.setattr("vla.training.loop._FIT_BATCHES", 2)
    monkeypatch.setattr("vla.training.loop._FIT_BATCH_SIZE", 3)
    monkeypatch.setattr("vla.training.loop.fit_centering", lambda *_: True)
    monkeypatch.setattr(
        "vla.training.loop.fit_temperature",
        lambda model, objective, actual: seen.extend(len(b.frames) for b in actual),
    )
    data = made_corpus([3 + i % 5 for i in range(18)], dim=16)
    config = TrainConfig(
        epochs=1, batch_size=5, projector_options={"width": 8, "heads": 2}, heads=""
    )
    train(data, Split(np.arange(15), np.arange(15, 18)), SPEC, 20.0, config, tmp_path, "same")
    assert seen == [3, 3]


@pytest.mark.parametrize("rate", [1e20, 1e30, 1e38])
def test_diverged_training_fails_without_a_run(tmp_path, rate):
    with pytest.raises(UsageError, match=r"training diverged in epoch \d+.*lower learning rate"):
        run(tmp_path / "run", corpus(), TrainConfig(**{**SETTINGS, "learning_rate": rate}))
    with pytest.raises(MissingError):
        open_run(tmp_path / "run")


def test_few_validation_videos_are_inconclusive(tmp_path):
    few = run(
        tmp_path / "few", twins(20, 1), TrainConfig(**{**SETTINGS, "epochs": 2, "levels": "global"})
    )
    assert few.record["verdict"]["videos"] == 6 and not few.is_better
    assert "too few videos: 6 held-out videos, at least 10 are needed" in few.verdict


@pytest.mark.parametrize("levels", ["both", "global"])
def test_rejects_batch_size_of_one(levels):
    with pytest.raises(UsageError, match="batch_size must be at least 2"):
        TrainConfig(batch_size=1, levels=levels)
    assert TrainConfig(batch_size=1, levels="segment").batch_size == 1


def test_warns_about_zero_losses(tmp_path):
    """Captions in the same words tell no two videos apart."""
    data = corpus(12)
    same = [replace(q, chunks=("forth 1",)) for q in data.queries if not q.is_timed]
    said = []
    run(
        tmp_path,
        replace(data, queries=same),
        TrainConfig(**{**SETTINGS, "levels": "global"}),
        said.append,
    )
    assert any("every loss of this epoch is 0" in p.message for p in said if p.level == "warning")


def test_the_gate_of_heads_gets_the_weights_before_the_first_step(tmp_path, monkeypatch):
    from vla.training import loop
    from vla.training.model_setup import initial_model

    seen = {}

    def record(model, initial, validator, alpha):
        seen["initial"] = initial
        seen["trained"] = {k: v.clone() for k, v in model.state_dict().items()}

    monkeypatch.setattr(loop, "select_head_gate", record)
    data, config = corpus(), TrainConfig(**{**SETTINGS, "heads": "moments"})
    run(tmp_path, data, config)
    split = split_rows(len(data.videos), {}, config.val_fraction, config.seed)
    fresh = initial_model(data.subset(split.train), 20.0, config).state_dict()
    heads = [key for key in fresh if key.startswith("heads.")]
    assert all(torch.equal(seen["initial"][key], fresh[key]) for key in heads)
    assert any(not torch.equal(seen["trained"][key], fresh[key]) for key in heads)
