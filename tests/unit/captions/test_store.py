"""Captions of a workspace: which video a name means, never by guessing, and what is kept."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vla
from support.refusals import refused
from vla.cache.store import active_cache
from vla.captions import store
from vla.captions.matching import match
from vla.datasets.base import Annotation
from vla.errors import CacheError
from vla.omissions import Omissions
from vla.storage.workspace import Workspace
from vla.workflows.caption_import import training_captions


@pytest.fixture
def place(tmp_path):
    return Workspace.open_or_create(tmp_path)


def matched(workspace, name, ids, folder=None):
    """The id that `name` is matched with, or None."""
    result = match([Annotation("1", "a dog", name)], ids, workspace, folder or workspace.root)
    assert len(result.annotations) + len(result.unknown) == 1
    return result.annotations[0].video if result.annotations else None


@pytest.mark.parametrize(
    ("name", "ids", "wanted"),
    [
        ("a.mp4", ["a.mp4", "b.mp4"], "a.mp4"),
        ("a.mp4", ["videos/a.mp4"], "videos/a.mp4"),  # by file name
        ("a", ["videos/a.mp4"], "videos/a.mp4"),  # by stem
        ("videos/a.mp4", ["videos/a.mp4", "other/a.mp4"], "videos/a.mp4"),
        ("./videos/../videos/a.mp4", ["videos/a.mp4"], "videos/a.mp4"),
        ("a.avi", ["a.mp4"], "a.mp4"),  # the suffix is ignored, last
        ("b", ["a.mp4"], None),
        (
            "a.mp4",
            ["a"],
            "a",
        ),  # imported features are called like their file, which has no video's suffix
        ("clips/a.MP4", ["clips/a"], "clips/a"),
        ("clips/a.MP4", ["x/a"], None),  # another folder is another file
        ("a.mp4", ["a", "x/a.mp4"], "x/a.mp4"),
        ("clip.1", ["clip"], None),
        ("clip.1.mp4", ["clip.1"], "clip.1"),
        ("a", ["a", "x/a.mp4"], "a"),
        ("a", ["x/a", "x/a.mp4"], "x/a"),  # a file name goes before a stem
        ("clip.1", ["x/clip.1.mp4", "x/clip.2.mp4"], "x/clip.1.mp4"),
        ("clip", ["x/clip.1.mp4"], None),
        ("A.mp4", ["a.mp4"], None),
        ("/elsewhere/a.mp4", ["/elsewhere/a.mp4", "a.mp4"], "/elsewhere/a.mp4"),
        ("/elsewhere/a.mp4", ["videos/a.mp4"], "videos/a.mp4"),  # a dataset's own paths
        ("ünï.mp4", ["v/ünï.mp4"], "v/ünï.mp4"),
        ("mp4", ["a.mp4"], None),
        ("..", ["a.mp4"], None),
        ("/", ["a.mp4"], None),
    ],
)
def test_match_by_name(place, name, ids, wanted):
    assert matched(place, name, ids) == wanted


def test_the_folder_of_the_file_goes_first(place):
    ids = ["a.mp4", "sets/a.mp4"]
    assert matched(place, "a.mp4", ids, place.root / "sets") == "sets/a.mp4"
    assert matched(place, "a.mp4", ids, place.root) == "a.mp4"
    assert (
        matched(place, "a.mp4", ids, place.root / "other") == "a.mp4"
    )  # a path from the workspace
    assert matched(place, "../a.mp4", ids, place.root / "sets") == "a.mp4"


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("a.mp4", ["x/a.mp4", "y/a.mp4"]),
        ("a", ["x/a.mp4", "y/a.mkv"]),
        ("y/a", ["x/y/a.mp4", "z/y/a.mp4"]),
    ],
)
def test_ambiguous_names_are_counted(place, name, ids):
    rows = [
        Annotation("1", "a dog", name),
        Annotation("2", "a cat", "b.mp4"),
        Annotation("3", "a cow", name),
    ]
    result = match(rows, [*ids, "b.mp4"], place, place.root)
    assert (
        [a.query_id for a in result.annotations] == ["2"]
        and result.ambiguous == {name: ids}
        and not result.unknown
    )
    omissions = Omissions()
    result.count(omissions)
    assert omissions.to_json() == [
        {"reason": "ambiguous-name", "count": 1, "examples": [f"{name}: {ids[0]} or {ids[1]}"]}
    ]


def test_names_are_relative_to_the_folder_of_each_file(place):
    """Two files that are given together may name different videos alike."""
    rows = [
        Annotation(str(i), "x", "a.mp4", source=str(place.root / f / "c.csv"))
        for i, f in enumerate("pqr")
    ]
    result = match(rows, ["p/a.mp4", "q/a.mp4", "a.mp4"], place)
    assert [a.video for a in result.annotations] == [
        "p/a.mp4",
        "q/a.mp4",
        "a.mp4",
    ] and result.names == ["a.mp4"] * 3


def test_match_changes_only_the_video(place):
    given_ = Annotation("q7", "a dog", "a", ((0.5, 2.0),), "val", "f.csv")
    result = match([given_], ["v/a.mp4"], place, place.root)
    assert result.annotations == [
        Annotation("q7", "a dog", "v/a.mp4", ((0.5, 2.0),), "val", "f.csv")
    ]


def test_unknown_names_are_listed_once_in_order(place):
    rows = [
        Annotation(str(i), "x", name) for i, name in enumerate(["z", "a", "z", "k.mp4", "b", "a"])
    ]
    result = match(rows, ["k.mp4"], place, place.root)
    assert result.unknown == ["z", "a", "b"] and [a.query_id for a in result.annotations] == ["3"]


WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
).filter(str.strip)
ANNOTATIONS = st.lists(
    st.builds(
        Annotation,
        WORDS,
        WORDS,
        st.sampled_from(["a.mp4", "b/c.mkv", "caf\udce9.mp4"]),
        st.lists(st.tuples(st.floats(0, 10), st.floats(10.5, 99)), max_size=3).map(tuple),
        st.sampled_from(["", "val"]),
        st.sampled_from(["one.csv", "two.srt"]),
    ),
    max_size=6,
)


@given(ANNOTATIONS)
@settings(deadline=None, max_examples=30)
def test_captions_round_trip(tmp_path_factory, annotations):
    workspace = Workspace.open_or_create(tmp_path_factory.mktemp("w"))
    assert store.load(workspace) == []
    assert store.add(workspace, annotations) == len(annotations)
    assert store.load(workspace) == annotations
    said = {(a.video, a.query, a.spans) for a in annotations}
    assert {(a.video, a.query, a.spans) for a in store.load_unique(workspace)} == said and len(
        store.load_unique(workspace)
    ) == len(said)


def test_adding_a_source_again_replaces_its_captions(place):
    def rows(source, *texts):
        return [Annotation(str(i), t, "a.mp4", source=source) for i, t in enumerate(texts)]

    assert store.add(place, rows("one", "a", "b")) == 2
    assert store.add(place, rows("two", "c")) == 3
    assert store.add(place, rows("one", "d")) == 2
    assert [(a.source, a.query) for a in store.load(place)] == [("two", "c"), ("one", "d")]
    assert store.add(place, []) == 2


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "3", '{"query": "x"}', '{"query_id": 1, "query": "x", "video": "v"}', "\xe9"],
)
def test_rejects_damaged_captions(place, text):
    good = (
        place.captions.read_bytes()
        if store.add(place, [Annotation("1", "a dog", "a.mp4")])
        else b""
    )
    place.captions.write_bytes(good + text.encode("latin-1"))
    with refused(CacheError, "repair_captions", r"line 2 of .*captions.jsonl is damaged "):
        store.load(place)
    said = []
    assert [a.query for a in store.load(place, said.append)] == ["a dog"] and len(said) == 1


@pytest.mark.parametrize("flag", ["beside", "stale"])
def test_one_flag_that_is_no_truth_value_damages_the_row(flag, place):
    store.add(place, [Annotation("1", "a dog", "a.mp4")])
    row = {"query_id": "2", "query": "rain", "video": "b.mp4", "digest": "", flag: "no"}
    place.captions.write_bytes(place.captions.read_bytes() + json.dumps(row).encode())
    with refused(CacheError, "repair_captions", "line 2 of .* is damaged .not a caption entry"):
        store.load(place)


def test_detects_every_flipped_bit_of_a_caption(place):
    store.add(
        place, [Annotation("1", "a dog", "a.mp4", ((0.5, 2.0),)), Annotation("2", "rain", "b.mp4")]
    )
    known = store.load(place)
    first, second = store.lines(place)
    for bit in range(8 * len(first)):
        line = bytearray(first)
        line[bit // 8] ^= 1 << bit % 8
        try:
            assert store.parse_line(bytes(line), "x", place)[0].annotation == known[0], bit
        except CacheError:
            pass
    # Without the newline between them both are lost, and said to be.
    place.captions.write_bytes(first[:-1] + b"\x0b" + second)
    said = []
    assert store.load(place, said.append) == [] and said


def test_reads_older_captions_and_detects_damaged_keys(place):
    line = json.dumps(Annotation("1", "a dog", "a.mp4", split="train").to_json()) + "\n"
    place.captions.parent.mkdir(exist_ok=True)
    place.captions.write_text(line)
    assert [a.split for a in store.load(place)] == ["train"]
    place.captions.write_text(line.replace('"split"', '"spliu"'))
    with pytest.raises(CacheError, match="it has the key 'spliu'"):
        store.load(place)


def test_extraction_matches_and_caches(toy_workspace):
    """From the CSV to cached texts; sidecars beside the videos count, too."""
    root: Path = toy_workspace.root
    assert [(a.video, a.query, a.spans) for a in store.load(toy_workspace)] == [
        ("videos/v2.mp4", "a red door opens", ()),
        ("videos/v3.mp4", "a dog runs over the grass", ((0.5, 2.0),)),
        ("videos/v4.mp4", "someone pours green tea", ((1.0, 3.0),)),
    ]
    assert active_cache(toy_workspace.caches).missing_texts(["a red door opens", "new"]) == ["new"]
    (root / "videos" / "v4.srt").write_text("1\n00:00:00,500 --> 00:00:01,500\nthe kettle sings\n")
    (root / "more.csv").write_text("video,caption\nnowhere.mp4,nothing\nv2,the door again\n")
    report = vla.extract([root / "videos"], captions=root / "more.csv", workspace=root, workers=1)
    assert (report.captions, report.texts, report.unknown_videos) == (5, 2, ["nowhere.mp4"])
    result = {(a.video, a.query): a.spans for a in store.load(toy_workspace)}
    assert result["videos/v4.mp4", "the kettle sings"] == ((0.5, 1.5),)
    assert ("videos/v2.mp4", "the door again") in result


def test_duplicate_captions_are_trained_on_once(toy_workspace):

    root = toy_workspace.root
    (root / "again.csv").write_text(
        "video,caption,split\nvideos/v2.mp4,a red door opens,val\nvideos/v2.mp4,another,\n"
    )
    vla.extract([root / "videos"], captions=root / "again.csv", workspace=root, workers=1)
    cache = active_cache(toy_workspace.caches)
    result = training_captions(toy_workspace, cache, None, None, lambda p: None)
    assert [(a.query, a.split) for a in result if a.video.endswith("v2.mp4")] == [
        ("a red door opens", "val"),
        ("another", ""),
    ]
    assert len(store.load(toy_workspace)) == 5, "the workspace keeps what each file said"
    assert len(store.load_unique(toy_workspace)) == 4
