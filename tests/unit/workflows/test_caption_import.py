"""Captions belong to the content of a video and to their file: nothing doubles, nothing outlives what it tells of."""

import json
import os
import shutil
import unicodedata
from pathlib import Path

import pytest

import vla
from vla.cache.store import active_cache
from vla.captions import store
from vla.errors import MissingError, UsageError
from vla.omissions import Omissions
from vla.storage.workspace import Workspace
from vla.workflows.caption_import import training_captions

TOY = vla.EncoderChoice(encoder="toy")


def extract(root, *paths, **options):
    return vla.extract(
        paths or [root / "videos"], workspace=root, choice=TOY, workers=1, decoder="pyav", **options
    )


@pytest.fixture
def root(toy_workspace):
    """Three clips with a caption each, from `captions.csv`."""
    return toy_workspace.root


def stored_texts(root):
    """`(video, caption)` of everything that is used, by name."""
    return sorted((a.video.rpartition("/")[2], a.query) for a in store.load_unique(Workspace(root)))


def sources(root):
    return {s.source: s.captions + s.questions for s in vla.list_captions(workspace=root)}


BEFORE = [
    ("v2.mp4", "a red door opens"), ("v3.mp4", "a dog runs over the grass"), ("v4.mp4", "someone pours green tea"),
]  # fmt: skip


def by_moved_file(root):
    return Path(shutil.move(root, root.with_name("elsewhere"))), "captions.csv"


def by_renamed_file(root):
    (root / "captions.csv").rename(root / "other.csv")
    return root, "other.csv"


def by_copy(root):
    shutil.copy(root / "captions.csv", root / "copy.csv")
    return root, "copy.csv"


def by_copy_outside(root):
    outside = root.parent / f"{root.name}-sets"
    outside.mkdir()
    shutil.copy(root / "captions.csv", outside / "c.csv")
    return root, outside / "c.csv"


def by_link(root):
    (root / "link.csv").symlink_to(root / "captions.csv")
    return root, "link.csv"


def by_hard_link(root):
    os.link(root / "captions.csv", root / "hard.csv")
    return root, "hard.csv"


def behind_a_linked_folder(root):
    link = root.parent / f"{root.name}-link"
    link.symlink_to(root)
    return root, link / "captions.csv"


def roundabout(root):
    return root, root / "videos" / ".." / "captions.csv"


def by_touched_file(root):
    os.utime(root / "captions.csv", (1, 1))
    return root, "captions.csv"


WAYS = [
    by_moved_file,
    by_renamed_file,
    by_copy,
    by_copy_outside,
    by_link,
    by_hard_link,
    behind_a_linked_folder,
    roundabout,
    by_touched_file,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_adding_a_file_by_another_path_adds_no_duplicates(root, way):
    root, path = way(root)
    for _ in range(2):
        report = extract(root, captions=str(root / path))
        assert report.captions == 3 and stored_texts(root) == BEFORE
    assert sum(sources(root).values()) == 3 and vla.info(workspace=root)["captions"]["total"] == 3
    assert all(e.captions == 1 for e in vla.list_videos(workspace=root))


def test_copied_captions_file_matches_the_same_videos(root):
    """Rows of a copy that lies deeper are found by the end of their paths."""
    (root / "sets").mkdir()
    shutil.copy(root / "captions.csv", root / "sets" / "c.csv")
    assert extract(root, captions=root / "sets" / "c.csv").captions == 3 and sources(root) == {
        "sets/c.csv": 3
    }


def test_changed_file_replaces_its_entries(root):
    table = root / "captions.csv"
    table.write_text("video,caption\nv2,a blue door\nv2,it creaks\n")
    assert extract(root, captions=table).captions == 2
    assert stored_texts(root) == [("v2.mp4", "a blue door"), ("v2.mp4", "it creaks")]
    table.write_text("video,caption\nnowhere,nothing\n")
    report = extract(root, captions=table)
    assert (report.captions, sources(root)) == (0, {})
    assert report.omissions.to_json() == [
        {"reason": "no-such-video", "count": 1, "examples": ["nowhere"]}
    ]


def test_adds_several_files(root):
    (root / "a.csv").write_text("video,caption\nv2,one\n")
    (root / "b.csv").write_text("video,caption\nv2,one\nv3,two\n")
    report = extract(root, captions=[root / "a.csv", str(root / "b.csv"), root / "." / "a.csv"])
    assert report.captions == 6 and sources(root) == {"a.csv": 1, "b.csv": 2, "captions.csv": 3}
    assert len(stored_texts(root)) == 5, "what two of them have counts once"
    assert vla.remove_captions(["a.csv"], workspace=root) == {"a.csv": 1}
    assert ("v2.mp4", "one") in stored_texts(root), "another file still has it"


def test_reads_old_entries_and_deduplicates_them(root):
    """Sources were absolute paths; a move of the workspace left each row twice."""
    place = Workspace(root)
    old = [
        {**e.annotation.to_json(), "source": str(root / "captions.csv")}
        for e in store.entries(place)
    ]
    twice = [*old, *({**row, "source": "/former/place/captions.csv"} for row in old)]
    beside = {
        "query_id": "x",
        "query": "rain",
        "video": "videos/v2.mp4",
        "spans": [],
        "split": "",
        "source": "videos/v2.txt",
    }
    place.captions.write_text("".join(json.dumps(row) + "\n" for row in [*twice, beside]))
    assert (
        stored_texts(root) == sorted([*BEFORE, ("v2.mp4", "rain")])
        and vla.info(workspace=root)["captions"]["total"] == 4
    )
    assert sources(root) == {"captions.csv": 3, "videos/v2.txt": 1}
    report = extract(root, captions=root / "captions.csv")
    assert sources(root) == {"captions.csv": 3}, (
        "what was beside a video is gone, and what the file gave at its old place"
    )
    assert report.omissions.counts == {"lost-caption": 1} and report.captions == 3


# Sidecars


def test_deleted_sidecar_removes_its_captions(root):
    (root / "videos" / "v2.txt").write_text("rain on a roof\nthunder\n")
    (root / "videos" / "v3.en.srt").write_text(
        "1\n00:00:00,500 --> 00:00:01,500\nthe kettle sings\n"
    )
    assert extract(root).captions == 6
    (root / "videos" / "v2.txt").unlink()
    only = extract(root, root / "videos" / "v3.mp4")
    assert only.captions == 6 and not only.omissions, "v2 was not looked at"
    assert extract(root, sidecars=False).captions == 6, "files beside videos were not looked at"
    report = extract(root)
    assert report.captions == 4 and report.omissions.summary() == (
        "2 captions whose sidecar files are gone (videos/v2.txt)"
    )
    assert stored_texts(root) == sorted([*BEFORE, ("v3.mp4", "the kettle sings")])
    assert not extract(root).omissions


def test_equal_sidecars_of_two_videos_both_count(root):
    (root / "videos" / "v2.txt").write_text("rain\n")
    assert extract(root).captions == 4
    (root / "videos" / "v3.txt").write_text("rain\n")
    assert extract(root).captions == 5 and extract(root, root / "videos" / "v3.mp4").captions == 5


def test_a_sidecar_follows_its_renamed_video(root):
    (root / "videos" / "v2.txt").write_text("rain\n")
    extract(root)
    (root / "videos" / "v2.mp4").rename(root / "videos" / "w.mp4")
    assert extract(root).renamed and ("w.mp4", "rain") in stored_texts(root), (
        "the text still lies under the old name"
    )
    (root / "videos" / "v2.txt").rename(root / "videos" / "w.txt")
    extract(root)
    assert ("w.mp4", "rain") in stored_texts(root) and "videos/v2.txt" not in sources(root)


def test_ignores_sidecars_that_link_to_another_folder(root, tmp_path_factory):
    """An archive with `v2.txt` that links to a file of this machine would send it out with the next export."""
    secret = tmp_path_factory.mktemp("home") / "secrets.txt"
    secret.write_text("a password\n")
    (root / "videos" / "v2.txt").symlink_to(secret)
    (root / "notes.txt").write_text("private\n")
    (root / "videos" / "v3.txt").symlink_to("../notes.txt")
    (root / "videos" / "inner").symlink_to(secret.parent)
    (root / "videos" / "v4.json").symlink_to("inner/secrets.txt")
    (root / "videos" / "shared.srt").write_text(
        "1\n00:00:00,500 --> 00:00:01,500\nthe kettle sings\n"
    )
    (root / "videos" / "v4.srt").symlink_to("shared.srt")
    report = extract(root)
    assert stored_texts(root) == sorted([*BEFORE, ("v4.mp4", "the kettle sings")])
    assert report.omissions.counts == {"linked-captions": 3, "linked-folder": 1, "other-suffix": 1}
    assert report.omissions.examples["linked-captions"] == [
        f"videos/{n}" for n in ("v2.txt", "v3.txt", "v4.json")
    ]
    vla.export(root / "out", workspace=root)
    assert b"password" not in b"".join(p.read_bytes() for p in (root / "out").iterdir())


# Content


def replace_video(root, name, by):
    """Another video under the name."""
    (root / "videos" / name).unlink()
    shutil.copy(by, root / "videos" / name)


def stale(root):
    return sorted(e.annotation.query for e in store.entries(Workspace(root)) if e.is_stale)


def test_captions_of_a_replaced_video_are_stale(root, clip):
    new = clip("new.mp4")
    replace_video(root, "v2.mp4", new)
    report = extract(root)
    assert (
        stored_texts(root) == BEFORE[1:]
        and stale(root) == ["a red door opens"]
        and report.captions == 2
    )
    assert report.omissions.summary() == "1 caption of a video that was replaced (videos/v2.mp4)"
    assert extract(root).omissions == report.omissions, "said until it is mended"
    (listed,) = vla.list_captions(workspace=root)
    assert (listed.source, listed.captions, listed.stale) == ("captions.csv", 3, 1)
    omissions = Omissions()
    cache = active_cache(Workspace(root).caches)
    assert (
        len(
            training_captions(
                Workspace(root), cache, None, None, lambda p: None, omissions=omissions
            )
        )
        == 2
    )
    assert omissions.counts == {"stale-caption": 1}
    assert extract(root, captions=root / "captions.csv").captions == 3 and not stale(root)


def test_restored_video_has_its_captions_again(root, clip, tmp_path):
    old = shutil.copy(root / "videos" / "v2.mp4", tmp_path / "old.bin")
    replace_video(root, "v2.mp4", clip("new.mp4"))
    extract(root)
    assert stale(root)
    replace_video(root, "v2.mp4", old)
    assert extract(root).captions == 3 and stored_texts(root) == BEFORE and not stale(root)


def test_captions_are_stale_after_removal_and_replacement(root, clip):
    vla.remove(["v2"], workspace=root)
    replace_video(root, "v2.mp4", clip("new.mp4"))
    assert extract(root).captions == 2 and stale(root) == ["a red door opens"]


def test_captions_follow_content_to_another_name(root, clip):
    """Recordings that are rotated: the newest is always called v2."""
    videos = root / "videos"
    (videos / "v2.mp4").rename(videos / "v2-old.mp4")
    shutil.copy(clip("new.mp4"), videos / "v2.mp4")
    assert extract(root).captions == 3 and stored_texts(root) == [
        ("v2-old.mp4", "a red door opens"),
        *BEFORE[1:],
    ]
    (videos / "v3.mp4").rename(videos / "t.mp4")
    (videos / "v4.mp4").rename(videos / "v3.mp4")
    (videos / "t.mp4").rename(videos / "v4.mp4")
    extract(root)
    assert stored_texts(root) == [
        ("v2-old.mp4", "a red door opens"), ("v3.mp4", "someone pours green tea"), ("v4.mp4", "a dog runs over the grass"),
    ]  # fmt: skip


def test_captions_survive_touched_copied_and_reencoded_workspaces(root):
    os.utime(root / "videos" / "v2.mp4", (5, 5))
    assert extract(root).captions == 3 and not stale(root)
    assert extract(root, overwrite=True).captions == 3 and not stale(root)
    shutil.copytree(root, root.parent / "backup")
    assert (
        extract(root.parent / "backup").captions == 3
        and stored_texts(root.parent / "backup") == BEFORE
    )
    shutil.copy(root / "videos" / "v2.mp4", root / "videos" / "twin.mp4")
    assert extract(root).captions == 3 and stored_texts(root) == BEFORE, "a copy takes nothing away"


# Names in tables


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["Fête à Zürich.mp4"], [unicodedata.normalize("NFD", "Fête à Zürich.mp4")]),
        (
            ["v\\é\\x.mp4", "C:\\Users\\me\\v\\é\\x.mp4"],
            [unicodedata.normalize("NFD", "v/é/x.mp4")],
        ),
        (["clips\\a.mp4", "C:\\Users\\me\\clips\\a.mp4"], ["clips/a.mp4"]),
        (["https://h.org/a%20b.mp4?x=1", "a b", "a b.mov"], ["a b.mp4"]),
    ],
)
def test_names_in_rows_match_files(tmp_path, clip, names, files):
    video = clip("made.bin", container="mp4")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, tmp_path / name)
    rows = [f"{name},caption {i}" for i, name in enumerate(names)]
    (tmp_path / "c.csv").write_text("\n".join(["video,caption", *rows]) + "\n", "utf-8")
    report = extract(tmp_path, tmp_path, captions=tmp_path / "c.csv")
    kept = store.load(Workspace(tmp_path))
    assert {a.video for a in kept} == set(files)
    assert len(kept) == len(names) - ("a b.mov" in names) and len(report.unknown_videos) == (
        "a b.mov" in names
    )


def test_names_with_folder_do_not_match_other_folders(tmp_path, clip):
    for i, name in enumerate(("v/2024/clip.mp4", "v/a/x.mp4", "v/b/x.mp4")):
        clip(name, frames=10 + i)
    (tmp_path / "c.csv").write_text(
        "video,caption\n2023/clip.mp4,no\n/nas/2023/clip.mp4,no\na/x.mp4,yes\nx.mp4,either\nv\\2024\\clip.mp4,yes\n"
    )
    report = extract(tmp_path, tmp_path / "v", captions=tmp_path / "c.csv")
    assert [(a.video, a.query) for a in store.load(Workspace(tmp_path))] == [
        ("v/a/x.mp4", "yes"),
        ("v/2024/clip.mp4", "yes"),
    ]
    assert report.omissions.to_json() == [
        {
            "reason": "no-such-video",
            "count": 2,
            "examples": ["2023/clip.mp4", "/nas/2023/clip.mp4"],
        },
        {"reason": "ambiguous-name", "count": 1, "examples": ["x.mp4: v/a/x.mp4 or v/b/x.mp4"]},
    ]


# Listing and taking back


def test_lists_and_removes_captions(root, monkeypatch, tmp_path_factory):
    (root / "videos" / "v2.txt").write_text("rain\n")
    outside = tmp_path_factory.mktemp("sets") / "qa.jsonl"
    outside.write_text(
        json.dumps(
            {
                "video": "v3",
                "caption": "what runs?",
                "split": "val",
                "question": {"answers": ["a dog"]},
            }
        )
        + "\n"
    )
    extract(root, captions=outside)
    by_source = {s.source: s for s in vla.list_captions(workspace=root)}
    assert [*by_source] == [str(outside), "captions.csv", "videos/v2.txt"]
    qa = by_source[str(outside)]
    assert (qa.videos, qa.captions, qa.questions, qa.splits, qa.is_beside, qa.is_missing) == (
        1, 0, 1, {"val": 1}, False, False,
    )  # fmt: skip
    assert by_source["videos/v2.txt"].is_beside and by_source["captions.csv"].to_json()[
        "splits"
    ] == {"": 3}
    outside.unlink()
    assert vla.list_captions(workspace=root)[0].is_missing
    entries = [(e.annotation.query, e.source) for e in vla.video_captions("v2", workspace=root)]
    assert entries == [("a red door opens", "captions.csv"), ("rain", "videos/v2.txt")]
    with pytest.raises(MissingError, match="there are no captions of 'v9'"):
        vla.video_captions("v9", workspace=root)
    with pytest.raises(MissingError, match=r"the workspace has no captions from 'typo\.csv'"):
        vla.remove_captions(["captions.csv", "typo.csv"], workspace=root)
    assert len(sources(root)) == 3, "nothing was forgotten"
    monkeypatch.chdir(root / "videos")
    assert vla.remove_captions(["v2.txt", "../captions.csv", str(outside)]) == {
        str(outside): 1, "captions.csv": 3, "videos/v2.txt": 1,
    }  # fmt: skip
    assert sources(root) == {} and (root / "captions.csv").is_file()


def test_accepts_video_names_of_tables_everywhere(root, monkeypatch):
    def list_names(*patterns):
        return [e.receipt.video_id for e in vla.list_videos(patterns, workspace=root)]

    assert (
        list_names("v3")
        == list_names("v3.mkv")
        == list_names("videos\\v3.mp4")
        == list_names("/elsewhere/videos/v3.mp4")
        == ["videos/v3.mp4"]
    )
    assert (
        list_names("*") == list_names("**/*.mp4") == list_names("videos") == list_names(str(root))
        and len(list_names("*")) == 3
    )
    assert list_names("*.mp4") == list_names() and list_names("v[34]*") == [
        "videos/v3.mp4",
        "videos/v4.mp4",
    ], "file names in any folder"
    with pytest.raises(MissingError, match=r"no extracted video matches \*\.mov, x/\*"):
        list_names("*.mov", "x/*")
    monkeypatch.chdir(root / "videos")
    assert list_names("*.mp4") == list_names() and list_names("v3.mp4") == ["videos/v3.mp4"]
    vla.index(workspace=root)
    opened_workspace = vla.open_workspace(root)
    hits = opened_workspace.search_like("v3", 0.5)
    assert hits and opened_workspace.search_like(str(root / "videos" / "v3.mp4"), 0.5) == hits
    with pytest.raises(MissingError, match="no features of 'v9': it was never extracted"):
        opened_workspace.search_like("v9", 0.5)
    limits = vla.VideoFilter(include=("nothing", "v3"), exclude=("*.mov",))
    assert [m.split(":")[0] for m in opened_workspace.filter_warnings(limits)] == [
        "'nothing' matches no indexed video", "'*.mov' matches no indexed video",
    ]  # fmt: skip
    assert {h.video_id for h in opened_workspace.search("a dog", filters=limits)} == {
        "videos/v3.mp4"
    }
    assert vla.remove(["v3"], workspace=root) == ["videos/v3.mp4"]
    assert opened_workspace.filter_warnings(vla.VideoFilter(include=("v3x",)))[0].hint == vla.Hint(
        "list_videos"
    )


def test_mistyped_workspace_does_not_search_parents(root):
    for act in (
        lambda w: vla.remove(["*"], workspace=w), lambda w: vla.list_videos(workspace=w), lambda w: vla.gc(workspace=w),
        lambda w: vla.remove_captions(["*"], workspace=w), lambda w: vla.info(workspace=w), lambda w: vla.verify(workspace=w),
    ):  # fmt: skip
        for name in ("typo", "videos", "videos/.vla"):
            with pytest.raises(MissingError, match=f"there is one in {root}"):
                act(root / name)
        with pytest.raises(UsageError, match="empty"):
            act("")
    assert len(vla.list_videos(workspace=root / ".vla")) == 3 and len(stored_texts(root)) == 3
