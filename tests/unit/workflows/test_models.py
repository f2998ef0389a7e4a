"""`list_models` and `fetch_model` with a server that plays the model hub."""

import json
import subprocess
import sys

import numpy as np
import pytest

import vla
from support import model_hub
from support.refusals import refused
from vla.encoders import _hub_cache
from vla.encoders._presets import PRESETS
from vla.errors import EnvironmentUnfitError, MissingError, UsageError

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
CONTENT = np.random.default_rng(0).bytes(50_000)
SMALL = json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}}).encode()
REPOSITORY = PRESETS["balanced"].repository


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with model_hub.hub_of(tmp_path / "hub", monkeypatch) as hub:
        hub.add(
            REPOSITORY,
            {WEIGHTS: CONTENT, "open_clip_pytorch_model.bin": b"x" * 9000, CONFIG: SMALL},
        )
        yield hub


def entry(name):
    return {entry.name: entry for entry in vla.list_models()}[name]


def test_fetches_a_preset_and_lists_it(hub, tmp_path):
    assert not entry("balanced").is_here and entry("balanced").bytes == 1.79e9
    steps = []
    report = vla.fetch_model("balanced", progress=steps.append)
    assert report.downloaded_bytes == 50_000 + len(SMALL)
    assert report.revision == hub.main[REPOSITORY] and report.licence == "mit"
    weights, config = report.files
    assert weights.digest == model_hub.sha256(CONTENT) and weights.path.read_bytes() == CONTENT
    assert config.digest == model_hub.git_sha1(SMALL)
    (note,) = [step.message for step in steps if step.message]
    assert note.startswith("balanced: 50.1 kB to download from timm/PE-Core-B-16 (revision ")
    assert "licence mit" in note and f"free in {tmp_path / 'hub'}" in note
    # The pickle of the same weights is not fetched.
    assert [name for name, _ in hub.downloads()] == [WEIGHTS, CONFIG]
    listed = entry("balanced")
    assert listed.path == weights.path and listed.bytes == 50_000 + len(SMALL)
    assert listed.revision == report.revision and listed.digest == weights.digest


def test_fetches_a_pickle_only_if_there_is_nothing_else(hub):
    hub.add(REPOSITORY, {"open_clip_pytorch_model.bin": CONTENT})
    assert [file.path.name for file in vla.fetch_model("balanced").files] == [
        "open_clip_pytorch_model.bin"
    ]


def test_weights_that_are_here_are_verified_without_the_hub(hub):
    first = vla.fetch_model("balanced")
    hub.add(REPOSITORY, {WEIGHTS: b"newer" * 1000, CONFIG: SMALL})
    hub.requests.clear()
    again = vla.fetch_model("balanced")
    assert hub.requests == [] and again.downloaded_bytes == 0
    assert again.files == first.files and again.revision == first.revision


def refuse(*arguments, **options):
    raise OSError("no such privilege")


@pytest.mark.parametrize("has_links", [True, False])
def test_a_damaged_file_is_fetched_again_in_its_revision(hub, has_links, monkeypatch):
    if not has_links:
        monkeypatch.setattr(_hub_cache.Path, "symlink_to", refuse)
    report = vla.fetch_model("balanced")
    assert report.files[0].path.is_symlink() == has_links
    blob = report.files[0].path.resolve()
    blob.write_bytes(CONTENT[:-1] + b"!")
    hub.add(REPOSITORY, {WEIGHTS: b"newer" * 1000, CONFIG: SMALL})
    steps = []
    again = vla.fetch_model("balanced", progress=steps.append)
    assert again.revision == report.revision and again.downloaded_bytes == 50_000
    assert again.files[0].path.read_bytes() == CONTENT
    assert any("is damaged here and is downloaded again" in step.message for step in steps)


def test_a_revision_that_is_named_is_used_from_now_on(hub):
    old = vla.fetch_model("balanced").revision
    new = hub.add(REPOSITORY, {WEIGHTS: b"newer" * 1000, CONFIG: SMALL})
    assert (
        vla.fetch_model("balanced", revision="main").revision == new == entry("balanced").revision
    )
    back = vla.fetch_model("balanced", revision=old)
    assert back.revision == old == entry("balanced").revision
    assert back.downloaded_bytes == 0 and back.files[0].path.read_bytes() == CONTENT
    with pytest.raises(UsageError, match="no such revision"):
        vla.fetch_model("balanced", revision="0" * 40)


def test_other_models_on_this_machine_are_listed_by_their_repository(hub, tmp_path):
    hub.add("acme/other", {WEIGHTS: CONTENT, CONFIG: SMALL})
    vla.fetch_model("hf-hub:acme/other")
    hub.add("acme/language", {"config.json": b"{}", "model.safetensors": CONTENT})
    (tmp_path / "hub" / "models--a--b--c").mkdir()
    (tmp_path / "hub" / "models--..--x").mkdir()
    names = [entry.name for entry in vla.list_models()]
    assert names == [*PRESETS, "hf-hub:acme/other"]
    json.dumps([entry.to_json() for entry in vla.list_models()])


def test_a_model_of_open_clip_by_model_and_tag(hub):
    hub.add("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", {WEIGHTS: CONTENT, CONFIG: SMALL})
    report = vla.fetch_model("ViT-B-32/laion2b_s34b_b79k")
    assert report.repository == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    (listed,) = [e for e in vla.list_open_clip() if e.name == "ViT-B-32/laion2b_s34b_b79k"]
    assert listed.path == report.files[0].path and listed.missing_packages == ()


def test_all_models_of_open_clip_are_listed():
    import open_clip

    entries = {entry.name: entry for entry in vla.list_open_clip()}
    assert set(entries) == {f"{model}/{tag}" for model, tag in open_clip.list_pretrained()}
    assert entries["PE-Core-B-16/meta"].repository == REPOSITORY
    assert entries["ViT-B-16-SigLIP/webli"].missing_packages in ((), ("transformers",))


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("balancd", UsageError, "no model 'balancd'. Did you mean balanced"),
        ("ViT-B-23/openai", UsageError, "no model 'ViT-B-23/openai'. Did you mean .*ViT-B-32"),
        ("ViT-B-32", UsageError, "ViT-B-32 needs the tag of its weights: ViT-B-32/openai, "),
        ("ViT-B-32/opnai", UsageError, "needs the tag .* got 'opnai'"),
        ("hf-hub:../x", UsageError, "names no model of the hub"),
        ("local-dir:x", UsageError, "is a folder of this machine"),
        ("hf-hub:acme/none", MissingError, "no model acme/none"),
    ],
)
def test_refuses_names(hub, name, kind, match):
    with pytest.raises(kind, match=match):
        vla.fetch_model(name)


def test_says_why_the_hub_is_not_asked(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused(
        EnvironmentUnfitError,
        "fetch_weights",
        "not on this machine, and HF_HUB_OFFLINE",
        model="fast",
    ):
        vla.fetch_model("fast")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with refused(
        EnvironmentUnfitError, "fetch_weights", "127.0.0.1 cannot be reached", model="fast"
    ):
        vla.fetch_model("fast")


def test_presets_that_are_not_on_the_hub(hub, tmp_path, monkeypatch):
    report = vla.fetch_model("demo")
    assert report.downloaded_bytes == 0 and {f.path.name for f in report.files} >= {WEIGHTS, CONFIG}
    assert entry("demo").is_here
    with pytest.raises(EnvironmentUnfitError, match=r"pip install 'vla-toolkit\[offline\]'"):
        vla.fetch_model("offline")
    assert not entry("offline").is_here
    assert hub.requests == []


def test_listing_imports_nothing_heavy():
    code = (
        "import sys, vla; vla.list_models(); "
        "print([m for m in ('torch', 'numpy', 'open_clip', 'httpx', 'httpx2', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
