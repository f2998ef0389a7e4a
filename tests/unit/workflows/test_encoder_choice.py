"""A search loads a model whole once; from then on its text tower, until a picture is asked about or the weights change."""

import json

import numpy as np
import pytest

from vla.cache.store import EncoderSource, FeatureCache
from vla.encoders.open_clip import Encoder
from vla.encoders.toy import Encoder as Toy
from vla.errors import ResourceError
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
