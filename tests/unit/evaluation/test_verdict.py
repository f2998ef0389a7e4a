"""A verdict on a run: a paired interval over videos, never a point estimate alone."""

import json
import math

import numpy as np
import pytest

from vla.evaluation.results import PerQueryScores
from vla.evaluation.verdict import (
    MIN_VIDEOS,
    Gain,
    Verdict,
    _students_t,
    compare,
    head_sentences,
    is_better,
    sentence,
    standard_error,
)


def values(numbers, videos=None):
    return PerQueryScores(
        np.array(numbers, float), np.arange(len(numbers)) if videos is None else np.array(videos)
    )


def gain(gain, low, high):
    return {"gain": gain, "low": low, "high": high}


def one(ours, theirs, videos=None):
    return compare({"a": values(ours, videos)}, {"a": values(theirs, videos)})


def record(alpha=0.5, better=True, after=0.6, centring=0.0, **verdict):
    found = {"videos": 36, "score": gain(8.3, 1.2, 15.1), "tasks": {}, **verdict}
    return {
        "alpha": alpha,
        "centring": centring,
        "better": better,
        "after": {"search": after},
        "verdict": found,
    }


def test_gain_averages_tasks_of_query_means():
    # part 1: (.5 + .25) / 2 - (.5 + 0) / 2 = .125; part 2: 1 - .5 = .5; the mean of both is .3125
    ours = {"a": values([0.5, 0.25]), "b": values([1.0, 1.0, 1.0], [0, 0, 1])}
    theirs = {"a": values([0.5, 0.0]), "b": values([0.5, 0.5, 0.5], [0, 0, 1])}
    found = compare(ours, theirs)
    assert found.videos == 2 and found.score.gain == pytest.approx(31.25)
    assert {k: v.gain for k, v in found.tasks.items()} == pytest.approx({"a": 12.5, "b": 50})


@pytest.mark.parametrize(
    ("freedom", "table"),
    [(5, 4.032), (6, 3.707), (11, 3.106), (35, 2.724), (59, 2.662), (10_000, 2.576)],
)
def test_students_t(freedom, table):
    assert _students_t(freedom) == pytest.approx(table, rel=0.02)


def test_interval_matches_paired_t_test():
    differences = np.random.default_rng(0).normal(0.1, 0.2, 12)
    found = one(0.4 + differences, np.full(12, 0.4)).score
    half = 100 * 3.106 * differences.std(ddof=1) / np.sqrt(12)
    assert found.gain == pytest.approx(100 * differences.mean())
    assert found.high - found.gain == pytest.approx(half, rel=0.005)
    assert found.gain - found.low == pytest.approx(half, rel=0.005)


def test_jackknife_leaves_out_whole_videos():
    """Ten videos of one query each, or ten copies of each query: the same videos tell no more."""
    differences = np.random.default_rng(0).normal(0, 0.2, 12)
    once = one(differences, np.zeros(12)).score
    many = one(np.repeat(differences, 10), np.zeros(120), np.repeat(np.arange(12), 10)).score
    assert (once.low, once.high) == pytest.approx((many.low, many.high))


def test_false_positive_rate_on_noise():
    rng = np.random.default_rng(0)
    wins = sum(one(rng.normal(0, 0.3, 15), np.zeros(15)).is_better for _ in range(300))
    assert (
        wins <= 6
    )  # half a percent is what the interval promises; skew and chance may make it two


@pytest.mark.parametrize("count", [1, 2, 7, MIN_VIDEOS - 1])
def test_few_videos_give_no_verdict(count):
    found = one(np.full(count, 0.9), np.zeros(count))
    assert not found.is_better
    told = sentence(record(**found.to_json(), better=False))
    assert (
        f"{count} held-out video" in told
        and f"below ±{100.0 if count == 1 else 100 / count:.1f} points are not measurable" in told
    )
    assert "better than" not in told


def test_task_of_few_videos_decides_nothing():
    """One video of twelve has timed captions; its gain is large, and nothing can tell its noise."""
    equal, single = values(np.full(12, 0.5)), values([1.0], [2])
    found = compare({"a": equal, "b": single}, {"a": equal, "b": values([0.5], [2])})
    assert found.tasks == {"a": Gain(0.0, 0.0, 0.0), "b": Gain(50.0, -100.0, 100.0)}
    assert found.score == Gain(0.0, 0.0, 0.0) and found.videos == 12
    assert not found.is_better and not found.is_worse
    worse = compare({"a": equal, "b": values([0.5], [2])}, {"a": equal, "b": single})
    assert not worse.is_worse


@pytest.mark.parametrize(("count", "is_better"), [(MIN_VIDEOS - 1, False), (MIN_VIDEOS, True)])
def test_task_needs_as_many_videos_as_a_verdict(count, is_better):
    equal = values(np.full(20, 0.5))
    gains = values(0.4 + 0.01 * np.arange(count), np.arange(count))
    found = compare({"a": equal, "b": gains}, {"a": equal, "b": values(np.zeros(count))})
    assert (found.tasks["b"].low > 0) == is_better == found.is_better


def test_tasks_of_few_videos_are_compared_together():
    ours = {"a": values([0.5] * 6), "b": values([1.0] * 6, range(6, 12))}
    theirs = {"a": values([0.25] * 6), "b": values([0.5] * 6, range(6, 12))}
    found = compare(ours, theirs)
    assert found.videos == 12 and found.score == Gain(37.5, 37.5, 37.5)
    assert {task.low for task in found.tasks.values()} == {-100.0}
    assert one([], []) is None


def test_better_requires_interval_above_zero():
    assert is_better(record())
    assert not is_better(record(score=gain(8, -0.1, 16)))
    assert not is_better(record(score=gain(8, 0.0, 16)))
    assert is_better(record(score=gain(2, -4, 8), tasks={"a": gain(9, 1, 17)}))
    assert not is_better(
        record(score=gain(2, -4, 8), tasks={"a": gain(9, 1, 17), "b": gain(-5, -9, -1)})
    )
    assert not is_better(record(score=gain(-1, -4, 2), tasks={"a": gain(9, 1, 17)}))
    assert not is_better(record(alpha=0.0))
    assert is_better(record(alpha=0.0, centring=0.5))
    assert not is_better(record(better=False))
    assert not is_better(record(videos=7))


def test_equal_task_is_not_worse():
    """A task without any difference has an interval from 0 to 0, which is not below 0."""
    better, equal = 0.4 + 0.01 * np.arange(12), np.full(12, 0.3)
    ours = {"a": values(better), "b": values(equal)}
    found = compare(ours, {"a": values(np.full(12, 0.1)), "b": values(equal)})
    assert found.tasks["b"] == Gain(0.0, 0.0, 0.0)
    assert found.is_better and not found.is_worse
    # Only an interval that ends below 0 is worse.
    ends = (-0.1, 0.0, 0.1)
    assert [Verdict(36, Gain(-5, -9, high), {}).is_worse for high in ends] == [True, False, False]


@pytest.mark.parametrize(
    "old",
    [
        {"better": True, "alpha": 0.75, "after": {"search": 0.5}},
        {"better": True, "alpha": 0.75, "verdict": None},
        {"better": True, "alpha": 0.75, "verdict": {"videos": 36}},
        {
            "better": True,
            "alpha": 0.75,
            "verdict": {"videos": 36, "score": gain(1, float("nan"), 2), "tasks": {}},
        },
        {"better": True, "alpha": 0.75, "verdict": [1, 2]},
        {
            "better": True,
            "alpha": 0.75,
            "verdict": {"videos": "many", "score": gain(1, 1, 2), "tasks": {}},
        },
        {"better": 1, "alpha": "x", "verdict": {"videos": 36, "score": gain(1, 1, 2), "tasks": []}},
        {},
    ],
)
def test_reads_old_and_damaged_records_as_no_verdict(old):
    assert not is_better(old) and sentence(old)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (record(), "better than the frozen encoder on 36 held-out videos (search score +8.3 points, 99% CI 1.2 to 15.1)"),
        (record(score=gain(-40, -71, -14)), "worse than the frozen encoder on 36"),
        (record(score=gain(1, -2, 4), better=False), "no measurable difference from the frozen encoder on 36"),
        (record(better=False), "worse than the frozen encoder on held-out concepts, although better on 36"),
        (record(alpha=0.0), "no gain over the frozen encoder: alpha is 0"),
        (record(alpha=0.0, centring=0.5), "by centering alone: alpha is 0"),
        (record(after=None), "not compared: there were questions only"),
    ],
)  # fmt: skip
def test_the_sentence(given, told):
    assert told in sentence(given)


def test_json_round_trip():
    found = Verdict(36, Gain(8.3, 1.2, 15.1), {"moment to video": Gain(1.0, -1.0, 3.0)})
    assert Verdict.from_record({"verdict": json.loads(json.dumps(found.to_json()))}) == found


def naive_error(ours, theirs):
    """The jackknife by loops: each video is left out in turn, with its queries in all tasks."""
    videos = sorted({int(v) for part in ours.values() for v in part.videos})
    means = []
    for out in videos:
        of_tasks = []
        for task, part in ours.items():
            gains = list(zip(part.by_query - theirs[task].by_query, part.videos, strict=True))
            rest = [g for g, v in gains if v != out] or [g for g, _ in gains]
            of_tasks.append(sum(rest) / len(rest))
        means.append(sum(of_tasks) / len(of_tasks))
    count, center = len(means), sum(means) / len(means)
    return math.sqrt((count - 1) / count * sum((m - center) ** 2 for m in means))


@pytest.mark.parametrize("seed", range(5))
def test_standard_error_matches_loops(seed):
    """Tasks with queries of other videos each, several of one, and one of a single video."""
    rng = np.random.default_rng(seed)
    videos = {"a": rng.integers(0, 9, 30), "b": rng.integers(4, 20, 12), "c": np.array([3, 3])}
    ours, theirs = (
        {task: values(rng.random(len(rows)), rows) for task, rows in videos.items()}
        for _ in range(2)
    )
    assert standard_error(ours, theirs) == pytest.approx(naive_error(ours, theirs), rel=1e-12)
    # The interval of the verdict is made of this error, over the tasks with enough videos.
    found = compare(ours, theirs)
    large = {task: part for task, part in ours.items() if len(np.unique(part.videos)) >= MIN_VIDEOS}
    half = (found.score.high - found.score.low) / 2
    error = naive_error(large or ours, theirs)
    assert half == pytest.approx(100 * _students_t(found.videos - 1) * error, rel=1e-9)


def test_standard_error_of_one_query_a_video_is_that_of_a_mean():
    gains = np.array([0.1, 0.3, -0.2, 0.6])
    found = standard_error({"a": values(gains)}, {"a": values(np.zeros(4))})
    assert found == pytest.approx(gains.std(ddof=1) / 2)


def test_standard_error_is_infinite_without_two_videos():
    assert standard_error({}, {}) == math.inf
    one = values([0.2, 0.9], [7, 7])
    assert standard_error({"a": one}, {"a": values([0.0, 0.0], [7, 7])}) == math.inf
    assert standard_error({"a": values([])}, {"a": values([])}) == math.inf


def head(**fields):
    return {"videos": 36, "score": gain(8.3, 1.2, 15.1), "tasks": {}, **fields}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "better than the untrained head on 36 held-out videos (+8.3 points, 99% CI 1.2 to 15.1)"),
        ({"score": gain(-40, -71, -14)}, "worse than the untrained head on 36 held-out videos (-40.0 points, 99% CI -71.0 to -14.0)"),
        (
            {"score": gain(1, -2, 4)},
            "no measurable difference from the untrained head on 36 held-out videos (+1.0 points, 99% CI -2.0 to 4.0); "
            "differences below ±3.0 points are not measurable",
        ),
        ({"videos": 9}, "too few videos: 9 held-out videos, at least 10 are needed"),
        ({"videos": 1}, "too few videos: 1 held-out video, at least 10 are needed"),
    ],
)  # fmt: skip
def test_the_sentence_of_a_head(fields, told):
    assert head_sentences({"heads": {"moment by head": head(**fields)}}) == {"moment by head": told}


def test_each_head_has_its_sentence():
    found = head_sentences({"heads": {"counting": head(), "open answers": head(videos=3)}})
    assert [k for k, said in found.items() if said.startswith("better")] == ["counting"]
    assert [k for k, said in found.items() if said.startswith("too few")] == ["open answers"]


@pytest.mark.parametrize(
    "old",
    [
        {}, {"heads": None}, {"heads": []}, {"heads": {}}, {"heads": {"counting": None}}, {"heads": {"counting": {"videos": 3}}},
        {"heads": {"counting": head(score=gain(1, float("nan"), 2))}},
    ],
)  # fmt: skip
def test_records_without_verdicts_of_heads_have_no_sentences(old):
    assert head_sentences(old) == {}
