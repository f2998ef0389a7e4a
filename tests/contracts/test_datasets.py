"""What every reader of captions files must do, whoever wrote it; a new one joins by a fixture of its own."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from vla.datasets import registry
from vla.datasets.base import Annotation
from vla.errors import AnnotationError


@dataclass(frozen=True)
class Fixture:
    """A file, the (video, query, spans) it holds, the same file with a fault, and the line of that fault."""

    file: str
    text: str
    expected: list
    faulty: str
    faulty_line: int


FIXTURES = {
    "table": Fixture(
        "captions.csv",
        "video,caption,start,end\na.mp4,a dog runs,0.5,2\nb.mp4,a cat sleeps,,\n",
        [("a.mp4", "a dog runs", ((0.5, 2.0),)), ("b.mp4", "a cat sleeps", ())],
        "video,caption,start,end\na.mp4,a dog runs,0.5,2\nb.mp4,a cat sleeps,5,4\n",
        3,
    ),
    "subtitles": Fixture(
        "talk.srt",
        "1\n00:00:01,000 --> 00:00:02,500\nHello\nthere\n\n2\n00:01:00,000 --> 00:01:01,000\n<i>Bye</i>\n",
        [("talk", "Hello there", ((1.0, 2.5),)), ("talk", "Bye", ((60.0, 61.0),))],
        "1\n00:00:01,000 --> 00:00:02,500\nHello\n\n2\n00:01:00,000 --> 00:00:59,000\nBye\n",
        6,
    ),
    "sidecar": Fixture(
        "x.json",
        json.dumps({"caption": "a walk", "moments": [{"start": 1, "end": "0:02", "caption": "a step"}]}),
        [("x", "a walk", ()), ("x", "a step", ((1.0, 2.0),))],
        '{"caption": "a walk",\n "moments": [\n  {"start": 3, "end": 2, "caption": "a step"}]}',
        3,
    ),
}

every_dataset = pytest.mark.parametrize("name", registry.names())


def _fixture(name: str) -> Fixture:
    assert name in FIXTURES, f"dataset {name!r} needs an entry in FIXTURES"
    return FIXTURES[name]


def _read(name: str, folder: Path, text: str | bytes) -> list[Annotation]:
    path = folder / _fixture(name).file
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return registry.build(name).read(path)


@every_dataset
def test_fixture_gives_the_expected_annotations(name, tmp_path):
    fixture = _fixture(name)
    found = _read(name, tmp_path, fixture.text)
    assert [(a.video, a.query, a.spans) for a in found] == fixture.expected


@every_dataset
def test_query_ids_are_unique(name, tmp_path):
    ids = [a.query_id for a in _read(name, tmp_path, _fixture(name).text)]
    assert len(set(ids)) == len(ids) == len(_fixture(name).expected)


@every_dataset
def test_spans_are_in_range(name, tmp_path):
    spans = [span for a in _read(name, tmp_path, _fixture(name).text) for span in a.spans]
    assert spans
    assert all(0 <= start < end < float("inf") for start, end in spans)


@every_dataset
def test_sources_name_the_file_and_a_line(name, tmp_path):
    for annotation in _read(name, tmp_path, _fixture(name).text):
        file, line = annotation.source.rsplit(":", 1)
        assert file == _fixture(name).file
        assert int(line) >= 1


@every_dataset
def test_reading_twice_gives_the_same(name, tmp_path):
    dataset = registry.build(name)
    path = tmp_path / _fixture(name).file
    path.write_text(_fixture(name).text)
    assert dataset.read(path) == dataset.read(path) == registry.build(name).read(path)


@every_dataset
def test_annotations_survive_json(name, tmp_path):
    found = _read(name, tmp_path, _fixture(name).text)
    assert [Annotation.from_json(json.loads(json.dumps(a.to_json()))) for a in found] == found


@every_dataset
@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_and_byte_order_marks_change_nothing(name, line_end, tmp_path):
    text = _fixture(name).text
    plain = _read(name, tmp_path, text)
    assert _read(name, tmp_path, b"\xef\xbb\xbf" + text.replace("\n", line_end).encode()) == plain
    assert _read(name, tmp_path, text.replace("\n", line_end).encode("utf-16")) == plain


@every_dataset
def test_faults_are_told_by_line(name, tmp_path):
    with pytest.raises(AnnotationError, match=rf"(?s){_fixture(name).file}.*line {_fixture(name).faulty_line}\b"):
        _read(name, tmp_path, _fixture(name).faulty)


@every_dataset
def test_a_missing_file_is_told(name, tmp_path):
    with pytest.raises(AnnotationError, match="there is no file"):
        registry.build(name).read(tmp_path / _fixture(name).file)


@every_dataset
@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_told(name, text, tmp_path):
    with pytest.raises(AnnotationError, match=_fixture(name).file):
        _read(name, tmp_path, text)


@every_dataset
def test_another_encoding_is_told_by_offset(name, tmp_path):
    with pytest.raises(AnnotationError, match="byte 0xe9 at offset 4"):
        _read(name, tmp_path, b"caf \xe9 bar\n")


@every_dataset
def test_a_foreign_suffix_is_told(name, tmp_path):
    path = tmp_path / "x.docx"
    path.write_text("hello")
    with pytest.raises(AnnotationError, match=r"not '\.docx'"):
        registry.build(name).read(path)
