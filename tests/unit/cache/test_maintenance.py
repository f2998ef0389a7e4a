"""Care of a workspace: damage is found and mended, waste is found and nothing else, renamed files keep their features."""

import shutil

import numpy as np
import pytest

import vla
from vla.cache.store import active_cache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.errors import MissingError
from vla.storage.workspace import Workspace


@pytest.fixture
def place(tmp_path, clip):
    """A workspace with three videos of different content, and a caption of each."""
    for i in range(3):
        clip(f"v{i}.mp4", frames=10 + 5 * i, fps=5)
    lines = [f"v{i}.mp4,number {i}" for i in range(3)]
    (tmp_path / "c.csv").write_text("\n".join(["video,caption", *lines]) + "\n")
    extract(tmp_path, captions=tmp_path / "c.csv")
    return Workspace(tmp_path)


def extract(folder, **more):
    return vla.extract(
        [folder], workspace=folder, choice=vla.EncoderChoice(encoder="toy"), decoder="pyav", **more
    )


def cache_of(workspace):
    return active_cache(workspace.caches)


def shard_of(workspace, video_id):
    return cache_of(workspace).folder / "shards" / cache_of(workspace).receipts[video_id].shard


def damaged(workspace, **how):
    return [d.name for d in vla.verify(workspace=workspace.root, **how)]


def test_intact_workspace_has_no_corruption(place):
    assert damaged(place, read_data=True) == []
    assert vla.gc(workspace=place.root) == (0, 0)


def test_detects_missing_shard_without_reading(place):
    shard_of(place, "v1.mp4").unlink()
    assert damaged(place) == ["v1.mp4"]


@pytest.mark.parametrize("offset", [0, 900, -1])
def test_detects_and_repairs_a_flipped_bit(place, offset):
    before = cache_of(place).frames("v1.mp4").values
    path = shard_of(place, "v1.mp4")
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    assert damaged(place) == []
    assert damaged(place, read_data=True, repair=True) == ["v1.mp4"]
    assert damaged(place, read_data=True) == [] and "v1.mp4" not in cache_of(place).receipts
    assert extract(place.root).extracted == 1
    np.testing.assert_array_equal(cache_of(place).frames("v1.mp4").values, before)


def test_repairs_corrupt_texts(place):
    texts = next((cache_of(place).folder / "shards").glob("t-*"))
    texts.write_bytes(texts.read_bytes()[:-1])
    assert damaged(place, read_data=True, repair=True) == [texts.name]
    assert extract(place.root, captions=place.root / "c.csv").texts == 3
    assert damaged(place, read_data=True) == []


def test_unused_shards_are_those_of_a_kill(place):
    cache = cache_of(place)
    (cache.folder / "shards" / "0123-abc.h5").write_bytes(bytes(100))
    (cache.folder / "videos" / ".tmp-123").write_bytes(bytes(7))
    (place.home / ".tmp-9").write_bytes(bytes(3))
    assert vla.gc(workspace=place.root) == (3, 110)
    assert damaged(place, read_data=True) == []


def test_gc_keeps_features_of_other_encoders_by_default(place):
    vla.extract(
        [place.root],
        workspace=place.root,
        choice=vla.EncoderChoice(encoder="toy", model="9"),
        decoder="pyav",
        change_encoder=True,
    )
    assert vla.info(workspace=place.root)["features"]["other_caches"] == 1
    assert vla.gc(workspace=place.root) == (0, 0)
    files, freed = vla.gc(workspace=place.root, all_caches=True)
    assert files > 6 and freed > 0
    assert len(list(place.caches.glob("*/"))) == 1 and damaged(place, read_data=True) == []


def test_a_renamed_file_keeps_its_features_and_captions(place):
    before = cache_of(place).frames("v2.mp4").values
    (place.root / "sub").mkdir()
    (place.root / "v2.mp4").rename(place.root / "sub" / "new name.mp4")
    report = extract(place.root)
    assert report.extracted == 0 and report.renamed == {"v2.mp4": "sub/new name.mp4"}
    assert sorted(cache_of(place).receipts) == ["sub/new name.mp4", "v0.mp4", "v1.mp4"]
    np.testing.assert_array_equal(cache_of(place).frames("sub/new name.mp4").values, before)
    assert {a.video for a in caption_store.load(place)} == {"sub/new name.mp4", "v0.mp4", "v1.mp4"}
    assert damaged(place, read_data=True) == [] and vla.gc(workspace=place.root) == (0, 0)


def test_a_copied_file_shares_its_features(place):
    shutil.copy(place.root / "v2.mp4", place.root / "copy.mp4")
    report = extract(place.root)
    assert report.extracted == 0 and report.renamed == {}
    assert shard_of(place, "copy.mp4") == shard_of(place, "v2.mp4")
    # Forgetting one of them leaves the other its features.
    assert vla.remove(["copy.mp4"], workspace=place.root) == ["copy.mp4"]
    assert damaged(place, read_data=True) == []


def test_a_copy_of_a_file_whose_features_are_lost_is_extracted(place):
    shutil.copy(place.root / "v2.mp4", place.root / "copy.mp4")
    shard_of(place, "v2.mp4").unlink()
    assert extract(place.root).extracted == 2
    assert damaged(place, read_data=True) == []


def test_two_copies_of_a_missing_file(place):
    """One takes the old name's place, the other is its copy."""
    shutil.copy(place.root / "v0.mp4", place.root / "x.mp4")
    (place.root / "v0.mp4").rename(place.root / "w.mp4")
    assert extract(place.root).extracted == 0
    assert sorted(cache_of(place).receipts) == ["v1.mp4", "v2.mp4", "w.mp4", "x.mp4"]
    assert damaged(place, read_data=True) == []


def test_a_file_of_equal_size_but_other_content_is_extracted(place):
    content = bytearray((place.root / "v1.mp4").read_bytes())
    content[-1] ^= 1
    (place.root / "other.mp4").write_bytes(content)
    assert extract(place.root).extracted == 1


def test_list_and_delete_videos(place):
    (place.root / "v1.mp4").unlink()
    listed = {
        e.receipt.video_id: (e.captions, e.is_missing)
        for e in vla.list_videos(workspace=place.root)
    }
    assert listed == {"v0.mp4": (1, False), "v1.mp4": (1, True), "v2.mp4": (1, False)}
    assert [e.receipt.video_id for e in vla.list_videos(["*2.mp4"], workspace=place.root)] == [
        "v2.mp4"
    ]
    assert [
        e.receipt.video_id
        for e in vla.list_videos([str(place.root / "v0.mp4")], workspace=place.root)
    ] == ["v0.mp4"]
    with pytest.raises(MissingError, match=r"no extracted video matches v9\*, nothing"):
        vla.list_videos(["v9*", "nothing", "v0.mp4"], workspace=place.root)
    assert vla.remove([], workspace=place.root, missing=True) == ["v1.mp4"]
    assert sorted(cache_of(place).receipts) == ["v0.mp4", "v2.mp4"]
    assert (place.root / "v0.mp4").is_file()
    assert vla.gc(workspace=place.root) == (0, 0)


def test_info(place):
    result = vla.info(workspace=place.root)
    assert result["features"]["videos"] == {"ok": 3} and result["features"]["missing"] == 0
    assert result["captions"] == {"total": 3, "timed": 0, "videos": 3, "damaged": 0}
    assert result["index"] is None and result["runs"] == {}
    vla.index(workspace=place.root)
    assert vla.info(workspace=place.root)["index"]["state"] == "up to date"
    vla.remove(["v0.mp4"], workspace=place.root)
    assert "out of date" in vla.info(workspace=place.root)["index"]["state"]


def test_captions_of_a_renamed_video_can_be_read(place):
    caption_store.rename(place, {"v0.mp4": "n.mp4"})
    assert [a.video for a in caption_store.load(place)] == ["n.mp4", "v1.mp4", "v2.mp4"]
    assert isinstance(caption_store.load(place)[0], Annotation)
