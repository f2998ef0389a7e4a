"""A search loads a model whole once; from then on its text tower, until a picture is asked about or the weights change."""

import json

import numpy as np
import pytest

from vla.cache.store import EncoderSource, FeatureCache, set_active_cache
from vla.encoders.open_clip import Encoder
from vla.encoders.toy import Encoder as Toy
from vla.errors import ResourceError, SpecMismatchError
from vla.hints import Hint
from vla.storage.workspace import Workspace
from vla.workflows import encoder_choice as stage
from vla.workflows.encoder_choice import LazyImageEncoder, encoder_of, query_encoder

TEXT = ["a red circle moves left"]


@pytest.fixture
def cache(tmp_path):
    spec = Encoder("demo", device="cpu", dtype="fp32").identity.spec("fps=2")
    return FeatureCache.create(tmp_path, spec, EncoderSource("open_clip", "demo", ""))


def test_text_tower_gives_the_same_bits_as_the_full_encoder(cache):
    first = query_encoder(cache, "cpu", "auto")
    assert isinstance(first, Encoder)
    second = query_encoder(cache, "cpu", "auto")
    assert isinstance(second, LazyImageEncoder) and "_all" not in vars(second)
    np.testing.assert_array_equal(first.encode_text(TEXT).pooled, second.encode_text(TEXT).pooled)
    assert second.scale == first.scale and second.fits("a dog") and not second.fits("dog " * 90)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 80, 90, 3), np.uint8)
    np.testing.assert_array_equal(
        second.encode_frames(second.prepare(pixels)), first.encode_frames(first.prepare(pixels))
    )
    assert isinstance(vars(second)["_all"], Encoder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"weights": 3}', "\0\0"])
def test_rewrites_an_unreadable_tower_record(cache, content):
    path = cache.folder / "text-tower.json"
    path.write_text(content)
    assert isinstance(query_encoder(cache, "cpu", "auto"), Encoder)
    assert json.loads(path.read_text())["weights"] == cache.spec.weights
    assert isinstance(query_encoder(cache, "cpu", "auto"), LazyImageEncoder)


def test_ignores_a_tower_record_of_other_weights(cache):
    query_encoder(cache, "cpu", "auto")
    path = cache.folder / "text-tower.json"
    record = json.loads(path.read_text())
    for change in (
        {"weights": "0" * 16},
        {"looks": [1, 2]},
        {"file": str(cache.folder / "gone.safetensors")},
    ):
        path.write_text(json.dumps({**record, **change}))
        assert isinstance(query_encoder(cache, "cpu", "auto"), Encoder), change
        assert json.loads(path.read_text()) == record


def test_read_only_workspace_can_be_searched(cache, monkeypatch):
    def full(*given):
        raise ResourceError("no space")

    monkeypatch.setattr(stage.atomic, "write_json", full)
    assert isinstance(query_encoder(cache, "cpu", "auto"), Encoder)
    assert not (cache.folder / "text-tower.json").exists()


def test_encoder_without_a_text_tower_is_loaded_whole(tmp_path):
    cache = FeatureCache.create(
        tmp_path, Toy("32").identity.spec("fps=2"), EncoderSource("toy", "32", "")
    )
    assert (
        type(query_encoder(cache, "cpu", "auto")) is type(encoder_of(cache, "cpu", "auto")) is Toy
    )


CLIP, TOY, CONSE = (
    EncoderSource("open_clip", "fast", ""),
    EncoderSource("toy", "32", ""),
    EncoderSource("conse", "offline", ""),
)


@pytest.mark.parametrize(
    ("choice", "active", "expected"),
    [
        ({"model": "offline"}, None, CONSE),
        ({"model": "offline"}, CLIP, CONSE),
        ({"model": "offline"}, TOY, CONSE),
        ({"model": "offline"}, CONSE, CONSE),
        ({"model": "fast"}, CONSE, CLIP),
        ({}, CONSE, CONSE),
        ({"encoder": "conse"}, CLIP, EncoderSource("conse", "", "")),
        ({"encoder": "conse"}, CONSE, CONSE),
        ({"encoder": "toy", "model": "fast"}, CLIP, EncoderSource("toy", "fast", "")),
        ({"model": "16"}, TOY, EncoderSource("toy", "16", "")),
        ({"model": "lite1"}, CONSE, EncoderSource("conse", "lite1", "")),
        ({"pretrained": "x"}, CLIP, EncoderSource("open_clip", "fast", "x")),
        ({}, None, EncoderSource("open_clip", "balanced", "")),
    ],
)
def test_a_preset_names_its_encoder_unless_one_is_chosen(choice, active, expected):
    assert stage._choose_source(stage.EncoderChoice(**choice), active) == expected


def test_offline_preset_needs_switch_like_any_other_model(tmp_path):
    pytest.importorskip("tokenizers", reason="named: an optional package")
    from support.conse_packages import conse_packages

    workspace = Workspace.open_or_create(tmp_path)
    before = stage.encoder_and_cache(workspace, stage.EncoderChoice("demo", device="cpu"), False)
    set_active_cache(workspace.caches, before[1])
    choice = stage.EncoderChoice("offline", device="cpu")
    with conse_packages(tmp_path / "packages", "lite2"):
        with pytest.raises(SpecMismatchError) as error:
            stage.encoder_and_cache(workspace, choice, False)
        assert error.value.hint == Hint("change_encoder")
        encoder, cache = stage.encoder_and_cache(workspace, choice, True)
        assert encoder.identity.encoder == cache.spec.encoder == "conse"
        assert cache.source == CONSE
        assert type(query_encoder(cache, "cpu", "auto")) is type(encoder)
        alone = query_encoder(cache, "cpu", "auto")
        assert isinstance(alone, LazyImageEncoder) and "_all" not in vars(alone)
        np.testing.assert_array_equal(
            alone.encode_text(TEXT).pooled, encoder.encode_text(TEXT).pooled
        )
