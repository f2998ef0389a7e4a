"""Submission files hold what the printed table says, by the rules of the official evaluators."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus
from support.score_tables import qvhighlights
from vla.datasets.base import Saliency
from vla.evaluation.predictions import CorpusPredictions
from vla.evaluation.protocols import compute_metrics
from vla.metrics.corpus_moments import RECALLS, THRESHOLDS, first_hit_ranks
from vla.metrics.highlights import clip_ratings
from vla.model import AlignmentModel, ModelConfig
from vla.workflows.submit import submit

LENGTHS = (16, 44, 20, 33, 27)
TYPES = ("v", "vt", "v", "t", "v")


def corpus_of(*, rated=False, types=False, seed=0):
    """Two timed captions of each video of 8 to 22 s. The annotations name other durations."""
    corpus, rng, queries = made_corpus(LENGTHS, seed), np.random.default_rng(seed), []
    for number, query in enumerate(q for q in corpus.queries if q.is_timed for _ in range(2)):
        seconds = LENGTHS[query.video] / 2 + (1.0, -0.5)[query.video % 2]
        start, length = rng.uniform(0, seconds / 2), rng.uniform(2, seconds / 2)
        clips = tuple(sorted(rng.permutation(int(seconds / 2))[:3].tolist()))
        marks = tuple(tuple(float(s) for s in rng.integers(1, 5, 3)) for _ in clips)
        text = f"{query.text} {number}"
        corpus.vectors[text] = rng.standard_normal(corpus.dim).astype(np.float32)
        told = replace(
            query.annotation,
            query_id=str(number),
            query=text,
            spans=((start, start + length),),
            duration=seconds,
            category=TYPES[query.video] if types else "",
            saliency=Saliency(2, clips, marks) if rated else None,
        )
        queries.append(
            replace(
                query,
                text=text,
                chunks=(text,),
                spans=np.array(told.spans),
                annotation=told,
            )
        )
    return replace(corpus, queries=queries, questions=())


def model_of(corpus, *, head):
    heads = {"moments": {}} if head else {}
    model = AlignmentModel(ModelConfig(corpus.dim, "identity", heads=heads)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in [p for h in model.heads.values() for p in h.parameters()]:
            parameter += 0.05 * torch.randn_like(parameter)
    return model


class FirstSeconds:
    """A search that returns the first two seconds of every video, the own video second."""

    def everywhere(self, queries, per_video):
        return [
            np.array([(v % len(LENGTHS), 0.0, 2.0, -i) for i, v in enumerate(self.order(q))])
            for q in queries
        ]

    def order(self, query):
        return [query.video + 1, query.video, *range(query.video + 2, query.video + len(LENGTHS))]

    def in_own(self, queries):
        return [np.array([(0.0, 2.0, 1.0)]) for _ in queries]


def table_of(predictions):
    tasks = {}
    for figure in compute_metrics(predictions, None, None):
        tasks.setdefault(figure.task, {})[figure.measure] = figure.value
    return tasks


def submitted(predictions, folder, format=None):
    """Write the files, and return their contents by name."""
    names = {v.video_id: f"{v.video_id}.mp4" for v in predictions.corpus.videos}
    contents = {}
    for path in submit(folder, predictions, names, format, "val"):
        text = path.read_text("utf-8")
        contents[path.name] = (
            [json.loads(line) for line in text.splitlines()]
            if path.suffix == ".jsonl"
            else json.loads(text)
        )
    return contents


def moment_detr(rows, corpus):
    """Return the figures of moment_detr's `standalone_eval`, which reads truths from the annotations."""
    row_of = {row["qid"]: row for row in rows}
    truth = [q.annotation for q in corpus.queries]
    assert set(row_of) == {int(a.query_id) for a in truth}
    rows = [row_of[int(a.query_id)] for a in truth]
    assert [(r["vid"], r["query"]) for r in rows] == [(f"{a.video}.mp4", a.query) for a in truth]
    windows = [np.array(r["pred_relevant_windows"]) for r in rows]
    clips = "pred_saliency_scores" in rows[0]
    return qvhighlights(
        windows,
        [np.array(a.spans) for a in truth],
        [np.array(r["pred_saliency_scores"]) for r in rows] if clips else None,
        [clip_ratings(int(a.duration / 2), a.saliency.clips, a.saliency.scores) for a in truth]
        if clips
        else None,
    )


def tvr(content, corpus):
    """Return the recalls of TVR's `standalone_eval` in percent, by task, IoU and k."""
    truth, figures = [q.annotation for q in corpus.queries], {}
    videos = [content["video2idx"][f"{a.video}.mp4"] for a in truth]
    for task in ("VCMR", "SVMR", "VR"):
        row_of = {row["desc_id"]: row for row in content[task]}
        rows = [np.array(row_of[int(a.query_id)]["predictions"]) for a in truth]
        ranks = first_hit_ranks(rows, videos, [np.array(a.spans) for a in truth], task)
        for column in range(ranks.shape[1]):
            for k in RECALLS:
                iou = THRESHOLDS[column] if task != "VR" else None
                figures[task, iou, k] = pytest.approx(
                    100 * (ranks[:, column] <= k).mean(), abs=6e-3
                )
    return figures


@pytest.mark.parametrize("search", [None, FirstSeconds()], ids=["windows", "search"])
@pytest.mark.parametrize("head", [True, False], ids=["head", "curve"])
def test_highlights_of_file_equal_table(tmp_path, head, search):
    corpus = corpus_of(rated=True)
    predictions = CorpusPredictions(model_of(corpus, head=head), corpus, search=search)
    contents = submitted(predictions, tmp_path)
    assert list(contents) == ["hl_val_submission.jsonl"]
    rows, tasks = contents["hl_val_submission.jsonl"], table_of(predictions)
    official = moment_detr(rows, corpus)["brief"]
    assert tasks["highlights by head" if head else "highlights"] == official
    assert not head or tasks["highlights"] != official
    # The rows of the file are in the order of the annotations, not of the batches of the head.
    assert [row["qid"] for row in rows] == list(range(2 * len(LENGTHS)))


@pytest.mark.parametrize("search", [None, FirstSeconds()], ids=["windows", "search"])
@pytest.mark.parametrize("head", [True, False], ids=["head", "curve"])
def test_recalls_of_tvr_file_equal_table(tmp_path, head, search):
    corpus = corpus_of(types=True)
    predictions = CorpusPredictions(model_of(corpus, head=head), corpus, search=search)
    contents = submitted(predictions, tmp_path)
    assert list(contents) == ["tvr_val_submission.json"]
    official, tasks = tvr(contents["tvr_val_submission.json"], corpus), table_of(predictions)
    suffix = " by search" if search else ""
    in_video = tasks["moment by head" if head else "moment in its video"]
    for iou in THRESHOLDS:
        for k in (1, 5):
            assert in_video[f"R{k}@{iou}"] == official["SVMR", iou, k]
        for k in RECALLS:
            assert tasks["moment in the corpus" + suffix][f"{iou}-r{k}"] == official["VCMR", iou, k]
    for k in (1, 5, 10):
        assert tasks["moment to video" + suffix][f"R@{k}"] == official["VR", None, k]
    assert not search or (official["VR", None, 1] == 0 and official["VR", None, 5] == 100)


@pytest.mark.parametrize("format", ["charades_sta", None])
@pytest.mark.parametrize("head", [True, False], ids=["head", "curve"])
def test_charades_has_form_of_lighthouse(tmp_path, head, format):
    corpus = corpus_of()
    predictions = CorpusPredictions(model_of(corpus, head=head), corpus)
    contents = submitted(predictions, tmp_path, format)
    # Captions of an unknown data set may be ranked among all videos as well.
    others = ["tvr_val_submission.json"] if format is None else []
    assert list(contents) == ["moments_val_submission.jsonl", *others]
    rows = contents["moments_val_submission.jsonl"]
    assert set(rows[0]) == {"qid", "query", "vid", "pred_relevant_windows"}
    official = moment_detr(rows, corpus)
    in_video = table_of(predictions)["moment by head" if head else "moment in its video"]
    for iou in ("0.5", "0.7"):
        assert in_video[f"R1@{iou}"] == pytest.approx(official["full"]["MR-R1"][iou], abs=6e-3)
    assert in_video["mAP"] == pytest.approx(official["full"]["MR-mAP"]["average"], abs=6e-3)


@pytest.mark.parametrize(
    ("format", "rated", "types", "names"),
    [
        ("qvhighlights", True, False, ["hl_val_submission.jsonl"]),
        ("qvhighlights", False, False, ["hl_val_submission.jsonl"]),
        ("charades_sta", False, False, ["moments_val_submission.jsonl"]),
        ("tvr", False, False, ["tvr_val_submission.json"]),
        ("tvr", True, True, ["tvr_val_submission.json"]),
        (None, True, True, ["hl_val_submission.jsonl"]),
        (None, False, True, ["tvr_val_submission.json"]),
        (None, False, False, ["moments_val_submission.jsonl", "tvr_val_submission.json"]),
        ("didemo", False, False, ["moments_val_submission.jsonl", "tvr_val_submission.json"]),
    ],
)
def test_files_by_format_and_annotations(tmp_path, format, rated, types, names):
    corpus = corpus_of(rated=rated, types=types)
    predictions = CorpusPredictions(model_of(corpus, head=False), corpus)
    contents = submitted(predictions, tmp_path, format)
    assert list(contents) == names
    if "hl_val_submission.jsonl" in contents:
        # Evaluators expect ratings of clips as soon as there are scores.
        assert ("pred_saliency_scores" in contents["hl_val_submission.jsonl"][0]) == rated
