"""The text tower alone gives the bits of the whole open_clip model, or is not used."""

import json
import subprocess
import sys
from pathlib import Path

import ftfy
import numpy as np
import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unit.encoders.test_open_clip import CUSTOM, FASTVIT, SMALL, TEXTS, saved
from vla.encoders import _device
from vla.encoders._text_tower import _TEST_TEXTS
from vla.encoders._tokenizer import fix_text, load_file, make_tokenizer
from vla.encoders.open_clip import _EMBEDDED, _VOCABULARY, Encoder

VOCABULARY = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
ASKED = [*TEXTS, "", "x", "Zo\u00eb &amp; co", "a dog " * 40]


def with_texts(base, **changes):
    return {**base, "text_cfg": {**base["text_cfg"], **changes}}


CONFIGS = {
    "plain": SMALL,
    "custom": CUSTOM,
    "fastvit": FASTVIT,
    "quick": {**SMALL, "quick_gelu": True},
    "both ways, last": with_texts(CUSTOM, no_causal_mask=True, pool_type="last", proj_bias=True),
    "first": with_texts(CUSTOM, no_causal_mask=True, pool_type="first"),
    "end": with_texts(CUSTOM, pool_type="eos", eos_id=49407),
    "tanh": with_texts(CUSTOM, act_kwargs={"approximate": "tanh"}, norm_kwargs={"eps": 1e-3}),
    "no projection": with_texts(CUSTOM, width=48, proj_type="none"),
}


def network_of(folder):
    network = open_clip.create_model(f"local-dir:{folder}")
    return network.eval(), open_clip.get_tokenizer(f"local-dir:{folder}")


@pytest.mark.parametrize("name", CONFIGS)
def test_bits_equal_open_clip(name, tmp_path):
    folder = saved(tmp_path / "model", CONFIGS[name])
    whole = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32")
    record = json.loads(json.dumps(whole.describe_text_tower()))
    alone = Encoder.load_text_tower(record, "cpu", "fp32")
    network, tokenizer = network_of(folder)
    with torch.inference_mode():
        for text in ASKED:
            wanted = network.encode_text(tokenizer([text])).numpy()
            np.testing.assert_array_equal(alone.encode_text([text]).pooled, wanted)
    ours, theirs = alone.encode_text(ASKED), whole.encode_text(ASKED)
    np.testing.assert_array_equal(ours.pooled, theirs.pooled)
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert alone.scale == whole.scale
    assert [alone.fits(t) for t in ASKED] == [whole.fits(t) for t in ASKED] and not alone.fits(
        ASKED[-1]
    )
    assert np.abs(ours.pooled[0] - ours.pooled[1]).max() > 1e-3


def test_bits_of_embedded_model():
    whole = Encoder("demo", device="cpu", dtype="fp32")
    alone = Encoder.load_text_tower(whole.describe_text_tower(), "cpu", "fp32")
    for text in ("a red circle moves left", *_TEST_TEXTS):
        np.testing.assert_array_equal(
            alone.encode_text([text]).pooled, whole.encode_text([text]).pooled
        )


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_auto_precision_equals_that_of_whole_model(monkeypatch, dtype):
    """Captions of a cache and a query have the same bits, and nothing is measured anew."""
    monkeypatch.setattr(
        "vla.encoders.open_clip.choose_dtype", lambda asked, device: (_device.DTYPES[dtype], "")
    )
    whole = Encoder("demo", device="cpu", dtype="auto")
    record = json.loads(json.dumps(whole.describe_text_tower()))
    alone = Encoder.load_text_tower(record, "cpu", "auto")
    texts = ["a red circle moves left", *_TEST_TEXTS]
    np.testing.assert_array_equal(alone.encode_text(texts).pooled, whole.encode_text(texts).pooled)
    for damage in (
        {"machine": "another"},
        {"auto": "fp8"},
        {"auto": "auto"},
        {"auto": 3},
        {"auto": []},
    ):
        assert Encoder.load_text_tower({**record, **damage}, "cpu", "auto") is None
    asked = Encoder("demo", device="cpu", dtype=dtype).describe_text_tower()
    assert Encoder.load_text_tower(asked, "cpu", "auto") is None, (
        "nobody knows what would have been chosen"
    )
    other = Encoder.load_text_tower(record, "cpu", {"fp32": "bf16", "bf16": "fp32"}[dtype])
    assert np.abs(other.encode_text(texts).pooled - whole.encode_text(texts).pooled).max() > 0


@pytest.mark.slow
def test_bits_of_full_vit_b_32(tmp_path):
    folder = saved(tmp_path / "b32", open_clip.get_model_config("ViT-B-32"))
    whole = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32")
    alone = Encoder.load_text_tower(whole.describe_text_tower(), "cpu", "fp32")
    np.testing.assert_array_equal(alone.encode_text(TEXTS).pooled, whole.encode_text(TEXTS).pooled)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()  # 600 MB


@pytest.mark.parametrize(
    "config",
    [
        with_texts(CUSTOM, embed_cls=True),
        with_texts(CUSTOM, ls_init_value=0.1),
        with_texts(CUSTOM, qk_norm=True),
        with_texts(SMALL, tokenizer_kwargs={"clean": "canonicalize"}),
    ],
)
def test_no_record_of_unsupported_configuration(config, tmp_path):
    folder = saved(tmp_path / "model", config)
    assert Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32").describe_text_tower() is None


def test_no_record_if_outputs_differ(tmp_path, monkeypatch):
    folder = saved(tmp_path / "model", {**SMALL, "quick_gelu": True})
    whole = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32")
    assert whole.describe_text_tower() is not None
    monkeypatch.setattr(
        "vla.encoders._text_tower.Shape.of", lambda text_cfg, quick: shape_of(text_cfg, False)
    )
    assert whole.describe_text_tower() is None


def shape_of(text_cfg, quick):
    from vla.encoders._tower import Shape

    return Shape(
        **{
            k: v
            for k, v in text_cfg.items()
            if k in ("context_length", "vocab_size", "width", "heads", "layers")
        }
    )


def test_no_record_of_converted_weights(tmp_path):
    """open_clip stretches positions where a file has others: then the file is not what the model has."""
    folder = saved(tmp_path / "model", SMALL)
    description = folder / "open_clip_config.json"
    config = json.loads(description.read_text())
    config["model_cfg"]["text_cfg"]["context_length"] = 24
    description.write_text(json.dumps(config))
    assert Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32").describe_text_tower() is None


def test_rejects_record_of_changed_weights(tmp_path):
    folder = saved(tmp_path / "model", SMALL)
    record = Encoder(f"local-dir:{folder}", device="cpu", dtype="fp32").describe_text_tower()
    assert Encoder.load_text_tower(record, "cpu", "fp32") is not None
    for damage in (
        {**record, "schema": 99},
        {},
        {**record, "names": ["nothing"]},
        {**record, "shape": {"x": 1}},
    ):
        assert Encoder.load_text_tower(damage, "cpu", "fp32") is None
    saved(tmp_path / "other", SMALL, seed=1)
    (tmp_path / "other" / "open_clip_model.safetensors").rename(
        folder / "open_clip_model.safetensors"
    )
    assert Encoder.load_text_tower(record, "cpu", "fp32") is None
    (folder / "open_clip_model.safetensors").unlink()
    assert Encoder.load_text_tower(record, "cpu", "fp32") is None


@pytest.fixture(scope="module")
def file_alone():
    """open_clip's tokenizer file as a search loads it: apart from the open_clip that this process has imported."""
    module = load_file(Path(open_clip.__file__).parent / "tokenizer.py")
    assert module.SimpleTokenizer is not open_clip.SimpleTokenizer
    return module.SimpleTokenizer(str(VOCABULARY), context_length=30), open_clip.SimpleTokenizer(
        context_length=30
    )


@given(
    st.lists(
        st.text(max_size=60) | st.text("abcdEF '&;<>!?09.\u00e9\u4e2d\u2019", max_size=60),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=150, deadline=None)
def test_tokens_equal_open_clip(file_alone, texts):
    ours, theirs = file_alone
    assert torch.equal(ours(texts), theirs(texts))
    assert torch.equal(ours(texts, context_length=200), theirs(texts, context_length=200))


def test_tokens_of_small_vocabulary(file_alone):
    path = _EMBEDDED / _VOCABULARY
    some = [
        "A red circle moves left.",
        "the green star   vanishes\n",
        "don't &lt;b&gt;",
        "<start_of_text> x <end_of_text>",
    ]
    assert torch.equal(
        make_tokenizer(path, 56)(some),
        open_clip.SimpleTokenizer(str(path), context_length=56)(some),
    )
    ours, theirs = file_alone
    assert torch.equal(ours([*some, *ASKED]), theirs([*some, *ASKED]))


@given(st.text(st.characters(max_codepoint=300), max_size=40) | st.text(max_size=40))
@example('it\'s 5 &lt; 6 &amp; "q"')
@example("\x1b[31mred\x1b[0m\r\n\x00")
@example("~!@#$%^*()_+-={}[]|:;'<>,.?/`")
@settings(max_examples=300, deadline=None)
def test_skipping_ftfy_changes_no_text(text):
    assert fix_text(text) == ftfy.fix_text(text)


def test_ascii_texts_need_no_ftfy():
    """In a process of its own: this one has imported ftfy."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom importlib.util import find_spec\n"
        "from vla.encoders._tokenizer import make_tokenizer\n"
        "folder = Path(find_spec('open_clip').submodule_search_locations[0])\n"
        "tokenize = make_tokenizer(folder / 'bpe_simple_vocab_16e6.txt.gz', 77)\n"
        "tokenize(['a dog']); assert 'ftfy' not in sys.modules\n"
        "print(tokenize(['caf\\xe9 &amp; x'])[0, :5].tolist()); assert 'ftfy' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = open_clip.get_tokenizer("ViT-B-32")(["caf\xe9 &amp; x"])[0, :5].tolist()
    assert done.stdout.strip() == str(expected)


# Ids of open_clip 3.3.0, so that a tokenizer that changed between versions does not go unnoticed.
IDS = {
    "a dog jumps over a fence": [49406, 320, 1929, 18911, 962, 320, 12679, 49407],
    "Zo\xeb's caf\xe9 &amp; 3 \u65e5\u672c": [
        49406,
        4397,
        40520,
        568,
        15304,
        261,
        274,
        39121,
        19277,
        361,
        49407,
    ],
}


@pytest.mark.install
def test_ids_do_not_depend_on_the_version(file_alone):
    for text, ids in IDS.items():
        assert file_alone[0]([text])[0, : len(ids)].tolist() == ids


@pytest.mark.parametrize(
    "content", [None, "from .constants import X\n", "import no_such_module_at_all\n"]
)
def test_falls_back_to_the_package_where_the_file_does_not_load_alone(content, tmp_path):
    """In a process of its own: this one has imported open_clip."""
    package = tmp_path / "open_clip"
    package.mkdir()
    (package / "__init__.py").write_text(
        "class tokenizer:\n    SimpleTokenizer = 'of the package'\n"
    )
    if content is not None:
        (package / "tokenizer.py").write_text(content)
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        "from vla.encoders._tokenizer import load_tokenizer_module\n"
        "print(load_tokenizer_module().SimpleTokenizer)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "of the package", done.stderr


def test_text_tower_imports_no_image_packages(tmp_path):
    record = Encoder("demo", device="cpu", dtype="fp32").describe_text_tower()
    (tmp_path / "record.json").write_text(json.dumps(record))
    code = (
        "import json, sys\nfrom vla.encoders.open_clip import Encoder\n"
        f"record = json.load(open({str(tmp_path / 'record.json')!r}))\n"
        "assert Encoder.load_text_tower(record, 'cpu', 'fp32').encode_text(['a red circle moves left']).pooled.shape == (1, 128)\n"
        "for name in ('open_clip', 'timm', 'torchvision', 'huggingface_hub', 'PIL', 'pandas', 'scipy', 'torch._dynamo'):\n"
        "    assert name not in sys.modules, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
