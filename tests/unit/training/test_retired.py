"""Runs of earlier versions: defaults and renamed keys are read, retired features are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from support.made_corpus import made_corpus
from support.refusals import refused
from vla.errors import CacheError, UsageError
from vla.features import FeatureSpec
from vla.model_config import ModelConfig
from vla.storage import atomic
from vla.training.checkpoint import load_model, open_run
from vla.training.compatibility import drop_retired_options
from vla.training.config import TrainConfig
from vla.training.loop import train
from vla.training.split import Split

OPTIONS = {"width": 8, "heads": 2}
CONFIG = TrainConfig(epochs=1, batch_size=4, projector_options=OPTIONS, heads="", precision="fp32")
SPEC = FeatureSpec("toy", "8", "none", "none", "fps=2", 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    data = made_corpus([3 + i % 5 for i in range(10)])
    run = train(data, Split(np.arange(8), np.arange(8, 10)), SPEC, 20.0, CONFIG, folder, "same")
    return folder, run


def rewritten(trained, tmp_path, model=None, **config):
    """A copy of the run as an earlier version left it, with these settings."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in trained[0].glob("model-*"):
        (folder / path.name).write_bytes(path.read_bytes())
    record = {
        k: v
        for k, v in json.loads((trained[0] / "run.json").read_text()).items()
        if k != "checksum"
    }
    record["record"]["config"] |= {"phrases": 0.0, "mining": "neighbours", **config}
    record["model"] |= model or {}
    atomic.write_json(folder / "run.json", record)
    return folder


def test_a_default_run_of_an_earlier_version_is_read(trained, tmp_path):
    folder = rewritten(trained, tmp_path, {"options": {**OPTIONS, "tokens": False}})
    model, run = load_model(folder)
    assert run.digest == trained[1].digest and run.model == trained[1].model
    frames = made_corpus((5,)).videos[0]
    np.testing.assert_array_equal(
        model.align_frames(frames), load_model(trained[0])[0].align_frames(frames)
    )


@pytest.mark.parametrize(
    ("config", "feature"),
    [
        ({"patience": 8}, "whitened features"),
        ({"patience": 8, "projector": "identity"}, "whitened features"),
        ({"phrases": 0.5}, "phrases"),
        ({"score": "attention"}, "the attention score"),
        ({"projector_options": {"tokens": True}}, "a projector that reads tokens"),
        ({"mining": "clusters"}, "mining by clusters"),
        ({"global_loss": "mil_nce"}, "the loss mil_nce"),
        ({"untimed_loss": "mil_nce_sets"}, "the loss mil_nce_sets"),
        ({"global_loss": "sigmoid"}, "the loss sigmoid"),
        ({"segment_loss": "sigmoid"}, "the loss sigmoid"),
    ],
)
def test_rejects_run_with_retired_feature(trained, tmp_path, config, feature):
    folder = rewritten(trained, tmp_path, **config)
    message = f"run 'mine' was trained with {feature}, which vla no longer has"
    for read in (open_run, load_model):
        with refused(CacheError, "retrain_without", message, run="mine"):
            read(folder)


def test_a_plugin_keeps_its_own_options(trained, tmp_path):
    folder = rewritten(trained, tmp_path, projector="theirs", projector_options={"tokens": True})
    assert open_run(folder).digest == trained[1].digest
    theirs = ModelConfig(8, "theirs", {"tokens": True}, heads={"other": {"share": 1}})
    assert drop_retired_options(theirs) == theirs
    heads = {"retrieval": {"score": "tokens", "phrases": False, "temperature": 0.01}}
    assert drop_retired_options(replace(theirs, heads=heads)).heads == {
        "retrieval": {"score": "tokens"}
    }


def test_accepts_defaults_of_retired_settings():
    values = {**CONFIG.to_json(), "phrases": 0.0, "mining": "neighbours"}
    assert TrainConfig.from_mapping(values, "old.toml") == CONFIG
    # With all of them; a default that changes by accident would change it.
    assert TrainConfig().identity("data") == "efa2e24987ef95e9"
    for key, value in (("phrases", 0.5), ("mining", "clusters")):
        with pytest.raises(UsageError, match=rf"old.toml: no setting is called {key}; there are "):
            TrainConfig.from_mapping({**values, key: value}, "old.toml")


def test_a_recipe_with_a_patience_is_refused_by_name():
    with pytest.raises(UsageError, match="old.toml: no setting is called patience; there are "):
        TrainConfig.from_mapping({"patience": 8}, "old.toml")


EARLIER_KEYS = {
    "batch_videos": "batch_size",
    "held_out": "val_fraction",
    "look_alikes": "hard_negative_group_size",
    "pull": "anchor_weight",
    "withheld": "held_out_concepts",
}


def earlier(config):
    """The settings by the keys of earlier versions."""
    names = {new: old for old, new in EARLIER_KEYS.items()}
    return {names.get(key, key): value for key, value in config.to_json().items()}


def test_earlier_keys_of_a_run_are_renamed(trained, tmp_path):
    folder = rewritten(trained, tmp_path)
    record = {
        k: v for k, v in json.loads((folder / "run.json").read_text()).items() if k != "checksum"
    }
    record["record"]["config"] = earlier(CONFIG)
    atomic.write_json(folder / "run.json", record)
    for run in (open_run(folder), load_model(folder)[1]):
        assert run.record["config"] == CONFIG.to_json() and run.identity == trained[1].identity
        assert TrainConfig.from_mapping(run.record["config"], "mine") == CONFIG


@pytest.mark.parametrize(("old", "new"), EARLIER_KEYS.items())
def test_earlier_keys_of_a_recipe_are_refused_by_name(old, new):
    with pytest.raises(UsageError, match=f"old.toml: the setting {old} is now called {new}"):
        TrainConfig.from_mapping({old: 1}, "old.toml")


def test_identity_is_that_of_the_earlier_keys():
    record = {**earlier(replace(CONFIG, batch_size=5)), "phrases": 0.0, "mining": "neighbours"}
    digest = atomic.sha256(json.dumps([record, "data"], sort_keys=True).encode())
    assert replace(CONFIG, batch_size=5).identity("data") == digest[:16]
