"""Spans against the lengths of their videos, and captions too long to be any."""

import pytest

from vla.datasets._fitting import fit_spans
from vla.datasets._open import MAX_CAPTION_CHARS, read_annotations, read_sidecar
from vla.datasets.base import Annotation
from vla.errors import AnnotationError
from vla.omissions import Omissions


def fit(spans, duration=2.0):
    omissions = Omissions()
    annotations = fit_spans(
        [Annotation("q", "a dog", "v", tuple(spans))], {"v": duration}, omissions
    )
    return [a.spans for a in annotations], omissions


@pytest.mark.parametrize(
    ("spans", "duration", "expected_spans", "counts"),
    [
        ([], 2, [()], {}),
        ([(0, 1)], 2, [((0, 1),)], {}),
        ([(0, 2.4)], 2, [((0, 2.4),)], {}),
        ([(0, 2.6)], 2, [((0, 2),)], {"span-cut": 1}),
        ([(0, 101.9)], 100, [((0, 101.9),)], {}),
        ([(0, 102.1)], 100, [((0, 100),)], {"span-cut": 1}),
        ([(2, 3)], 2, [], {"span-outside": 1}),
        ([(500, 1500)], 2, [], {"span-outside": 1}),
        ([(0, 1), (5, 6)], 2, [((0, 1),)], {"span-outside": 1}),
        ([(0, 9), (5, 6)], 2, [((0, 2),)], {"span-outside": 1, "span-cut": 1}),
    ],
)
def test_drops_and_cuts_spans_outside_of_the_video(spans, duration, expected_spans, counts):
    annotations, omissions = fit(spans, duration)
    assert annotations == expected_spans and omissions.counts == counts


@pytest.mark.parametrize(
    ("span", "duration", "remark"),
    [
        ((500, 1500), 2, "milliseconds?"),
        ((60_000, 61_000), 120, "milliseconds?"),
        ((30, 55), 2, "frames?"),
        ((1500, 2900), 120, "frames?"),
        ((10**7, 2 * 10**7), 2, ""),
        ((2.5, 3), 2, "frames?"),
    ],
)
def test_suggests_the_unit_of_implausible_times(span, duration, remark):
    (example,) = fit([span], duration)[1].examples["span-outside"]
    assert example.startswith(f"{span[0]:g} to {span[1]:g} s in v of {duration:g} s")
    assert (remark in example) if remark else "?" not in example


def test_single_outlier_suggests_no_unit():
    omissions = Omissions()
    rows = [Annotation(f"{n}", "a", "v", ((0, 1),)) for n in range(9)] + [
        Annotation("x", "a", "v", ((30, 55),))
    ]
    assert len(fit_spans(rows, {"v": 2.0}, omissions)) == 9
    assert omissions.examples["span-outside"] == ["30 to 55 s in v of 2 s"]


def test_unknown_duration_keeps_spans():
    omissions = Omissions()
    assert (
        len(fit_spans([Annotation("q", "a", "other", ((5, 6),))], {"v": 2.0}, omissions)) == 1
        and not omissions
    )


@pytest.mark.parametrize("file", ["c.csv", "c.jsonl", "x.txt", "x.json"])
def test_rejects_overlong_captions(file, tmp_path):
    """The others are kept; nothing is cut in silence."""
    long = "word " * 2500
    texts = {
        "c.csv": f"video,caption\nv,a dog\nv,{long}\n",
        "c.jsonl": f'{{"video": "v", "caption": "a dog"}}\n{{"video": "v", "caption": "{long}"}}\n',
        "x.txt": f"a dog\n{long}\n",
        "x.json": f'["a dog", "{long}"]',
    }
    (tmp_path / file).write_text(texts[file])
    omissions = Omissions()
    read = (
        read_annotations
        if file[0] == "c"
        else lambda path, _, omissions: read_sidecar(path, "x", omissions)
    )
    assert [a.query for a in read(tmp_path / file, None, omissions)] == ["a dog"]
    assert omissions.counts == {"row": 1} and "12,499 characters" in omissions.summary()
    (tmp_path / "d.csv").write_text(f"video,caption\nv,{long}\n")
    with pytest.raises(AnnotationError, match="every caption is longer than 10,000 characters"):
        read_annotations(tmp_path / "d.csv")
    (tmp_path / "e.csv").write_text(f"video,caption\nv,{'x' * MAX_CAPTION_CHARS}\n")
    assert len(read_annotations(tmp_path / "e.csv")) == 1


def test_counts_sidecars_without_captions(tmp_path):
    omissions = Omissions()
    (tmp_path / "x.json").write_text('{"title": "x", "description": ""}')
    assert read_sidecar(tmp_path / "x.json", "x", omissions) == []
    (tmp_path / "x.srt").write_text("1\n00:00:02,000 --> 00:00:01,000\na\n")
    with pytest.raises(AnnotationError, match="must end after"):
        read_sidecar(tmp_path / "x.srt", "x", omissions)
    assert omissions.counts == {"captions-file": 2} and omissions.examples["captions-file"] == [
        "x.json",
        "x.srt",
    ]
