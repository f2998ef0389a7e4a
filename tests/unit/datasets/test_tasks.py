"""One record for every task: what it may hold, and that nothing of it is lost on the way through JSON and files."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.datasets._reading import (
    InvalidRowsError,
    Problems,
    canonical_split,
    read_each,
    split_from_name,
)
from vla.datasets.base import Annotation, Question, Saliency, paragraphs
from vla.datasets.table import Dataset as Table
from vla.errors import AnnotationError

texts = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1
).filter(str.strip)
wholes = st.integers(0, 10**6)
numbers = st.one_of(st.integers(-5, 5), st.floats(-1e6, 1e6))
spans = st.lists(st.tuples(st.integers(0, 999), st.integers(1, 99)), max_size=3).map(
    lambda pairs: tuple((start / 4, (start + length) / 4) for start, length in pairs)
)
questions = st.one_of(
    st.builds(Question),
    st.builds(Question, answers=st.lists(texts, min_size=1, max_size=3).map(tuple)),
    st.builds(Question, count=wholes),
    st.lists(texts, min_size=2, max_size=5).flatmap(
        lambda choices: st.builds(
            Question,
            choices=st.just(tuple(choices)),
            right=st.one_of(st.none(), st.integers(0, len(choices) - 1)),
        )
    ),
)
saliencies = st.integers(0, 4).flatmap(
    lambda annotators: st.dictionaries(
        wholes, st.lists(numbers, min_size=annotators, max_size=annotators)
    ).map(
        lambda ratings: Saliency(
            2, tuple(sorted(ratings)), tuple(tuple(ratings[clip]) for clip in sorted(ratings))
        )
    )
)
annotations = st.builds(
    Annotation,
    texts,
    texts,
    texts,
    spans,
    st.sampled_from(["", "train", "val_1"]),
    texts,
    duration=st.one_of(st.none(), st.floats(0.001, 1e6)),
    category=st.sampled_from(["", "CW"]),
    votes=spans,
    saliency=st.one_of(st.none(), saliencies),
    question=st.one_of(st.none(), questions),
)
in_paragraphs = st.builds(
    lambda annotation, name, index: replace(annotation, paragraph=name, sentence=index),
    annotations,
    texts,
    wholes,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(annotations, in_paragraphs),
        min_size=1,
        max_size=4,
        unique_by=lambda a: a.query_id,
    )
)
def test_annotations_round_trip_through_json(tmp_path_factory, annotation_list):
    lines = [json.dumps(a.to_json()) for a in annotation_list]
    assert [Annotation.from_json(json.loads(line)) for line in lines] == annotation_list
    path = tmp_path_factory.mktemp("t") / "ours.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines))
    annotations = Table().read(path)
    assert [replace(a, source="") for a in annotations] == [
        replace(a, source="") for a in annotation_list
    ]
    assert [a.source for a in annotations] == [
        f"ours.jsonl:{line}" for line in range(1, len(annotation_list) + 1)
    ]


def test_json_format_of_captions_is_stable():
    """Digests of runs are taken over this: a caption that needs no new field must not change them."""
    plain = Annotation("q", "a dog", "v", ((1, 2),), "train", "c.csv:2")
    assert plain.to_json() == {
        "query_id": "q", "query": "a dog", "video": "v", "spans": [[1, 2]], "split": "train", "source": "c.csv:2",
    }  # fmt: skip
    assert Annotation.from_json({"query_id": "q", "query": "a", "video": "v"}) == Annotation(
        "q", "a", "v"
    )


def test_keeps_equal_annotations_with_different_ids(tmp_path):
    """MSVD has the same sentence of a video many times, and its metrics count each."""
    (tmp_path / "ours.jsonl").write_text(
        "".join(json.dumps(Annotation(name, "a dog", "v").to_json()) + "\n" for name in "ab")
    )
    assert [a.query_id for a in Table().read(tmp_path / "ours.jsonl")] == ["a", "b"]
    (tmp_path / "with_ids.csv").write_text("id,video,caption\n1,v,a dog\n2,v,a dog\n2,v,a dog\n")
    assert [a.query_id for a in Table().read(tmp_path / "with_ids.csv")] == ["1", "2"]


def test_reports_faults_of_annotations_by_line(tmp_path):
    good = Annotation("q", "a", "v").to_json()
    rows = [
        good,
        {**good, "query_id": "r", "question": {"choices": ["x"]}},
        {**good, "query_id": "s", "saliency": {"clips": [1]}},
        good | {"query": "other"},
    ]
    (tmp_path / "o.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        InvalidRowsError,
        match=r"3 faults(?s:.)*line 2: only one choice(?s:.)*line 3: not an(?s:.)*line 4: id 'q'",
    ):
        Table().read(tmp_path / "o.jsonl")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"choices": ("a",)}, "one choice, 'a'"),
        ({"choices": "ab"}, "choices must be a list of texts, not 'ab'"),
        ({"choices": ("a", "")}, "choice is empty"),
        ({"choices": ("a", 3)}, "choice must be text, not 3"),
        ({"answers": ("a", "b\0")}, "answer .* NUL"),
        ({"answers": ("\ud800",)}, "lone surrogate"),
        ({"choices": ("a", "b"), "right": 2}, "right choice is 2, counted from 0, of 2"),
        ({"choices": ("a", "b"), "right": -1}, "right choice must be an integer"),
        ({"choices": ("a", "b"), "right": True}, "right choice must be an integer"),
        ({"answers": ("a",), "right": 0}, "right choice is 0"),
        ({"choices": ("a", "b"), "answers": ("a",)}, "either choices, or answers, or a count"),
        ({"answers": ("2",), "count": 2}, "either choices, or answers, or a count"),
        ({"count": -1}, "count must be an integer"),
        ({"count": 2.0}, "count must be an integer"),
        ({"count": 10**400}, "count must be an integer"),
    ],
)
def test_rejects_invalid_questions(fields, message):
    with pytest.raises(AnnotationError, match=message):
        Question(**fields)


@pytest.mark.parametrize(
    ("question", "kind", "answer"),
    [
        (Question(), "open", ""),
        (Question(answers=("yes", "yes", "no")), "open", "yes"),
        (Question(choices=("a", "b")), "choice", ""),
        (Question(choices=("a", "b"), right=0), "choice", "a"),
        (Question(count=0), "count", "0"),
    ],
)
def test_kind_and_answer(question, kind, answer):
    assert (question.kind, question.answer) == (kind, answer)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((0, (1,), ((1,),)), "clip_seconds must be a positive number of seconds"),
        ((math.nan, (1,), ((1,),)), "clip_seconds"),
        (("2", (1,), ((1,),)), "clip_seconds"),
        ((2, (1, 1), ((1,), (1,))), "clips must ascend"),
        ((2, (2, 1), ((1,), (1,))), "clips must ascend"),
        ((2, (-1,), ((1,),)), "clip must be an integer"),
        ((2, (1.5,), ((1,),)), "clip must be an integer"),
        ((2, (1, 2), ((1,),)), "2 clips but 1 lists of scores"),
        ((2, (1, 2), ((1,), (1, 2))), "with a score from every annotator"),
        ((2, (1,), ((math.inf,),)), "finite number"),
        ((2, (1,), ((10**400,),)), "finite number"),
        ((2, (1,), ((True,),)), "finite number"),
        ((2, (1,), (("3",),)), "finite number"),
    ],
)
def test_rejects_invalid_saliency(fields, message):
    with pytest.raises(AnnotationError, match=message):
        Saliency(*fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"duration": 0}, "duration must be a positive number of seconds"),
        ({"duration": math.inf}, "duration"),
        ({"duration": 10**400}, "duration"),
        ({"duration": "12"}, "duration"),
        ({"votes": ((2, 1),)}, "must end after its start"),
        ({"paragraph": "p"}, "give both or neither"),
        ({"sentence": 1}, "give both or neither"),
        ({"paragraph": "p", "sentence": -1}, "sentence must be an integer"),
        ({"category": 3}, "category must be text, not 3"),
        ({"split": ["train"]}, "split must be text"),
    ],
)
def test_rejects_invalid_fields(fields, message):
    with pytest.raises(AnnotationError, match=message):
        Annotation("q", "a", "v", **fields)
    as_json = {name: value for name, value in fields.items()}
    with pytest.raises(AnnotationError):
        Annotation.from_json({"query_id": "q", "query": "a", "video": "v", **as_json})


@pytest.mark.parametrize(
    "record",
    [
        {"question": "why"},
        {"question": ["why"]},
        {"question": {"choises": ["a", "b"]}},
        {"question": {"choices": "ab"}},
        {"question": {"choices": [["a"], "b"]}},
        {"question": {"answers": {"a": 1}}},
        {"saliency": 3},
        {"saliency": {"clip_seconds": 2, "clips": 3, "scores": []}},
        {"saliency": {"clip_seconds": 2, "clips": [1], "scores": [3]}},
        {"saliency": {"clip_seconds": 2, "clips": "12", "scores": ["1", "2"]}},
        {"votes": [[1]]},
        {"votes": 3},
        {"sentence": "1", "paragraph": "p"},
    ],
)
def test_rejects_wrong_types_in_json(record):
    with pytest.raises(AnnotationError):
        Annotation.from_json({"query_id": "q", "query": "a", "video": "v", **record})


def test_paragraphs_join_sentences_in_order():
    records = [
        Annotation("1", "Then b.", "v", ((2, 3),), "val", "f:1", 9.0, paragraph="p", sentence=1),
        Annotation("2", "alone", "v"),
        Annotation("3", "First a.", "v", ((0, 2),), "val", "f:1", 9.0, paragraph="p", sentence=0),
        Annotation("4", "Of w.", "w", split="val", paragraph="p", sentence=0),
        Annotation("5", "Last c.", "v", ((1, 3),), "val", "f:1", 9.0, paragraph="p", sentence=2),
    ]
    assert paragraphs(records) == [
        Annotation("p", "First a. Then b. Last c.", "v", (), "val", "f:1", 9.0),
        Annotation("p", "Of w.", "w", split="val"),
    ]
    assert paragraphs([]) == []


def _of(ids, fault=""):
    def read(path):
        sound = [Annotation(name, "a", path.stem) for name in ids[path.stem]]
        problems = Problems()
        if fault and path.stem in fault:
            problems.add(3, "odd")
        problems.raise_if_any(path, sound)
        return sound

    return read


def test_ids_of_several_files_are_made_unique():
    paths = [Path("x.json"), Path("y.json")]
    annotations = read_each(paths, _of({"x": "ab", "y": "bc"}))
    assert [a.query_id for a in annotations] == ["a", "x:b", "y:b", "c"]
    with pytest.raises(AnnotationError, match=r"x\.json is given twice"):
        read_each([*paths, Path("x.json")], _of({"x": "a", "y": "b"}))
    with pytest.raises(AnnotationError, match="need names that differ"):
        read_each([Path("1/x.json"), Path("2/x.json")], _of({"x": "a"}))
    with pytest.raises(AnnotationError, match="no file"):
        read_each([], _of({}))


def test_reports_faults_of_all_files_with_the_valid_rows():
    paths = [Path("x.json"), Path("y.json"), Path("z.json")]
    with pytest.raises(
        InvalidRowsError, match=r"x\.json has 1 fault(?s:.)*z\.json has 1 fault"
    ) as excinfo:
        read_each(paths, _of({"x": "a", "y": "b", "z": "c"}, fault="xz"))
    assert excinfo.value.faults == 2 and [a.query_id for a in excinfo.value.valid] == [
        "a",
        "b",
        "c",
    ]

    def unreadable(path):
        if path.stem == "y":
            raise AnnotationError("y is gone")
        return _of({"x": "a", "z": "c"}, fault="x")(path)

    with pytest.raises(AnnotationError, match=r"(?s)x\.json has.*y is gone") as excinfo:
        read_each(paths, unreadable)
    assert not isinstance(excinfo.value, InvalidRowsError)  # what is left is not all that is sound


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("highlight_val_release.jsonl", "val"),
        ("MSRVTT_train.9k.csv", "train"),
        ("MSRVTT_JSFUSION_test.csv", "test"),
        ("LSMDC16_annos_training.csv", "train"),
        ("test_data.json", "test"),
        ("val_1.json", "val"),
        ("latest.csv", ""),
        ("trainval.json", ""),
        ("train_and_test.json", ""),
        ("captions.json", ""),
    ],
)
def test_split_from_name(name, split):
    assert split_from_name(Path(name)) == split


def test_canonical_split():
    assert [canonical_split(w) for w in ("validate", "train", "val_1", "", "Training")] == [
        "val",
        "train",
        "val_1",
        "",
        "train",
    ]
