"""Evaluation of a split: its metrics, notes, report and submissions."""

import csv
import json
import shutil

import numpy as np
import pytest

import vla
from vla.batches.corpus_reader import load_corpus
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache, active_cache, set_active_cache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation, Question, Saliency
from vla.encoders.toy import Encoder
from vla.errors import MissingError, UnknownNameError
from vla.evaluation.report_file import load
from vla.features import FrameFeatures
from vla.hints import Hint
from vla.retrieval.query import Query, encode_query
from vla.retrieval.searcher import Searcher
from vla.storage.workspace import Workspace
from vla.training.checkpoint import load_model, open_run
from vla.workflows.eval_set import annotations_of
from vla.workflows.train_set import training_provenance

VIDEOS = 14
THINGS = ("door", "dog", "boat", "bell", "tree", "car", "cat")
SETTINGS = {"projector_options": {"width": 16, "heads": 2}, "epochs": 1, "batch_size": 8}


def annotations(split=lambda i: "train" if i < 8 else "val" if i < 10 else "test"):
    """A caption, a timed one with rated clips, and a question about each video."""
    found = []
    for i in range(VIDEOS):
        thing, video = f"a {'red' if i % 2 else 'green'} {THINGS[i // 2]}", f"v{i}.mp4"
        rated = Saliency(2, (0, 1), ((1, 2, 4), (0, 0, 3)))
        found += [
            Annotation(f"{3 * i}", thing, video, split=split(i)),
            Annotation(f"{3 * i + 1}", f"{thing} moves", video, ((1.0, 4.0),), split(i), saliency=rated),
            Annotation(f"v{i}.mp4_{3 * i + 2}", "What is seen?", video, split=split(i), category="DO",
                       spans=((0.5, 2.0),), question=Question((f"{thing}.", "nothing.", "a cow."), 0)),
        ]  # fmt: skip
    return found


def write(path, some):
    path.write_text("".join(json.dumps(a.to_json()) + "\n" for a in some))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A workspace of fourteen videos, a file of annotations with three splits, and a run trained on it."""
    folder = tmp_path_factory.mktemp("world")
    place, encoder = Workspace.open_or_create(folder), Encoder("32")
    cache = FeatureCache.create(
        place.caches, encoder.identity.spec("fps=2"), EncoderSource("toy", "32", "")
    )
    set_active_cache(place.caches, cache)
    rng = np.random.default_rng(0)
    for i in range(VIDEOS):
        n = 10 + i
        values = rng.standard_normal((n, 32)).astype(np.float16)
        features = FrameFeatures(f"v{i}.mp4", values, np.arange(n) / 2, n / 2)
        cache.add_video(
            features,
            Receipt(f"v{i}.mp4", "ok", "", 1, 2, f"c{i}", duration_seconds=n / 2, coverage=1.0),
        )
    path = write(folder / "all.jsonl", annotations())
    vla.train(captions=path, workspace=folder, settings=SETTINGS, name="mine")
    return folder, path


def test_evaluates_split_and_saves_report_only(world):
    folder, path = world
    before = caption_store.load(Workspace.open(folder))
    said = []
    found = vla.evaluate(
        captions=path,
        split="TEST",
        run="mine",
        workspace=folder,
        progress=lambda p: said.append(p.message),
    )
    assert caption_store.load(Workspace.open(folder)) == before
    assert found.counts == {
        "videos": 4,
        "captions": 8,
        "questions": 4,
        "left out": 0,
        "trained on": 0,
    }
    assert found.floors_from == "what the run was trained on" and found.notes == []
    assert set(found.by_task) == {
        "text to video", "text to video by search", "video to text", "moment to video", "moment to video by search",
        "moment in its video", "moment in its video by search", "moment in the corpus", "moment in the corpus by search",
        "highlights", "multiple choice", "grounded answers",
    }  # fmt: skip
    assert all(f.best_baseline and f.frozen is not None for f in found.figures)
    assert found.by_task["multiple choice"][0].blind is not None
    assert found in load(folder / ".vla" / "runs" / "mine")
    assert vla.info(workspace=folder)["runs"]["mine"]["state"] == "finished"


def test_evaluation_is_deterministic(world):
    folder, path = world
    once, again = (
        vla.evaluate(captions=path, run="mine", split="val", workspace=folder) for _ in range(2)
    )
    assert once == again
    other = vla.evaluate(captions=path, run="mine", split="val", workspace=folder, seed=1)
    assert [f.value for f in other.figures] == [f.value for f in once.figures]


def test_evaluates_token_run_with_search(world, tmp_path):
    """Its own score stands beside that of its vectors; a search goes by these."""
    folder = tmp_path / "copy"
    shutil.copytree(world[0], folder)
    settings = {**SETTINGS, "score": "tokens", "learning_rate": 0.01}
    run = vla.train(
        captions=folder / "all.jsonl", workspace=folder, settings=settings, name="words"
    )
    cache = active_cache(Workspace.open(folder).caches)
    assert run.model.heads["retrieval"] == {"score": "tokens"}
    assert (
        vla.train(captions=folder / "all.jsonl", workspace=folder, settings=settings, name="words")
        == run
    )
    found = vla.evaluate(captions=folder / "all.jsonl", split="test", run="words", workspace=folder)
    plain, own = (found.by_task[task] for task in ("text to video", "text to video reranked"))
    assert [f.measure for f in plain] == [f.measure for f in own]
    assert [f.frozen for f in plain] == [f.frozen for f in own]  # untrained, tokens have no share
    assert all(f.best_baseline for f in own)
    model = load_model(folder / ".vla" / "runs" / "words")[0]
    searcher = Searcher(None, Encoder("32"), model, cache, Workspace.open(folder))
    corpus = load_corpus(cache, annotations()[:1])
    wanted = model.align_texts(corpus.text_vector(corpus.queries[0])[None])[0]
    np.testing.assert_allclose(
        encode_query(Query(corpus.queries[0].text), searcher.encoder, model)[0].vector,
        wanted,
        atol=2e-3,
    )


def test_encodes_captions_without_features(world, tmp_path):
    folder, _ = world
    new = write(
        tmp_path / "new.jsonl",
        [Annotation(f"n{i}", f"never told before {i}", f"v{i}.mp4") for i in range(3)],
    )
    found = vla.evaluate(captions=new, run="none", workspace=folder)
    assert found.counts["captions"] == 3 and active_cache(Workspace.open(folder).caches).pieces(
        "never told before 1"
    )
    assert found.run == "" and all(f.frozen is None for f in found.figures)


def test_notes_videos_without_features(world, tmp_path):
    folder, _ = world
    more = [
        *annotations(),
        *(Annotation(f"x{i}", "gone", f"gone{i}.mp4", split="test") for i in range(3)),
    ]
    more.append(Annotation("y", "elsewhere", "other.mp4", split="val"))
    path, said = write(tmp_path / "more.jsonl", more), []
    found = vla.evaluate(
        captions=path, split="test", run="none", workspace=folder, tasks=["retrieval"],
        progress=lambda p: said.append((p.level, p.message)),
    )  # fmt: skip
    assert found.counts["left out"] == 3
    assert any(
        level == "warning" and "3 annotated videos have no features" in text for level, text in said
    )


def test_notes_training_videos(world):
    folder, path = world
    found = vla.evaluate(captions=path, run="mine", workspace=folder, tasks=["retrieval"])
    assert found.counts["videos"] == VIDEOS and found.counts["trained on"] == 8
    assert "8 of the 14 videos were trained on" in found.notes[0]
    held_out = vla.evaluate(
        captions=path, run="mine", split="held-out", workspace=folder, tasks=["retrieval"]
    )
    assert held_out.counts["videos"] == 6 and held_out.counts["trained on"] == 0


def test_finds_training_set_by_digest(world):
    """The same captions, as the workspace has them, without any split: held out is what training drew."""
    folder, _ = world
    path = write(folder / "plain.jsonl", annotations(lambda i: ""))
    run = vla.train(captions=path, workspace=folder, settings=SETTINGS, name="plain")
    found = vla.evaluate(
        run="plain", split="held-out", workspace=folder, tasks=["retrieval"], captions=path
    )
    assert found.counts["videos"] == run.record["videos"]["held out"] == 2
    stored = vla.evaluate(run="plain", split="held-out", workspace=folder, tasks=["retrieval"])
    assert stored.counts["videos"] == 2 and stored.floors_from == "what the run was trained on"
    other = write(folder / "other.jsonl", annotations(lambda i: "")[:9])
    unknown = vla.evaluate(run="none", captions=other, workspace=folder, tasks=["moments"])
    assert unknown.floors_from == "annotations whose split begins with 'train'"


def test_held_out_concepts_are_not_training_data(world):
    """Floors are fitted to what the run was told, and to nothing that it was judged by."""
    folder, _ = world
    some = [
        Annotation(
            f"{i}.{k}", f"{THINGS[i // 2]} number {k} of {i}", f"v{i}.mp4", ((k / 2, k / 2 + 1.0),)
        )
        for i in range(VIDEOS)
        for k in range(6)
    ]
    path = write(folder / "many.jsonl", some)
    run = vla.train(
        captions=path,
        workspace=folder,
        settings={**SETTINGS, "held_out_concepts": 0.3},
        name="many",
    )
    place = Workspace.open(folder)
    given = annotations_of(place, active_cache(place.caches), path, None, None, "").annotations
    known = training_provenance(
        place, active_cache(place.caches), open_run(place.runs / "many"), given
    )
    assert (
        known.how == "what the run was trained on"
        and len(known.videos) == run.record["videos"]["train"]
    )
    of_those_videos = [a for a in given if a.video in known.videos]
    assert 0 < len(of_those_videos) - len(known.annotations) <= round(0.3 * len(some))


def test_older_run_without_captions_misses_baselines(tmp_path, world):
    folder, _ = world
    alone = tmp_path / "alone"
    shutil.copytree(folder, alone)
    (alone / ".vla" / "captions.jsonl").unlink()
    path = write(alone / "few.jsonl", annotations(lambda i: "")[:12])
    found = vla.evaluate(captions=path, run="mine", workspace=alone, tasks=["moments"])
    assert found.floors_from == "" and "trained on" not in found.counts
    assert all("unknown" in f.no_floor and f.best_baseline for f in found.figures)
    with pytest.raises(MissingError, match="the held-out videos are unknown"):
        vla.evaluate(captions=path, run="mine", split="held-out", workspace=alone)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (
            {"split": "dev"},
            MissingError,
            r"split 'dev' for videos with features; splits: train \(24\), test \(12\), val \(6\)",
        ),
        ({"run": "nope"}, MissingError, "no trained run 'nope'"),
        ({"tasks": ["x"]}, UnknownNameError, "unknown group x; available: retrieval"),
        ({"tasks": ["paragraphs"]}, MissingError, "do not allow paragraphs:"),
    ],
)
def test_rejects_invalid_arguments(world, asked, error, message):
    folder, path = world
    with pytest.raises(error, match=message):
        vla.evaluate(**{"captions": path, "workspace": folder, "run": "mine", **asked})


def test_notes_run_that_search_would_not_use(world):
    folder, path = world
    run = vla.train(captions=path, workspace=folder, settings=SETTINGS, name="default")
    found = vla.evaluate(captions=path, split="test", workspace=folder, tasks=["retrieval"])
    assert found.run == ("default" if run.is_better else "")
    assert run.is_better or found.notes[-1].hint == Hint("use_run", run="default")


def test_submissions_have_the_official_shape(world, tmp_path):
    folder, path = world
    vla.evaluate(captions=path, split="test", run="mine", workspace=folder, submission=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"hl_test_submission.jsonl", "nextqa_test.json"}
    rows = [
        json.loads(line)
        for line in (tmp_path / "hl_test_submission.jsonl").read_text().splitlines()
    ]
    assert [r["qid"] for r in rows] == [31, 34, 37, 40] and {r["vid"] for r in rows} == {
        f"v{i}.mp4" for i in range(10, 14)
    }
    assert all(
        len(r["pred_saliency_scores"]) == int((10 + int(r["vid"][1:-4])) / 2 / 2) for r in rows
    )
    assert all(w[0] < w[1] for r in rows for w in r["pred_relevant_windows"])
    answers = json.loads((tmp_path / "nextqa_test.json").read_text())
    assert set(answers) == {f"v{i}.mp4_{3 * i + 2}" for i in range(10, 14)}
    assert all(a["answer"] == 0 and a["prediction"] in (0, 1, 2) for a in answers.values())


def test_submits_timed_captions_as_tvr(world, tmp_path):
    folder, _ = world
    some = [
        Annotation(f"{i}", f"moment {i}", f"v{i}.mp4", ((0.0, 2.0),), category="v")
        for i in range(4)
    ]
    vla.evaluate(
        captions=write(tmp_path / "t.jsonl", some),
        run="none",
        workspace=folder,
        submission=tmp_path / "out",
    )
    (found,) = (tmp_path / "out").iterdir()
    record = json.loads(found.read_text())
    assert found.name == "tvr_all_submission.json" and record["video2idx"] == {
        f"v{i}.mp4": i for i in range(4)
    }
    assert {k: len(v) for k, v in record.items()} == {"video2idx": 4, "VCMR": 4, "SVMR": 4, "VR": 4}
    assert [len(r["predictions"]) for r in record["VR"]] == [4] * 4
    for row, svmr in zip(record["VCMR"], record["SVMR"], strict=True):
        assert row["desc_id"] == svmr["desc_id"] and {p[0] for p in svmr["predictions"]} == {
            row["desc_id"]
        }
        scores = [p[3] for p in row["predictions"]]
        assert scores == sorted(scores, reverse=True) and len(scores) <= 100


def test_submits_charades_as_lighthouse(world, tmp_path):
    folder, _ = world
    lines = [
        json.dumps({"qid": i, "query": f"moment {i}", "vid": f"v{i}", "relevant_windows": [[0, 2]]})
        for i in range(3)
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(lines) + "\n")
    vla.evaluate(
        captions=tmp_path / "test.jsonl",
        format="charades_sta",
        run="none",
        workspace=folder,
        submission=tmp_path / "out",
    )
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "moments_all_submission.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(r["qid"], r["query"], r["vid"]) for r in rows] == [
        (i, f"moment {i}", f"v{i}") for i in range(3)
    ]
    assert all(set(r) == {"qid", "query", "vid", "pred_relevant_windows"} for r in rows)


def test_submits_test_set_without_answers(world, tmp_path):
    folder, _ = world
    lines = [
        json.dumps({"qid": 7 + i, "query": f"moment {i}", "vid": f"v{i}", "duration": 150})
        for i in range(3)
    ]
    (tmp_path / "test.jsonl").write_text("\n".join(lines) + "\n")
    vla.evaluate(
        captions=tmp_path / "test.jsonl",
        format="qvhighlights",
        run="none",
        workspace=folder,
        submission=tmp_path / "out",
    )
    rows = [
        json.loads(line)
        for line in (tmp_path / "out" / "hl_all_submission.jsonl").read_text().splitlines()
    ]
    assert [(r["qid"], r["vid"], len(r["pred_saliency_scores"])) for r in rows] == [
        (7 + i, f"v{i}", 75) for i in range(3)
    ]


def test_rejects_submission_without_evaluator(world, tmp_path):
    folder, _ = world
    with (tmp_path / "c.csv").open("w") as file:
        csv.writer(file).writerows([("video", "caption"), ("v1.mp4", "a"), ("v2.mp4", "b")])
    with pytest.raises(MissingError, match="nothing to submit"):
        vla.evaluate(
            captions=tmp_path / "c.csv", run="none", workspace=folder, submission=tmp_path / "out"
        )


def test_paragraph_is_one_text_of_its_sentences(world, tmp_path):
    folder, _ = world
    some = [
        Annotation(
            f"{i}.{k}",
            f"Sentence {k} of {i}.",
            f"v{i}.mp4",
            ((k, k + 1.0),),
            paragraph=f"p{i}",
            sentence=k,
        )
        for i in range(4)
        for k in (1, 0)
    ]
    found = vla.evaluate(captions=write(tmp_path / "p.jsonl", some), run="none", workspace=folder)
    assert active_cache(Workspace.open(folder).caches).pieces("Sentence 0 of 2. Sentence 1 of 2.")
    first = found.by_task["paragraph to video"][0]
    assert first.queries == 4 and "text to video" not in found.by_task
    assert found.by_task["moment in its video"][0].queries == 8
