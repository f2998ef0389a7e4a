"""Selection of weights: worked sequences of validations, measures by name, and runs of noise."""

import math

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus
from unit.training.test_loop import DIM, SETTINGS, SPEC, corpus, run
from vla.batches.corpus import Corpus, Query
from vla.errors import UsageError
from vla.evaluation.results import PerQueryScores
from vla.evaluation.validation import ValidationResult, validate
from vla.features import FrameFeatures
from vla.model import AlignmentModel, ModelConfig, zero_shot_model
from vla.training import loop
from vla.training.checkpoint import load_model, open_run
from vla.training.config import TrainConfig
from vla.training.gates import select_alpha
from vla.training.loop import train
from vla.training.split import Split, hold_out_concepts, split_rows
from vla.training.state import State
from vla.training.validator import Validator


def result(*values, task="a"):
    """A validation of one query in each of as many videos."""
    scores = PerQueryScores(np.array(values, float), np.arange(len(values)))
    return ValidationResult({}, float(np.mean(values)), selection={task: scores})


def sequence(*results):
    """The states after validations, the first of the initial model; epoch n has the weights n."""
    states = [State.initial(results[0], {"w": torch.tensor(0.0)})]
    for number, one in enumerate(results[1:], 1):
        state = states[-1].after_epoch()
        states.append(state.after_validation(one, {"w": torch.tensor(float(number))}))
    return states


def selected(states):
    """The epoch after each validation; its weights are those of the same epoch."""
    for state in states:
        assert float(state.selected_weights["w"]) == state.selected_epoch
    return [state.selected_epoch for state in states]


# Four videos with gains d over others: the jackknife's error of the mean is std(d, ddof=1) / 2.
BASE = np.array([0.5, 0.5, 0.5, 0.5])
SPREAD = np.array([0.1, -0.1, 0.1, -0.1])  # error 0.2 / sqrt(3) / 2 = 0.0577


def test_latest_epoch_within_one_error_of_the_best_is_selected():
    best = BASE + 0.2
    assert np.std(SPREAD, ddof=1) / 2 == pytest.approx(0.0577, abs=1e-4)
    states = sequence(
        result(*BASE),
        result(*best),  # better
        result(*(best - 0.05 + SPREAD)),  # 0.05 below the best, within 0.0577
        result(*(best - 0.06 + SPREAD)),  # beyond
        result(*(best - 0.05)),  # 0.05 below in every video: an error of 0
        result(*(best - 0.057 - SPREAD)),  # within again
    )
    assert selected(states) == [0, 1, 2, 2, 2, 5]
    # Each is compared with the best, not with the selected one: errors do not add up.
    assert all(state.best["a"].by_query.tolist() == best.tolist() for state in states[1:])
    assert [row["epoch"] for row in states[-1].history] == [1, 2, 3, 4, 5]


def test_equal_scores_select_the_later_epoch():
    assert selected(sequence(result(*BASE), result(*BASE), result(*BASE))) == [0, 1, 2]


def test_a_higher_score_is_the_best_however_small():
    states = sequence(result(*BASE), result(*(BASE + 1e-9)), result(*BASE))
    assert selected(states) == [0, 1, 1]


def test_initial_model_is_kept_if_every_epoch_is_worse():
    states = sequence(result(*BASE), *(result(*(BASE - 0.1 * k)) for k in (1, 2, 3)))
    assert selected(states) == [0, 0, 0, 0]
    assert states[-1].best["a"].by_query.tolist() == BASE.tolist()
    assert states[-1].epoch == 3


def test_one_video_selects_any_epoch():
    """Its error is unknown."""
    assert selected(sequence(result(0.9), result(0.1), result(0.5))) == [0, 1, 2]


def test_selected_weights_are_copies():
    weights = {"w": torch.tensor(1.0)}
    state = State.initial(result(*BASE), weights)
    weights["w"].fill_(7.0)
    assert float(state.selected_weights["w"]) == 1.0
    later = state.after_epoch().after_validation(result(*(BASE + 0.1)), weights)
    weights["w"].fill_(9.0)
    assert float(later.selected_weights["w"]) == 7.0


# Through whole runs.


@pytest.fixture
def validations(monkeypatch):
    """Results of all validations with heads: before and after centering, then of each epoch."""
    found = []

    class Follower(loop.Validator):
        def __call__(self, model, alpha=1.0, *, heads=True):
            outcome = super().__call__(model, alpha, heads=heads)
            if heads:
                found.append((alpha, outcome))
            return outcome

    monkeypatch.setattr(loop, "Validator", Follower)
    return found


def measured(record, name):
    """The values of a measure at each validated epoch."""
    task, measure = name.rsplit(" ", 1)
    return [row["metrics"][task][measure] for row in record["history"]]


QUICK = {**SETTINGS, "epochs": 8, "learning_rate": 0.02, "validate_every": 1}


def by_rule(outcomes):
    """The rule as a loop over all validations, from that of the initial model."""
    scores = [outcome.score for outcome in outcomes]
    best = scores.index(max(scores))
    within = [
        k
        for k in range(best + 1, len(scores))
        if scores[best] - scores[k] <= naive_error(outcomes[k].selection, outcomes[best].selection)
    ]
    return max([best, *within])


def naive_error(ours, others):
    """The jackknife by a loop over the videos, of the mean over the tasks."""
    videos = sorted({int(v) for part in ours.values() for v in part.videos})
    means = []
    for out in videos:
        of_tasks = []
        for task, part in ours.items():
            gains = part.by_query - others[task].by_query
            rest = [g for g, v in zip(gains, part.videos, strict=True) if v != out]
            of_tasks.append(np.mean(rest) if rest else np.mean(gains))
        means.append(np.mean(of_tasks))
    if len(videos) < 2:
        return math.inf
    return math.sqrt((len(videos) - 1) * np.mean((np.array(means) - np.mean(means)) ** 2))


@pytest.mark.parametrize(
    "select", ["auto", "text to video MnR", "moment in its video mIoU", "moment to video R@1"]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_run_follows_the_rule(tmp_path, validations, select, seed):
    config = TrainConfig(**{**QUICK, "seed": seed, "select": select})
    record = run(tmp_path / "r", corpus(seed=seed), config).record
    first = next(i for i, (alpha, _) in enumerate(validations) if alpha == 0.5)
    outcomes = [outcome for _, outcome in validations[first - 1 : first + 8]]
    assert record["epochs"] == len(record["history"]) == 8
    scores = [outcome.score for outcome in outcomes]
    if select != "auto":
        values = measured(record, select)
        sign = -1 if select.endswith("MnR") else 0.01
        assert scores[1:] == pytest.approx([sign * value for value in values])
    assert record["selected_epoch"] == by_rule(outcomes)


def test_another_measure_selects_another_epoch(tmp_path):
    """Several measures of one and the same training, of which not all agree."""
    data = corpus()
    records = {
        select: run(
            tmp_path / select,
            data,
            TrainConfig(**{**QUICK, "segment_weight": 0.5, "select": select}),
        ).record
        for select in ("auto", "moment in its video mIoU", "text to video MnR")
    }
    losses = [[row["losses"] for row in record["history"]] for record in records.values()]
    assert losses[0] == losses[1] == losses[2], "what is selected by changes no step"
    assert len({record["selected_epoch"] for record in records.values()}) > 1


def test_an_unknown_measure_is_refused_before_any_step(tmp_path):
    seen = []
    with pytest.raises(UsageError) as refusal:
        run(
            tmp_path / "r",
            corpus(),
            TrainConfig(**{**SETTINGS, "select": "text to video R@2"}),
            seen.append,
        )
    said = str(refusal.value)
    assert "\n" not in said and "not 'text to video R@2'" in said
    assert "text to video R@1" in said and "moment in its video mIoU" in said
    assert "MedR" not in said, "a median has no mean over queries"
    assert not seen and not (tmp_path / "r").exists()


def test_a_measure_of_a_missing_head_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not 'moment by head mAP'"):
        run(tmp_path / "r", corpus(), TrainConfig(**SETTINGS, select="moment by head mAP"))


@pytest.mark.parametrize("select", ["text to video MnR", "counting MSE"])
def test_lower_measures_have_the_other_sign(select):
    data = made_corpus((12, 8, 10, 9))
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(data.dim, "identity", heads={"counting": {}})).eval()
    found = validate(model, data, select=select)
    task, measure = select.rsplit(" ", 1)
    assert found.score == pytest.approx(-found.metrics[task][measure])
    assert list(found.selection) == [select]


def test_measures_in_percent_are_shares():
    data = made_corpus((12, 8, 10, 9))
    found = validate(zero_shot_model(data.dim, 1.0), data, select="text to video R@5")
    assert found.score == pytest.approx(found.metrics["text to video"]["R@5"] / 100)


# Captions that say nothing of their videos: a run has nothing to learn, and must lose nothing.


def noise(count, seed):
    """Videos and captions, timed and not, that have nothing to do with each other."""
    rng = np.random.default_rng(seed)
    videos, queries, vectors = [], [], {}
    for i in range(count):
        values = rng.standard_normal((8, DIM)).astype(np.float16)
        videos.append(FrameFeatures(f"v{i}", values, np.arange(8) / 2, 4.0))
        for text, spans in (
            (f"whole {i}", np.zeros((0, 2))),
            (f"early {i}", np.array([[0.0, 2.0]])),
        ):
            vectors[text] = rng.standard_normal(DIM).astype(np.float32)
            queries.append(Query(text, (text,), (text,), i, spans))
    return Corpus(videos, queries, vectors)


@pytest.mark.parametrize("heads", ["", "moments"])
def test_runs_on_noise_are_not_below_their_start(tmp_path, monkeypatch, heads):
    """At the selected alpha search scores more than before; without one as much."""
    alphas = []

    def follow(*given):
        alphas.append(select_alpha(*given))
        return alphas[-1]

    monkeypatch.setattr(loop, "select_alpha", follow)
    for seed in range(5):
        data = noise(60, seed)
        config = TrainConfig(
            **{**SETTINGS, "epochs": 6, "learning_rate": 0.01, "heads": heads, "seed": seed}
        )
        split = hold_out_concepts(split_rows(60, {}, 0.25, seed), data, 0.2, seed)
        assert len(split.held_out_queries)
        folder = tmp_path / str(seed)
        record = train(data, split, SPEC, 20.0, config, folder, "same").record
        before, after = record["before"], record["after"]
        if alphas[-1] is None:
            assert record["alpha"] == record["centring"] == 0 and not record["better"]
            assert after["search"] == before["search"]
            assert record["untaught"]["after"] == record["untaught"]["before"]
        else:
            assert record["alpha"] == alphas[-1]
            assert after["search"] > before["search"]
            assert record["untaught"]["after"] >= record["untaught"]["before"]
        assert not open_run(folder).is_better, "noise is no gain"
        if heads and not record["centring"]:
            mean = [of["metrics"]["moment by head"]["mAP"] for of in (before, after)]
            assert mean[1] >= mean[0] - 1e-6
        # The weights on disk have the scores of the record.
        model = load_model(folder)[0]
        validator = Validator(data, split, "auto", seed)
        again = validator(model, float(model.projector.alpha))
        assert again.to_json() == after
    assert {alpha is None for alpha in alphas} == {True, False}, "both happen"


def test_initial_weights_are_used_if_every_epoch_is_worse(tmp_path):
    """Captions that fit their videos in validation, and are wrong in training."""
    rng = np.random.default_rng(0)
    videos, queries, vectors = [], [], {}
    for i in range(24):
        direction = rng.standard_normal(DIM)
        values = np.tile(direction, (4, 1)).astype(np.float16)
        videos.append(FrameFeatures(f"v{i}", values, np.arange(4.0), 4.0))
        right = direction if i >= 16 else rng.standard_normal(DIM)
        vectors[f"t{i}"] = right.astype(np.float32)
        queries.append(Query(f"t{i}", (f"t{i}",), (f"t{i}",), i, np.zeros((0, 2))))
    config = TrainConfig(**{**SETTINGS, "epochs": 6, "learning_rate": 0.05, "anchor_weight": 0.0})
    split = Split(np.arange(16), np.arange(16, 24))
    done = train(Corpus(videos, queries, vectors), split, SPEC, 20.0, config, tmp_path / "r", "x")
    assert done.record["selected_epoch"] == 0
    assert all(row["score"] < done.record["before"]["score"] for row in done.record["history"])
