"""Splits: validation videos are disjoint, and held-out concepts are not trained on."""

from dataclasses import replace

import numpy as np
import pytest

from vla.batches.corpus import Corpus, Query
from vla.datasets.base import Annotation, Question
from vla.features import FrameFeatures
from vla.model import zero_shot_model
from vla.training.split import Split, hold_out_concepts, split_rows
from vla.training.validator import Validator

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
    of_train = np.isin([q.video for q in data.queries], everything(data).train)
    assert abs(hidden[of_train].mean() - 0.2) < 0.02 and not hidden[~of_train].any()
    # By chance alone four in five of the captions of a withheld one's kind would be trained on.
    left = [(~hidden[of_train & (kinds == k)]).mean() for k in np.unique(kinds[hidden])]
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


def test_video_without_captions_leaves_the_training():
    data, _ = corpus(60, timed=False)
    before = everything(data)
    split = hold_out_concepts(before, data, 0.2, 0)
    videos = {data.queries[i].video for i in split.held_out_queries}
    for video in videos:
        assert all(
            i in split.held_out_queries for i, q in enumerate(data.queries) if q.video == video
        )
    assert videos and videos == set(split.held_out_videos.tolist())
    assert sorted([*split.train, *split.held_out_videos]) == before.train.tolist()
    assert split.val.tolist() == before.val.tolist()


NAMED = {i: "test" for i in range(0, 120, 4)} | {i: "val" for i in range(1, 120, 6)}


@pytest.mark.parametrize("timed", [True, False])
def test_named_validation_videos_stay_as_they_are(timed):
    """They are the user's criterion: all of their captions, and no video more."""
    data, _ = corpus(60, timed=timed)
    before = split_rows(120, NAMED, 0.15, 0)
    split = hold_out_concepts(before, data, 0.2, 0)
    assert before.names_val and split.names_val and not everything(data).names_val
    assert (
        split.val.tolist() == before.val.tolist() == sorted(i for i in NAMED if NAMED[i] == "val")
    )
    hidden = {data.queries[i].video for i in split.held_out_queries}
    assert hidden and hidden <= set(before.train.tolist())
    validated = Validator(data, split, "auto", 0)
    assert validated.num_videos == len(before.val)
    # All captions of the named videos, then those that are held out, are evaluated.
    of_val = sum(q.video in set(before.val.tolist()) for q in data.queries)
    assert validated.num_queries == of_val + len(split.held_out_queries)


def test_videos_without_captions_validate_unless_some_are_named():
    data, _ = corpus(60, timed=False)
    random = hold_out_concepts(everything(data), data, 0.2, 0)
    named = hold_out_concepts(split_rows(120, NAMED, 0.15, 0), data, 0.2, 0)
    for split, others in ((random, len(random.held_out_videos)), (named, 0)):
        assert len(split.held_out_videos)
        validated = Validator(data, split, "auto", 0)
        assert validated.num_videos == len(split.val) + others
        first = len(split.val) + len(split.held_out_videos)
        assert validated.gallery[:first].tolist() == [*split.val, *split.held_out_videos]
        assert sorted(validated.gallery[first:]) == split.train.tolist()


def test_scores_of_held_out_concepts_are_those_of_their_captions():
    """By hand: the frozen encoder's rank of each video among the gallery."""
    data, _ = corpus(60, timed=False)
    rng = np.random.default_rng(5)
    videos = [
        replace(v, values=rng.standard_normal((4, DIM)).astype(np.float16)) for v in data.videos
    ]
    data = replace(data, videos=videos)
    split = hold_out_concepts(everything(data), data, 0.2, 0)
    validator = Validator(data, split, "auto", 0)
    found = validator(zero_shot_model(DIM, 1.0))

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    means = unit(
        np.stack([unit(videos[i].values.astype(np.float64)).mean(0) for i in validator.gallery])
    )
    place = {int(row): i for i, row in enumerate(validator.gallery)}
    ranks = []
    for i in split.held_out_queries:
        scores = means @ unit(data.vectors[data.queries[i].text].astype(np.float64))
        ranks.append(1 / sum(scores >= scores[place[data.queries[i].video]]))
    is_held_out = np.isin(
        validator.gallery[found.parts["text to video"].videos], split.held_out_videos
    )
    assert is_held_out.sum() == len(ranks)
    assert found.parts["text to video"].by_query[is_held_out].mean() == pytest.approx(
        np.mean(ranks), abs=1e-6
    )
    back = found.parts["video to text"]
    others = back.by_query[np.isin(validator.gallery[back.videos], split.held_out_videos)].mean()
    assert validator.held_out_score(found) == pytest.approx((np.mean(ranks) + others) / 2, abs=1e-6)


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
