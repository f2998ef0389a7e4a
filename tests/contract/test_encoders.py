"""Contract of encoders: identity, order, independence of the batch, detection of long texts."""

import numpy as np
import pytest

from support.conse_packages import conse_packages
from vla.encoders import registry
from vla.errors import UsageError
from vla.features import FeatureSpec

# Without weights to download; an encoder that is not listed is built with its defaults.
MODELS = {"open_clip": {"model": "demo"}, "conse": {"model": "lite0"}}
TEXTS = [
    "a red circle moves to the left",
    "rain",
    "the small blue square disappears behind a large green star, then turns yellow",
    "Two dogs!",
    "a red circle moves to the left.",
]


@pytest.fixture(scope="module", params=registry.names())
def encoder(request, tmp_path_factory):
    if request.param == "conse":
        pytest.importorskip("tokenizers", reason="named: an optional package")
        with conse_packages(tmp_path_factory.mktemp("packages")):
            yield registry.build("conse", MODELS["conse"], device="cpu", dtype="fp32")
        return
    yield registry.build(request.param, MODELS.get(request.param), device="cpu", dtype="fp32")


def rebuilt(encoder):
    name = encoder.identity.encoder
    return registry.build(name, MODELS.get(name), device="cpu", dtype="fp32")


def pictures(count, seed=0, size=(48, 80)):
    """Smooth pictures, each clearly different from the others."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 5, 3), np.uint8)
    return coarse.repeat(size[0] // 4, 1).repeat(size[1] // 5, 2)


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


def test_identity_describes_output(encoder):
    identity = encoder.identity
    assert encoder.encode_frames(encoder.prepare(pictures(3))).shape == (3, identity.dim)
    texts = encoder.encode_text(TEXTS)
    assert texts.pooled.shape == (len(TEXTS), identity.dim)
    assert texts.tokens.shape[::2] == (len(TEXTS), identity.dim)
    spec = identity.spec("fps=2")
    assert spec == FeatureSpec(
        identity.encoder,
        identity.model,
        identity.weights,
        identity.preprocessing,
        "fps=2",
        identity.dim,
    )
    assert identity.encoder in registry.names()
    assert all((identity.model, identity.weights, identity.preprocessing))
    assert encoder.scale > 0


def test_instances_have_equal_identity_and_features(encoder):
    other = rebuilt(encoder)
    assert other.identity == encoder.identity and other.scale == encoder.scale
    prepared = encoder.prepare(pictures(4))
    np.testing.assert_array_equal(other.prepare(pictures(4)), prepared)
    np.testing.assert_array_equal(other.encode_frames(prepared), encoder.encode_frames(prepared))
    np.testing.assert_array_equal(
        other.encode_text(TEXTS).pooled, encoder.encode_text(TEXTS).pooled
    )
    np.testing.assert_array_equal(
        other.encode_text(TEXTS).tokens, encoder.encode_text(TEXTS).tokens
    )


def test_output_dtypes(encoder):
    prepared = encoder.prepare(pictures(2))
    assert prepared.dtype == np.uint8 and prepared.ndim == 4 and prepared.shape[:2] == (2, 3)
    assert encoder.encode_frames(prepared).dtype == np.float32
    texts = encoder.encode_text(TEXTS)
    assert texts.pooled.dtype == texts.tokens.dtype == np.float32 and texts.mask.dtype == bool


def test_features_are_not_normalised(encoder):
    """Lengths are the projector's business; an encoder that normalises would hide them."""
    lengths = np.linalg.norm(encoder.encode_frames(encoder.prepare(pictures(5))), axis=1)
    assert not np.allclose(lengths, 1, atol=1e-3)


def test_keeps_order_of_frames(encoder):
    frames = pictures(6)
    alone = np.concatenate(
        [encoder.encode_frames(encoder.prepare(frames[i : i + 1])) for i in range(6)]
    )
    similarity = cosine(encoder.encode_frames(encoder.prepare(frames))[:, None], alone[None])
    assert similarity.argmax(1).tolist() == list(range(6))
    order = np.array([3, 0, 5, 1, 4, 2])
    moved = encoder.encode_frames(encoder.prepare(frames[order]))
    assert (cosine(moved, alone[order]) > 0.99999).all()


@pytest.mark.parametrize("batch", [1, 2, 5, 11])
def test_features_do_not_depend_on_batch_size(encoder, batch):
    prepared = encoder.prepare(pictures(11))
    whole = encoder.encode_frames(prepared)
    parts = np.concatenate(
        [encoder.encode_frames(prepared[i : i + batch]) for i in range(0, 11, batch)]
    )
    assert (cosine(whole, parts) > 0.99999).all()
    np.testing.assert_allclose(
        np.linalg.norm(parts, axis=1), np.linalg.norm(whole, axis=1), rtol=1e-4
    )


@pytest.mark.parametrize("size", [(48, 80), (80, 40), (64, 65), (8, 10), (200, 50)])
def test_prepare_does_not_depend_on_batch(encoder, size):
    frames = pictures(4, size=size)
    together = encoder.prepare(frames)
    alone = np.concatenate([encoder.prepare(f[None]) for f in frames])
    np.testing.assert_array_equal(together, alone)
    assert together.shape == (4, *encoder.prepare(pictures(1)).shape[1:])


def test_no_frames(encoder):
    prepared = encoder.prepare(np.zeros((0, 32, 32, 3), np.uint8))
    assert prepared.shape[0] == 0
    assert len(encoder.encode_frames(prepared)) == 0


def test_input_is_not_modified(encoder):
    frames = pictures(2)
    frames.flags.writeable = True
    before = frames.copy()
    prepared = encoder.prepare(frames)
    kept = prepared.copy()
    encoder.encode_frames(prepared)
    np.testing.assert_array_equal(frames, before)
    np.testing.assert_array_equal(prepared, kept)


def test_different_pictures_and_words_differ(encoder):
    frames = encoder.encode_frames(encoder.prepare(pictures(4)))
    texts = encoder.encode_text(["a red circle", "a blue square", "rain"]).pooled
    for rows in (frames, texts):
        off = cosine(rows[:, None], rows[None])[~np.eye(len(rows), dtype=bool)]
        assert (off < 0.9999).all()


def test_keeps_order_of_texts_with_tokens_before_padding(encoder):
    texts = encoder.encode_text(TEXTS)
    assert texts.texts == tuple(TEXTS)
    assert (np.diff(texts.mask.astype(int), axis=1) <= 0).all() and texts.mask[:, 0].all()
    assert texts.mask.any(0).all()  # no column that is padding for all
    assert (texts.tokens[~texts.mask] == 0).all()
    assert (np.abs(texts.tokens[texts.mask]).sum(-1) > 0).all()
    lengths = texts.mask.sum(1)
    assert lengths[1] < lengths[0] < lengths[2]


@pytest.mark.parametrize("row", range(len(TEXTS)))
def test_text_features_do_not_depend_on_batch(encoder, row):
    together, alone = encoder.encode_text(TEXTS), encoder.encode_text([TEXTS[row]])
    assert cosine(together.pooled[row], alone.pooled[0]) > 0.99999
    n = alone.mask.sum()
    assert together.mask[row].sum() == n
    assert (cosine(together.tokens[row, :n], alone.tokens[0, :n]) > 0.99999).all()


def test_fits_detects_long_text(encoder):
    assert encoder.fits("a dog") and all(encoder.fits(t) for t in TEXTS)
    assert not encoder.fits("a very long story " * 500)
    words = "circle square star cross heart ring " * 100
    fit = [encoder.fits(" ".join(words.split()[:n])) for n in range(1, 100)]
    limit = fit.index(False)
    assert not any(fit[limit:])  # once too long, always too long
    longest = words.split()[:limit]
    # All of the longest text that fits is read: another last word gives other features.
    a = encoder.encode_text([" ".join(longest)])
    b = encoder.encode_text([" ".join([*longest[:-1], "rain"])])
    assert cosine(a.pooled[0], b.pooled[0]) < 0.99999
    with_one_word_less = encoder.encode_text([" ".join(longest[:-1])])
    assert a.mask.sum() > with_one_word_less.mask.sum()


@pytest.mark.parametrize(
    "text",
    [
        "naïve café",
        "日本語のテキスト",
        "emoji 🙂",
        "UPPER lower",
        "a\nb\tc",
        "1234567890",
        "<|endoftext|> x",
        "&amp; <b>",
    ],
)
def test_any_text_can_be_encoded(encoder, text):
    found = encoder.encode_text([text])
    assert np.isfinite(found.pooled).all() and found.mask.sum() >= 1
    assert np.linalg.norm(found.pooled) > 0


def test_concurrent_encoding(encoder):
    from concurrent.futures import ThreadPoolExecutor

    wanted = {t: encoder.encode_text([t]).pooled[0] for t in TEXTS}
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda t: (t, encoder.encode_text([t]).pooled[0], encoder.fits(t)), TEXTS * 4)
        )
    assert all(cosine(p, wanted[t]) > 0.99999 and fits for t, p, fits in found)


@pytest.mark.parametrize("name", registry.names())
def test_constructor_takes_command_line_options(name):
    import inspect

    parameters = inspect.signature(registry.get(name)).parameters
    for option in ("model", "pretrained", "device", "dtype"):
        assert parameters[option].default is not inspect.Parameter.empty


def test_toy_rejects_invalid_width():
    assert registry.build("toy", {"model": "7"}).identity.dim == 7
    for wrong in ("x", "0", "-3", ""):
        with pytest.raises(UsageError, match="a number such as 48"):
            registry.build("toy", {"model": wrong})
