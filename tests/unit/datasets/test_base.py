import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.datasets._open import build_reader, read_annotations
from vla.datasets._reading import Problems, read_text
from vla.datasets._times import parse_seconds, spans_of
from vla.datasets.base import Annotation
from vla.errors import AnnotationError, UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12.5", 12.5),
        (" 12,5 ", 12.5),
        ("0", 0.0),
        (".5", 0.5),
        ("1e-3", 0.001),
        ("-3", -3.0),
        ("01:30", 90.0),
        ("90:00", 5400.0),
        ("-0:30", -30.0),
        ("1:02:03.250", 3723.25),
        ("01:02:03,250", 3723.25),
    ],
)
def test_parse_seconds(text, expected):
    assert parse_seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "nan",
        "inf",
        "1e999",
        "1:60",
        "1:60:00",
        "1:2:3:4",
        "1:",
        ":5",
        "12 s",
        "1,234.5",
        "9" * 5000 + ":00",
    ],
)
def test_parse_seconds_rejects(text):
    with pytest.raises(AnnotationError, match="is not a time"):
        parse_seconds(text)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 359_999_999))
def test_parse_seconds_inverts_the_clock(milliseconds):
    whole, rest = divmod(milliseconds, 1000)
    text = f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{rest:03d}"
    assert parse_seconds(text) == pytest.approx(milliseconds / 1000, abs=1e-9)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(None, None, ()), ("", " ", ()), (0, 1, ((0.0, 1.0),)), ("0:05", 7.5, ((5.0, 7.5),))],
)
def test_spans_of(start, end, expected):
    assert spans_of(start, end) == expected


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (1, None, "start 1 without end"),
        ("", "2", "end '2' without start"),
        (True, 2, "True is not a time"),
        ([], 2, r"\[\] is not a time"),
        (0, 10**400, "is not a time"),
        (-1, 2, "starts before 0"),
        (2, 2, "must end after its start"),
        (math.nan, 2, "end 2 without start"),
        (0, math.inf, "must be finite"),
    ],
)
def test_spans_of_rejects(start, end, message):
    with pytest.raises(AnnotationError, match=message):
        spans_of(start, end)


@settings(max_examples=60, deadline=None)
@given(st.floats(), st.floats())
def test_annotation_rejects_invalid_spans(start, end):
    possible = 0 <= start < end < math.inf
    try:
        annotation = Annotation("q", "a dog", "v", ((start, end),))
    except AnnotationError:
        assert not possible
    else:
        assert possible
        assert annotation.spans == ((start, end),)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("q", " \n", "v"), "query is empty"),
        (("", "a", "v"), "query_id is empty"),
        (("q", "a", ""), "video is empty"),
        (("q", 5, "v"), "query must be text, not 5"),
        (("q", "a\0b", "v"), "NUL"),
        (("q", "a \ud800", "v"), "lone surrogate"),
    ],
)
def test_annotation_rejects_invalid_texts(fields, message):
    with pytest.raises(AnnotationError, match=message):
        Annotation(*fields)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"query_id": "q", "query": "a"}, "'video'"),
        ({"query_id": "q", "query": "a", "video": "v", "spans": [1]}, "not an annotation"),
        ({"query_id": "q", "query": "a", "video": "v", "spans": [[2, 1]]}, "must end after"),
        (["q"], "not an annotation"),
    ],
)
def test_from_json_rejects(record, message):
    with pytest.raises(AnnotationError, match=message):
        Annotation.from_json(record)


def test_problems_are_sorted_by_line_and_limited(tmp_path):
    problems = Problems()
    assert not problems
    problems.raise_if_any(tmp_path)
    for line in range(25, 0, -1):
        problems.add(line, f"fault {line}")
    with pytest.raises(AnnotationError) as excinfo:
        problems.raise_if_any(tmp_path / "x.csv")
    head, *faults = str(excinfo.value).split("\n")
    assert "x.csv has 25 faults" in head
    assert faults == [f"  line {n}: fault {n}" for n in range(1, 21)] + ["  and 5 more"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_read_text_reads(encoding, tmp_path):
    path = tmp_path / "x"
    path.write_bytes("é\r\nü\r𝄞\n".encode(encoding))
    assert read_text(path) == "é\r\nü\r𝄞\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"ab\n\xe9t\xe9", "not UTF-8: byte 0xe9 at offset 3 "),
        (b"\xef\xbb\xbfab\xff", "byte 0xff at offset 5 "),
        (b"\xff\xfea\x00b", "not UTF-16-LE: byte 0x62 at offset 4 "),
        (b"a\r\nb\rc\0", "line 3 holds a NUL"),
        (b"x" * 11, "has 11 bytes, more than the 10 "),
    ],
)
def test_read_text_rejects(raw, message, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(raw)
    with pytest.raises(AnnotationError, match=message):
        read_text(path, limit_bytes=10)


def test_read_text_rejects_special_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(AnnotationError, match="not a regular file"):
            read_text(path)
    with pytest.raises(AnnotationError, match="there is no file"):
        read_text(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("c.csv", "video,caption\nv,a dog\n"),
        ("c.TSV", "video\tcaption\nv\ta dog\n"),
        ("c.jsonl", '{"video": "v", "caption": "a dog"}\n'),
        ("c.json", '[{"video": "v", "caption": "a dog"}]'),
        ("v.srt", "1\n00:00:00,000 --> 00:00:01,000\na dog\n"),
        ("v.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\na dog\n"),
    ],
)
def test_read_annotations_selects_the_reader_by_suffix(file, text, tmp_path):
    (tmp_path / file).write_text(text)
    assert [(a.video, a.query) for a in read_annotations(tmp_path / file, video_column="")] == [
        ("v", "a dog")
    ]


def test_read_annotations_passes_columns(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("clip,words\nv,a dog\n")
    annotations = read_annotations(
        path, video_column="clip", caption_column="words", start_column=""
    )
    assert annotations == [Annotation("c:2", "a dog", "v", source="c.csv:2")]


def test_read_annotations_rejects_unknown_suffixes(tmp_path):
    with pytest.raises(
        AnnotationError,
        match=r"\.csv, \.tsv, \.jsonl, \.json, \.srt, \.vtt, \.ass, \.ssa, not from '\.xml'",
    ):
        read_annotations(tmp_path / "c.xml")
    with pytest.raises(UsageError, match="no option 'video_column'"):
        build_reader(tmp_path / "c.srt", video_column="clip")
