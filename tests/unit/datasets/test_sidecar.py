import json
from pathlib import Path

import pytest

from vla.datasets.sidecar import Dataset, find_sidecars
from vla.errors import AnnotationError

SRT = "1\n00:00:01,000 --> 00:00:02,000\na dog\n"
DOG = {"start": 1, "end": "0:02", "caption": "a dog"}


def _read(folder, file, text, **options):
    path = folder / file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Dataset(**options).read(path)


@pytest.mark.parametrize(
    ("file", "video"),
    [
        ("x.srt", "x"),
        ("x.en.srt", "x"),
        ("x.deu.SRT", "x"),
        ("x.info.srt", "x.info"),
        ("a.b.x.en.srt", "a.b.x"),
        (".en.srt", ".en"),
    ],
)
def test_the_video_is_the_stem_without_language(file, video, tmp_path):
    (annotations,) = _read(tmp_path, file, SRT)
    assert (annotations.video, annotations.query, annotations.spans) == (
        video,
        "a dog",
        ((1.0, 2.0),),
    )
    assert annotations.query_id == f"{file}:2"


def test_the_video_can_be_named(tmp_path):
    assert [a.video for a in _read(tmp_path, "clip.one.srt", SRT, video="clip.one")] == ["clip.one"]
    assert [a.video for a in _read(tmp_path, "clip.one.txt", "a dog", video="clip.one")] == [
        "clip.one"
    ]


def test_each_line_of_a_text_is_a_caption(tmp_path):
    annotations = _read(tmp_path, "x.en.txt", b'\xef\xbb\xbfa dog, "running"\r\n\r\n  a cat \r\n')
    assert [(a.query, a.spans, a.video) for a in annotations] == [
        ('a dog, "running"', (), "x"),
        ("a cat", (), "x"),
    ]
    assert [(a.query_id, a.source) for a in annotations] == [
        ("x.en.txt#1", "x.en.txt:1"),
        ("x.en.txt#2", "x.en.txt:3"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a dog", [("a dog", ())]),
        (["a dog", "", "a cat"], [("a dog", ()), ("a cat", ())]),
        ({"caption": "a dog"}, [("a dog", ())]),
        ({"captions": ["a dog", "a cat"], "fps": 25}, [("a dog", ()), ("a cat", ())]),
        ({"description": "a dog"}, [("a dog", ())]),
        ({"text": "a dog"}, [("a dog", ())]),
        ({"caption": "a walk", "moments": [DOG]}, [("a walk", ()), ("a dog", ((1.0, 2.0),))]),
        (
            {"moments": [DOG, {**DOG, "start": 0}]},
            [("a dog", ((1.0, 2.0),)), ("a dog", ((0.0, 2.0),))],
        ),
        ([DOG, "a cat"], [("a dog", ((1.0, 2.0),)), ("a cat", ())]),
        (DOG, [("a dog", ((1.0, 2.0),))]),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json(value, expected, indent, tmp_path):
    annotations = _read(tmp_path, "x.json", json.dumps(value, indent=indent))
    assert [(a.query, a.spans) for a in annotations] == expected
    assert [a.query_id for a in annotations] == [f"x.json#{n}" for n in range(1, len(expected) + 1)]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("x.txt", "\n \n", "has no captions"),
        ("x.txt", b"caf\xe9", "byte 0xe9 at offset 3"),
        ("x.json", "[]", "has no captions"),
        ("x.json", '"  "', "has no captions"),
        ("x.json", "", "line 1: not JSON"),
        ("x.json", '{"caption":\n"a"', "line 2: not JSON"),
        ("x.json", "5", "line 1: a caption must be text, not 5"),
        ("x.json", '["a",\n null]', "line 2: a caption must be text, not None"),
        ("x.json", '{"title": "a", "fps": 25}', "none of the keys .* it has: title, fps"),
        ("x.json", '{"moments":\n {"start": 1}}', "line 2: moments must be a list"),
        ("x.json", '[\n{"start": 1, "end": 2}]', "line 2: a caption must be text"),
        ("x.json", '[\n{"caption": "a"}]', "line 2: a moment needs start and end"),
        ("x.json", '[\n{"caption": "a", "start": 1}]', "line 2: start 1 without end"),
        (
            "x.json",
            '[\n{"caption": "a", "start": 2, "end": 1}]',
            "line 2: span 2.0 to 1.0 s must end after",
        ),
        (
            "x.json",
            '[\n{"caption": "a", "start": -2, "end": 1}]',
            "line 2: span -2.0 to 1.0 s starts before 0",
        ),
        ("x.json", '[\n{"caption": "a", "start": NaN, "end": 1}]', "line 2: end 1 without start"),
        (
            "x.en.srt",
            "1\n00:00:02,000 --> 00:00:01,000\na\n",
            "line 2: span 2.0 to 1.0 s must end after",
        ),
    ],
)
def test_faults(file, text, message, tmp_path):
    with pytest.raises(AnnotationError, match=message):
        _read(tmp_path, file, text)


def test_reports_all_faults_at_once(tmp_path):
    text = '{"caption": 5,\n "text": "fine",\n "moments": [\n {"start": 2, "end": 1, "caption": "a"},\n 7]}'
    with pytest.raises(AnnotationError) as excinfo:
        _read(tmp_path, "x.json", text)
    assert [line.split(":")[0] for line in str(excinfo.value).split("\n")[1:]] == [
        "  line 1",
        "  line 4",
        "  line 5",
    ]


def beside(video):
    return find_sidecars([video])[video]


def test_lists_each_folder_once(tmp_path, monkeypatch):
    videos = [tmp_path / f"v{i}.mp4" for i in range(5)]
    for video in videos:
        video.with_suffix(".txt").write_text("")
    listings = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: listings.append(self) or iterdir(self))
    assert find_sidecars(videos) == {v: [v.with_suffix(".txt")] for v in videos}
    assert listings == [tmp_path]


def test_find_sidecars(tmp_path):
    own = ["x.srt", "x.en.vtt", "x.deu.txt", "x.json", "x.DE.SRT"]
    others = [
        "x.mp4",
        "xy.srt",
        "x.info.json",
        "x.csv",
        "y.srt",
        "x.a.srt",
        "x.one.mp4",
        "x.one.srt",
        "x",
    ]
    for name in own + others:
        (tmp_path / name).write_text("")
    (tmp_path / "x.fr.srt").mkdir()
    assert beside(tmp_path / "x.mp4") == sorted(tmp_path / name for name in own)
    assert beside(tmp_path / "x.one.mp4") == [tmp_path / "x.one.srt"]
    assert beside(tmp_path / "z.mp4") == []
    assert beside(tmp_path / "nowhere" / "x.mp4") == []


def test_find_sidecars_escapes_special_characters(tmp_path):
    for name in ("a[b]*.mp4", "a[b]*.txt", "ab.txt"):
        (tmp_path / name).write_text("")
    assert beside(tmp_path / "a[b]*.mp4") == [tmp_path / "a[b]*.txt"]
