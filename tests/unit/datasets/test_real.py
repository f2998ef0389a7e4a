"""The benchmarks' own files, where they are there: counts by other means, and numbers that others published."""

import csv
import json
from collections import Counter
from itertools import combinations_with_replacement

import numpy as np
import pytest

from support.shared_data import SHARED
from vla.datasets import registry
from vla.datasets.base import paragraphs

FOLDER = SHARED / "annotations"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="shared data: the benchmarks' files are not here"
)


def read(name, *files):
    return registry.build(name).read(*[FOLDER / file for file in files])


def rows_of(file):
    return [json.loads(line) for line in (FOLDER / file).read_text().splitlines()]


def whole(file):
    return json.loads((FOLDER / file).read_text())


def table(file, **form):
    with open(FOLDER / file, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle, **form))


def test_qvhighlights():
    files = [f"qvhighlights/highlight_{split}_release.jsonl" for split in ("train", "val")]
    annotations = read("qvhighlights", *files)
    rows = [row for file in files for row in rows_of(file)]
    assert Counter(a.split for a in annotations) == {"train": 7218, "val": 1550}
    assert (
        len({a.video for a in annotations if a.split == "train"}) == 7100
        and len({a.video for a in annotations if a.split == "val"}) == 1519
    )
    for a, row in zip(annotations, rows, strict=True):
        assert (a.query_id, a.query, a.video, a.duration) == (
            str(row["qid"]),
            row["query"].strip(),
            row["vid"],
            row["duration"],
        )
        assert [list(span) for span in a.spans] == row["relevant_windows"]
        ratings = dict(zip(a.saliency.clips, map(list, a.saliency.scores), strict=True))
        assert ratings == dict(zip(row["relevant_clip_ids"], row["saliency_scores"], strict=True))
        # Windows are runs of relevant clips.
        inside = {n for start, end in a.spans for n in range(int(start // 2), int(end // 2))}
        assert inside == set(a.saliency.clips)


def test_charades():
    files = [f"charades_sta/charades_{split}_release.jsonl" for split in ("train", "test")]
    annotations = read("charades_sta", *files)
    assert Counter(a.split for a in annotations) == {"train": 12404, "test": 3720}
    rows = [row for file in files for row in rows_of(file)]
    assert [(a.video, *a.spans[0]) for a in annotations] == [
        (r["vid"], *r["relevant_windows"][0]) for r in rows
    ]


def test_charades_in_its_first_form(tmp_path):
    """Lighthouse's rows, written as TALL writes them, say the same."""
    rows = rows_of("charades_sta/charades_test_release.jsonl")
    path = tmp_path / "charades_sta_test.txt"
    path.write_text(
        "".join(
            f"{r['vid']} {r['relevant_windows'][0][0]} {r['relevant_windows'][0][1]}##{r['query']}\n"
            for r in rows
        )
    )
    lengths = tmp_path / "Charades_v1_test.csv"
    lengths.write_text(
        "id,length\n"
        + "".join(f"{v},{d}\n" for v, d in {r["vid"]: r["duration"] for r in rows}.items())
    )
    annotations = registry.build("charades_sta").read(path, lengths)
    again = read("charades_sta", "charades_sta/charades_test_release.jsonl")
    same = [(a.video, a.query, a.spans, a.split, a.duration) for a in again]
    assert [(a.video, a.query, a.spans, a.split, a.duration) for a in annotations] == same


def test_activitynet():
    annotations = read("activitynet", "activitynet/val_1.json")
    members = whole("activitynet/val_1.json")
    assert (len(annotations), len({a.video for a in annotations})) == (17505, 4917)
    assert [a.query for a in annotations] == [
        s.strip() for member in members.values() for s in member["sentences"]
    ]
    assert [list(a.spans[0]) for a in annotations] == [
        t for member in members.values() for t in member["timestamps"]
    ]
    assert sum(a.spans[0][1] > a.duration for a in annotations) == sum(
        end > member["duration"] for member in members.values() for _, end in member["timestamps"]
    )
    durations = {a.video: a.query for a in paragraphs(annotations)}
    assert durations == {
        video: " ".join(s.strip() for s in member["sentences"]) for video, member in members.items()
    }


def test_didemo():
    """4,180 and 4,021 descriptions (README of the source); by chance a moment has mIoU 22.64, R@1 3.75 on the test set (paper)."""
    annotations = read("didemo", "didemo/val_data.json", "didemo/test_data.json")
    assert Counter(a.split for a in annotations) == {"val": 4180, "test": 4021}
    assert [len(a.votes) for a in annotations] == [
        len(r["times"]) for s in ("val", "test") for r in whole(f"didemo/{s}_data.json")
    ]
    unanimous = [a for a in annotations if len(set(a.votes)) == 1]
    assert len(unanimous) > 2000 and all(a.spans == a.votes[:1] for a in unanimous)
    moments = np.array(
        [(5 * first, 5 * last + 5) for first, last in combinations_with_replacement(range(6), 2)]
    )
    chance = []
    for a in (a for a in annotations if a.split == "test"):
        votes = np.array(a.votes)
        intersections = np.minimum(moments[:, None, 1], votes[:, 1]) - np.maximum(
            moments[:, None, 0], votes[:, 0]
        )
        unions = np.maximum(moments[:, None, 1], votes[:, 1]) - np.minimum(
            moments[:, None, 0], votes[:, 0]
        )
        chance.append(np.sort(np.clip(intersections, 0, None) / unions)[:, -3:].mean())
    assert 100 * np.mean(chance) == pytest.approx(22.64, abs=0.1)


def test_tvr():
    annotations = read("tvr", "tvr/tvr_val_release.jsonl")
    assert Counter(a.category for a in annotations) == {"v": 8097, "t": 964, "vt": 1834}
    assert [(int(a.query_id), a.video, list(a.spans[0])) for a in annotations] == [
        (r["desc_id"], r["vid_name"], r["ts"]) for r in rows_of("tvr/tvr_val_release.jsonl")
    ]


def test_msrvtt_1k_a():
    annotations = read("msrvtt", "msrvtt/MSRVTT_JSFUSION_test.csv")
    rows = table("msrvtt/MSRVTT_JSFUSION_test.csv")
    assert len(rows) == 1000 and {a.split for a in annotations} == {"test"}
    assert [(a.query_id, a.video, a.query) for a in annotations] == [
        (r["key"], r["video_id"], r["sentence"].strip()) for r in rows
    ]


def test_msrvtt_1k_a_with_sentences_for_every_video(tmp_path):
    """The published JSON is not here: one of its make, with a sentence for each of 10,000 videos."""
    path = tmp_path / "MSRVTT_data.json"
    path.write_text(json.dumps({
        "videos": [{"video_id": f"video{n}", "category": n % 20, "split": "train"} for n in range(10_000)],
        "sentences": [{"caption": f"s {n}", "video_id": f"video{n}", "sen_id": n} for n in range(10_000)],
    }))  # fmt: skip
    lists = [FOLDER / "msrvtt" / f"MSRVTT_{name}.csv" for name in ("train.9k", "JSFUSION_test")]
    annotations = registry.build("msrvtt").read(path, *lists)
    assert Counter(a.split for a in annotations) == {"train": 9000, "test": 1000}
    assert len({a.video for a in annotations}) == 10_000
    annotations = registry.build("msrvtt").read(
        path, FOLDER / "msrvtt" / "MSRVTT_train.7k.csv", lists[1]
    )
    assert Counter(a.split for a in annotations) == {"train": 7010, "test": 1000}


def test_msvd():
    """48,774 / 4,290 / 27,763 descriptions of 1,200 / 100 / 670 clips, as everyone counts them."""
    lists = [f"msvd/{split}_list.txt" for split in ("train", "val", "test")]
    annotations = read("msvd", "msvd/captions_msvd.json", *lists)
    assert Counter(a.split for a in annotations) == {"train": 48774, "val": 4290, "test": 27763}
    assert Counter({a.video: a.split for a in annotations}.values()) == {
        "train": 1200,
        "val": 100,
        "test": 670,
    }
    descriptions = whole("msvd/captions_msvd.json")
    assert Counter((a.video, a.query) for a in annotations) == Counter(
        (v, t.strip()) for v, texts in descriptions.items() for t in texts
    )
    lines = "".join(f"{video} {text}\n" for video, texts in descriptions.items() for text in texts)
    assert len(lines.splitlines()) == len(annotations)


def test_lsmdc():
    annotations = read("lsmdc", "lsmdc/LSMDC16_challenge_1000_publictect.csv")
    lines = (FOLDER / "lsmdc" / "LSMDC16_challenge_1000_publictect.csv").read_text().splitlines()
    assert [(a.video, a.query) for a in annotations] == [
        (p[0], p[5].strip()) for p in (line.split("\t") for line in lines)
    ]
    assert len(annotations) == len({a.video for a in annotations}) == 1000 and {
        a.split for a in annotations
    } == {"test"}


@pytest.mark.parametrize(
    ("split", "questions", "videos", "grounded", "spans"),
    [("val", 4996, 570, 3358, 3931), ("test", 8564, 1000, 5553, 6600)],
)
def test_nextqa(split, questions, videos, grounded, spans):
    annotations = read("nextqa", f"nextqa/{split}.csv", f"nextqa/nextgqa_gsub_{split}.json")
    assert (len(annotations), len({a.video for a in annotations})) == (questions, videos)
    assert (sum(bool(a.spans) for a in annotations), sum(len(a.spans) for a in annotations)) == (
        grounded,
        spans,
    )
    rows = table(f"nextqa/{split}.csv")
    assert [a.question.answer for a in annotations] == [r["answer"].strip() for r in rows]
    assert Counter(a.category for a in annotations) == Counter(r["type"] for r in rows)
    frames = whole(f"nextqa/nextgqa_gsub_{split}.json")
    for a, row in zip(annotations, rows, strict=True):
        of_video = frames.get(row["video_id"], {"location": {}})
        expected_row = of_video["location"].get(row["qid"], [])
        assert [list(span) for span in a.spans] == [
            [max(0, start), end] for start, end in expected_row
        ]
        assert a.duration == (of_video["duration"] if expected_row else None)


def test_msrvtt_qa():
    annotations = read("msrvtt_qa", "msrvtt/msrvtt_qa_val.jsonl")
    rows = rows_of("msrvtt/msrvtt_qa_val.jsonl")
    assert (len(annotations), len({a.video for a in annotations})) == (12278, 497)
    assert [(a.query, a.question.answers, a.category) for a in annotations] == [
        (r["question"].strip(), (r["answer"],), r["answer_type"]) for r in rows
    ]


def test_tgif_qa():
    tasks = ("action", "transition", "count", "frameqa")
    annotations = read("tgif_qa", *[f"tgif_qa/Test_{task}_question.head.csv" for task in tasks])
    rows = {task: table(f"tgif_qa/Test_{task}_question.head.csv", delimiter="\t") for task in tasks}
    assert [a.query_id for a in annotations] == [r["vid_id"] for task in tasks for r in rows[task]]
    frames = Counter(
        ("object", "number", "color", "location")[int(r["type"])] for r in rows["frameqa"]
    )
    assert (
        Counter(a.category for a in annotations)
        == {task: len(rows[task]) for task in tasks[:3]} | frames
    )
    answers = [r[f"a{int(r['answer']) + 1}"] for task in tasks[:2] for r in rows[task]]
    answers += [r["answer"] for task in tasks[2:] for r in rows[task]]
    assert [a.question.answer for a in annotations] == [answer.strip() for answer in answers]
