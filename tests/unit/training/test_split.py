"""Splits: validation videos are disjoint, and held-out concepts are not trained on."""

import numpy as np
import pytest

from vla.batches.corpus import Corpus, Query
from vla.datasets.base import Annotation, Question
from vla.features import FrameFeatures
from vla.training.split import Split, hold_out_concepts, split_rows

DIM = 8


def corpus(kinds, timed=True, per_video=3, seed=0):
    """Videos with captions of random kinds; captions of one kind are nearly one vector, and no two are the same words."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((kinds, DIM))
    videos, queries, vectors, kind_of = [], [], {}, []
    for i in range(kinds * 2):
        videos.append(FrameFeatures(f"v{i}", np.ones((4, DIM), np.float16), np.arange(4.0), 4.0))
        kind = int(rng.integers(kinds))
        for k in range(per_video):
            kind = int(rng.integers(kinds)) if timed else kind
            text = f"{i} {k}"
            vectors[text] = (centres[kind] + 1e-3 * rng.standard_normal(DIM)).astype(np.float32)
            spans = np.array([[0.0, 1.0]]) if timed else np.zeros((0, 2))
            queries.append(Query(text, (text,), (text,), i, spans))
            kind_of.append(kind)
    return Corpus(videos, queries, vectors), np.array(kind_of)


def everything(data):
    return split_rows(len(data.videos), {}, 0.15, 0)


def test_holds_out_nearest_concepts():
    data, kinds = corpus(60)
    split = hold_out_concepts(everything(data), data, 0.2, 0)
    hidden = np.zeros(len(data.queries), bool)
    hidden[split.held_out_queries] = True
    assert abs(hidden.mean() - 0.2) < 0.02
    # By chance alone four in five of the captions of a withheld one's kind would be trained on.
    left = [(~hidden[kinds == k]).mean() for k in np.unique(kinds[hidden])]
    assert np.mean(left) < 0.4
    assert len(split.training_corpus(data).queries) == (~hidden).sum()
    assert not {q.text for q in split.training_corpus(data).queries} & {
        data.queries[i].text for i in split.held_out_queries
    }


def test_equal_captions_are_held_out_together():
    data, _ = corpus(60)
    twice = Corpus(data.videos, [*data.queries, *data.queries], data.vectors)
    split = hold_out_concepts(everything(twice), twice, 0.2, 0)
    hidden = set(split.held_out_queries.tolist())
    assert hidden and all((i + len(data.queries)) % len(twice.queries) in hidden for i in hidden)


def test_video_without_captions_moves_to_validation():
    data, _ = corpus(60, timed=False)
    before = everything(data)
    split = hold_out_concepts(before, data, 0.2, 0)
    videos = {data.queries[i].video for i in split.held_out_queries}
    for video in videos:
        assert all(
            i in split.held_out_queries for i, q in enumerate(data.queries) if q.video == video
        )
    assert videos <= set(split.val.tolist()) and not videos & set(split.train.tolist())
    assert sorted([*split.train, *split.val]) == sorted([*before.train, *before.val])
    assert set(before.val.tolist()) <= set(split.val.tolist())


def test_test_videos_have_no_held_out_concepts():
    data, _ = corpus(60)
    named = {i: "test" for i in range(0, 120, 2)} | {i: "val" for i in range(1, 120, 6)}
    split = hold_out_concepts(split_rows(120, named, 0.15, 0), data, 0.2, 0)
    assert all(data.queries[i].video % 2 for i in split.held_out_queries)
    assert not any(named.get(int(i)) == "test" for i in [*split.train, *split.val])


def test_held_out_concepts_depend_on_seed():
    data, _ = corpus(60)
    first, same, other = (
        hold_out_concepts(everything(data), data, 0.2, seed).held_out_queries.tolist()
        for seed in (0, 0, 1)
    )
    assert first == same != other


@pytest.mark.parametrize(("kinds", "share"), [(8, 0.2), (60, 0.0), (60, 0.001)])
def test_few_concepts_are_not_held_out(kinds, share):
    data, _ = corpus(kinds)
    before = everything(data)
    assert hold_out_concepts(before, data, share, 0) is before
    assert before.training_corpus(data).queries == data.queries


def test_questions_are_not_held_out():
    data, _ = corpus(60)
    asked = Annotation("0", "what is it", "v0", question=Question(choices=("a", "b"), right=0))
    queries = [
        Query(q.text, q.chunks, q.sentences, q.video, q.spans, asked if q.video == 0 else None)
        for q in data.queries
    ]
    split = hold_out_concepts(everything(data), Corpus(data.videos, queries, data.vectors), 0.9, 0)
    assert not any(queries[i].video == 0 for i in split.held_out_queries)


def test_nothing_is_held_out_without_captions():
    data, _ = corpus(60)
    empty = Corpus(data.videos, [], {})
    split = Split(np.arange(100), np.arange(100, 120))
    assert hold_out_concepts(split, empty, 0.2, 0) is split
