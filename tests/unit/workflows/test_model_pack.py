"""Packs of models: a round trip between two machines, and packs that are forged."""

import hashlib
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

import vla
from support import model_hub
from support.refusals import refused
from vla.encoders import _hub_cache
from vla.errors import FormatError, MissingError, ResourceError, UsageError

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
CONTENT = np.random.default_rng(0).bytes(50_000)
SMALL = json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}}).encode()
REPOSITORY, REVISION = "timm/PE-Core-B-16", "a" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with model_hub.hub_of(tmp_path / "hub", monkeypatch) as hub:
        hub.add(REPOSITORY, {WEIGHTS: CONTENT, CONFIG: SMALL})
        hub.add("acme/other", {WEIGHTS: CONTENT[::-1], CONFIG: SMALL})
        yield hub


@pytest.fixture
def other_machine(hub, tmp_path, monkeypatch):
    """Turn this machine into one with an empty cache and without network."""
    from huggingface_hub import constants

    def turn():
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "other"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        return tmp_path / "other"

    return turn


def test_carries_models_to_another_machine(hub, tmp_path, other_machine):
    import huggingface_hub

    fetched = [vla.fetch_model(name) for name in ("balanced", "hf-hub:acme/other")]
    pack = vla.pack_models(["balanced", "hf-hub:acme/other", "balanced"], tmp_path / "p.zip")
    assert pack.models == ("balanced", "hf-hub:acme/other") and len(pack.files) == 4
    assert zipfile.ZipFile(tmp_path / "p.zip").testzip() is None
    other_machine()
    report = vla.unpack_models(tmp_path / "p.zip")
    assert report.files == pack.files and report.new_bytes == 100_000 + 2 * len(SMALL)
    for before in fetched:
        path = huggingface_hub.hf_hub_download(before.repository, WEIGHTS, local_files_only=True)
        assert Path(path).read_bytes() == before.files[0].path.read_bytes()
    after = vla.fetch_model("balanced")  # verifies
    assert (
        after.revision == fetched[0].revision
        and after.files[0].digest == fetched[0].files[0].digest
    )
    assert vla.unpack_models(tmp_path / "p.zip").new_bytes == 0
    # The other machine makes the same pack.
    vla.pack_models(["balanced", "hf-hub:acme/other"], tmp_path / "q.zip")
    assert (tmp_path / "p.zip").read_bytes() == (tmp_path / "q.zip").read_bytes()


def test_repairs_a_damaged_blob(hub, tmp_path):
    report = vla.fetch_model("balanced")
    vla.pack_models(["balanced"], tmp_path / "p.zip")
    report.files[0].path.resolve().write_bytes(b"noise")
    vla.unpack_models(tmp_path / "p.zip")
    assert report.files[0].path.read_bytes() == CONTENT


def test_what_is_here_in_another_revision_is_kept_unless_told(hub, tmp_path, other_machine):
    vla.fetch_model("balanced")
    vla.pack_models(["balanced"], tmp_path / "p.zip")
    new = hub.add(REPOSITORY, {WEIGHTS: b"newer" * 1000, CONFIG: SMALL})
    vla.fetch_model("balanced", revision="main")
    with refused(UsageError, "overwrite_model", f"is here in revision {new[:12]}"):
        vla.unpack_models(tmp_path / "p.zip")
    assert vla.list_models()[2].revision == new
    vla.unpack_models(tmp_path / "p.zip", overwrite=True)
    assert vla.list_models()[2].revision != new


def test_refuses_what_cannot_be_packed(hub, tmp_path):
    with refused(MissingError, "fetch_model", "weights of balanced are not on this machine"):
        vla.pack_models(["balanced"], tmp_path / "p.zip")
    with pytest.raises(UsageError, match="part of vla"):
        vla.pack_models(["demo"], tmp_path / "p.zip")
    with pytest.raises(UsageError, match=r"pip download -d FOLDER 'vla-toolkit\[offline\]'"):
        vla.pack_models(["offline"], tmp_path / "p.zip")
    with pytest.raises(UsageError, match="at least one"):
        vla.pack_models([], tmp_path / "p.zip")
    assert not (tmp_path / "p.zip").exists()
    vla.fetch_model("balanced")
    (tmp_path / "p.zip").write_bytes(b"precious")
    with refused(UsageError, "overwrite", "exists"):
        vla.pack_models(["balanced"], tmp_path / "p.zip")
    assert (tmp_path / "p.zip").read_bytes() == b"precious"
    vla.pack_models(["balanced"], tmp_path / "p.zip", overwrite=True)


def test_says_that_the_disk_is_too_small_before_it_writes(
    hub, tmp_path, other_machine, monkeypatch
):
    vla.fetch_model("balanced")
    usage = type("Usage", (), {"free": 50_000})
    monkeypatch.setattr(_hub_cache.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError, match="the pack needs 50.1 kB, but 50.0 kB are free"):
        vla.pack_models(["balanced"], tmp_path / "p.zip")
    usage.free = 10**9
    vla.pack_models(["balanced"], tmp_path / "p.zip")
    folder = other_machine()
    usage.free = 50_000
    with pytest.raises(ResourceError, match="unpacking needs 50.1 kB, but 50.0 kB are free"):
        vla.unpack_models(tmp_path / "p.zip")
    assert not folder.exists()


def forge(
    path,
    *,
    files=None,
    members=None,
    models=("balanced",),
    schema=1,
    compression=zipfile.ZIP_STORED,
    **changes,
):
    """Write a pack with one file, in which something is changed."""
    entry = {
        "repository": REPOSITORY, "revision": REVISION, "name": WEIGHTS, "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(), **changes,
    }  # fmt: skip
    manifest = {"schema": schema, "models": models, "files": [entry] if files is None else files}
    name = f"{entry['repository']}/{entry['revision']}/{entry['name']}"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for member, content in (members if members is not None else {name: CONTENT}).items():
            archive.writestr(member, content)
        archive.writestr("models.json", json.dumps(manifest))
    return path


def test_the_forgery_without_a_change_is_accepted(hub, tmp_path):
    vla.unpack_models(forge(tmp_path / "p.zip"))
    assert vla.list_models()[2].revision == REVISION


GOOD = {
    "repository": REPOSITORY, "revision": REVISION, "name": WEIGHTS, "bytes": len(CONTENT),
    "sha256": hashlib.sha256(CONTENT).hexdigest(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"repository": "../../../tmp/x"}, "is no repository"),
        ({"repository": "a/b/c"}, "is no repository"),
        ({"repository": 3}, "is no text"),
        ({"revision": "../" * 13 + "a"}, "invalid revision"),
        ({"revision": "main"}, "invalid revision"),
        ({"name": "../../../../evil.safetensors"}, "is no file of a model"),
        ({"name": "/etc/cron.d/x.json"}, "is no file of a model"),
        ({"name": "run.py"}, "is no file of a model"),
        ({"name": "a\0.json"}, "is no file of a model|no pack"),
        ({"name": "x" * 300 + ".json"}, "is no file of a model"),
        ({"sha256": "0" * 64}, "another SHA-256"),
        ({"sha256": "../../" + "0" * 58}, "invalid revision or digest"),
        ({"bytes": 49_999}, "other sizes"),
        ({"bytes": 10**15}, "other sizes"),
        ({"bytes": -1}, "invalid size"),
        ({"bytes": True}, "invalid size|other sizes"),
        ({"schema": 2}, "its schema is '2'"),
        ({"extra": 1}, "models.json is damaged"),
        ({"models": "balanced"}, "models.json is damaged"),
        ({"models": [1]}, "models.json is damaged"),
        ({"files": []}, "its files are not those|other sizes"),
        ({"files": 7}, "models.json is damaged"),
        ({"files": [GOOD, GOOD]}, "its files are not those"),
        ({"members": {}}, "its files are not those"),
        ({"members": {f"{REPOSITORY}/{REVISION}/{WEIGHTS}": CONTENT, "more": b"x"}}, "its files are not those"),
        ({"compression": zipfile.ZIP_DEFLATED}, "compressed"),
    ],
)  # fmt: skip
def test_refuses_forged_packs(hub, tmp_path, changes, match):
    with pytest.raises(FormatError, match=match):
        vla.unpack_models(forge(tmp_path / "p.zip", **changes))
    blobs = list((tmp_path / "hub").rglob("blobs/*")) if (tmp_path / "hub").exists() else []
    assert blobs == [] and not list((tmp_path / "hub").rglob("snapshots"))
    assert sorted(p.name for p in tmp_path.iterdir()) in (["p.zip"], ["hub", "p.zip"])


def test_two_revisions_of_one_repository_are_refused(hub, tmp_path):
    other = {**GOOD, "revision": "b" * 40}
    members = {f"{REPOSITORY}/{r}/{WEIGHTS}": CONTENT for r in (REVISION, "b" * 40)}
    with pytest.raises(FormatError, match="two revisions"):
        vla.unpack_models(forge(tmp_path / "p.zip", files=[GOOD, other], members=members))


def test_nothing_of_a_pack_remains_if_its_last_file_is_damaged(hub, tmp_path):
    bad = {**GOOD, "name": CONFIG, "bytes": 4, "sha256": "1" * 64}
    members = {
        f"{REPOSITORY}/{REVISION}/{WEIGHTS}": CONTENT,
        f"{REPOSITORY}/{REVISION}/{CONFIG}": b"{}  ",
    }
    with pytest.raises(FormatError, match="another SHA-256"):
        vla.unpack_models(forge(tmp_path / "p.zip", files=[GOOD, bad], members=members))
    assert not list((tmp_path / "hub").rglob("blobs/*"))
    assert not vla.list_models()[2].is_here


def test_refuses_every_truncation_and_flipped_bytes(hub, tmp_path):
    whole = forge(tmp_path / "p.zip").read_bytes()
    for length in [0, 10, 21, 22, 97, 98, 25_000, *range(len(whole) - 300, len(whole), 7)]:
        (tmp_path / "q.zip").write_bytes(whole[:length])
        with pytest.raises(FormatError):
            vla.unpack_models(tmp_path / "q.zip")
    rng = np.random.default_rng(1)
    for position in [
        *range(60),
        *range(len(whole) - 600, len(whole), 3),
        *rng.integers(0, len(whole), 60),
    ]:
        content = bytearray(whole)
        content[position] ^= 1 << int(rng.integers(8))
        (tmp_path / "q.zip").write_bytes(content)
        try:
            vla.unpack_models(tmp_path / "q.zip", overwrite=True)
        except FormatError:
            continue
        # Bytes that mean nothing to a reader, such as dates; the content is what it was.
        assert vla.list_models()[2].path.read_bytes() == CONTENT


@pytest.mark.parametrize(("count", "length"), [(65535, 100), (2, 2**31), (65535, 2**32 - 1)])
def test_the_directory_is_bounded_before_it_is_read(hub, tmp_path, count, length):
    whole = bytearray(forge(tmp_path / "p.zip").read_bytes())
    whole[-12:-6] = struct.pack("<HL", count, length)
    (tmp_path / "p.zip").write_bytes(whole)
    with pytest.raises(FormatError, match=f"{count} files and {length} bytes, too many"):
        vla.unpack_models(tmp_path / "p.zip")


def test_refuses_too_many_files(hub, tmp_path):
    with zipfile.ZipFile(tmp_path / "q.zip", "w") as archive:
        for number in range(1200):
            archive.writestr(f"{number}", b"")
    with pytest.raises(FormatError, match="1200 files and .* too many"):
        vla.unpack_models(tmp_path / "q.zip")


def test_refuses_what_is_no_file(hub, tmp_path):
    for path in (tmp_path, tmp_path / "none", Path("/dev/null")):
        with pytest.raises(FormatError, match="folder|no file|device"):
            vla.unpack_models(path)
