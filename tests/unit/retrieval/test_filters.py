"""A filter keeps what fits and changes no score of it; what no video could be is refused."""

import dataclasses
import math

import pytest

from unit.retrieval.test_searcher import compared, filled, searcher
from vla.cache.receipts import Receipt
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.errors import UsageError
from vla.indexes import registry as indexes
from vla.retrieval.filters import MetadataFilter, VideoFilter, check_columns, metadata_of
from vla.retrieval.hits import Hit, Hits

LENGTHS = [9, 40, 1, 25, 120, 60]
DAY = 86_400


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("2024/may/a.mp4", "2024", True),
        ("2024/may/a.mp4", "2024/", True),
        ("2024/may/a.mp4", "./2024/may", True),
        ("2024/may/a.mp4", "2024/may/a.mp4", True),
        ("2024/may/a.mp4", "*.mp4", False),  # `*` stays within a folder
        ("2024/may/a.mp4", "**/*.mp4", True),
        ("2024/may/a.mp4", "2024/**", True),
        ("2024/may/a.mp4", "2024\\may", True),
        ("2024/may/a.mp4", "20??", True),
        ("2024/may/a.mp4", "*/may", True),
        ("2024/may/a.mp4", "may", False),
        ("2024/may/a.mp4", "2024/ma", False),
        ("2024/may/a.mp4", "*.MP4", False),
        ("2024/may/a.mp4", "2024/may/a", False),
        ("a [1].mp4", "a [1].mp4", True),
        ("[x]/a.mp4", "[x]", True),
        ("x/a.mp4", "[x]", True),
    ],
)
def test_patterns_are_of_folders_files_and_names(name, pattern, fits):
    assert VideoFilter(include=("nothing", pattern)).allow(name, None) is fits
    assert VideoFilter(exclude=("nothing", pattern)).allow(name, None) is not fits


def test_length_and_date_are_those_of_the_receipt():
    receipt = Receipt("a", "ok", "", 1, 10 * DAY * 10**9, "", duration_seconds=30.0)
    for limits, allowed in (
        (VideoFilter(min_duration=30), True), (VideoFilter(min_duration=30.1), False),
        (VideoFilter(max_duration=30), True), (VideoFilter(max_duration=29.9), False),
        (VideoFilter(modified_after=10 * DAY), True), (VideoFilter(modified_after=10 * DAY + 1), False),
        (VideoFilter(modified_before=10 * DAY + 1), True), (VideoFilter(modified_before=10 * DAY), False),
        (VideoFilter(include=("b",), max_duration=60), False),
    ):  # fmt: skip
        assert limits.allow("a", receipt) is allowed, limits
        assert limits.allow("a", None) is False, "what left the cache has neither"
    assert VideoFilter().allow("a", None) and VideoFilter().is_none and not VideoFilter(exclude=("b",)).is_none


@pytest.mark.parametrize(
    "given",
    [{"include": ("",)}, {"exclude": ("/",)}, {"min_duration": 2, "max_duration": 1}, {"max_duration": -1},
     {"min_duration": math.nan}, {"modified_after": 5, "modified_before": 5}, {"modified_after": math.nan}],
)  # fmt: skip
def test_what_no_video_could_be_is_refused(given):
    with pytest.raises(UsageError):
        VideoFilter(**given)


@pytest.mark.parametrize("backend", indexes.names())
@pytest.mark.parametrize("is_compared", [False, True])
def test_a_filter_changes_no_score_of_what_it_keeps(tmp_path, backend, is_compared):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path, backend)
    find = compared(find) if is_compared else find
    for query in ("a red dog", "rain on a roof"):
        every = find.search(query, 500, 50)
        for limits in (
            VideoFilter(include=("v/1.mp4", "*/4.*")), VideoFilter(exclude=("v/4.mp4",)), VideoFilter(min_duration=15),
            VideoFilter(max_duration=12.5, exclude=("v/0.mp4",)), VideoFilter(include=("elsewhere",)), VideoFilter(modified_after=0),
        ):  # fmt: skip
            kept = [h for h in every if limits.allow(h.video_id, find.cache.receipts[h.video_id])]
            for k in (1, 3, 500):
                found = find.search(query, k, 50, limits=limits)
                assert [dataclasses.replace(h, rank=0) for h in found] == [
                    dataclasses.replace(h, rank=0) for h in kept[:k]
                ]
                assert [h.rank for h in found] == list(range(1, len(found) + 1))


def test_far_fewer_rows_than_were_asked_for_are_enough(tmp_path, monkeypatch):
    """What fits may stand behind thousands of rows that do not."""
    monkeypatch.setattr("vla.retrieval.ranking.FIRST_ROWS", 5)
    monkeypatch.setattr("vla.retrieval.ranking.ROWS_PER_HIT", 1)
    find = compared(searcher(filled(tmp_path / "c", LENGTHS), tmp_path))
    for name in find.index.videos:
        every = [h for h in find.search("a red dog", 500, 50) if h.video_id == name]
        found = find.search("a red dog", 2, 50, limits=VideoFilter(include=(name,)))
        assert [(h.score, h.start) for h in found] == [(h.score, h.start) for h in every[:2]]


def test_hits_are_a_table():
    hits = Hits(
        [Hit(1, 0.5, "a", "/a", 0.0, 1.0, 0.5, "dog", copies=("b",)), Hit(2, 0.25, "c", "/c", 1.0, 2.0, 1.5, "dog")]
    )
    table = hits.to_pandas()
    assert list(table.columns) == [f.name for f in dataclasses.fields(Hit)]
    assert [Hit(**row) for row in table.astype(object).where(table.notna(), None).to_dict("records")] == hits
    assert list(Hits().to_pandas().columns) == list(table.columns) and len(Hits().to_pandas()) == 0


ROWS = [
    Annotation("1", "a dog", "v/1.mp4", split="train", metadata=(("Camera", "front"), ("year", "2019"))),
    Annotation("2", "a cat", "v/1.mp4", metadata=(("Camera", "rear"), ("year", "2021"), ("day", "2021-03-05"))),
    Annotation(
        "3",
        "a cow",
        "v/4.mp4",
        category="animal",
        metadata=(("Camera", "Front"), ("year", "900"), ("tag", "x"), ("tag", "y")),
    ),
]


@pytest.mark.parametrize(
    ("conditions", "videos"),
    [
        (("camera=front",), {"v/1.mp4", "v/4.mp4"}),
        (("CAMERA = FRONT",), {"v/1.mp4", "v/4.mp4"}),
        (("camera=re*",), {"v/1.mp4"}),
        (("camera!=front",), {"v/1.mp4"}),
        (("camera=front", "year>2020"), set()),  # of one row, not of two
        (("camera=rear", "year>2020"), {"v/1.mp4"}),
        (("year<2000",), {"v/4.mp4"}),  # as numbers: as texts 900 would be greater
        (("year>=2019", "year<=2019"), {"v/1.mp4"}),
        (("day>=2021-03-01", "day<2021-04"), {"v/1.mp4"}),  # as texts
        (("tag=x", "tag=y"), {"v/4.mp4"}),
        (("tag!=x",), {"v/1.mp4"}),  # and what lacks the column
        (("split=train",), {"v/1.mp4"}),
        (("category=animal",), {"v/4.mp4"}),
        (("caption=*cow*",), {"v/4.mp4"}),
        (("day=",), set()),
    ],
)
def test_columns_of_captions_are_asked(conditions, videos):
    told, where = metadata_of(ROWS), tuple(map(MetadataFilter.of, conditions))
    check_columns(where, told)
    found = {
        f"v/{n}.mp4" for n in range(6) if VideoFilter(where=where).allow(f"v/{n}.mp4", None, told.get(f"v/{n}.mp4", ()))
    }
    assert found == videos


def test_columns_limit_a_search_and_change_no_score(tmp_path):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path)
    find.workspace.captions.parent.mkdir(exist_ok=True, parents=True)
    caption_store.add(find.workspace, ROWS)
    every = find.search("a red dog", 500, 50)
    found = find.search(
        "a red dog",
        500,
        50,
        limits=VideoFilter(where=(MetadataFilter.of("camera=front"), MetadataFilter.of("year<2000"))),
    )
    assert found and [dataclasses.replace(h, rank=0) for h in found] == [
        dataclasses.replace(h, rank=0) for h in every if h.video_id == "v/4.mp4"
    ]
    with pytest.raises(
        UsageError, match="no captions of this workspace have a column 'colour'; they have: camera, caption, "
    ):
        find.search("a red dog", limits=VideoFilter(where=(MetadataFilter.of("colour=red"),)))


def test_patterns_count_from_the_workspace_and_from_here(tmp_path, monkeypatch):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path)
    root = find.workspace.root
    (root / "v").mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(root / "v")
    one = {"v/1.mp4"}
    for pattern, videos in (
        ("v/1.mp4", one), ("1.mp4", one), ("1", one), ("./1.mp4", one), (str(root / "v" / "1.mp4"), one), ("v\\1.mp4", one),
        ("[0-2].mp4", {"v/0.mp4", "v/1.mp4", "v/2.mp4"}), (f"{root}/*/1.mp4", one), ("*/1.mp4", one), ("x/1.mp4", set()),
        (".", set(find.index.videos)), (str(root), set(find.index.videos)), ("v", set(find.index.videos)),
    ):  # fmt: skip
        for limits, wanted in (
            (VideoFilter(include=(pattern,)), videos),
            (VideoFilter(exclude=(pattern,)), set(find.index.videos) - videos),
        ):
            allowed = find.allowed(limits)
            assert {v for v, fits in zip(find.index.videos, allowed, strict=True) if fits} == wanted, pattern


@pytest.mark.parametrize("text", ["", "camera", "=front", "  = x", "<3"])
def test_what_is_no_condition_is_refused(text):
    with pytest.raises(UsageError, match="is no condition: write COLUMN=VALUE"):
        MetadataFilter.of(text)
