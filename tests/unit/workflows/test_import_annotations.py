"""`import_annotations`: what it reads, counts, leaves out, writes and refuses to write."""

import json
import os
from pathlib import Path

import pytest

import vla
from support.refusals import refused
from vla.datasets import registry
from vla.datasets.base import Annotation, Question, Saliency
from vla.datasets.table import Dataset as Table
from vla.errors import AnnotationError, MissingError, ResourceError, UnknownNameError, UsageError
from vla.storage import atomic
from vla.workflows.import_annotations import import_annotations, list_formats

CHARADES = "AO8RW 0.0 6.9##a person sits.\nY6R7T 20 29.5##person begins.\n"


@pytest.fixture
def charades(tmp_path):
    path = tmp_path / "charades_sta_train.txt"
    path.write_text(CHARADES)
    return path


@pytest.fixture
def mixed_file(tmp_path):
    """A file of ours with every kind of annotation."""
    annotations = [
        Annotation(
            "1",
            "a",
            "v",
            ((0, 2), (4, 8)),
            "train",
            duration=7.5,
            saliency=Saliency(2, (0,), ((1,),)),
        ),
        Annotation("2", "b", "v", split="train", paragraph="p", sentence=1),
        Annotation("3", "c", "v", split="train", paragraph="p", sentence=0),
        Annotation(
            "4", "d?", "w", ((1, 2),), "val", category="CW", question=Question(("x", "y"), 1)
        ),
        Annotation("5", "e?", "w", category="CW", question=Question(count=2)),
        Annotation("6", "f?", "x", category="CH", question=Question(answers=("yes",))),
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(a.to_json()) + "\n" for a in annotations))
    return path


def test_every_reader_describes_its_files():
    assert tuple(list_formats()) == registry.names() and all(list_formats().values())
    assert vla.import_annotations.__wrapped__ is import_annotations


def test_written_annotations_are_read_back(charades, tmp_path):
    report = import_annotations(
        "charades_sta", [str(charades)], output=tmp_path / "sub" / "out.jsonl"
    )
    assert [(a.video, a.query, a.spans, a.split) for a in report.annotations] == [
        ("AO8RW", "a person sits.", ((0, 6.9),), "train"),
        ("Y6R7T", "person begins.", ((20, 29.5),), "train"),
    ]
    lines = (tmp_path / "sub" / "out.jsonl").read_bytes().decode("ascii").splitlines()
    assert [Annotation.from_json(json.loads(line)) for line in lines] == report.annotations
    again = Table().read(tmp_path / "sub" / "out.jsonl")
    assert [a.to_json() | {"source": ""} for a in again] == [
        a.to_json() | {"source": ""} for a in report.annotations
    ]
    assert import_annotations("charades_sta", [charades]).output is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["charades_sta_train.txt", "sub"]


def test_summary_counts(mixed_file):
    summary = import_annotations("table", [mixed_file]).summary()
    assert summary == {
        "format": "table", "annotations": 6, "videos": 3, "left_out": 0,
        "omissions": [], "output": None, "coverage": None,
        "kinds": {"caption": 3, "choice question": 1, "count question": 1, "open question": 1},
        "splits": {"train": {"annotations": 3, "videos": 1}, "val": {"annotations": 1, "videos": 1},
                   "": {"annotations": 2, "videos": 2}},
        "categories": {"CH": 1, "CW": 2}, "paragraphs": 1, "rated": 1,
        "spans": {"annotations": 2, "spans": 3, "with_several": 1, "shortest": 1.0, "median": 2.0, "longest": 4.0,
                  "after_the_end": 1},
    }  # fmt: skip
    json.dumps(summary, allow_nan=False)


def test_selects_a_split_and_assigns_missing_ones(mixed_file):
    report = import_annotations("table", [mixed_file], split="val").annotations
    assert [(a.query_id, a.split) for a in report] == [("4", "val"), ("5", "val"), ("6", "val")]
    mixed_file.write_text(mixed_file.read_text().splitlines()[0])
    with pytest.raises(
        UsageError, match=r"no annotation belongs to split 'test'; the splits are train \(1\)"
    ):
        import_annotations("table", [mixed_file], split="test")


def test_imports_paragraphs_instead_of_sentences(mixed_file, charades):
    (report,) = import_annotations("table", [mixed_file], as_paragraphs=True).annotations
    assert (report.query, report.video, report.split, report.spans) == ("c b", "v", "train", ())
    with pytest.raises(UsageError, match="charades_sta has no paragraphs"):
        import_annotations("charades_sta", [charades], as_paragraphs=True)


def test_invalid_rows_are_rejected_or_skipped(charades, tmp_path):
    charades.write_text(CHARADES + "AO8RW 7 7##nothing.\nnonsense\n")
    with refused(
        AnnotationError,
        "skip_invalid",
        r"2 faults(?s:.)*line 3: span 7(?s:.)*line 4:(?s:.)*The 2 other rows are valid",
    ):
        import_annotations("charades_sta", [charades], output=tmp_path / "o.jsonl")
    assert not (tmp_path / "o.jsonl").exists()
    messages = []
    report = import_annotations(
        "charades_sta",
        [charades],
        output=tmp_path / "o.jsonl",
        skip_invalid=True,
        progress=messages.append,
    )
    assert report.left_out == report.summary()["left_out"] == 2 and len(report.annotations) == 2
    assert [p.level for p in messages] == ["warning"] and "line 4:" in messages[0].message
    charades.write_text("nonsense\n")
    with pytest.raises(AnnotationError, match="1 fault"):
        import_annotations("charades_sta", [charades], skip_invalid=True)


def test_existing_output_needs_overwrite(charades, tmp_path, monkeypatch):
    output = tmp_path / "o.jsonl"
    output.write_text("precious")
    with pytest.raises(UsageError, match=r"o\.jsonl is there already"):
        import_annotations("charades_sta", [charades], output=output)
    with pytest.raises(UsageError, match="is one of the files to be read"):
        import_annotations("charades_sta", [charades], output=charades, overwrite=True)
    with pytest.raises(UsageError, match="is a folder"):
        import_annotations("charades_sta", [charades], output=tmp_path, overwrite=True)
    assert output.read_text() == "precious" and charades.read_text() == CHARADES

    def full(handle, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(ResourceError, match="cannot write"):
        patch.setattr(os, "write", full)
        import_annotations("charades_sta", [charades], output=output, overwrite=True)
    assert output.read_text() == "precious" and not list(tmp_path.glob(f"{atomic.TEMPORARY}*"))
    import_annotations("charades_sta", [charades], output=output, overwrite=True)
    assert len(output.read_text().splitlines()) == 2


def test_coverage_of_a_video_folder(charades, tmp_path):
    folder = tmp_path / "videos" / "deep"
    folder.mkdir(parents=True)
    for name in ("AO8RW.mp4", "other.mp4"):
        (folder / name).write_bytes(b"")
    coverage = import_annotations("charades_sta", [charades], videos=tmp_path / "videos").coverage
    assert (coverage.there, coverage.missing, coverage.ambiguous) == (1, ["Y6R7T"], [])
    (folder / "AO8RW.webm").write_bytes(b"")
    coverage = import_annotations("charades_sta", [charades], videos=tmp_path / "videos").coverage
    assert (coverage.there, coverage.missing, coverage.ambiguous) == (0, ["Y6R7T"], ["AO8RW"])
    assert import_annotations("charades_sta", [charades], videos=tmp_path / "videos").summary()[
        "omissions"
    ] == [
        {"reason": "no-such-video", "count": 1, "examples": ["Y6R7T"]},
        {"reason": "ambiguous-name", "count": 1, "examples": ["AO8RW"]},
    ]
    with pytest.raises(UsageError, match="no such folder of videos"):
        import_annotations("charades_sta", [charades], videos=charades)


def test_coverage_of_a_workspace(toy_workspace, charades, tmp_path_factory, monkeypatch):
    charades.write_text("v2 0 1##a\nv9 0 1##b\n")
    coverage = import_annotations("charades_sta", [charades], workspace=toy_workspace.root).coverage
    assert (coverage.where, coverage.there, coverage.missing) == (
        str(toy_workspace.root),
        1,
        ["v9"],
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert import_annotations("charades_sta", [charades]).coverage is None
    with pytest.raises(MissingError):
        import_annotations("charades_sta", [charades], workspace=elsewhere)


def test_rejects_unknown_readers(charades):
    with pytest.raises(UnknownNameError, match=r"Did you mean 'charades_sta'"):
        import_annotations("charades", [charades])
    with pytest.raises(AnnotationError, match="there is no file"):
        import_annotations("charades_sta", [Path("gone.txt")])
    with pytest.raises(AnnotationError, match="no file of annotations"):
        import_annotations("charades_sta", [])
