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
    "activitynet": Fixture(
        "val_1.json",
        '{"v_a": {"duration": 82.7, "timestamps": [[0.8, 19.9], [17.4, 90]], "sentences": ["A man runs.", " He falls."]},\n'
        ' "v_b": {"duration": 9, "timestamps": [[0, 9]], "sentences": ["Rain."]}}',
        [
            ("v_a", "A man runs.", ((0.8, 19.9),)),
            ("v_a", "He falls.", ((17.4, 90.0),)),
            ("v_b", "Rain.", ((0.0, 9.0),)),
        ],
        '{"v_a": {"duration": 82.7, "timestamps": [[0.8, 19.9]], "sentences": ["A man runs."]},\n'
        ' "v_b": {"duration": 9, "timestamps": [[9, 9]], "sentences": ["Rain."]}}',
        2,
    ),
    "activitynet_qa": Fixture(
        "val_q.json",
        '[{"question": "is it indoors", "question_id": "v_a_2", "video_name": "a"},\n'
        ' {"question": "who runs ", "question_id": "v_a_3", "video_name": "a"}]',
        [("v_a", "is it indoors", ()), ("v_a", "who runs", ())],
        '[{"question": "is it indoors", "question_id": "v_a_2", "video_name": "a"},\n{"question": "", "question_id": "3"}]',
        2,
    ),
    "charades_sta": Fixture(
        "charades_sta_test.txt",
        "3MSZA 24.3 30.4##person turn a light on.\nAO8RW 0 6.9##a person ## sits.\n",
        [
            ("3MSZA", "person turn a light on.", ((24.3, 30.4),)),
            ("AO8RW", "a person ## sits.", ((0.0, 6.9),)),
        ],
        "3MSZA 24.3 30.4##person turn a light on.\n\nAO8RW 0 6.9 a person sits.\n",
        3,
    ),
    "didemo": Fixture(
        "val_data.json",
        '[{"annotation_id": 49152, "description": "a cat", "num_segments": 6, "times": [[1, 1], [1, 2], [1, 1], [0, 0]],'
        ' "video": "a@N0_1_c.mov"},\n {"annotation_id": 7, "description": "a dog", "times": [[5, 5]], "video": "b.m4v"}]',
        [("a@N0_1_c.mov", "a cat", ((5.0, 10.0),)), ("b.m4v", "a dog", ((25.0, 30.0),))],
        '[{"annotation_id": 1, "description": "a cat", "times": [[1, 1]], "video": "a.mov"},\n'
        ' {"annotation_id": 2, "description": "a cat", "times": [[2, 1]], "video": "a.mov"}]',
        2,
    ),
    "how2qa": Fixture(
        "how2QA_val_release.csv",
        'NOuQ,[7.2:18.0],10,12,"a ""dozen""",how many knives?,1\nDQ6w,[43.5:60.0],no,no,no,is it him?,Yes\n',
        [("NOuQ", "how many knives?", ((7.2, 18.0),)), ("DQ6w", "is it him?", ((43.5, 60.0),))],
        "NOuQ,[7.2:18.0],10,12,16,how many knives?,1\nDQ6w,[60.0:60.0],no,no,no,is it him?,Yes\n",
        2,
    ),
    "lsmdc": Fixture(
        "LSMDC16_annos_val.csv",
        '1012_Un_00.36-00.38\t00.36.56.981\t00.36.58.1\t00.36.56.981\t00.36.58.1\t"SOMEONE waits, and\n'
        "1012_Un_00.36-00.38\t00.36.56.981\t00.36.58.1\t00.36.56.981\t00.36.58.1\tHe goes.\n",
        [
            ("1012_Un_00.36-00.38", '"SOMEONE waits, and', ()),
            ("1012_Un_00.36-00.38", "He goes.", ()),
        ],
        "a\t0\t1\t0\t1\tHe goes.\nb\t0\t1\t0\t1\n",
        2,
    ),
    "msrvtt": Fixture(
        "MSRVTT_data.json",
        '{"info": {"year": "2016"}, "videos": [{"category": 9, "url": "u", "video_id": "video0", "start time": 137.7,'
        ' "end time": 149.4, "split": "train", "id": 0}],\n'
        '"sentences": [{"caption": "a car is shown", "video_id": "video0", "sen_id": 0},\n'
        '{"caption": "two men", "video_id": "video0", "sen_id": 1}]}',
        [("video0", "a car is shown", ()), ("video0", "two men", ())],
        '{"sentences": [{"caption": "a car is shown", "video_id": "video0", "sen_id": 0},\n'
        '{"caption": ["two"], "video_id": "video0", "sen_id": 1}], "videos": [{"video_id": "video0"}]}',
        2,
    ),
    "msrvtt_qa": Fixture(
        "val_qa.json",
        '[{"answer": "couch", "category_id": 14, "id": 158581, "question": "what do they sit on?", "video_id": 6513},\n'
        ' {"answer": "man", "category_id": 14, "id": 158582, "question": "who sits?", "video_id": 6513}]',
        [("video6513", "what do they sit on?", ()), ("video6513", "who sits?", ())],
        '[{"answer": "couch", "id": 1, "question": "what?", "video_id": 6513},\n{"answer": "man", "id": 1, "question": "who?",'
        ' "video_id": 6513}]',
        2,
    ),
    "msvd": Fixture(
        "AllVideoDescriptions.txt",
        "# comment\n\n-4wsuPCjDBc_5_15 a squirrel is eating\n-4wsuPCjDBc_5_15 a squirrel is eating\n",
        [("-4wsuPCjDBc_5_15", "a squirrel is eating", ())] * 2,
        "-4wsuPCjDBc_5_15 a squirrel is eating\n-4wsuPCjDBc_5_15\n",
        2,
    ),
    "msvd_qa": Fixture(
        "test_qa.json",
        '[{"answer": "someone", "id": 2, "question": "who whips?", "video_id": 1301},\n'
        ' {"answer": "whip", "id": 3, "question": "what is done?", "video_id": 1301}]',
        [("vid1301", "who whips?", ()), ("vid1301", "what is done?", ())],
        '[{"answer": "someone", "id": 2, "question": "who whips?", "video_id": 1301},\n{"answer": "whip", "id": 3}]',
        2,
    ),
    "nextqa": Fixture(
        "val.csv",
        "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
        "4010069381,369,640,480,how do they play,1,6,CH,tap,roll,strum,hit,pat\n"
        "4010069381,369,640,480,where is it,0,7,DL,in,on,at,by,to\n",
        [("4010069381", "how do they play", ()), ("4010069381", "where is it", ())],
        "video,question,answer,qid,type,a0,a1,a2,a3,a4\n1,why,1,6,CH,a,b,c,d,e\n1,why,5,7,CH,a,b,c,d,e\n",
        3,
    ),
    "qvhighlights": Fixture(
        "highlight_val_release.jsonl",
        '{"qid": 2579, "query": "A girl cooks.", "duration": 150, "vid": "NUs_210.0_360.0", "relevant_clip_ids": [4, 5, 9],'
        ' "saliency_scores": [[1, 1, 2], [1, 0, 3], [4, 4, 4]], "relevant_windows": [[8, 12], [18, 20]]}\n',
        [("NUs_210.0_360.0", "A girl cooks.", ((8.0, 12.0), (18.0, 20.0)))],
        '{"qid": 1, "query": "a", "duration": 150, "vid": "v", "relevant_windows": [[8, 12]]}\n'
        '{"qid": 2, "query": "a", "duration": 150, "vid": "v", "relevant_windows": [8, 12]}\n',
        2,
    ),
    "tgif_qa": Fixture(
        "Test_count_question.csv",
        "gif_name\tquestion\tanswer\tvid_id\tkey\ntumblr_a_250\tHow many times does he nod ?\t3\tCOUNT12\t52\n",
        [("tumblr_a_250", "How many times does he nod ?", ())],
        "gif_name\tquestion\tanswer\tvid_id\tkey\na\tHow often ?\t3\tCOUNT12\t52\nb\tHow often ?\tten\tCOUNT13\t5\n",
        3,
    ),
    "tvr": Fixture(
        "tvr_val_release.jsonl",
        '{"vid_name": "friends_s01e03_seg02_clip_19", "duration": 61.46, "ts": [16.48, 33.87], "desc": "Phoebe waits.",'
        ' "type": "v", "desc_id": 90200}\n',
        [("friends_s01e03_seg02_clip_19", "Phoebe waits.", ((16.48, 33.87),))],
        '{"vid_name": "f", "ts": [1, 2], "desc": "a", "desc_id": 1}\n{"vid_name": "f", "ts": [1], "desc": "b", "desc_id": 2}\n',
        2,
    ),
    "sidecar": Fixture(
        "x.json",
        json.dumps(
            {"caption": "a walk", "moments": [{"start": 1, "end": "0:02", "caption": "a step"}]}
        ),
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
def test_reads_the_expected_annotations(name, tmp_path):
    fixture = _fixture(name)
    annotations = _read(name, tmp_path, fixture.text)
    assert [(a.video, a.query, a.spans) for a in annotations] == fixture.expected


@every_dataset
def test_query_ids_are_unique(name, tmp_path):
    ids = [a.query_id for a in _read(name, tmp_path, _fixture(name).text)]
    assert len(set(ids)) == len(ids) == len(_fixture(name).expected)


@every_dataset
def test_spans_are_in_range(name, tmp_path):
    spans = [span for a in _read(name, tmp_path, _fixture(name).text) for span in a.spans]
    assert len(spans) == sum(len(of_query) for _, _, of_query in _fixture(name).expected)
    assert all(0 <= start < end < float("inf") for start, end in spans)


@every_dataset
def test_sources_are_file_and_line(name, tmp_path):
    for annotation in _read(name, tmp_path, _fixture(name).text):
        file, line = annotation.source.rsplit(":", 1)
        assert file == _fixture(name).file
        assert int(line) >= 1


@every_dataset
def test_reading_is_deterministic(name, tmp_path):
    dataset = registry.build(name)
    path = tmp_path / _fixture(name).file
    path.write_text(_fixture(name).text)
    assert dataset.read(path) == dataset.read(path) == registry.build(name).read(path)


@every_dataset
def test_annotations_survive_json(name, tmp_path):
    annotations = _read(name, tmp_path, _fixture(name).text)
    assert [
        Annotation.from_json(json.loads(json.dumps(a.to_json()))) for a in annotations
    ] == annotations


@every_dataset
@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_and_byte_order_marks_do_not_matter(name, line_end, tmp_path):
    text = _fixture(name).text
    plain = _read(name, tmp_path, text)
    assert _read(name, tmp_path, b"\xef\xbb\xbf" + text.replace("\n", line_end).encode()) == plain
    assert _read(name, tmp_path, text.replace("\n", line_end).encode("utf-16")) == plain


@every_dataset
def test_reports_faults_by_line(name, tmp_path):
    with pytest.raises(
        AnnotationError, match=rf"(?s){_fixture(name).file}.*line {_fixture(name).faulty_line}\b"
    ):
        _read(name, tmp_path, _fixture(name).faulty)


@every_dataset
def test_invalid_rows_leave_the_valid_ones(name, tmp_path):
    with pytest.raises(AnnotationError) as excinfo:
        _read(name, tmp_path, _fixture(name).faulty)
    if name not in ("subtitles", "sidecar"):
        assert excinfo.value.faults == 1 and len(excinfo.value.valid) == 1


@every_dataset
def test_describes_its_files(name):
    assert registry.get(name).files.strip() and registry.get(name).__doc__


@every_dataset
def test_reads_several_files_as_one(name, tmp_path):
    fixture = _fixture(name)
    paths = [tmp_path / folder / f"{folder}_{fixture.file}" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(fixture.text)
    annotations = registry.build(name).read(*paths)
    assert len({a.query_id for a in annotations}) == len(annotations) == 2 * len(fixture.expected)
    with pytest.raises(AnnotationError):
        registry.build(name).read()


@every_dataset
def test_rejects_a_missing_file(name, tmp_path):
    with pytest.raises(AnnotationError, match="there is no file"):
        registry.build(name).read(tmp_path / _fixture(name).file)


@every_dataset
@pytest.mark.parametrize("text", ["", "\n \n"])
def test_rejects_an_empty_file(name, text, tmp_path):
    with pytest.raises(AnnotationError, match=_fixture(name).file):
        _read(name, tmp_path, text)


@every_dataset
def test_reports_another_encoding_by_offset(name, tmp_path):
    with pytest.raises(AnnotationError, match="byte 0xe9 at offset 4"):
        _read(name, tmp_path, b"caf \xe9 bar\n")


@every_dataset
def test_rejects_a_foreign_suffix(name, tmp_path):
    path = tmp_path / "x.docx"
    path.write_text("hello")
    with pytest.raises(AnnotationError, match=r"not '\.docx'"):
        registry.build(name).read(path)
