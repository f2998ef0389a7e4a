"""Filters select videos without changing their scores; contradictory filters are refused."""

import dataclasses
import math

import pytest

from unit.retrieval.test_searcher import filled, searcher, with_calibration
from vla.cache.receipts import Receipt
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.errors import UsageError
from vla.indexes import registry as indexes
from vla.retrieval.filters import MetadataFilter, VideoFilter, check_columns, metadata_of
from vla.retrieval.hits import Hit, Hits
from vla.retrieval.scorers import RankingConfig

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
def test_patterns_of_folders_files_and_names(name, pattern, fits):
    assert VideoFilter(include=("nothing", pattern)).accepts(name, None) is fits
    assert VideoFilter(exclude=("nothing", pattern)).accepts(name, None) is not fits


def test_duration_and_date_come_from_the_receipt():
    receipt = Receipt("a", "ok", "", 1, 10 * DAY * 10**9, "", duration_seconds=30.0)
    for filters, mask in (
        (VideoFilter(min_duration=30), True), (VideoFilter(min_duration=30.1), False),
        (VideoFilter(max_duration=30), True), (VideoFilter(max_duration=29.9), False),
        (VideoFilter(modified_after=10 * DAY), True), (VideoFilter(modified_after=10 * DAY + 1), False),
        (VideoFilter(modified_before=10 * DAY + 1), True), (VideoFilter(modified_before=10 * DAY), False),
        (VideoFilter(include=("b",), max_duration=60), False),
    ):  # fmt: skip
        assert filters.accepts("a", receipt) is mask, filters
        assert filters.accepts("a", None) is False, "videos without a receipt have neither"
    assert (
        VideoFilter().accepts("a", None)
        and VideoFilter().is_empty
        and not VideoFilter(exclude=("b",)).is_empty
    )


@pytest.mark.parametrize(
    "options",
    [{"include": ("",)}, {"exclude": ("/",)}, {"min_duration": 2, "max_duration": 1}, {"max_duration": -1},
     {"min_duration": math.nan}, {"modified_after": 5, "modified_before": 5}, {"modified_after": math.nan}],
)  # fmt: skip
def test_rejects_contradictory_filters(options):
    with pytest.raises(UsageError):
        VideoFilter(**options)


@pytest.mark.parametrize("backend", indexes.names())
@pytest.mark.parametrize("has_calibration", [False, True])
def test_filters_do_not_change_scores(tmp_path, backend, has_calibration):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path, backend)
    find = with_calibration(find) if has_calibration else find
    for query in ("a red dog", "rain on a roof"):
        all_hits = find.search(query, 500, 50)
        for filters in (
            VideoFilter(include=("v/1.mp4", "*/4.*")), VideoFilter(exclude=("v/4.mp4",)), VideoFilter(min_duration=15),
            VideoFilter(max_duration=12.5, exclude=("v/0.mp4",)), VideoFilter(include=("elsewhere",)), VideoFilter(modified_after=0),
        ):  # fmt: skip
            expected = [
                h for h in all_hits if filters.accepts(h.video_id, find.cache.receipts[h.video_id])
            ]
            for k in (1, 3, 500):
                hits = find.search(query, k, 50, filters=filters)
                assert [dataclasses.replace(h, rank=0) for h in hits] == [
                    dataclasses.replace(h, rank=0) for h in expected[:k]
                ]
                assert [h.rank for h in hits] == list(range(1, len(hits) + 1))


def test_matching_rows_behind_thousands_of_others_are_found(tmp_path):
    """Few of the best rows may pass a filter."""
    find = with_calibration(searcher(filled(tmp_path / "c", LENGTHS), tmp_path))
    find = dataclasses.replace(find, config=RankingConfig(min_rows=5, rows_per_hit=1))
    for name in find.index.videos:
        all_hits = [h for h in find.search("a red dog", 500, 50) if h.video_id == name]
        hits = find.search("a red dog", 2, 50, filters=VideoFilter(include=(name,)))
        assert [(h.score, h.start) for h in hits] == [(h.score, h.start) for h in all_hits[:2]]


def test_hits_as_a_data_frame():
    hits = Hits(
        [
            Hit(1, 0.5, "a", "/a", 0.0, 1.0, 0.5, "dog", duplicates=("b",)),
            Hit(2, 0.25, "c", "/c", 1.0, 2.0, 1.5, "dog"),
        ]
    )
    table = hits.to_pandas()
    assert list(table.columns) == [f.name for f in dataclasses.fields(Hit)]
    assert [
        Hit(**row) for row in table.astype(object).where(table.notna(), None).to_dict("records")
    ] == hits
    assert list(Hits().to_pandas().columns) == list(table.columns) and len(Hits().to_pandas()) == 0


ROWS = [
    Annotation(
        "1", "a dog", "v/1.mp4", split="train", metadata=(("Camera", "front"), ("year", "2019"))
    ),
    Annotation(
        "2",
        "a cat",
        "v/1.mp4",
        metadata=(("Camera", "rear"), ("year", "2021"), ("day", "2021-03-05")),
    ),
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
def test_metadata_conditions(conditions, videos):
    metadata, where = metadata_of(ROWS), tuple(map(MetadataFilter.of, conditions))
    check_columns(where, metadata)
    hits = {
        f"v/{n}.mp4"
        for n in range(6)
        if VideoFilter(where=where).accepts(f"v/{n}.mp4", None, metadata.get(f"v/{n}.mp4", ()))
    }
    assert hits == videos


def test_metadata_filters_do_not_change_scores(tmp_path):
    find = searcher(filled(tmp_path / "c", LENGTHS), tmp_path)
    find.workspace.captions.parent.mkdir(exist_ok=True, parents=True)
    caption_store.add(find.workspace, ROWS)
    all_hits = find.search("a red dog", 500, 50)
    hits = find.search(
        "a red dog",
        500,
        50,
        filters=VideoFilter(
            where=(MetadataFilter.of("camera=front"), MetadataFilter.of("year<2000"))
        ),
    )
    assert hits and [dataclasses.replace(h, rank=0) for h in hits] == [
        dataclasses.replace(h, rank=0) for h in all_hits if h.video_id == "v/4.mp4"
    ]
    with pytest.raises(
        UsageError, match="captions have no column 'colour'; columns are: camera, caption, "
    ):
        find.search("a red dog", filters=VideoFilter(where=(MetadataFilter.of("colour=red"),)))


def test_patterns_start_at_the_workspace_or_the_current_folder(tmp_path, monkeypatch):
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
        for filters, expected_videos in (
            (VideoFilter(include=(pattern,)), videos),
            (VideoFilter(exclude=(pattern,)), set(find.index.videos) - videos),
        ):
            mask = find.video_mask(filters)
            assert {
                v for v, fits in zip(find.index.videos, mask, strict=True) if fits
            } == expected_videos, pattern


@pytest.mark.parametrize("text", ["", "camera", "=front", "  = x", "<3"])
def test_rejects_invalid_conditions(text):
    with pytest.raises(UsageError, match="invalid condition .*: write COLUMN=VALUE"):
        MetadataFilter.of(text)
