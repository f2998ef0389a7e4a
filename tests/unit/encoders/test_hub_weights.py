"""Weights from a server that plays the model hub, against open_clip's own way of loading them."""

import numpy as np
import open_clip
import pytest
import torch

from support import model_hub
from support.refusals import refused
from unit.encoders.test_open_clip import SMALL, photographs, saved
from vla.encoders._model_source import architecture_names, hub_source, preset_source, tag_source
from vla.encoders._presets import PRESETS
from vla.encoders._weights import load_network, weights_file
from vla.encoders.open_clip import Encoder
from vla.errors import EnvironmentUnfitError, MissingError, UsageError
from vla.progress import silent

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
TAG = {
    "hf_hub": "acme/tagged/", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25), "interpolation": "bilinear",
    "resize_mode": "squash",
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = saved(tmp_path / "small", SMALL)
    files = {name: (folder / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", SMALL)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "small", {"shapes": TAG})
    with model_hub.hub_of(tmp_path / "hub", monkeypatch) as hub:
        hub.folder = folder
        hub.add("acme/tagged", files)
        yield hub


def test_a_tag_gives_the_network_and_the_preprocessing_of_open_clip(hub):
    network, config = load_network(open_clip, "small", "shapes")
    reference = open_clip.create_model("small", pretrained="shapes", device="cpu")
    assert config == open_clip.get_model_preprocess_cfg(reference)
    assert config["mean"] == TAG["mean"] and config["resize_mode"] == "squash"
    expected = reference.state_dict()
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in network.state_dict().items())


def test_a_name_of_the_hub_gives_what_its_folder_gives(hub):
    ours = Encoder("hf-hub:acme/tagged", device="cpu")
    reference = Encoder(f"local-dir:{hub.folder}", device="cpu")
    assert ours.identity.weights == reference.identity.weights
    assert ours.identity.preprocessing == reference.identity.preprocessing
    frames = ours.prepare(photographs())
    assert np.array_equal(ours.encode_frames(frames), reference.encode_frames(frames))


@pytest.mark.parametrize(("name", "tag"), [("small", "shapes"), ("hf-hub:acme/tagged", "")])
def test_weights_that_are_here_are_used_without_the_hub(hub, name, tag):
    first, _ = load_network(open_clip, name, tag)
    path = weights_file(open_clip, name, tag)
    # A newer revision, which nobody asked for: features of another network could not be compared.
    hub.add("acme/tagged", {WEIGHTS: b"other", CONFIG: b"{}"})
    hub.requests.clear()
    again, _ = load_network(open_clip, name, tag)
    assert hub.requests == []
    assert weights_file(open_clip, name, tag) == path is not None
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in first.state_dict().items())


def test_the_download_is_reported_before_the_encoder_loads(hub):
    steps = []
    Encoder.fetch_weights("small", "shapes", steps.append)
    (note,) = [step.message for step in steps if step.level == "note"]
    size = (hub.folder / WEIGHTS).stat().st_size
    assert f"{size / 1e6:.1f} MB to download from acme/tagged" in note and "free in" in note
    assert steps[-1].total == -(-size // 1_000_000) and steps[-1].done + steps[-1].part > size / 1e6
    steps.clear()
    Encoder.fetch_weights("small", "shapes", steps.append)
    Encoder.fetch_weights(f"local-dir:{hub.folder}", "", silent)
    assert steps == []


def test_damaged_weights_name_the_way_out(hub):
    path = load_network(open_clip, "small", "shapes") and weights_file(open_clip, "small", "shapes")
    path.resolve().write_bytes(b"noise" * 1000)
    with refused(
        EnvironmentUnfitError, "fetch_weights", "could not be loaded", model="small/shapes"
    ):
        load_network(open_clip, "small", "shapes")


def test_missing_weights_name_the_model_to_fetch(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused(EnvironmentUnfitError, "fetch_weights", "HF_HUB_OFFLINE is set", model="balanced"):
        load_network(open_clip, "PE-Core-B-16", "meta")
    with refused(EnvironmentUnfitError, "fetch_weights", model="hf-hub:acme/other"):
        load_network(open_clip, "hf-hub:acme/other", "")


def test_a_repository_without_weights_of_open_clip(hub):
    hub.add("acme/other", {"pytorch_model.bin": b"x", CONFIG: (hub.folder / CONFIG).read_bytes()})
    with pytest.raises(MissingError, match=r"has none of open_clip_model.safetensors"):
        Encoder("hf-hub:acme/other")
    hub.add("acme/plain", {WEIGHTS: b"x" * 3000})
    with pytest.raises(MissingError, match="has no open_clip_config.json: not an open_clip model"):
        Encoder("hf-hub:acme/plain")
    for content in (
        b"[]",
        b"{",
        b'{"model_cfg": 3}',
        b"9" * 5000,
        b'{"model_cfg": {"text_cfg": []}}',
    ):
        hub.add("acme/odd", {WEIGHTS: b"x" * 3000, CONFIG: content})
        with pytest.raises((UsageError, EnvironmentUnfitError, MissingError)):
            Encoder("hf-hub:acme/odd")


def test_the_tokenizer_of_another_repository_is_fetched(hub, monkeypatch):
    config = {**SMALL, "text_cfg": {**SMALL["text_cfg"], "hf_tokenizer_name": "acme/words"}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", config)
    source = tag_source(open_clip, "small", "shapes")
    hub.add(
        "acme/words",
        {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}", "pytorch_model.bin": b"x"},
    )
    from vla.encoders._model_fetch import fetch_source, source_files

    fetch_source(source, "main")
    names = [path.name for path in source_files(source)]
    assert names == [WEIGHTS, CONFIG, "tokenizer.json", "tokenizer_config.json"]


def test_sources_of_presets_are_those_of_open_clip():
    for name, preset in PRESETS.items():
        if preset.repository:
            assert preset_source(name, preset) == tag_source(
                open_clip, preset.model, preset.pretrained
            )
            network = preset.parameters * 4e6  # float32
            assert abs(preset.megabytes * 1e6 - network) < 0.01 * network


def test_every_tag_of_open_clip_has_a_source():
    for model, tag in open_clip.list_pretrained():
        source = tag_source(open_clip, model, tag)
        assert source is not None and source.weights.alternatives
    assert set(open_clip.list_models()) <= set(architecture_names())


@pytest.mark.parametrize("name", ["hf-hub:../../x", "hf-hub:", "hf-hub:a/b/c", "hf-hub:a/b@main"])
def test_refuses_names_that_are_no_repository(name):
    with pytest.raises(UsageError, match="names no model of the hub"):
        hub_source(name)
