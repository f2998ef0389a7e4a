"""Results: values, intervals and JSON round trips."""

import json
from dataclasses import replace

import numpy as np
import pytest

from vla.errors import CacheError, UsageError
from vla.evaluation.report_file import EvaluationReport, load, save
from vla.evaluation.results import BaselineScores, MetricResult, PerQueryScores, metric_results
from vla.metrics.bootstrap import estimate

FIGURE = MetricResult(
    "text to video",
    "R@1",
    41.25,
    38.0,
    44.0,
    8,
    4,
    30.0,
    {"chance": 25.0, "other": 26.0},
    "",
    None,
    {"+DSL": 50.0},
)
EVALUATED = EvaluationReport(
    "mine",
    "d" * 16,
    "f" * 16,
    "/x/captions.csv",
    "test",
    {"videos": 4},
    "",
    [FIGURE],
    ["a note"],
    3,
)


def test_median_interval_matches_naive_loop():
    rng = np.random.default_rng(4)
    values, videos = rng.integers(1, 30, 21).astype(float), rng.integers(0, 6, 21)
    names = np.unique(videos)
    drawn = np.random.default_rng(9).integers(len(names), size=(300, len(names)))
    medians = [
        np.median(np.concatenate([values[videos == names[i]] for i in row])) for row in drawn
    ]
    wanted = np.quantile(medians, [0.05, 0.95])
    found = estimate(values, 0.9, 300, 9, videos, median=True)
    assert found.interval == pytest.approx(tuple(wanted))
    assert found.value == np.median(values)
    assert estimate(np.full(5, 7.0), median=True).interval == (7.0, 7.0)
    with pytest.raises(UsageError, match="at least one"):
        estimate(np.zeros(0), median=True)


def test_value_is_rounded_mean_or_median():
    by_query, videos = np.array([0.0, 100.0, 100.0]), np.array([0, 0, 1])
    assert PerQueryScores(by_query, videos).value == pytest.approx(200 / 3)
    assert PerQueryScores(by_query, videos, digits=2).value == 66.67
    assert PerQueryScores(np.array([4.0, 1.0, 2.0, 9.0]), np.arange(4), median=True).value == 3.0
    assert (
        PerQueryScores(by_query, videos).interval(5)
        == estimate(by_query, seed=5, clusters=videos).interval
    )


def test_best_baseline_respects_direction():
    assert FIGURE.best_baseline == ("other", 26.0)
    assert replace(FIGURE, measure="MedR").best_baseline == ("chance", 25.0)
    assert replace(FIGURE, floors={}).best_baseline is None


def test_metric_without_baseline_has_reason():
    ours = {
        "a": PerQueryScores(np.ones(2), np.arange(2)),
        "b": PerQueryScores(np.ones(2), np.arange(2)),
    }
    found = metric_results(
        "t",
        ours,
        {"a": ours["a"]},
        BaselineScores({"chance": {"a": 1.0}}),
        {"b": 2.0},
        {"+DSL": {"a": 3.0}},
        0,
    )
    assert [f.no_floor == "" for f in found] == [True, False] and found[1].floors == {}
    assert [f.frozen for f in found] == [1.0, None] and [f.blind for f in found] == [None, 2.0]
    assert [f.tricks for f in found] == [{"+DSL": 3.0}, {}]
    assert all(
        f.no_floor == "why"
        for f in metric_results(
            "t", ours, None, BaselineScores({"chance": {"a": 1.0}}, "why"), {}, {}, 0
        )
    )


def test_report_round_trip(tmp_path):
    path = save(tmp_path, EVALUATED, "moments")
    other = replace(EVALUATED, captions="/y/../\x1b]0;captions\n.csv", split="a/b")
    hostile = save(tmp_path, other)
    assert hostile.parent == tmp_path and hostile.name.isascii() and hostile.name.isprintable()
    assert path.name.startswith("eval-captions-test-") and path != save(tmp_path, EVALUATED)
    assert sorted(e.split for e in load(tmp_path)) == ["a/b", "test", "test"]
    assert EVALUATED in load(tmp_path) and other in load(tmp_path)
    record = json.loads(path.read_text())
    assert set(record) == {"checksum", "schema", "run", "digest", "fingerprint", "captions", "split", "counts", "floors_from",
                           "figures", "notes", "seed", "compared", "omissions"}  # fmt: skip
    assert set(record["figures"][0]) == {"task", "measure", "value", "low", "high", "queries", "videos", "frozen", "floors",
                                         "no_floor", "blind", "tricks", "gain", "lower_is_better"}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"figures": [{}]},
        {"figures": 3},
        {"counts": []},
        {"seed": "x"},
        {"notes": None},
        {"schema": 99},
        {"schema": None},
    ],
)
def test_rejects_damaged_report(change):
    record = {**EVALUATED.to_json(), **change}
    with pytest.raises(CacheError, match=r"f\.json (is damaged|was written by a newer)"):
        EvaluationReport.from_json(record, "f.json")


def test_gain_is_paired_by_query():
    rng = np.random.default_rng(1)
    hard, videos = rng.random(60) * 80, rng.integers(0, 12, 60)
    ours, frozen = PerQueryScores(hard + 2 + rng.random(60), videos), PerQueryScores(hard, videos)
    found = metric_results("t", {"R@1": ours}, {"R@1": frozen}, BaselineScores(), {}, {}, 3)[0]
    assert found.gain == estimate(ours.by_query - hard, seed=3, clusters=videos).interval
    # what makes queries hard for both is in neither end
    assert 2 < found.gain[0] < found.gain[1] < 3 < found.high - found.low
    assert (found.gain_sign, replace(found, measure="MnR").gain_sign) == (1, -1)
    assert (
        replace(found, gain=(-3.0, -1.0)).gain_sign == -1
        and replace(found, gain=(-3.0, 1.0)).gain_sign == 0
    )
    assert MetricResult.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_no_gain_for_medians_and_other_queries():
    plain, median = (
        PerQueryScores(np.arange(4.0), np.arange(4)),
        PerQueryScores(np.arange(4.0), np.arange(4), median=True),
    )
    for ours, theirs in ((median, median), (plain, PerQueryScores(np.arange(3.0), np.arange(3)))):
        assert (
            metric_results("t", {"x": ours}, {"x": theirs}, BaselineScores(), {}, {}, 0)[0].gain
            is None
        )
    assert metric_results("t", {"x": plain}, None, BaselineScores(), {}, {}, 0)[0].gain is None


def test_reads_older_report_without_gain():
    record = FIGURE.to_json()
    del record["gain"]
    assert MetricResult.from_json(record) == FIGURE
