"""Models that need further packages are refused with the pip line, before a download."""

import builtins
import json
import sys

import open_clip
import pytest

from vla.encoders import _packages, registry
from vla.encoders._packages import name_missing_packages, require_packages, required_modules
from vla.errors import EnvironmentUnfitError

pytestmark = pytest.mark.install


@pytest.fixture
def without(monkeypatch):
    """Hide modules, as if they were not installed."""

    def hide(*names):
        found, imported = _packages.find_spec, builtins.__import__

        def importing(name, *given, **named):
            if name.split(".")[0] in names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return imported(name, *given, **named)

        monkeypatch.setattr(_packages, "find_spec", lambda n: None if n in names else found(n))
        monkeypatch.setattr(builtins, "__import__", importing)
        for name in [m for m in sys.modules if m.split(".")[0] in names]:
            monkeypatch.delitem(sys.modules, name)

    return hide


@pytest.fixture
def no_network(monkeypatch):
    def refused(*given, **named):
        raise AssertionError("a download was begun")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr("socket.create_connection", refused)


def test_required_modules_agree_with_open_clip(without, monkeypatch, no_network):
    """The oracle is open_clip: making the tokenizer fails by the import where `required_modules` says so, and nowhere else."""
    without("transformers")
    monkeypatch.setattr(open_clip.factory, "SimpleTokenizer", lambda **k: "simple")
    lacking = set()
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        try:
            open_clip.get_tokenizer(name)
            fails = False
        except ModuleNotFoundError as error:
            assert error.name == "transformers"
            fails = True
        found = required_modules(name, config)
        # A text tower of transformers comes with its tokenizer.
        assert ("transformers" in found) == fails or config["text_cfg"].get("hf_model_name"), name
        assert ("timm" in found) == ("timm_model_name" in config["vision_cfg"]), name
        lacking |= {name} if fails else set()
    assert len(lacking) >= 40
    for name in sorted(lacking):
        with pytest.raises(EnvironmentUnfitError, match="pip install transformers"):
            require_packages(open_clip, name)


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-16-SigLIP",
        "roberta-ViT-B-32",
        "xlm-roberta-base-ViT-B-32",
        "nllb-clip-base",
        "ViT-B-16-SigLIP2",
    ],
)
def test_reports_missing_package_before_download(without, no_network, name):
    without("transformers")
    tag = open_clip.list_pretrained_tags_by_model(name)[0]
    with pytest.raises(
        EnvironmentUnfitError,
        match=r"needs the package 'transformers' \(its t.*\): pip install transformers$",
    ):
        registry.build("open_clip", {"model": name}, pretrained=tag, device="cpu")


def test_reports_missing_package_of_local_folder(without, tmp_path):
    without("transformers")
    config = {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {"hf_tokenizer_name": "some/tokenizer"}}
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    with pytest.raises(EnvironmentUnfitError, match="pip install transformers"):
        registry.build("open_clip", model=f"local-dir:{tmp_path}", device="cpu")


def test_reports_outdated_timm(monkeypatch):
    import timm

    monkeypatch.setattr(timm, "is_model", lambda name: False)
    with pytest.raises(EnvironmentUnfitError, match="not in timm .*: pip install --upgrade timm"):
        require_packages(open_clip, "PE-Core-B-16")


def test_the_installed_timm_has_every_tower():
    import timm

    for name in open_clip.list_models():
        tower = open_clip.get_model_config(name)["vision_cfg"].get("timm_model_name")
        assert tower is None or timm.is_model(tower), (name, tower)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ModuleNotFoundError("No module named 'sentencepiece'", name="sentencepiece"),
            "pip install sentencepiece",
        ),
        (
            ModuleNotFoundError("No module named 'yaml.reader'", name="yaml.reader"),
            "pip install pyyaml",
        ),
        (ImportError("cannot import name 'x' from 'y'"), "cannot be loaded with what is installed"),
        (
            ImportError("T5Tokenizer requires the SentencePiece library but it was not found"),
            "SentencePiece",
        ),
    ],
)
def test_names_transitively_missing_package(error, said):
    with pytest.raises(EnvironmentUnfitError, match=said), name_missing_packages("some model"):
        raise error
