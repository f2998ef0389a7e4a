import pytest

from vla.datasets.subtitles import Dataset
from vla.errors import AnnotationError


def _read(folder, file, text):
    path = folder / file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Dataset().read(path)


FIRST, SECOND = "00:00:01,000 --> 00:00:02,000", "00:00:03,500 --> 00:00:04,000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(f"1\n{FIRST}\na\nb\n\n2\n{SECOND}\nc\n", ["a b", "c"], id="plain"),
        pytest.param(
            f"1\n{FIRST}\n<i>a</i> {{\\an8}}<font color='red'>b</font>\n", ["a b"], id="tags"
        ),
        pytest.param(f"1\n{FIRST}\n\n2\n{SECOND}\nc\n", ["c"], id="empty-cue"),
        pytest.param(f"1\n{FIRST}\n<i> </i>\n\n2\n{SECOND}\nc\n", ["c"], id="only-tags"),
        pytest.param(f"1\n{FIRST}\nIn\n2024\n\n2\n{SECOND}\n42\n", ["In 2024", "42"], id="digits"),
        pytest.param(
            f"1\n{FIRST}\nc\n\n2\n{SECOND}\nIn\n2024\n", ["c", "In 2024"], id="digits-at-the-end"
        ),
        pytest.param(f"{FIRST}\na\n\n{SECOND}\nc\n", ["a", "c"], id="no-numbers"),
        pytest.param(
            f"1\n{FIRST}\na\n\nb\n\n2\n{SECOND}\nc\n", ["a b", "c"], id="blank-line-in-a-cue"
        ),
        pytest.param(f"1\n{FIRST}\na\n2\n{SECOND}\nc\n", ["a", "c"], id="no-blank-line"),
        pytest.param(f"1\n{FIRST}\nx --> y < z\n", ["x --> y < z"], id="arrow"),
        pytest.param(
            f"1\n{FIRST}\nfrom 00:00:01,000 to 00:00:02,000\n",
            ["from 00:00:01,000 to 00:00:02,000"],
            id="times-in-text",
        ),
    ],
)
def test_srt_texts(text, expected, tmp_path):
    assert [a.query for a in _read(tmp_path, "x.srt", text)] == expected


def test_srt_annotations(tmp_path):
    annotations = _read(
        tmp_path, "my.talk.srt", f"1\n{FIRST}\na\n\n2\n100:00:00,250 --> 100:00:01.5\nb\n"
    )
    assert [(a.query_id, a.video, a.spans, a.source) for a in annotations] == [
        ("my.talk.srt:2", "my.talk", ((1.0, 2.0),), "my.talk.srt:2"),
        ("my.talk.srt:6", "my.talk", ((360000.25, 360001.5),), "my.talk.srt:6"),
    ]


def test_overlapping_cues_stay_as_they_are(tmp_path):
    annotations = _read(
        tmp_path, "x.srt", f"1\n00:00:01,000 --> 00:00:05,000\na\n\n2\n{SECOND}\nb\n"
    )
    assert [(a.query, a.spans) for a in annotations] == [("a", ((1.0, 5.0),)), ("b", ((3.5, 4.0),))]


VTT = """WEBVTT - a talk

STYLE
::cue { color: red }

NOTE from 1 to 2

intro
00:01.000 --> 00:02.000 align:start position:0%
<v Ann>Hello &amp; <b>good</b>
morning

NOTE this is no text

second
1:00:03.000 --> 1:00:04.000
one<00:00:01.500><c> two</c><00:00:02.000><c.x> three</c>

2024

00:05.000 --> 00:06.000
In
2024
"""


def test_vtt(tmp_path):
    annotations = _read(tmp_path, "x.vtt", VTT)
    assert [(a.query, a.spans, a.source) for a in annotations] == [
        ("Hello & good morning", ((1.0, 2.0),), "x.vtt:9"),
        ("one two three", ((3603.0, 3604.0),), "x.vtt:16"),
        ("In 2024", ((5.0, 6.0),), "x.vtt:21"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("hello\nworld\n", "has no cue with text", id="not-subtitles"),
        pytest.param(f"1\n{FIRST}\n\n", "has no cue with text", id="nothing-said"),
        pytest.param(
            "1\n00:00:02,000 --> 00:00:01,000\na\n",
            "line 2: span 2.0 to 1.0 s must end",
            id="backwards",
        ),
        pytest.param(
            "1\n00:00:01,000 --> 00:00:01,000\na\n", "has no cue with text", id="no-length"
        ),
        pytest.param(
            "1\n-00:00:01,000 --> 00:00:01,000\na\n",
            "line 2: span -1.0 to 1.0 s starts",
            id="negative",
        ),
        pytest.param(
            "1\n00:00:01,000 -->\na\n", "line 2: start '00:00:01,000' without end", id="no-end"
        ),
        pytest.param(
            "1\n00:00:0l,000 --> 00:00:02,000\na\n",
            "line 2: '00:00:0l,000' is not a time",
            id="letter",
        ),
        pytest.param(
            "1\n00:00:01,000 --> 00:00:99,000\na\n",
            "line 2: '00:00:99,000' is not a time",
            id="99-seconds",
        ),
        pytest.param(
            f"1\n{FIRST}\n{'x ' * 6000}\n",
            "line 2: the text of this cue is longer than 10000",
            id="huge",
        ),
        pytest.param(f"1\n{FIRST}\na\0b\n".encode(), "line 3 holds a NUL", id="nul"),
    ],
)
def test_faults(text, message, tmp_path):
    with pytest.raises(AnnotationError, match=message):
        _read(tmp_path, "x.srt", text)


def test_reports_all_faults_at_once(tmp_path):
    unclosed_tags = "1\n00:00:02,000 --> 00:00:01,000\na\n\n"
    with pytest.raises(AnnotationError) as excinfo:
        _read(tmp_path, "x.srt", unclosed_tags * 3)
    assert [line.split(":")[0] for line in str(excinfo.value).split("\n")[1:]] == [
        "  line 2",
        "  line 6",
        "  line 10",
    ]


def test_unclosed_tags_take_no_time(tmp_path):
    annotations = _read(tmp_path, "x.srt", f"1\n{FIRST}\n{'<a' * 4000}\n")
    assert [a.query for a in annotations] == ["<a" * 4000]
