"""Figures "by search" are those of `open_workspace().search` in a workspace that holds just these videos, counted by loops."""

import json

import numpy as np
import pytest

import vla
from support.naive_search import overlap
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache, active_cache, set_active_cache
from vla.captions import store as caption_store
from vla.datasets.base import Annotation
from vla.encoders.toy import Encoder
from vla.evaluation.report_file import EvaluationReport
from vla.features import FrameFeatures
from vla.model import zero_shot_model
from vla.progress import silent
from vla.retrieval.query_bank import content_words
from vla.storage.workspace import Workspace
from vla.workflows.eval_set import corpus_of
from vla.workflows.search_retriever import EvalQueryBank, SearchRetriever, eval_query_bank

TRAIN, TEST, FRAMES = 130, 12, 24


def name(split, i):
    return f"{split} {i}*.mp4"  # taken for a pattern, that of 1 fits that of 10, too


def annotations():
    """A moment of each video that was trained on; of each test video a caption and two moments."""
    found = [
        Annotation(f"t{i}", f"number {i} is seen", name("train", i), ((1.0, 3.0 + i % 4),), "train")
        for i in range(TRAIN)
    ]
    for i in range(TEST):
        video = name("test", i)
        found.append(Annotation(f"c{i}", f"animal {i} in the wood", video, split="test"))
        found += [
            Annotation(f"m{i}.{k}", f"animal {i} does thing {k}", video, ((a, a + 3.0),), "test")
            for k, a in enumerate((1.0, 7.0))
        ]
    return found


def fill(folder, videos):
    """A workspace of these videos; the moments that are told of are faintly seen."""
    place, encoder = Workspace.open_or_create(folder), Encoder("32")
    cache = FeatureCache.create(
        place.caches, encoder.identity.spec("fps=2"), EncoderSource("toy", "32", "")
    )
    set_active_cache(place.caches, cache)
    told = {a.video: [] for a in annotations()}
    for a in annotations():
        told[a.video].append(a)
    for number, video in enumerate(told):
        rng = np.random.default_rng(number)
        values = 6.0 * rng.standard_normal((FRAMES, 32))
        for a in told[video]:
            inside = slice(*(int(2 * t) for t in a.spans[0])) if a.spans else slice(None)
            values[inside] += encoder.encode_text([a.query]).pooled[0]
        if video in videos:
            features = FrameFeatures(
                video, values.astype(np.float16), np.arange(FRAMES) / 2, FRAMES / 2
            )
            cache.add_video(
                features,
                Receipt(
                    video, "ok", "", 1, 2, f"c{number}", duration_seconds=FRAMES / 2, coverage=1.0
                ),
            )
    return place, cache


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    _, cache = fill(folder, {a.video for a in annotations()})
    cache.add_texts([a.query for a in annotations() if a.split == "train"], Encoder("32"))
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps(a.to_json()) + "\n" for a in annotations()))
    return folder, path


@pytest.mark.parametrize("bank", ["captions", "everyday"])
def test_figures_by_search_are_those_of_a_users_search(world, tmp_path, bank):
    folder, path = world
    tests = [a for a in annotations() if a.split == "test"]
    if bank == "everyday":
        path = tmp_path / "tests.jsonl"
        path.write_text("".join(json.dumps(a.to_json()) + "\n" for a in tests))
    found = vla.evaluate(captions=path, split="test", run="none", workspace=folder)
    place, cache = fill(tmp_path / "alone", {a.video for a in tests})
    if bank == "captions":
        # As captions of videos that are not here any more: all of them are compared with what is.
        taught = [a for a in annotations() if a.split == "train"]
        cache.add_texts([a.query for a in taught], Encoder("32"))
        place.captions.write_text("".join(json.dumps(a.to_json()) + "\n" for a in taught))
        assert len(caption_store.load(place)) == TRAIN
    assert found.compared.startswith(f"{TRAIN} captions" if bank == "captions" else "330 everyday")
    vla.index(workspace=place.root)
    opened = vla.open_workspace(place.root)
    assert opened.searcher.calibration.duration_range == (
        None if bank == "everyday" else (2.0, 5.0)
    )
    assert len(opened.searcher.index.videos) == TEST
    wanted = {
        "text to video by search": dict.fromkeys((1, 5, 10, 100), 0),
        "moment to video by search": {},
    }
    wanted["moment to video by search"] = dict.fromkeys((1, 5, 10, 100), 0)
    corpus = {f"{x}-r{k}": 0 for x in (0.5, 0.7) for k in (1, 5, 10, 100)}
    inside = dict.fromkeys(("R1@0.5", "R5@0.7", "mIoU"), 0.0)
    for a in tests:
        hits = opened.search(a.query, k=500)
        videos = list(dict.fromkeys(h.video_id for h in hits))
        task = wanted["moment to video by search" if a.spans else "text to video by search"]
        for k in task:
            task[k] += a.video in videos[:k]
        if not a.spans:
            continue
        ious = [overlap((h.start, h.end), a.spans[0]) * (h.video_id == a.video) for h in hits]
        for key in corpus:
            x, k = key.split("-r")
            corpus[key] += any(value >= float(x) for value in ious[: int(k)])
        own = [h for h in opened.search(a.query, k=500, per_video=10) if h.video_id == a.video]
        ious = [overlap((h.start, h.end), a.spans[0]) for h in own]
        inside["R1@0.5"] += ious[0] >= 0.5
        inside["R5@0.7"] += any(value >= 0.7 for value in ious[:5])
        inside["mIoU"] += ious[0]
    values = {task: {f.measure: f.value for f in of} for task, of in found.by_task.items()}
    timed = [a for a in tests if a.spans]
    for task, counts in wanted.items():
        asked = len(timed) if task.startswith("moment") else len(tests) - len(timed)
        for k, count in counts.items():
            assert values[task][f"R@{k}"] == pytest.approx(100 * count / asked), (task, k)
    assert values["moment in the corpus by search"] == pytest.approx(
        {key: 100 * n / len(timed) for key, n in corpus.items()}, abs=0.006
    )
    for key, total in inside.items():
        assert values["moment in its video by search"][key] == pytest.approx(
            100 * total / len(timed), abs=1e-6
        ), key
    # Neither everything nor nothing is found, so that the two could differ.
    assert 10 < values["moment in the corpus by search"]["0.5-r1"] < 90
    assert all(f.best_baseline and f.frozen is None for f in found.figures)


def test_the_bank_knows_nothing_of_what_is_asked(world):
    folder, _ = world
    cache = active_cache(Workspace.open(folder).caches)
    taught = [a for a in annotations() if a.split == "train"]
    tests = [a for a in annotations() if a.split == "test"]
    same = [Annotation("x", tests[0].query.upper() + ".", name("train", 3), split="train")]
    cache.add_texts([a.query for a in (*taught, *tests, *same)], Encoder("32"))
    corpus, _ = corpus_of(cache, tests)
    bank = eval_query_bank(cache, corpus, [*taught, *same], "cpu").bank
    assert len(bank.texts) == TRAIN and not {content_words(t) for t in bank.texts} & {
        content_words(a.query) for a in tests
    }
    assert (
        eval_query_bank(cache, corpus, taught[:50], "cpu").description
        == "330 everyday queries of ours"
    )


def test_copies_of_the_video_that_is_meant_count_as_it(world, tmp_path):
    _, cache = fill(tmp_path, {name("test", i) for i in range(4)})
    meant = [a for a in annotations() if a.video == name("test", 2)][0]
    receipt = cache.receipts[meant.video]
    cache.add_receipt(Receipt(**{**receipt.to_json(), "video_id": "a copy.mp4"}))
    cache = FeatureCache.open(cache.folder)
    cache.add_texts([meant.query], Encoder("32"))
    told = [meant, Annotation("x", meant.query, "a copy.mp4")]
    others = [Annotation(f"o{i}", meant.query, name("test", i)) for i in (0, 1, 3)]
    corpus, _ = corpus_of(cache, [*told, *others])
    nothing = EvalQueryBank(eval_query_bank(cache, corpus, [], "cpu").bank, Encoder("32"), "")
    listing = SearchRetriever(
        cache, corpus, zero_shot_model(32, 1.0), nothing, Workspace.open(tmp_path), silent
    )
    lists = listing.everywhere(corpus.queries[:2], 1)
    rows = [
        found[:, 0].tolist().index(q.video)
        for found, q in zip(lists, corpus.queries[:2], strict=True)
    ]
    assert rows == [0, 0] and all(len(found) == 4 for found in lists)
    assert [len(found) > 0 for found in listing.in_own(corpus.queries[:2])] == [True, True]


def test_what_is_not_wanted_is_not_searched(world, monkeypatch):
    folder, path = world
    monkeypatch.setattr(
        "vla.workflows.evaluate.SearchRetriever", lambda *given: pytest.fail("it was searched")
    )
    given = {"captions": path, "split": "test", "run": "none", "workspace": folder}
    for more in ({"search": False}, {"tasks": ["highlights", "moments"], "search": False}):
        found = vla.evaluate(**given, **more)
        assert found.compared == "" and not any("by search" in f.task for f in found.figures)


def test_submission_ranks_all_videos_by_search_and_the_own_video_as_without(world, tmp_path):
    folder, path = world
    written = {}
    for search in (True, False):
        out = tmp_path / str(search)
        vla.evaluate(
            captions=path,
            split="test",
            run="none",
            workspace=folder,
            tasks=["corpus"],
            submission=out,
            search=search,
        )
        (file,) = out.glob("tvr_*")
        written[search] = json.loads(file.read_text())
    assert written[True]["VCMR"] != written[False]["VCMR"]
    assert written[True]["SVMR"] == written[False]["SVMR"]
    record = written[True]
    for vcmr, svmr, vr in zip(record["VCMR"], record["SVMR"], record["VR"], strict=True):
        videos = list(dict.fromkeys(p[0] for p in vcmr["predictions"]))
        assert [p[0] for p in vr["predictions"]][: len(videos)] == videos and len(
            vr["predictions"]
        ) == TEST
        assert all(sum(p[0] == v for p in vcmr["predictions"]) <= 3 for v in videos)
        assert len({p[0] for p in svmr["predictions"]}) == 1


def test_what_older_versions_wrote_says_nothing_of_a_search():
    record = EvaluationReport("", "", "f", "", "", {}, "", [], [], 0, "9 captions").to_json()
    assert EvaluationReport.from_json(record, "x").compared == "9 captions"
    del record["compared"]
    assert EvaluationReport.from_json(record, "x").compared == ""
