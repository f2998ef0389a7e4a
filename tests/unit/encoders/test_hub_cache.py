"""Downloads from a server that plays the model hub, into a cache that huggingface_hub reads."""

import errno
import threading
import time
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest

from support import model_hub
from support.refusals import refused
from vla.encoders import _hub_cache, _hub_download
from vla.encoders._hub_cache import HubRepository, digest_of, has_digest, is_repository_name
from vla.encoders._hub_download import download, look_up, missing_bytes
from vla.errors import EnvironmentUnfitError, MissingError, ResourceError, UsageError

NAME, WEIGHTS, CONFIG = "acme/small", "open_clip_model.safetensors", "open_clip_config.json"
NAMES = (WEIGHTS, CONFIG)
CONTENT = np.random.default_rng(0).bytes(50_000)
CHUNK = 4096


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between attempts
    with model_hub.hub_of(tmp_path / "hub", monkeypatch) as hub:
        hub.add(NAME, {WEIGHTS: CONTENT, CONFIG: b'{"a": 1}', "README.md": b"no"})
        yield hub


def test_huggingface_hub_finds_what_was_downloaded(hub, tmp_path):
    remote = look_up(NAME, NAMES)
    assert remote.revision == hub.main[NAME] and remote.licence == "mit"
    assert [(f.name, f.size, f.digest) for f in remote.files] == [
        (WEIGHTS, 50_000, model_hub.sha256(CONTENT)),
        (CONFIG, 8, model_hub.git_sha1(b'{"a": 1}')),
    ]
    steps = []
    download([remote], steps.append)
    assert steps[-1].stage == "fetch" and steps[-1].part == pytest.approx(0.050008)
    # The library's own reader of the layout, without network.
    for name, content in ((WEIGHTS, CONTENT), (CONFIG, b'{"a": 1}')):
        path = huggingface_hub.hf_hub_download(NAME, name, local_files_only=True)
        assert Path(path).read_bytes() == content
    (repository,) = huggingface_hub.scan_cache_dir(tmp_path / "hub").repos
    assert repository.repo_id == NAME and repository.nb_files == 2
    (revision,) = repository.revisions
    assert revision.commit_hash == remote.revision and revision.refs == {"main"}
    ours = HubRepository(NAME).find(NAMES)
    assert ours is not None and digest_of(ours) == model_hub.sha256(CONTENT)


def test_finds_what_huggingface_hub_downloaded(hub):
    path = huggingface_hub.hf_hub_download(NAME, WEIGHTS)
    assert str(HubRepository(NAME).find(NAMES)) == path
    assert missing_bytes(look_up(NAME, NAMES)) == 8  # the configuration


def test_continues_after_a_break(hub):
    # More breaks than huggingface_hub has attempts, then the rest.
    hub.breaks = [20_000] + [0] * 20
    with refused(
        EnvironmentUnfitError, "fetch_again", r"broke off .*; [\d.]+ kB of 50.0 kB are kept"
    ):
        download([look_up(NAME, NAMES)])
    assert HubRepository(NAME).find(NAMES) is None
    hub.breaks = []
    kept = 50_008 - missing_bytes(look_up(NAME, NAMES))
    assert 20_000 - CHUNK <= kept <= 20_000
    hub.requests.clear()
    download([look_up(NAME, NAMES)])
    assert hub.downloads() == [(WEIGHTS, kept), (CONFIG, 0)]
    path = HubRepository(NAME).find(NAMES)
    assert path is not None and path.read_bytes() == CONTENT
    assert not list(path.resolve().parent.glob("*.incomplete"))


def test_starts_over_where_the_hub_ignores_ranges(hub):
    remote = look_up(NAME, NAMES)
    partial = HubRepository(NAME).partial(remote.files[0].digest)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:30_000])
    hub.ignores_ranges = True
    steps = []
    download([remote], steps.append)
    path = HubRepository(NAME).find(NAMES)
    assert path is not None and path.read_bytes() == CONTENT
    assert max(step.done + step.part for step in steps) <= 0.0501


@pytest.mark.parametrize("part", [b"x" * 30_000, b"x" * 50_000, b"x" * 60_000])
def test_a_partial_file_of_other_content_is_no_success(hub, part):
    remote = look_up(NAME, NAMES)
    partial = HubRepository(NAME).partial(remote.files[0].digest)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(part)
    if len(part) <= 50_000:
        with refused(EnvironmentUnfitError, "fetch_again", "its digest differs .* it was deleted"):
            download([remote])
        assert not partial.exists() and HubRepository(NAME).find(NAMES) is None
    download([remote])
    path = HubRepository(NAME).find(NAMES)
    assert path is not None and path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("sent", "match"),
    [
        (CONTENT[:-1] + b"!", "its digest differs"),
        (CONTENT + b"more", "more than the 50000 bytes|broke off|its digest"),
        (CONTENT[:-5], "broke off|its digest"),
        (b"", "broke off|its digest"),
    ],
)
def test_refuses_content_that_the_revision_does_not_have(hub, sent, match):
    hub.sent[WEIGHTS] = sent
    with refused(EnvironmentUnfitError, "fetch_again", match):
        download([look_up(NAME, NAMES)])
    assert HubRepository(NAME).find(NAMES) is None
    assert HubRepository(NAME).main == ""
    hub.sent.clear()
    for _ in range(2):  # a partial file of the wrong content is found out, and deleted
        try:
            download([look_up(NAME, NAMES)])
        except EnvironmentUnfitError:
            continue
    path = HubRepository(NAME).find(NAMES)
    assert path is not None and path.read_bytes() == CONTENT


def test_git_digests_of_small_files_are_compared(hub):
    hub.sent[CONFIG] = b'{"a": 2}'
    with pytest.raises(EnvironmentUnfitError, match=f"{CONFIG} .*its digest differs"):
        download([look_up(NAME, NAMES)])


def test_names_what_the_hub_does_not_have(hub, monkeypatch):
    with pytest.raises(MissingError, match="no model acme/large, or it is private"):
        look_up("acme/large", NAMES)
    with pytest.raises(UsageError, match="no such revision"):
        look_up(NAME, NAMES, "v9")
    assert look_up(NAME, ("other.bin",)).files == ()


@pytest.mark.parametrize("revision", ["../../etc", "main", "A" * 40, ""])
def test_refuses_a_revision_that_is_no_commit(hub, revision):
    hub.repositories[NAME][revision] = hub.repositories[NAME][hub.main[NAME]]
    hub.main[NAME] = revision
    with pytest.raises(EnvironmentUnfitError, match="answer about acme/small is invalid"):
        look_up(NAME, NAMES)


def test_refuses_before_a_download_that_does_not_fit(hub, monkeypatch):
    usage = type("Usage", (), {"free": 50_007})
    monkeypatch.setattr(_hub_cache.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ResourceError, match=r"needs 50.0 kB, but 50.0 kB are free in .*HF_HOME"):
        download([look_up(NAME, NAMES)])
    assert hub.downloads() == []
    usage.free = 50_008
    download([look_up(NAME, NAMES)])


def test_a_disk_that_fills_meanwhile_keeps_what_was_fetched(hub, monkeypatch):
    class Full(_hub_download._BoundedFile):
        def write(self, content):
            if self._handle.tell() > 20_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(content)

    with monkeypatch.context() as patch:
        patch.setattr(_hub_download, "_BoundedFile", Full)
        with refused(ResourceError, "fetch_again", "disk is full"):
            download([look_up(NAME, NAMES)])
    assert missing_bytes(look_up(NAME, NAMES)) < 30_008
    download([look_up(NAME, NAMES)])
    assert hub.downloads()[1][1] > 20_000


def test_a_newer_revision_without_weights_does_not_hide_an_older_one(hub):
    download([look_up(NAME, NAMES)])
    old = HubRepository(NAME).find(NAMES)
    hub.add(NAME, {CONFIG: b'{"a": 3}'})
    download([look_up(NAME, (CONFIG,))])
    assert HubRepository(NAME).main == hub.main[NAME]
    assert HubRepository(NAME).find((WEIGHTS,)) == old


def refuse(*arguments, **options):
    raise OSError("no such privilege")


def test_without_symbolic_links(hub, monkeypatch):
    monkeypatch.setattr(_hub_cache.Path, "symlink_to", refuse)
    download([look_up(NAME, NAMES)])
    path = HubRepository(NAME).find(NAMES)
    assert path is not None and not path.is_symlink() and path.read_bytes() == CONTENT
    assert digest_of(path) == model_hub.sha256(CONTENT)


def test_without_any_links(hub, monkeypatch):
    for name in ("symlink_to", "hardlink_to"):
        monkeypatch.setattr(_hub_cache.Path, name, refuse)
    download([look_up(NAME, NAMES)])
    path = HubRepository(NAME).find(NAMES)
    assert path is not None and path.read_bytes() == CONTENT and digest_of(path) == ""
    # As huggingface_hub leaves it on such a system: without the blob.
    HubRepository(NAME).blob(model_hub.sha256(CONTENT)).unlink()
    assert missing_bytes(look_up(NAME, NAMES)) == 0
    path.write_bytes(CONTENT[:-1] + b"!")
    assert missing_bytes(look_up(NAME, NAMES)) == 50_000
    download([look_up(NAME, NAMES)])
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name", ["../x", "a/b/c", "a--b", "/etc", "a/..", "", "a b", "a/b\n", "x" * 97]
)
def test_repository_names_are_safe_in_paths(name):
    assert not is_repository_name(name)
    with pytest.raises(UsageError, match="names no model of the hub"):
        HubRepository(name)


def test_digests_against_hashlib_and_git(tmp_path):
    file = tmp_path / "f"
    file.write_bytes(b"hello world\n")
    # `git hash-object` and `sha256sum` of this content.
    assert has_digest(file, "3b18e512dba79e4c8300dd08aeb37f8e728b8dad")
    assert has_digest(file, "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447")
    assert not has_digest(file, "3b18e512dba79e4c8300dd08aeb37f8e728b8dae")


def test_two_downloads_at_once_transfer_once(hub):
    remote = look_up(NAME, NAMES)
    errors = []

    def work():
        try:
            download([remote])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sorted(hub.downloads()) == [(CONFIG, 0), (WEIGHTS, 0)]


def test_the_listing_cannot_name_other_files(hub):
    hub.add(NAME, {"../../escape": CONTENT, WEIGHTS: CONTENT})
    assert [file.name for file in look_up(NAME, NAMES).files] == [WEIGHTS]
