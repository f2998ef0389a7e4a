"""Times, captions and questions under the names that datasets and tools give their columns."""

import json

import numpy as np
import pandas
import pytest

from vla.datasets._columns import role_of
from vla.datasets.base import Question
from vla.datasets.table import Dataset
from vla.errors import AnnotationError


def read(folder, rows, file="c.jsonl"):
    """What the table reader makes of rows: `(video, caption, spans)`, and what it left out."""
    path = folder / file
    if isinstance(rows, str):
        path.write_text(rows)
    elif file.endswith(".csv"):
        pandas.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = Dataset()
    return [(a.video, a.query, a.spans) for a in dataset.read(path)], dataset.omissions.counts


@pytest.mark.parametrize(
    ("name", "role", "unit"),
    [
        ("start", "start", 1), ("Start_timestamp", "start", 1), ("start_sec", "start", 1), ("start_ms", "start", 0.001),
        ("startTime", "start", 1), ("Start (s)", "start", 1), ("begin", "start", 1), ("t_start", "start", 1),
        ("Begin Time - ss.msec", "start", 1), ("Begin Time - msec", "start", 0.001), ("clip_start_time", "start", 1),
        ("tStartMs", "start", 0.001), ("start_frame", "start", 0), ("START", "start", 1), ("time_start", "start", 1),
        ("onset", "start", 1), ("segment start (seconds)", "start", 1), ("startTimeMillis", "start", 0.001), ("starttime", "start", 1),
        ("stop_timestamp", "end", 1), ("End", "end", 1), ("endSec", "end", 1), ("time_end_ms", "end", 0.001), ("offset", "end", 1),
        ("end offset", "end", 1), ("frame_end", "end", 0), ("dDurationMs", "length", 0.001), ("duration", "length", 1),
        ("timestamp", "pair", 1), ("segment", "pair", 1), ("times", "pair", 1), ("clip_timestamps", "pair", 1),
        ("time_range", "pair", 1), ("frames", "pair", 0),
        ("restart", "", 1), ("video_duration", "", 1), ("end_user", "", 1), ("stop_words", "", 1), ("frame_count", "", 0),
        ("segment_id", "", 1), ("num_frames", "", 0), ("upload_time", "", 1), ("starting_xi", "", 1), ("name", "", 1), ("", "", 1),
    ],
)  # fmt: skip
def test_roles_of_names(name, role, unit):
    assert role_of(name)[0] == role
    if role:
        assert role_of(name)[1] == unit


@pytest.mark.parametrize(
    ("start", "end", "cells", "span"),
    [
        ("Start_timestamp", "End_timestamp", ("00:00:00.567", "00:00:01.200"), (0.567, 1.2)),
        ("start_sec", "end_sec", (1, 2.5), (1, 2.5)),
        ("start_ms", "end_ms", (500, 1500), (0.5, 1.5)),
        ("startTime", "endTime", (1, 2), (1, 2)),
        ("Start (s)", "End (s)", (1, 2), (1, 2)),
        ("begin", "end", (1, 2), (1, 2)),
        ("t_start", "t_end", (1, 2), (1, 2)),
        ("start", "duration", (1.5, 2), (1.5, 3.5)),
        ("from", "to", ("0:01", "1:02:03"), (1, 3723)),
        (
            "Begin Time - hh:mm:ss.ms",
            "End Time - hh:mm:ss.ms",
            ("00:00:01.500", "00:00:02.000"),
            (1.5, 2),
        ),
        ("start_minutes", "stop_minutes", (0.5, 1), (30, 60)),
        ("in point", "out point", (3, 4), (3, 4)),
        # The times of frames: seconds go before frames, whichever word comes first.
        ("start_frame_seconds", "end_frame_seconds", (1, 2.5), (1, 2.5)),
    ],
)
@pytest.mark.parametrize("file", ["c.jsonl", "c.csv"])
def test_start_and_end_under_other_names(start, end, cells, span, file, tmp_path):
    rows = [{"video": "v", "caption": "a dog", start: cells[0], end: cells[1]}]
    annotations, left_out = read(tmp_path, rows, file)
    assert [(v, c) for v, c, _ in annotations] == [("v", "a dog")] and not left_out
    np.testing.assert_allclose(annotations[0][2], [span], rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["timestamp", "segment", "clip", "times", "timestamps", "Time range", "interval"]
)
@pytest.mark.parametrize(
    ("cell", "spans"),
    [
        ([1, 2.5], ((1, 2.5),)),
        ([[1, 2], [4, 5]], ((1, 2), (4, 5))),
        (["0:01", "0:02.5"], ((1, 2.5),)),
        ("[1, 2.5]", ((1, 2.5),)),
        ("['0:00:20.320', '0:00:32.789']", ((20.32, 32.789),)),
        ("0:01 - 0:05", ((1, 5),)),
        ("00:00:01.000 --> 00:00:05.000", ((1, 5),)),
        ("1.5, 2.5", ((1.5, 2.5),)),
        ("(1.5,2.5)", ((1.5, 2.5),)),
        ("1.5-2.5", ((1.5, 2.5),)),
        ("1 to 2", ((1, 2),)),
        ({"start": 1, "end": 2}, ((1, 2),)),
        ({"from": "00:00:01,000", "to": "00:00:02,000"}, ((1, 2),)),
        (None, ()),
    ],
)
def test_both_times_in_one_column(name, cell, spans, tmp_path):
    rows = [
        {"video": "v", "caption": "a", name: cell},
        {"video": "w", "caption": "b", name: [0, 1]},
    ]
    assert read(tmp_path, rows)[0] == [("v", "a", spans), ("w", "b", ((0, 1),))]


def test_internvid(tmp_path):
    row = {"YoutubeID": "HdY", "Start_timestamp": "00:00:00.567", "End_timestamp": "00:00:01.200", "Caption": "a woman",
           "Aesthetic_Score": 4.58}  # fmt: skip
    assert read(tmp_path, [row]) == ([("HdY", "a woman", ((0.567, 1.2),))], {})


def test_panda(tmp_path):
    """A row for each video: lists of captions and of times in its cells, as Python writes them."""
    text = (
        "videoID,url,timestamp,caption,matching_score\n"
        "vid1,https://x/vid1,\"[['0:00:20.320', '0:00:32.789'], ['0:00:40', '0:00:41']]\","
        '"[\'it is raining\', ""a dog\'s day""]","[0.5, 0.4]"\n'
    )
    assert read(tmp_path, text, "c.csv")[0] == [
        ("vid1", "it is raining", ((20.32, 32.789),)),
        ("vid1", "a dog's day", ((40.0, 41.0),)),
    ]


def test_webvid(tmp_path):
    text = "videoid,contentUrl,duration,page_dir,name\n4053,https://x/4053.mp4,PT00H00M29S,ab,Man with a drum.\n"
    assert read(tmp_path, text, "c.csv") == ([("4053", "Man with a drum.", ())], {})
    assert read(tmp_path, "name,caption\na.mp4,a dog\n", "d.csv")[0] == [("a.mp4", "a dog", ())]
    with pytest.raises(AnnotationError, match="no caption column"):
        read(tmp_path, "video,name\nv,clip7\n", "e.csv")


def test_epic_kitchens(tmp_path):
    """Frames stand beside times: the times are used, the frames are counted."""
    text = (
        "narration_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,narration\n"
        "P01_01_0,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door\n"
    )
    annotations, left_out = read(tmp_path, text, "c.csv")
    assert annotations == [("P01_01", "open door", ((0.14, 3.37),))] and left_out == {
        "time-column": 2
    }


@pytest.mark.parametrize(
    ("cells", "columns"),
    [
        ({"start_frame": 30, "end_frame": 60}, 2),
        ({"timestamp": 12.5}, 1),
        ({"start_ms": 1}, 1),
        ({"Begin": "0:01"}, 1),
        ({"video_duration": 5, "restart": 3, "segment_id": 4, "clip": 2}, 0),
    ],
)
def test_columns_that_look_like_times_are_counted(cells, columns, tmp_path):
    annotations, left_out = read(tmp_path, [{"video": "v", "caption": "a", **cells}])
    assert annotations == [("v", "a", ())] and left_out.get("time-column", 0) == columns


def test_frames_are_times_beside_their_rate(tmp_path):
    row = {"video": "v", "caption": "a", "start_frame": 30, "end_frame": 60, "fps": 25}
    assert read(tmp_path, [row]) == ([("v", "a", ((1.2, 2.4),))], {})


def test_lists_of_starts_and_ends_go_with_lists_of_captions(tmp_path):
    row = {"video": "v", "start": [0, 1], "end": [1, 2.5], "captions": ["a", "b"]}
    assert read(tmp_path, [row])[0] == [("v", "a", ((0, 1),)), ("v", "b", ((1, 2.5),))]
    row = {"video": "v", "duration": 9, "timestamps": [[0, 1], [2, 3]], "sentences": ["a", "b"]}
    assert read(tmp_path, [row])[0] == [("v", "a", ((0, 1),)), ("v", "b", ((2, 3),))]
    with pytest.raises(AnnotationError, match="3 captions and 2 times"):
        read(tmp_path, [{**row, "sentences": ["a", "b", "c"]}])


@pytest.mark.parametrize(
    "text", ["[music]", "[1]", "['a', 2]", "[]", "[a] dog, [b] cat", "[" * 90 + "]" * 90]
)
def test_texts_in_brackets_are_captions(text, tmp_path):
    path = tmp_path / "c.csv"
    pandas.DataFrame([{"video": "v", "caption": text}]).to_csv(path, index=False)
    assert [a.query for a in Dataset().read(path)] == [text]


@pytest.mark.parametrize(
    "text", ["sep=;\r\n", "SEP=;\r\n", '"sep=;"\n', "sep=|\n", "\ufeffsep=;\r\n"]
)
def test_skips_the_separator_line_of_excel(text, tmp_path):
    mark = "|" if "|" in text else ";"
    rows = "video;caption;start;end\r\na.mp4;a dog, a cat;1,5;2,5\r\n".replace(";", mark)
    assert read(tmp_path, text + rows, "c.csv") == ([("a.mp4", "a dog, a cat", ((1.5, 2.5),))], {})
    with pytest.raises(AnnotationError, match="line 4: the header has 4 fields and this row 1"):
        read(tmp_path, text + rows + "b.mp4\r\n", "c.csv")


def test_missing_values_of_pandas(tmp_path):
    frame = pandas.DataFrame(
        {
            "video": ["a.mp4"] * 4,
            "caption": ["a dog", None, np.nan, "a cat"],
            "start": [None, 1, 1.0, 1],
            "end": [None, 2, 2, 2],
        }
    )
    frame.to_csv(tmp_path / "c.csv")
    frame.to_csv(tmp_path / "n.csv", na_rep="nan")
    frame.to_json(tmp_path / "c.json", orient="records")
    for file in ("c.csv", "n.csv", "c.json"):
        dataset = Dataset()
        annotations = dataset.read(tmp_path / file)
        assert [(a.query, a.spans, a.metadata) for a in annotations] == [
            ("a dog", (), ()),
            ("a cat", ((1, 2),), ()),
        ], file
        assert dataset.omissions.counts == {"row": 2}


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "<NA>", "N/A", "NaT", "", " "])
def test_words_for_missing_values(word, tmp_path):
    text = f"video,caption,start,end\na,a dog,{word},{word}\nb,{word},1,2\n"
    assert read(tmp_path, text, "c.csv") == ([("a", "a dog", ())], {"row": 1})


CHOICES = Question(choices=("red", "blue", "green"), right=1)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"choices": ["red", "blue", "green"], "answer": 1}, CHOICES),
        ({"choices": ["red", "blue", "green"], "answer": "blue"}, CHOICES),
        ({"options": ["red", "blue", "green"], "answer": "B"}, CHOICES),
        ({"options": ["red", "blue", "green"], "answer": "(B)"}, CHOICES),
        ({"options": {"A": "red", "B": "blue", "C": "green"}, "answer": "B"}, CHOICES),
        ({"candidates": ["red", "blue", "green"], "right": 1}, CHOICES),
        ({"choices": ["red", "blue", "green"], "correct_idx": 1.0}, CHOICES),
        ({"a0": "red", "a1": "blue", "a2": "green", "answer": 1}, CHOICES),
        ({"option_a": "red", "option_b": "blue", "option_c": "green", "answer": "b"}, CHOICES),
        ({"A": "red", "B": "blue", "C": "green", "answer": "B"}, CHOICES),
        ({"choices": ["red", "blue", "green"]}, Question(choices=("red", "blue", "green"))),
        ({"choices": ["1", "2", "3"], "answer": "2"}, Question(choices=("1", "2", "3"), right=1)),
        ({"answer": "blue"}, Question(answers=("blue",))),
        ({"answers": ["blue", "Blue"]}, Question(answers=("blue", "Blue"))),
        ({"count": 3}, Question(count=3)),
        ({"answer": None}, Question()),
    ],
)
def test_flat_questions(row, expected, tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps({"video": "v", "question": "what colour?", **row}))
    (annotations,) = Dataset().read(path)
    assert (annotations.query, annotations.question, annotations.metadata) == (
        "what colour?",
        expected,
        (),
    )


def test_flat_questions_of_a_csv(tmp_path):
    (tmp_path / "q.csv").write_text(
        'video,question,options,answer\nv,what?,"[""a"", ""b""]",1\nw,why?,"[\'c\', \'d\']",c\n'
    )
    first, second = Dataset().read(tmp_path / "q.csv")
    assert first.question == Question(choices=("a", "b"), right=1)
    assert second.question == Question(choices=("c", "d"), right=0)
    (tmp_path / "n.csv").write_text("video,question,a0,a1,a2,answer\n1,how,tap,roll,strum,2\n")
    assert Dataset().read(tmp_path / "n.csv")[0].question == Question(
        choices=("tap", "roll", "strum"), right=2
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"choices": ["a", "b"], "answer": "c"}, "the answer 'c' is not one of the 2 choices"),
        ({"choices": ["a", "b"], "answer": 2}, "right choice is 2"),
        ({"choices": "a or b", "answer": "a"}, "'choices' must be a list of texts"),
        ({"count": "many"}, "'many' is not an integer"),
        ({"choices": ["a"], "answer": 0}, "only one choice"),
        ({"choices": ["a", "b"], "answer": True}, "not one of the 2 choices"),
    ],
)
def test_rejects_invalid_flat_questions_by_line(row, message, tmp_path):
    (tmp_path / "q.jsonl").write_text(json.dumps({"video": "v", "question": "what?", **row}))
    with pytest.raises(AnnotationError, match=f"line 1: .*{message}"):
        Dataset().read(tmp_path / "q.jsonl")
