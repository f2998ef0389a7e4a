"""What there is to do: which files are meant, and which of them hold what they held."""

import hashlib
import os

import numpy as np
import pytest

import vla
from support.refusals import refused
from vla.cache.plan import find_videos, make_plan
from vla.cache.receipts import Receipt, content_digest, software
from vla.cache.store import EncoderSource, FeatureCache, active_cache
from vla.encoders.toy import Encoder
from vla.errors import CacheError, UsageError
from vla.storage.workspace import Workspace


@pytest.fixture
def tree(tmp_path):
    """Files of many names; none is a video inside, since nothing is opened here."""
    names = [
        "b.mp4", "a.MKV", "notes.txt", "c.webm.part", ".hidden.mp4", "sub/d.mov", "sub/deep/e.avi", ".git/f.mp4",
        "sub/.cache/g.mp4", "noext", "x[1].mp4", "weird\nname.mp4",
    ]  # fmt: skip
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def found(root, *given):
    return [p.relative_to(root).as_posix() for p in find_videos(given)]


def test_folders_are_searched_recursively(tree):
    assert found(tree, tree) == [
        "a.MKV",
        "b.mp4",
        "weird\nname.mp4",
        "x[1].mp4",
        "sub/d.mov",
        "sub/deep/e.avi",
    ]


def test_named_files_may_have_any_suffix(tree):
    assert found(tree, tree / "notes.txt", str(tree / "noext"), tree / ".hidden.mp4") == [
        "notes.txt", "noext", ".hidden.mp4",
    ]  # fmt: skip


def test_glob_patterns(tree):
    assert found(tree, f"{tree}/*.mp4") == ["b.mp4", "weird\nname.mp4", "x[1].mp4"]
    assert found(tree, f"{tree}/*") == [
        "a.MKV",
        "b.mp4",
        "sub/d.mov",
        "sub/deep/e.avi",
        "weird\nname.mp4",
        "x[1].mp4",
    ]
    assert found(tree, f"{tree}/**/*.avi") == ["sub/deep/e.avi"]
    assert found(tree, f"{tree}/?.mp4") == ["b.mp4"]


def test_names_with_brackets_take_precedence_over_patterns(tree):
    assert found(tree, tree / "x[1].mp4") == ["x[1].mp4"]


def test_paths_are_unique_and_in_order(tree):
    assert found(tree, tree / "sub", tree / "b.mp4", tree, f"{tree}/*.mp4") == [
        "sub/d.mov", "sub/deep/e.avi", "b.mp4", "a.MKV", "weird\nname.mp4", "x[1].mp4",
    ]  # fmt: skip


def test_error_lists_all_missing_paths(tree):
    with pytest.raises(
        UsageError, match=r"no such file, folder or pattern: .*gone.mp4, .*\*\.xyz$"
    ):
        find_videos([tree / "b.mp4", tree / "gone.mp4", f"{tree}/*.xyz"])


def test_links_to_folders_are_not_followed(tree):
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "link.mp4").symlink_to(tree / "b.mp4")
    (tree / "dangling.mp4").symlink_to(tree / "gone")
    names = found(tree, tree)
    assert (
        "link.mp4" in names and "dangling.mp4" not in names and not any("loop" in n for n in names)
    )


def test_home_and_the_current_folder(tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    monkeypatch.chdir(tree / "sub")
    assert [p.name for p in find_videos(["~/b.mp4"])] == ["b.mp4"]
    assert sorted(p.as_posix() for p in find_videos(["."])) == ["d.mov", "deep/e.avi"]


def test_empty_folder_is_valid(tmp_path):
    assert find_videos([tmp_path]) == [] == find_videos([])


# What needs work


@pytest.fixture
def place(tmp_path):
    return Workspace.open_or_create(tmp_path)


@pytest.fixture
def cache(place):
    return FeatureCache.create(
        place.caches, Encoder("6").identity.spec("fps=2"), EncoderSource("toy", "6", "")
    )


def remembered(cache, workspace, path, status="failed", **more):
    """A receipt of the file as it is now."""
    now = path.stat()
    made = {
        "digest": hashlib.sha256(path.read_bytes()).hexdigest(),
        "cause": "content",
        "software": software(),
    }
    record = Receipt(
        workspace.video_id(path),
        status,
        "",
        now.st_size,
        now.st_mtime_ns,
        content_digest(path, now.st_size),
        **made | more,
    )
    cache.add_receipt(record)
    return record


def sorted_plan(plan):
    return (
        [v for v, _ in plan.todo],
        [r.video_id for r in plan.updates],
        [r.video_id for r in plan.done],
    )


def test_new_unchanged_touched_copied_and_changed(cache, place, tmp_path):
    paths = {
        n: tmp_path / f"{n}.mp4" for n in ("new", "same", "touched", "edited", "grown", "gone")
    }
    for name, path in paths.items():
        path.write_bytes(name.encode() * 50)
    for name in ("same", "touched", "edited", "grown", "gone"):
        remembered(cache, place, paths[name])
    later = paths["same"].stat().st_mtime_ns + 5_000_000_000
    os.utime(paths["touched"], ns=(later, later))
    paths["edited"].write_bytes(b"EDITED" * 50)  # as long as before
    os.utime(paths["edited"], ns=(later, later))
    with paths["grown"].open("ab") as file:
        file.write(b"x")
    paths["gone"].unlink()
    plan = make_plan(cache, paths.values(), place)
    assert sorted_plan(plan) == (
        ["new.mp4", "edited.mp4", "grown.mp4", "gone.mp4"],
        ["touched.mp4"],
        ["same.mp4"],
    )
    assert plan.updates[0].mtime_ns == later
    assert dict(plan.todo)["new.mp4"] == paths["new"]


def test_nothing_is_written_while_planning(cache, place, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    before = sorted(p.as_posix() for p in place.home.rglob("*"))
    make_plan(cache, [tmp_path / "a.mp4"], place)
    assert sorted(p.as_posix() for p in place.home.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "todo"),
    [
        ({}, []),
        ({"retry_failed": True}, ["failed.mp4", "partial.mp4", "skipped.mp4"]),
        ({"overwrite": True}, ["ok.mp4", "failed.mp4", "partial.mp4", "skipped.mp4"]),
    ],
)
def test_retries(cache, place, tmp_path, options, todo):
    (cache.folder / "shards").mkdir()
    (cache.folder / "shards" / "s.h5").touch()
    paths = [tmp_path / f"{status}.mp4" for status in ("ok", "failed", "partial", "skipped")]
    for path in paths:
        path.write_bytes(b"content")
        has = {"shard": "s.h5"} if path.stem in ("ok", "partial") else {}
        remembered(cache, place, path, path.stem, **has)
    assert [v for v, _ in make_plan(cache, paths, place, **options).todo] == todo


def test_two_paths_of_one_file_are_one_video(cache, place, tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    paths = find_videos(["a.mp4", tmp_path / "a.mp4", "./a.mp4", f"{tmp_path}/*.mp4"])
    assert [v for v, _ in make_plan(cache, paths, place).todo] == ["a.mp4"]


def test_lost_features_are_extracted_again(toy_workspace):
    """The message for a lost shard says to run the command again: that must help."""
    cache = active_cache(toy_workspace.caches)
    expected = cache.frames("videos/v3.mp4").values
    (cache.folder / "shards" / cache.receipts["videos/v3.mp4"].shard).unlink()
    again = FeatureCache.open(cache.folder)
    with refused(CacheError, "make_again", "is gone"):
        again.frames("videos/v3.mp4")
    report = vla.extract([toy_workspace.root / "videos"], workspace=toy_workspace.root, workers=1)
    assert report.extracted == 1 and not report.problems
    np.testing.assert_array_equal(
        FeatureCache.open(cache.folder).frames("videos/v3.mp4").values, expected
    )


def test_extraction_follows_the_plan(toy_workspace, clip):
    """End to end: nothing to do, a touched file, a changed one."""
    root = toy_workspace.root
    state = active_cache(toy_workspace.caches).state()

    def extract():
        return vla.extract([root / "videos"], workspace=root, workers=1)

    report = extract()
    assert (report.extracted, report.frames, len(report.receipts)) == (0, 0, 3)
    os.utime(root / "videos" / "v2.mp4", (1, 1))
    report = extract()
    assert report.extracted == 0 and active_cache(toy_workspace.caches).state() == state
    assert active_cache(toy_workspace.caches).receipts["videos/v2.mp4"].mtime_ns == 1_000_000_000
    clip("videos/v3.mp4", frames=40, fps=10)
    report = extract()
    assert report.extracted == 1 and report.frames == 8
    cache = active_cache(toy_workspace.caches)
    assert cache.state() != state and cache.frames("videos/v3.mp4").values.shape == (8, 48)


def test_damaged_file_does_not_stop_the_others(tmp_path, clip):
    folder = tmp_path / "many"
    clip("many/good.mp4", fps=5, frames=10)
    (folder / "text.mp4").write_text("no video" * 100)
    (folder / "empty.mp4").touch()
    torn = clip("many/torn.mkv", fps=10, frames=60)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    clip("many/zgood.mp4", fps=5, frames=10)
    report = vla.extract(
        [folder], workspace=tmp_path, choice=vla.EncoderChoice(encoder="toy"), workers=2
    )
    statuses = {os.path.basename(r.video_id): (r.status, r.has_features) for r in report.receipts}
    assert statuses == {
        "good.mp4": ("ok", True), "zgood.mp4": ("ok", True), "empty.mp4": ("skipped", False), "text.mp4": ("skipped", False),
        "torn.mkv": ("partial", True),
    }  # fmt: skip
    assert {os.path.basename(r.video_id) for r in report.problems} == {
        "empty.mp4",
        "text.mp4",
        "torn.mkv",
    }
    torn_receipt = next(r for r in report.receipts if r.status == "partial")
    assert 0 < torn_receipt.coverage < 0.9 and torn_receipt.duration_seconds == pytest.approx(
        6.0, abs=0.1
    )


def test_features_too_large_for_float16_fail_one_video(tmp_path, clip, monkeypatch):
    clip("many/a.mp4", fps=5, frames=5)
    clip("many/b.mp4", fps=5, frames=10)
    real = Encoder.encode_frames
    monkeypatch.setattr(
        Encoder, "encode_frames", lambda self, p: real(self, p) * (1e6 if len(p) == 2 else 1)
    )  # two frames: only a.mp4
    report = vla.extract(
        [tmp_path / "many"], workspace=tmp_path, choice=vla.EncoderChoice(encoder="toy"), workers=1
    )
    assert {os.path.basename(r.video_id): r.status for r in report.receipts} == {
        "a.mp4": "failed",
        "b.mp4": "ok",
    }
    assert "too large for float16" in report.problems[0].reason


@pytest.mark.parametrize("workers", [1, 3])
def test_features_do_not_depend_on_other_videos(tmp_path, clip, workers):
    """The same bits alone, together and with any number of threads."""
    for i in range(4):
        clip(f"many/{i}.mp4", fps=5, frames=10 + 7 * i, bframes=i % 3)
    together = vla.extract(
        [tmp_path / "many"],
        workspace=tmp_path / "w",
        choice=vla.EncoderChoice(encoder="toy", sampling="fps=5"),
        workers=workers,
    )
    for i in range(4):
        alone = vla.extract(
            [tmp_path / "many" / f"{i}.mp4"], workspace=tmp_path / f"w{i}",
            choice=vla.EncoderChoice(encoder="toy", sampling="fps=5"), workers=1,
        )  # fmt: skip
        assert alone.receipts[0] == next(
            r for r in together.receipts if r.video_id.endswith(f"{i}.mp4")
        )
        assert alone.receipts[0].frames == 10 + 7 * i


# What tells one content from another


def raw(path, marks, frames=40):
    """An uncompressed AVI of 64x64 pixels that is dark but for the frames in `marks`: its size does not depend on them."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "bgr24"
        for i in range(frames):
            picture = np.full((120, 160, 3), marks.get(i, 0), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("marks", [{20: 250}, {i: 90 for i in range(14, 26)}, {19: 1}])
def test_equal_head_tail_and_size_are_not_duplicates(tmp_path, marks):
    """Under another name, after a rename, and in place of the old file with another time: never the other's features."""
    toy = vla.EncoderChoice(encoder="toy", sampling="fps=10")
    dark = raw(tmp_path / "v" / "dark.avi", {})
    vla.extract([tmp_path / "v"], workspace=tmp_path, choice=toy, workers=1, decoder="pyav")
    other = raw(tmp_path / "v" / "other.avi", marks)
    size = dark.stat().st_size
    assert other.stat().st_size == size and content_digest(dark, size) == content_digest(
        other, size
    )
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, workers=1, decoder="pyav")
    assert report.extracted == 1
    dark.unlink()
    os.rename(other, tmp_path / "v" / "moved.avi")
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, workers=1, decoder="pyav")
    assert report.renamed == {"v/other.avi": "v/moved.avi"} and report.extracted == 0
    raw(tmp_path / "v" / "moved.avi", {})
    later = report.receipts[0].mtime_ns + 5_000_000_000
    os.utime(tmp_path / "v" / "moved.avi", ns=(later, later))
    report = vla.extract([tmp_path / "v"], workspace=tmp_path, workers=1, decoder="pyav")
    assert report.extracted == 1


def without_digest(cache, name):
    """Make a receipt one of an older version."""
    record = {
        k: v
        for k, v in cache.receipts[name].to_json().items()
        if k not in ("digest", "cause", "software")
    }
    cache.add_receipt(Receipt(**record))


def test_reuses_features_of_older_versions_if_the_file_exists(toy_workspace):
    cache, root = active_cache(toy_workspace.caches), toy_workspace.root
    for name in ("videos/v2.mp4", "videos/v3.mp4", "videos/v4.mp4"):
        without_digest(cache, name)
    (root / "videos" / "copy.mp4").write_bytes((root / "videos" / "v2.mp4").read_bytes())
    (root / "videos" / "v3.mp4").rename(root / "videos" / "moved.mp4")
    os.utime(root / "videos" / "v4.mp4", (1, 1))
    plan = make_plan(FeatureCache.open(cache.folder), find_videos([root / "videos"]), toy_workspace)
    assert sorted_plan(plan) == (["videos/moved.mp4", "videos/v4.mp4"], [], ["videos/v2.mp4"])
    assert [(r.video_id, len(r.digest)) for r in plan.copies] == [("videos/copy.mp4", 64)]
