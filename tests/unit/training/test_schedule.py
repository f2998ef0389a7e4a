"""Schedule of a run: number of epochs and interval of validations, worked by hand."""

import time

import numpy as np
import pytest

from support.made_corpus import made_corpus
from unit.training.test_loop import SETTINGS, corpus, run
from vla.errors import UsageError
from vla.training.config import TrainConfig, read_recipe
from vla.training.schedule import Schedule


@pytest.mark.parametrize(
    ("videos", "epochs"),
    [
        (1, 80), (100, 80), (250, 80), (251, 80), (300, 67), (400, 50), (499, 40), (1000, 20), (1600, 12), (2000, 10), (9000, 10),
    ],
)  # fmt: skip
def test_default_epochs_show_so_many_videos(videos, epochs):
    assert TrainConfig().num_epochs(videos) == epochs
    assert TrainConfig(epochs=3).num_epochs(videos) == 3


def test_no_videos_have_the_most_epochs():
    assert TrainConfig().num_epochs(0) == 80


def test_a_recipe_leaves_epochs_out_for_the_default(tmp_path):
    """TOML has no null; a run's JSON has."""
    recipe = tmp_path / "r.toml"
    recipe.write_text("batch_size = 8\n")
    assert TrainConfig.from_mapping(read_recipe(recipe), "r.toml").epochs is None
    recipe.write_text("epochs = 7\nvalidate_every = 2\n")
    config = TrainConfig.from_mapping(read_recipe(recipe), "r.toml")
    assert (config.epochs, config.validate_every) == (7, 2)
    stored = TrainConfig.from_mapping(TrainConfig().to_json(), "run.json")
    assert stored == TrainConfig() and stored.epochs is stored.validate_every is None


@pytest.mark.parametrize("name", ["epochs", "validate_every"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "must be at least 1, not 0"),
        (-2, "must be at least 1"),
        (1.5, "is a whole number"),
        (True, "is a whole number"),
        ("", "is a whole number"),
    ],
)
def test_invalid_numbers_of_epochs_are_refused(name, value, says):
    with pytest.raises(UsageError, match=f"{name} {says}"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize("name", ["select", "batch_size", "learning_rate"])
def test_other_settings_have_a_value(name):
    with pytest.raises(UsageError, match=f"{name} is .*, not None"):
        TrainConfig(**{name: None})


def scheduled(train, gallery, queries, **settings):
    """The schedule of videos with so many frames, of which the first are trained on."""
    data = made_corpus([*train, *gallery])
    rows = np.arange(len(train) + len(gallery))
    first = len(train)
    config = TrainConfig(**settings)
    return Schedule.of(config, data, rows[:first], rows[first:], queries)


@pytest.mark.parametrize(
    ("train", "gallery", "queries", "epochs", "interval"),
    [
        # A validation costs a third of its frames and 25 for each query; an epoch its frames.
        ([100] * 10, [30] * 2, 1, 10, 1),  # 45 of at most 200
        ([100] * 10, [30] * 2, 7, 10, 1),  # 195
        ([100] * 10, [30] * 2, 8, 10, 2),  # 220
        ([100] * 10, [30] * 2, 30, 10, 4),  # 770: 3.85 epochs
        ([100] * 10, [90] * 6, 1, 10, 2),  # 180 + 25
        ([100] * 10, [30] * 2, 1, 11, 2),  # ten at most
        ([100] * 10, [30] * 2, 1, 30, 3),
        ([100] * 10, [30] * 2, 1, 31, 4),
        ([100] * 10, [30] * 2, 30, 80, 8),
        ([2] * 3, [2] * 3, 100, 5, 2085),  # 2502 of 1.2: the last epoch alone
    ],
)
def test_interval_by_hand(train, gallery, queries, epochs, interval):
    schedule = scheduled(train, gallery, queries, epochs=epochs)
    assert schedule == Schedule(epochs, interval)
    assert scheduled(train, gallery, queries, epochs=epochs, validate_every=3).interval == 3


def test_default_number_of_epochs_is_of_the_training_videos():
    assert scheduled([2] * 400, [2] * 50, 1).epochs == 50


@pytest.mark.parametrize("epochs", [1, 2, 7, 10, 31, 80])
@pytest.mark.parametrize("interval", [1, 2, 3, 8, 100])
def test_last_epoch_is_validated(epochs, interval):
    schedule = Schedule(epochs, interval)
    validated = [n for n in range(1, epochs + 1) if schedule.validates(n)]
    assert validated == sorted({*range(interval, epochs + 1, interval), epochs})


def test_interval_does_not_depend_on_time(tmp_path, monkeypatch):
    """The same epochs are validated on a machine that is a thousand times as slow."""
    config = TrainConfig(**{**SETTINGS, "epochs": 12})
    first = run(tmp_path / "a", corpus(), config)
    began, clock = time.monotonic(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: began + 1000 * (clock() - began))
    slow = run(tmp_path / "b", corpus(), config)
    assert slow.digest == first.digest
    assert slow.record == first.record
    epochs = [row["epoch"] for row in first.record["history"]]
    assert 1 < len(epochs) < 12 and epochs[-1] == 12
