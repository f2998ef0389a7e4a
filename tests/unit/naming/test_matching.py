"""Names meet as people expect: against a table worked by hand, and against a plain loop over all videos."""

import os
import re
import sys
import unicodedata
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import MissingError, UsageError
from vla.naming.matching import NameMatcher
from vla.naming.paths import matches_pattern, parse_path

ROOT = Path("/home/me/ws")
TABLES = ROOT / "sets"
NFC, NFD = (lambda s: unicodedata.normalize("NFC", s)), (lambda s: unicodedata.normalize("NFD", s))


def meaning(name, ids, *folders):
    """None, an id, or a list of several."""
    result = NameMatcher(ids, ROOT).find(name, *(folders or (TABLES, ROOT)))
    return result if len(result) > 1 else result[0] if result else None


@pytest.mark.parametrize(
    ("name", "ids", "wanted"),
    [
        # Bare names and paths.
        ("clip.mp4", ["v/a/clip.mp4"], "v/a/clip.mp4"),
        ("a/clip.mp4", ["v/a/clip.mp4", "v/b/clip.mp4"], "v/a/clip.mp4"),
        ("clip.mp4", ["v/a/clip.mp4", "v/b/clip.mp4"], ["v/a/clip.mp4", "v/b/clip.mp4"]),
        ("./v//a/../a/clip.mp4", ["v/a/clip.mp4", "a/clip.mp4"], "v/a/clip.mp4"),
        ("a.mp4", ["a.mp4", "sets/a.mp4"], "sets/a.mp4"),
        ("../a.mp4", ["a.mp4", "sets/a.mp4"], "a.mp4"),
        ("ws/a.mp4", ["a.mp4"], "a.mp4"),
        ("videos/a.mp4", ["a.mp4"], "a.mp4"),
        ("..", ["a.mp4"], None),
        ("/", ["a.mp4"], None),
        ("", ["a.mp4"], None),
        # Folders that contradict.
        ("2023/clip.mp4", ["v/2024/clip.mp4"], None),
        ("2023/may/clip.mp4", ["2024/may/clip.mp4"], None),
        ("a/clip.mp4", ["b/clip.mp4"], None),
        ("cam1\\clip.mp4", ["cam2/clip.mp4"], None),
        ("/nas/2023/clip.mp4", ["v/2024/clip.mp4"], None),
        ("/nas/2023/clip.mp4", ["v/2024/clip.mp4", "w/2025/clip.mp4"], None),
        ("D:\\tapes\\tape 1\\x.avi", ["tape 2/x.avi"], None),
        ("https://h.org/day-1/x.mp4", ["day-2/x.mp4"], None),
        ("/data/a/x.mp4", ["b/x.mp4", "a/y.mp4"], None),
        ("2023/clip", ["2024/clip.mp4"], None),
        # Roots of other machines.
        ("/data/msrvtt/videos/video1.mp4", ["videos/video1.mp4"], "videos/video1.mp4"),
        ("/elsewhere/a.mp4", ["videos/a.mp4"], "videos/a.mp4"),
        ("/elsewhere/a.mp4", ["/elsewhere/a.mp4", "a.mp4"], "/elsewhere/a.mp4"),
        ("/home/me/ws/v/a.mp4", ["v/a.mp4", "w/v/a.mp4"], "v/a.mp4"),
        ("~/ws/v/a.mp4", ["v/a.mp4"], "v/a.mp4"),
        ("/q/a.mp4", ["x/a.mp4", "y/a.mp4"], ["x/a.mp4", "y/a.mp4"]),
        # Windows.
        ("clips\\a.mp4", ["clips/a.mp4"], "clips/a.mp4"),
        ("C:\\Users\\me\\clips\\a.mp4", ["clips/a.mp4"], "clips/a.mp4"),
        ("C:/Users/me/clips/a.mp4", ["clips/a.mp4"], "clips/a.mp4"),
        ("\\\\nas\\share\\clips\\a.mp4", ["clips/a.mp4"], "clips/a.mp4"),
        (".\\clips\\a.mp4", ["clips/a.mp4"], "clips/a.mp4"),
        ("a.mp4", ["clips\\a.mp4"], "clips\\a.mp4"),  # unpacked on Linux from an archive of Windows
        ("clips\\a.mp4", ["clips\\a.mp4", "clips/a.mp4"], "clips\\a.mp4"),
        ("a:b.mp4", ["v/a:b.mp4"], "v/a:b.mp4"),
        # Addresses.
        ("https://www.youtube.com/watch?v=-abc_1&t=3", ["v/-abc_1.mp4"], "v/-abc_1.mp4"),
        ("https://youtu.be/abc?si=x", ["abc.mkv"], "abc.mkv"),
        ("https://h.org/my%20films/a%C3%A9.mp4?token=a/b.mp4#t=1", ["v/aé.mp4"], "v/aé.mp4"),
        ("http://h.org/o/videos%2Fa.mp4?alt=media", ["videos/a.mp4", "o/a.mp4"], "videos/a.mp4"),
        ("file:///home/me/ws/v/a%20b.mp4", ["v/a b.mp4"], "v/a b.mp4"),
        ("file:///C:/Users/me/v/a.mp4", ["v/a.mp4"], "v/a.mp4"),
        ("s3://bucket/v/100%25.mp4", ["v/100%25.mp4"], "v/100%25.mp4"),
        ("100%25.mp4", ["100%.mp4"], None),
        ("a?.mp4", ["v/a?.mp4"], "v/a?.mp4"),
        # Unicode.
        (NFC("Fête à Zürich.mp4"), [NFD("v/Fête à Zürich.mp4")], NFD("v/Fête à Zürich.mp4")),
        (NFD("v/Fête à Zürich.mp4"), [NFC("v/Fête à Zürich.mp4")], NFC("v/Fête à Zürich.mp4")),
        (NFC("é/x"), [NFD("é/x.mp4")], NFD("é/x.mp4")),
        (NFC("é.mp4"), [NFC("é.mp4"), NFD("é.mp4")], NFC("é.mp4")),
        (NFD("é.mp4"), [NFC("é.mp4"), NFD("é.mp4")], NFD("é.mp4")),
        (NFD("각.mp4"), [NFC("각.mp4")], NFC("각.mp4")),
        ("https://h.org/e%CC%81.mp4", [NFC("é.mp4")], NFC("é.mp4")),
        ("caf\udce9.mp4", ["v/caf\udce9.mp4"], "v/caf\udce9.mp4"),
        ("ﬁlm.mp4", ["film.mp4"], None),  # a ligature is another character, not another form
        # Suffixes, last.
        ("a.avi", ["x/a.mp4"], "x/a.mp4"),
        ("a.MP4", ["x/a.mp4"], "x/a.mp4"),
        ("a", ["x/a.mp4"], "x/a.mp4"),
        ("a.mp4", ["a"], "a"),
        ("a.mp4", ["x/a.mp4", "y/a.mkv"], "x/a.mp4"),
        ("a", ["x/a.mp4", "y/a.mkv"], ["x/a.mp4", "y/a.mkv"]),
        ("2024/a.mp4", ["2023/a.mp4", "2024/a.mkv"], "2024/a.mkv"),
        (
            "RoripwjYFp8_60.0_210.0",
            ["v/RoripwjYFp8_60.0_210.0.mp4"],
            "v/RoripwjYFp8_60.0_210.0.mp4",
        ),
        ("RoripwjYFp8_60.0", ["RoripwjYFp8_60.mp4"], None),
        ("clip.1", ["clip.mp4"], None),
        (".mp4", ["a.mp4"], None),
        ("A.mp4", ["a.mp4"], None),
        ("~tmp.mp4", ["v/~tmp.mp4"], "v/~tmp.mp4"),
    ],
)
def test_names_of_videos(name, ids, wanted):
    assert meaning(name, ids) == wanted
    assert meaning(name, ids[::-1]) == (wanted[::-1] if isinstance(wanted, list) else wanted)


def test_contradicting_names_of_one_file_match_nothing():
    names = NameMatcher(["x.mp4", "clips/a.mp4", "b.mkv"], ROOT)
    for written, ids, unknown in (
        (["clips\\a.mp4", "C:\\Users\\me\\clips\\a.mp4"], 2, []),
        (["/m/1/x.mp4", "/m/2/x.mp4"], 0, ["/m/1/x.mp4", "/m/2/x.mp4"]),
        (["p/x.mp4", "q/x.mp4", "clips/a.mp4"], 1, ["p/x.mp4", "q/x.mp4"]),
        (["x.mp4", "q/x.mp4"], 2, []),
        (["b.mkv", "b.mp4", "b"], 2, ["b.mp4"]),
        (["b.avi", "b.mp4"], 0, ["b.avi", "b.mp4"]),
        (["x.mp4", "x.mp4", "x"], 2, []),
    ):
        result = names.find_all(written, TABLES, ROOT)
        assert (len(result.ids), result.unknown, result.ambiguous) == (ids, unknown, {}), written


def test_resolve_requires_one_match():
    names = NameMatcher(["v/a.mp4", "w/a.mp4"], ROOT)
    assert names.resolve("w/a.mp4", ROOT) == "w/a.mp4"
    with pytest.raises(
        UsageError, match=r"'a\.mp4' matches several videos, e\.g\. v/a\.mp4, w/a\.mp4: name one"
    ):
        names.resolve("a.mp4", ROOT)
    with pytest.raises(MissingError, match="no features of 'b': it was never extracted"):
        names.resolve("b", ROOT)


FOLDERS, FILES = (
    ["a", "b", "cam1", "cam2", NFC("é")],
    ["x.mp4", "x.mkv", "x", "y.mp4", NFC("ü.mp4")],
)
BELOW = st.builds(
    lambda folders, name: "/".join([*folders, name]),
    st.lists(st.sampled_from(FOLDERS), max_size=3),
    st.sampled_from(FILES),
)


def stem_of(name):
    return re.sub(r"\.(mp4|mkv)$", "", name)


def loop(name, ids, folder):
    """`NameMatcher.find` as one would write it down, a video at a time."""
    is_rooted = name.startswith("/")
    for start in () if is_rooted else (folder, ROOT):
        path = os.path.normpath(start / name)
        if same := [v for v in ids if os.path.normpath(ROOT / v) == path]:
            return same
    if same := [v for v in ids if os.path.normpath(ROOT / v) == os.path.normpath(name)]:
        return same
    parts = name.strip("/").split("/")
    every = {v: [*ROOT.parts[1:], *v.split("/")] for v in ids}
    others = {part for v in ids for part in v.split("/")[:-1]}

    def common(path, last):
        if last(path[-1]) != last(parts[-1]):
            return 0
        count = 1
        while count < min(len(path), len(parts)) and path[-1 - count] == parts[-1 - count]:
            count += 1
        return count

    def digits(text):
        return re.sub(r"\d+", "0", text)

    for last in (str, stem_of):
        ends = {v: common(path, last) for v, path in every.items()}
        best = max(ends.values(), default=0)
        if not best:
            continue
        near = [v for v in ids if ends[v] == best]
        if best < len(parts):
            if not is_rooted:
                near = [v for v in near if len(v.split("/")) <= best]
            if len(near) > 1:
                before = parts[-1 - best]
                alike = {digits(every[v][-1 - best]) for v in ids if ends[v] == best}
                near = [] if before in others or alike == {digits(before)} else near
            elif near and not (best == len(every[near[0]]) or 1 < best >= len(near[0].split("/"))):
                before, own = parts[-1 - best], every[near[0]][-1 - best]
                near = [] if before in others or digits(before) == digits(own) else near
        if near:
            return near
    return []


@given(
    st.lists(BELOW, max_size=8, unique=True),
    BELOW,
    st.sampled_from(["", "/", "/home/me/ws/", "/data/"]),
    st.booleans(),
)
@settings(max_examples=600, deadline=None)
def test_find_matches_naive_loop(ids, name, before, is_windows):
    name, ids = before + name, sorted(ids)
    expected = loop(name, ids, TABLES)
    written = NFD(name.replace("/", "\\") if is_windows else name)
    result = NameMatcher([NFD(v) for v in ids[::2]] + ids[1::2], ROOT).find(written, TABLES, ROOT)
    assert len(result) == min(3, len(expected))
    assert {NFC(v) for v in result} <= set(expected)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.mp4", {"a.mp4"}),
        ("**/*.mp4", {"a.mp4", "2024/may/b.mp4", "2024/c.mp4", "/other/d.mp4", NFD("é/f.mp4")}),
        ("2024", {"2024/may/b.mp4", "2024/c.mp4"}),
        ("2024/", {"2024/may/b.mp4", "2024/c.mp4"}),
        ("2024\\may", {"2024/may/b.mp4"}),
        (
            "2024/*",
            {"2024/may/b.mp4", "2024/c.mp4"},
        ),  # a pattern that fits a folder stands for all in it
        ("2024/*.mp4", {"2024/c.mp4"}),
        ("20??/**/b.*", {"2024/may/b.mp4"}),
        ("/home/me/ws/2024/*.mp4", {"2024/c.mp4"}),
        ("/home/me/ws/2024", {"2024/may/b.mp4", "2024/c.mp4"}),
        ("/other", {"/other/d.mp4"}),
        ("/other/*", {"/other/d.mp4"}),
        ("b.mp4", {"2024/may/b.mp4"}),
        ("b", {"2024/may/b.mp4"}),
        ("x [1]/e.mkv", {"x [1]/e.mkv"}),
        ("x [1]", {"x [1]/e.mkv"}),
        ("may", {"2024/may/b.mp4"}),  # from the current folder, 2024
        ("*/b.mp4", {"2024/may/b.mp4"}),
        ("./*.mp4", {"2024/c.mp4"}),
        ("../a.mp4", {"a.mp4"}),
        (".", {"2024/may/b.mp4", "2024/c.mp4"}),
        (NFC("é"), {NFD("é/f.mp4")}),
        (NFC("é/*"), {NFD("é/f.mp4")}),
        ("2023/b.mp4", set()),
        ("typo", set()),
        ("2024/ma", set()),
        ("*.MP4", set()),
        ("**/g.mp4", set()),
    ],
)
def test_patterns_folders_and_bare_names(pattern, wanted):
    ids = ["a.mp4", "2024/may/b.mp4", "2024/c.mp4", "/other/d.mp4", "x [1]/e.mkv", NFD("é/f.mp4")]
    assert set(NameMatcher(ids, ROOT).select(pattern, ROOT, ROOT / "2024")) == wanted


def test_select_rejects_ambiguous_names():
    with pytest.raises(UsageError, match="matches several videos"):
        NameMatcher(["v/a.mp4", "w/a.mp4"], ROOT).select("a.mp4", ROOT)


def test_folders_behind_links(tmp_path):
    (tmp_path / "real" / "v").mkdir(parents=True)
    (tmp_path / "real" / "v" / "a.mp4").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for root, given_ in (("real", "link"), ("link", "real")):
        names = NameMatcher(["v/a.mp4", "b.mp4"], tmp_path / root)
        assert names.select(str(tmp_path / given_ / "v"), tmp_path) == ["v/a.mp4"]


PARTS = st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4)
PATTERNS = st.lists(st.sampled_from(["a", "*", "**", "?", "a*", "[ab]"]), min_size=1, max_size=4)


def test_select_in_any_folder():
    names = NameMatcher(["a.mp4", "v/a.mp4", "v/b.mp4"], ROOT)
    assert names.select("b*", ROOT) == [] and names.select("b*", ROOT, any_folder=True) == [
        "v/b.mp4"
    ]
    assert (
        names.select("a*", ROOT, any_folder=True) == ["a.mp4"]
        and names.select("x/b*", ROOT, any_folder=True) == []
    )


@given(PARTS, PATTERNS)
@settings(max_examples=500, deadline=None)
def test_path_matches_equals_naive_recursion(parts, pattern):
    def goes(parts, pattern):
        if not pattern:
            return True  # what is below a folder
        if pattern[0] == "**":
            return goes(parts, pattern[1:]) or bool(parts and goes(parts[1:], pattern))
        return bool(parts) and fnmatchcase(parts[0], pattern[0]) and goes(parts[1:], pattern[1:])

    assert matches_pattern("/".join(parts), "/".join(pattern)) == goes(parts, pattern)


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        ("d{}/clip.mp4", "/x/d{}/clip.mp4"),  # all alike at their end
        ("d{}/clip.mp4", "q{}/clip.mp4"),
        ("d{}/clip.mp4", "/q/e/{}/clip.mp4"),
        ("v/{}.mp4", "{}"),
        ("a/b/c/d{}/x/clip.mp4", "z{}/x/clip.mp4"),
    ],
)
def test_matching_time_is_linear(ids, names):
    def calls(count):
        calls = 0

        def count_call(frame, event, argument):
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(count_call)
        try:
            NameMatcher([ids.format(i) for i in range(count)], ROOT).find_all(
                [names.format(i) for i in range(count)], TABLES, ROOT
            )
        finally:
            sys.setprofile(None)
        return calls

    # Five times as much takes five times as many calls, twenty-five if every name were compared with every video.
    assert calls(2_000) < 7 * calls(400)


@given(st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_parsed_and_looked_up(text):
    parts = parse_path(text).parts
    assert all(part not in ("", ".", "..") and "/" not in part for part in parts)
    names = NameMatcher(["v/a.mp4", text or "x"], ROOT)
    assert isinstance(names.find(text, TABLES, ROOT), list)
    if text:
        assert names.find(text, ROOT) and names.select(text, ROOT)
