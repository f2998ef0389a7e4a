import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.datasets.base import Annotation, Question
from vla.datasets.table import Dataset
from vla.errors import AnnotationError


def _read(folder, text, file="c.csv", **options):
    path = folder / file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Dataset(**options).read(path)


def _contents(annotations):
    return [(a.video, a.query, a.spans) for a in annotations]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"\xef\xbb\xbfvideo,caption\nv,a dog\n", [("v", "a dog", ())], id="mark"),
        pytest.param("video,caption\r\nv,a dog\r\n", [("v", "a dog", ())], id="crlf"),
        pytest.param("video,caption\rv,a dog\r", [("v", "a dog", ())], id="cr"),
        pytest.param(
            "video;caption\nv;a dog, a cat\n", [("v", "a dog, a cat", ())], id="semicolon"
        ),
        pytest.param(
            "video\tcaption\nv\ta dog, a cat; a cow\n", [("v", "a dog, a cat; a cow", ())], id="tab"
        ),
        pytest.param(
            'video, caption\nv, "a dog, a cat"\n', [("v", "a dog, a cat", ())], id="space-and-quote"
        ),
        pytest.param('video,caption\nv,"a ""big"" dog"\n', [("v", 'a "big" dog', ())], id="quotes"),
        pytest.param(
            'video,caption\nv,a "big" dog\n', [("v", 'a "big" dog', ())], id="quotes-inside"
        ),
        pytest.param(
            "video,caption\nv,a\u2028dog\x0bruns\n",
            [("v", "a\u2028dog\x0bruns", ())],
            id="odd-line-ends",
        ),
        pytest.param("video,caption\n007,a dog\n", [("007", "a dog", ())], id="007"),
        pytest.param(
            "\n\nvideo,caption\n\nv,a dog\n,\n \n", [("v", "a dog", ())], id="blank-lines"
        ),
        pytest.param("video,caption,\nv,a dog,\n", [("v", "a dog", ())], id="trailing-comma"),
        pytest.param("Video_ID,SENTENCE\nv,a dog\n", [("v", "a dog", ())], id="case"),
        pytest.param("name,video,text\nn,v,a dog\n", [("v", "a dog", ())], id="first-of-several"),
        pytest.param(
            "video,caption,st,et\nv,a,0:01,00:00:02.5\n", [("v", "a", ((1.0, 2.5),))], id="clock"
        ),
        pytest.param("video,caption,start,end\nv,a,,\n", [("v", "a", ())], id="no-times"),
        pytest.param(
            "video,caption,start,end\nv,a,1,3\nv,b,2,4\n",
            [("v", "a", ((1, 3),)), ("v", "b", ((2, 4),))],
            id="overlap",
        ),
        pytest.param(
            "video,caption\nv,a\nv,a \nw,a\n", [("v", "a", ()), ("w", "a", ())], id="same-rows"
        ),
    ],
)
def test_csv(text, expected, tmp_path):
    assert _contents(_read(tmp_path, text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "c.csv is empty", id="empty"),
        pytest.param("\n\n", "c.csv is empty", id="blank"),
        pytest.param(
            "video,caption\n", r"has a header \(video, caption\) but no rows", id="header-only"
        ),
        pytest.param(b"video,caption\nv,caf\xe9\n", "byte 0xe9 at offset 19", id="latin-1"),
        pytest.param(b"video,caption\nv,a\nv,b\0\n", "line 3 holds a NUL", id="nul"),
        pytest.param(
            "video,caption\nv\n",
            "line 2: the header has 2 fields and this row 1;",
            id="field-missing",
        ),
        pytest.param(
            "video,caption\nv,a dog, a cat\n",
            "line 2: the header has 2 fields and this row 3; quote those",
            id="extra",
        ),
        pytest.param(
            'video,caption\nv,"a\nb"\nw\n',
            "line 4: the header has 2 fields and this row 1",
            id="line-after-quoted-newline",
        ),
        pytest.param(
            'video,caption\nv,a\nw,"b\nc\n', "line 3: unexpected end", id="unclosed-quote"
        ),
        pytest.param(
            'video,caption\nv,"a" b\n', r"line 2: ',' expected after", id="text-after-quote"
        ),
        pytest.param(
            f"video,caption\nv,a\nv,{'x' * (11 * 2**20)}\n",
            "line 3: field larger than",
            id="huge-field",
        ),
        pytest.param(
            "video,caption,Video\nv,a,w\n",
            "line 1: column 'video' is there 2 times",
            id="column-twice",
        ),
        pytest.param(
            "clip,caption\nv,a\n",
            "line 1: no video column .*the columns are: clip, caption",
            id="no-video",
        ),
        pytest.param(
            "video,words\nv,a\n", "no caption column .*name it by caption_column", id="no-caption"
        ),
        pytest.param(
            "video,caption,start\nv,a,1\n",
            "has 1 fault.*\n.*line 1: column 'start' but no end column",
            id="no-end-column",
        ),
        pytest.param(
            "video,caption,end\nv,a,1\n",
            "line 1: column 'end' but no start column",
            id="no-start-column",
        ),
        pytest.param("video,caption\n,a dog\n", "line 2: 'video' is empty", id="no-video-name"),
        pytest.param(
            "video,caption\nv,\nw, \n", "has no captions: all 2 are empty", id="all-empty"
        ),
        pytest.param(
            "id,video,caption\nq,v,a\nq,v,b\n", "line 3: id 'q' is already on line 2", id="id-twice"
        ),
        pytest.param(
            "video,caption,start,end\nv,a,1,\n", "line 2: start '1' without end", id="start-alone"
        ),
        pytest.param(
            "video,caption,start,end\nv,a,5,4\n",
            "line 2: span 5.0 to 4.0 s must end after",
            id="backwards",
        ),
        pytest.param(
            "video,caption,start,end\nv,a,4,4\n",
            "line 2: span 4.0 to 4.0 s must end after",
            id="no-length",
        ),
        pytest.param(
            "video,caption,start,end\nv,a,-1,4\n",
            "line 2: span -1.0 to 4.0 s starts before 0",
            id="negative",
        ),
        pytest.param(
            "video,caption,start,end\nv,a,nan,4\n", "line 2: end '4' without start", id="nan"
        ),
        pytest.param(
            "video,caption,start,end\nv,a,0,inf\n", "line 2: 'inf' is not a time", id="inf"
        ),
        pytest.param(
            "video,caption,start,end\nv,a,1:75,4:00\n", "line 2: '1:75' is not a time", id="clock"
        ),
    ],
)
def test_csv_faults(text, message, tmp_path):
    with pytest.raises(AnnotationError, match=message):
        _read(tmp_path, text)


def test_reports_all_faults_at_once(tmp_path):
    text = 'video,caption,start,end\nv,a,2,1\nv,b\n"v","c\nd",1,2\n,e,1,2\nv,f,-1,2\n'
    with pytest.raises(AnnotationError) as excinfo:
        _read(tmp_path, text)
    value = [line.split(":")[0].strip() for line in str(excinfo.value).split("\n")[1:]]
    assert value == ["line 2", "line 3", "line 6", "line 7"]


def test_more_than_twenty_faults_are_counted(tmp_path):
    with pytest.raises(AnnotationError) as excinfo:
        _read(tmp_path, "video,caption\n" + "v\n" * 30)
    lines = str(excinfo.value).split("\n")
    assert "has 30 faults" in lines[0]
    assert lines[1].startswith("  line 2:")
    assert lines[20].startswith("  line 21:")
    assert lines[21:] == ["  and 10 more"]


def test_restores_the_csv_field_limit(tmp_path):
    before = csv.field_size_limit()
    caption = "x" * 200_000
    assert _contents(_read(tmp_path, f"video,caption\nv,{caption}\n")) == [("v", caption, ())]
    assert csv.field_size_limit() == before


def test_skips_and_counts_empty_captions(tmp_path):
    (tmp_path / "a.csv").write_text("video,caption\nv,\nv,a dog\nw, \n")
    (tmp_path / "b.csv").write_text("video,caption\nv,a dog\n")
    dataset = Dataset()
    assert _contents(dataset.read(tmp_path / "a.csv")) == [("v", "a dog", ())]
    assert dataset.omissions.counts == {"row": 2} and dataset.omissions.examples == {
        "row": ["a.csv:2", "a.csv:4"]
    }
    dataset.read(tmp_path / "b.csv")
    assert not dataset.omissions


def test_columns_can_be_named(tmp_path):
    text = "video,caption,clip,words,from,to,part\nx,y,v,a dog,1,2,val\n"
    names = dict(
        zip(
            ("video", "caption", "start", "end", "split"),
            ("clip", "WORDS", "from", "to", "part"),
            strict=True,
        )
    )
    (annotations,) = _read(
        tmp_path, text, **{f"{role}_column": name for role, name in names.items()}
    )
    assert (annotations.video, annotations.query, annotations.spans, annotations.split) == (
        "v",
        "a dog",
        ((1.0, 2.0),),
        "val",
    )
    with pytest.raises(
        AnnotationError, match="there is no column 'film'; the columns are: video, caption, clip"
    ):
        _read(tmp_path, text, video_column="film")


def test_ids_are_from_the_file_or_the_line(tmp_path):
    with_ids = _read(tmp_path, "video,caption,qid,split\nv,a,007,train\nv,b,,val\n")
    assert [(a.query_id, a.split) for a in with_ids] == [("007", "train"), ("c:3", "val")]
    without = _read(tmp_path, 'video,caption\nv,"a\nb"\nv,c\n')
    assert [(a.query_id, a.source) for a in without] == [("c:2", "c.csv:2"), ("c:4", "c.csv:4")]


def test_keeps_equal_rows_of_two_splits(tmp_path):
    annotations = _read(tmp_path, "video,caption,split\nv,a,train\nv,a,test\nv,a,test\n")
    assert [(a.query_id, a.split) for a in annotations] == [("c:2", "train"), ("c:3", "test")]


def test_delimiters_of_tsv_and_txt(tmp_path):
    assert _contents(_read(tmp_path, "video\tcaption\nv\ta, b; c\n", "c.tsv")) == [
        ("v", "a, b; c", ())
    ]
    assert _contents(_read(tmp_path, "video;caption\nv;a, b\n", "c.txt")) == [("v", "a, b", ())]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"vid": "v", "query": "a", "relevant_windows": [[0, 2], ["0:04", 6.5]]},
            [("a", ((0, 2), (4, 6.5)))],
        ),
        ({"vid": "v", "query": "a", "spans": [[1, 3], [2, 4]]}, [("a", ((1, 3), (2, 4)))]),
        ({"vid": "v", "query": "a", "relevant_windows": []}, [("a", ())]),
        (
            {"vid": "v", "query": "a", "relevant_windows": None, "start": 1, "end": 2},
            [("a", ((1, 2),))],
        ),
        ({"vid": "v", "caption": ["a", "", "b"]}, [("a", ()), ("b", ())]),
        ({"vid": "v", "caption": 5}, [("5", ())]),
    ],
)
def test_json_rows(row, expected, tmp_path):
    row_text = [("v", query, spans) for query, spans in expected]
    assert _contents(_read(tmp_path, json.dumps(row) + "\n\n", "c.jsonl")) == row_text
    assert _contents(_read(tmp_path, json.dumps([row], indent=1), "c.json")) == row_text


def test_json_ids_are_texts_and_several_captions_are_numbered(tmp_path):
    rows = [
        {"qid": 7, "video": 12, "caption": ["a", "", "b"]},
        {"qid": "007", "video": "w", "caption": "c"},
    ]
    annotations = _read(tmp_path, json.dumps(rows), "c.json")
    assert [(a.query_id, a.video) for a in annotations] == [
        ("7#1", "12"),
        ("7#3", "12"),
        ("007", "w"),
    ]


def test_json_rows_on_one_line_have_ids_of_their_own(tmp_path):
    rows = '[{"video": "v", "caption": "a"}, {"video": "v", "caption": "b"},\n{"video": "v", "caption": "c"}]'
    assert [a.query_id for a in _read(tmp_path, rows, "c.json")] == ["c:1", "c:1.2", "c:2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"video": "v", "caption": "b",}', r"line 2: not JSON"),
        ("[1]", "line 2: expected an object, not a list"),
        ("[" * 100_000, "line 2: not usable as JSON"),
        ('{"caption": "b"}', "line 2: no 'video' here"),
        ('{"video": "v"}', "line 2: no 'caption' here"),
        ('{"video": ["v"], "caption": "b"}', r"line 2: 'video' must be text, not \['v'\]"),
        ('{"video": "v", "caption": true}', "line 2: 'caption' must be text, not True"),
        ('{"video": "v", "caption": "\\ud800"}', "line 2: query .* contains a lone surrogate"),
        ('{"video": "v", "caption": "b", "start": 1, "end": null}', "line 2: start 1 without end"),
        ('{"video": "v", "caption": "b", "start": NaN, "end": 1}', "line 2: end 1 without start"),
        ('{"video": "v", "caption": "b", "start": 0, "end": 1e999}', "line 2: span 0.0 to inf s"),
        (
            '{"video": "v", "caption": "b", "spans": [[3, 2]]}',
            "line 2: span 3.0 to 2.0 s must end after",
        ),
        (
            '{"video": "v", "caption": "b", "spans": [1, 2]}',
            r"line 2: 'spans' must be a list of \[start, end\]",
        ),
        (
            '{"video": "v", "caption": "b", "spans": [[1, 2]], "start": 1, "end": 2}',
            "line 2: times are given twice",
        ),
        (
            '{"video": "v", "caption": "b", "spans": [[1, 2]], "relevant_windows": [[1, 2]]}',
            "line 2: times are given twice: relevant_windows, spans$",
        ),
    ],
)
def test_json_faults(row, message, tmp_path):
    text = f'{{"video": "v", "caption": "a", "start": null, "end": null}}\n{row}\n'
    with pytest.raises(AnnotationError, match=message):
        _read(tmp_path, text, "c.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"sentences": []}', "must hold a list of objects, one for each caption, not one object"),
        ("[]", "has no rows"),
        ('[{"video": "v"},\n {"video" "w"}]', "c.json line 2: not JSON"),
        (
            '[{"video": "v", "caption": "a"},\n\n {"video": "", "caption": "b"}]',
            "line 3: 'video' is empty",
        ),
    ],
)
def test_json_list_faults(text, message, tmp_path):
    with pytest.raises(AnnotationError, match=message):
        _read(tmp_path, text, "c.json")


# Words for nothing are no captions, and a list in brackets is several.
NOTHING = {"", "nan", "none", "null", "nat", "na", "n/a", "<na>", "undefined"}
texts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1
).filter(lambda text: text.strip().casefold() not in NOTHING and not text.strip().startswith("["))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(texts, texts, st.integers(0, 10**6), st.integers(1, 10**4)),
        min_size=1,
        max_size=6,
    ),
    delimiter=st.sampled_from(",;\t"),
    # With "\n" for a line end, csv leaves a lone "\r" in a field unquoted unless it is told to quote all.
    style=st.sampled_from(
        [("\r\n", csv.QUOTE_MINIMAL), ("\r\n", csv.QUOTE_ALL), ("\n", csv.QUOTE_ALL)]
    ),
)
def test_csv_round_trip(rows, delimiter, style, tmp_path_factory):
    content = io.StringIO(newline="")
    writer = csv.writer(content, delimiter=delimiter, lineterminator=style[0], quoting=style[1])
    writer.writerow(["video", "caption", "start", "end"])
    spans = [(start / 8, (start + length) / 8) for _, _, start, length in rows]
    writer.writerows(
        [video, caption, *span] for (video, caption, _, _), span in zip(rows, spans, strict=True)
    )
    expected = {
        (video.strip(), caption.strip(), (span,)): None
        for (video, caption, _, _), span in zip(rows, spans, strict=True)
    }
    annotations = _read(tmp_path_factory.mktemp("csv"), content.getvalue())
    assert _contents(annotations) == list(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"choices": ["it moves", "it stays"], "right": 1},
            Question(choices=("it moves", "it stays"), right=1),
        ),
        ({"answers": ["red", "Red"]}, Question(answers=("red", "Red"))),
        ({"count": 3}, Question(count=3)),
        (None, None),
        ("what?", None),
    ],
)
def test_json_questions(value, expected, tmp_path):
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"video": "a.mp4", "caption": "What is it?", "question": value}) + "\n"
    )
    annotation = Dataset().read(tmp_path / "a.jsonl")[0]
    assert (annotation.query, annotation.question) == ("What is it?", expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"chioces": ["a", "b"]}, "'chioces'; allowed are choices, right, answers, count"),
        ({"choices": ["a"]}, "one choice"),
        ({"choices": ["a", "b"], "right": 2}, "right choice is 2"),
        ({"choices": "ab"}, "list of texts"),
        ({"count": "three"}, "count"),
        ({"answers": [3]}, "answer"),
    ],
)
def test_rejects_invalid_questions_by_line(value, message, tmp_path):
    rows = [
        {"video": "a.mp4", "caption": "fine"},
        {"video": "a.mp4", "caption": "What is it?", "question": value},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(AnnotationError, match=message) as excinfo:
        Dataset().read(tmp_path / "a.jsonl")
    assert "line 2" in str(excinfo.value)


def test_other_columns_are_metadata(tmp_path):
    """Also those of rows that say the same, which are one annotation; what is blank, a list or an object is not."""
    path = tmp_path / "c.csv"
    path.write_text(
        "video,caption,camera,year,note\na.mp4,a dog,front,2020,\na.mp4,a dog,rear,2020,x\nb.mp4,a cat,,,\n"
    )
    first, second = Dataset().read(path)
    assert first.metadata == (
        ("camera", "front"),
        ("year", "2020"),
        ("camera", "rear"),
        ("note", "x"),
    )
    assert second.metadata == ()
    again = Annotation.from_json(json.loads(json.dumps(first.to_json())))
    assert again == first
    lines = tmp_path / "c.jsonl"
    lines.write_text(
        json.dumps(
            {
                "video": "a.mp4",
                "caption": "x",
                "id": 7,
                "relevant_windows": [[0, 1]],
                "n": 3,
                "ok": True,
                "l": [1],
                "o": {},
            }
        )
    )
    (only,) = Dataset().read(lines)
    assert only.metadata == (("n", "3"), ("ok", "True"))
