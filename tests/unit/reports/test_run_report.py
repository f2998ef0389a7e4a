"""The page about a run is well-formed, needs nothing from elsewhere, and shows hostile names as the text that they are."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from jinja2 import UndefinedError

import vla
from vla.errors import CacheError, MissingError
from vla.evaluation.report_file import EvaluationReport, save
from vla.evaluation.results import MetricResult
from vla.evaluation.verdict import Gain, Verdict
from vla.features import FeatureSpec
from vla.model import ModelConfig
from vla.reports import html
from vla.reports.html import escape_text
from vla.reports.run_report import render_html
from vla.reports.svg import interval_chart, line_chart
from vla.storage.workspace import Workspace
from vla.training.checkpoint import Run, save_run
from vla.training.config import TrainConfig

VOID = {"meta", "br", "link", "img", "hr", "input"}
HOSTILE = "<script>alert(1)</script>\"'&\x1b]0;x\x07\u202egnp\n</table>"
FIGURE = MetricResult(
    "text to video",
    "R@1",
    41.25,
    38.0,
    44.0,
    8,
    4,
    30.5,
    {"chance": 25.0},
    "",
    33.0,
    {"+DSL": 50.0},
)


class Reader(HTMLParser):
    """Fails where tags do not close in order; keeps tags, attributes and text."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.text, self.attributes = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, text):
        self.text.append(text)


def metrics(r1):
    return {"text to video": {"R@1": r1, "R@5": 90.0, "R@10": 95.0, "MedR": 2.0, "MnR": 3.5}}


def run_of(name="mine", task="text to video", better=True, epochs=3):
    history = [
        {"epoch": i + 1, "losses": {"global": 1 / (i + 1), HOSTILE: 0.5}, "metrics": {task: {"R@1": 40.0 + i}},
         "score": 0.4 + 0.1 * i, "search": 0.4}
        for i in range(epochs)
    ]  # fmt: skip
    record = {
        "config": {**TrainConfig().to_json(), "epochs": epochs, "projector": HOSTILE}, "epochs": epochs, "alpha": 0.5,
        "better": better, "videos": {"train": 8, "held out": 2, "searched": 10},
        "before": {"metrics": {task: {"R@1": 39.0, "MedR": 3.0}}, "score": 0.4, "search": 0.4},
        "after": {"metrics": {task: {"R@1": 42.0, "R@10": 80.0, "R@5": 70.0, "MedR": 4.0}}, "score": 0.6, "search": 0.5,
                  "blind": {task: {"R@1": 12.0}}},
        "floors": {task: {"R@1": 11.0}}, "history": history, "centring": 0.5, "untaught": {"before": 0.25, "after": 0.375},
    }  # fmt: skip
    return Run(
        name,
        "i" * 16,
        "d" * 16,
        FeatureSpec("toy", HOSTILE, "none", "none", "fps=2", 16),
        ModelConfig(16),
        record,
    )


def evaluated(**change):
    found = EvaluationReport(
        "mine",
        "d" * 16,
        "f" * 16,
        f"/x/{HOSTILE}.csv",
        HOSTILE,
        {"videos": 4, "captions": 8},
        "what",
        [FIGURE],
    )
    return replace(found, **change)


def test_the_page_is_well_formed_and_complete():
    page = render_html(run_of(), [evaluated()])
    read = Reader(page)
    text = " ".join(read.text)
    assert page.startswith("<!doctype html>") and {
        "html",
        "head",
        "main",
        "table",
        "svg",
        "h1",
    } <= set(read.tags)
    for told in (
        "41.2",
        "38.0 – 44.0",
        "30.5",
        "25.0 chance",
        "33.0",
        "50.0",
        "dual softmax",
        "+3.0",
        "+1.0",
        "12.0",
        "11.0",
        "0.250 before training, 0.375 after",
    ):
        assert told in text, told
    assert (
        ("lang", "en") in read.attributes
        and ("scope", "col") in read.attributes
        and ("scope", "row") in read.attributes
    )
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    # R@5 stands before R@10, and what is no percentage at the end.
    assert re.findall(r">(R@\d+|MedR)<", page)[:4] == ["R@1", "R@5", "R@10", "MedR"]


def test_every_table_has_a_caption_and_every_row_as_many_cells_as_columns():
    page = render_html(
        run_of(),
        [
            evaluated(
                figures=[FIGURE, replace(FIGURE, blind=None, tricks={}, floors={}, no_floor="why")]
            )
        ],
    )
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        assert "<caption>" in table
        head, *rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        assert {len(re.findall(r"<t[hd]", row)) for row in rows} == {len(re.findall(r"<th", head))}
    assert "why" in page


def test_nothing_comes_from_elsewhere():
    page = render_html(run_of(), [evaluated()])
    read = Reader(page)
    assert (
        "script" not in read.tags
        and "link" not in read.tags
        and "img" not in read.tags
        and "iframe" not in read.tags
    )
    assert not [
        n for n, _ in read.attributes if n.startswith("on") or n in ("src", "href", "style")
    ]
    assert (
        "http" not in page.replace("http-equiv", "")
        and "url(" not in page
        and "@import" not in page
    )
    assert "default-src &#x27;none&#x27;" in page


def test_hostile_names_are_text():
    task = "text <b>to</b> video"
    hostile = replace(
        FIGURE, task=HOSTILE, measure=HOSTILE, floors={HOSTILE: 1.0}, tricks={HOSTILE: 2.0}
    )
    page = render_html(
        run_of(HOSTILE, task), [evaluated(figures=[hostile], notes=[HOSTILE], floors_from=HOSTILE)]
    )
    read = Reader(page)
    assert "script" not in read.tags
    assert (
        "\x1b" not in page
        and "\u202e" not in page
        and "<script" not in page
        and "<b>to</b>" not in page
    )
    assert "<script>alert(1)</script>\"'&\\u001b]0;x\\u0007\\u202egnp" in " ".join(read.text)
    assert escape_text("a<b>\"'&\u2066") == "a&lt;b&gt;&#34;&#39;&amp;\\u2066"
    page.encode("utf-8")
    assert escape_text("\ud800") == "\\ud800"


def test_no_template_turns_escaping_off():
    """`Markup` is for charts alone; a template escapes whatever it is given."""
    files = list((Path(html.__file__).parent / "templates").glob("*.j2"))
    assert files and not [
        f.name for f in files if re.search(r"\|\s*safe|autoescape", f.read_text("utf-8"))
    ]
    assert html.render("run.html.j2", **blank(name=HOSTILE)).count("&lt;script&gt;") == 2
    with pytest.raises(UndefinedError):
        html.render("run.html.j2", name="a value is missing")


def blank(**given):
    return {
        "name": "", "verdict": "", "summary": [], "settings": [], "course": None, "comparison": [], "evaluations": [],
        "version": "", **given,
    }  # fmt: skip


def test_a_run_that_is_no_better_says_so_and_old_figures_are_marked():
    page = render_html(run_of(better=False), [evaluated(digest="e" * 16)])
    assert (
        "not better than the frozen encoder" in page
        and "Measured before the run was trained again" in page
    )
    assert "vla eval</code> adds them" in render_html(run_of(), [])


def test_a_curve_is_an_image_with_words_and_its_points_lie_within():
    chart = line_chart("loss: a & b", [2, 4, 6, 7], [3.0, 2.0, float("nan"), 1.0], 2.5)
    svg = ElementTree.fromstring(chart.svg)
    assert (chart.title, chart.caption) == ("loss: a & b", "last 1, frozen 2.5")
    assert (
        svg.get("role") == "img"
        and svg.get("aria-label") == "loss: a & b, epoch 2 to 7: from 3 to 1; frozen 2.5"
    )
    path = next(e.get("d") for e in svg.iter() if e.get("class") == "curve")
    points = [tuple(map(float, p.split())) for p in re.findall(r"[ML]([\d.]+ [\d.]+)", path)]
    assert len(points) == 3 and path.count("M") == 2  # the gap is not bridged
    assert [x for x, _ in points] == sorted(x for x, _ in points) and [
        y for _, y in points
    ] == sorted(y for _, y in points)
    assert all(0 <= x <= 300 and 0 <= y <= 150 for x, y in points)
    # Equal steps in value are equal steps on paper.
    assert points[1][1] - points[0][1] == pytest.approx(points[2][1] - points[1][1], abs=0.11)
    # And equal numbers of epochs: from 2 to 4 two, from 4 to 7 three.
    distances = np.diff([x for x, _ in points])
    assert distances[1] / distances[0] == pytest.approx(3 / 2, abs=0.01)
    assert [e.text for e in svg.iter() if e.get("text-anchor") == "middle"] == ["2", "4", "6", "7"]
    assert line_chart("x", [1], [float("nan")]) is None and line_chart("x", [], []) is None


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 0.0], [-1e-9, 1e9], [1e-300, 2e-300]])
def test_odd_curves_are_drawn(values):
    drawn = line_chart("x", range(1, len(values) + 1), values).svg
    ElementTree.fromstring(drawn)
    numbers = [float(n) for n in re.findall(r'(?:x|y|cx|cy)="(-?[\d.]+)"', drawn)]
    assert (
        numbers
        and all(-1 <= n <= 301 for n in numbers)
        and "nan" not in drawn
        and "inf" not in drawn
    )


def test_where_a_figure_stands():
    svg = ElementTree.fromstring(interval_chart(50.0, 40.0, 60.0, 0.0, 100.0))
    assert svg.get("aria-hidden") == "true"
    places = {e.get("class"): e.get("cx") or re.findall(r"M([\d.]+)", e.get("d"))[0] for e in svg}
    assert places == {
        "track": "4",
        "range": "80.8",
        "floor": "196.0",
        "before": "4.0",
        "dot": "100.0",
    }


def test_a_damaged_record_is_refused():
    broken = run_of()
    del broken.record["history"]
    with pytest.raises(CacheError, match="record of run 'mine' is damaged"):
        render_html(broken, [])


def test_the_file_is_written_where_it_is_asked_for(tmp_path):
    from vla.model import AlignmentModel

    place, run = Workspace.open_or_create(tmp_path), run_of()
    save_run(
        place.runs / "mine", AlignmentModel(ModelConfig(16)), run.spec, run.identity, run.record
    )
    save(place.runs / "mine", evaluated())
    path = vla.report("mine", output=tmp_path / "deep" / "r.html", workspace=tmp_path)
    assert path == tmp_path / "deep" / "r.html" and "41.2" in path.read_text("utf-8")
    with pytest.raises(MissingError, match="no trained run 'other'"):
        vla.report("other", workspace=tmp_path)
    for kept in (place.runs / "mine").glob("eval-*.json"):
        kept.write_text(json.dumps({"schema": 1}))
    with pytest.raises(CacheError, match="eval-.*is damaged"):
        vla.report("mine", output=path, workspace=tmp_path)


def test_the_summary_says_which_weights_and_what_heads_use():
    run = run_of(epochs=3)
    verdict = Verdict(12, Gain(5.0, 2.0, 8.0), {"moment by head": Gain(5.0, 2.0, 8.0)})
    run.record.update(
        selected_epoch=2,
        head_gate={"alpha": 0.25, "shares": {"moments": 0.5}, "contrast_ends": {"moments": True}},
        heads={"moment by head": verdict.to_json()},
    )
    text = re.sub(r"<[^>]+>", " ", render_html(run, []))
    assert "3; the weights are those of epoch 2" in text
    assert (
        "0.25; share between initial (0) and trained (1) weights: moments 0.5; ends of moments by contrast: moments"
        in text
    )
    assert "better than the untrained head on 12 held-out videos (+5.0 points" in text
    assert "the weights are those" not in render_html(run_of(), [])
