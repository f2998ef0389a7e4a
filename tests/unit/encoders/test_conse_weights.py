"""ConSE with its real packages, where they are installed."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from vla.encoders import _package_files as files
from vla.encoders.conse import Encoder


def real(name):
    return find_spec(files.CLASSIFIER_WEIGHTS[name].module) is not None


@pytest.mark.parametrize("name", files.CLASSIFIER_WEIGHTS)
def test_real_weights(name):
    if not real(name) or find_spec(files.SENTENCE_WEIGHTS.module) is None:
        pytest.skip("named: optional packages of weights")
    pytest.importorskip("tokenizers", reason="named: an optional package")
    encoder = Encoder(name, device="cpu", dtype="fp32")
    texts = encoder.encode_text(["a dog runs", "a puppy is running", "the stock market"]).pooled
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    similarity = texts @ texts.T
    assert similarity[0, 1] > 0.7 and similarity[0, 2] < 0.2
    blue = np.zeros((1, 300, 400, 3), np.uint8) + np.uint8([30, 90, 200])
    assert np.isfinite(encoder.encode_frames(encoder.prepare(blue))).all()


@pytest.mark.parametrize("name", files.CLASSIFIER_WEIGHTS)
def test_logits_of_real_weights_are_those_of_their_own_package(name):
    if not real(name):
        pytest.skip("named: optional packages of weights")
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="named: an optional package")
    from vla.encoders._efficientnet import load_classifier

    path = files.CLASSIFIER_WEIGHTS[name].verify()
    reference = package.EfficientNet.from_pretrained(f"efficientnet-{name}", weights_path=str(path))
    size = {"lite0": 224, "lite1": 240, "lite2": 260}[name]
    pictures = torch.rand(2, 3, size, size) * 2 - 1
    network = load_classifier(path, name, size, torch.float32)
    with torch.inference_mode():
        expected = reference.eval()(pictures)
        torch.testing.assert_close(network(pictures), expected, atol=1e-3, rtol=1e-3)
