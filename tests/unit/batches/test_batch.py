"""Batches equal those of a naive loop over videos, queries and questions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus, with_tokens
from vla.batches.arrays import CorpusArrays
from vla.batches.batch import AlignedBatch
from vla.batches.collate import build_batch, pad_ragged
from vla.batches.corpus import Query
from vla.batches.corpus_reader import load_corpus, texts_to_cache
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache
from vla.datasets.base import Annotation, Saliency
from vla.encoders.toy import Encoder
from vla.features import FeatureSpec, TextFeatures
from vla.model import packed_texts
from vla.nn.l2_normalize import l2_normalize
from vla.nn.packing import Packing
from vla.spans import frames_in

LENGTHS = (4, 2, 3, 7, 5)


def corpus():
    """With two sentences here, three spans there, a text in two parts, and clips that were rated."""
    data = made_corpus(LENGTHS)
    vectors = dict(data.vectors) | {f"s{i}": np.full(8, 1.0 + i, np.float32) for i in range(3)}
    rated = Annotation(
        "r", "s0", "v3", ((0.0, 1.0),), saliency=Saliency(2.0, (0, 1), ((1, 3), (4, 4)))
    )
    more = [
        Query("s0 s1", ("s0", "s1"), ("s0", "s1", "s2"), 1, np.zeros((0, 2))),
        Query("s0", ("s0",), ("s0",), 3, np.array([[0.0, 1.0]]), rated),
        Query("s2", ("s2",), ("s2",), 4, np.array([[0.0, 0.5], [1.0, 1.0], [2.0, 9.0]])),
    ]
    return replace(data, queries=[*data.queries, *more], vectors=vectors)


def naive(data, rows, queries, questions):
    """The same by loops."""
    place, longest = (
        {int(r): i for i, r in enumerate(rows)},
        max(len(data.videos[r].values) for r in rows),
    )
    frames, inside, saliency = [], [], []
    for r in rows:
        values = data.videos[r].values.astype(np.float32)
        frames.append(np.concatenate([values, np.zeros((longest - len(values), 8), np.float32)]))
    for q in queries:
        video = data.videos[q.video]
        touched = set(range(len(video.values))) if not q.is_timed else set()
        for span in q.spans:
            touched |= set(
                range(*frames_in(video.timestamps_seconds, video.duration_seconds, span))
            )
        inside.append([i in touched for i in range(longest)])
        rated, row = q.annotation.saliency if q.annotation else None, [np.nan] * longest
        for i, second in enumerate(video.timestamps_seconds if rated else ()):
            for clip, scores in zip(rated.clips, rated.scores, strict=True):
                if clip * rated.clip_seconds <= second < (clip + 1) * rated.clip_seconds:
                    row[i] = sum(scores) / len(scores)
        saliency.append(row)
    return place, np.array(frames), np.array(inside), np.array(saliency, np.float32)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [4, 1], [3], [2, 0, 3]])
@pytest.mark.parametrize("whole", [True, False])
def test_batch_matches_naive_loop(rows, whole):
    data, rows = corpus(), np.array(rows)
    which = [i for i, q in enumerate(data.queries) if q.video in rows][:: 1 if whole else -1]
    asked = [i for i, q in enumerate(data.questions) if q.video in rows]
    queries, questions = [data.queries[i] for i in which], [data.questions[i] for i in asked]
    actual = (
        pad_ragged(CorpusArrays(data), rows, np.array(which), np.array(asked))
        if whole
        else build_batch(data, rows, queries, questions)
    )
    place, frames, inside, saliency = naive(data, rows, queries, questions)
    np.testing.assert_array_equal(actual.frames, frames)
    np.testing.assert_array_equal(actual.inside, inside)
    np.testing.assert_array_equal(actual.saliency, saliency)
    assert actual.video_of_query.tolist() == [place[q.video] for q in queries]
    assert actual.durations.tolist() == [data.videos[r].duration_seconds for r in rows]
    np.testing.assert_array_equal(actual.queries, np.stack([data.text_vector(q) for q in queries]))
    timed_videos = {q.video for q in queries if q.is_timed}
    for i, q in enumerate(queries):
        told = [] if q.video in timed_videos else [data.vectors[s] for s in q.sentences]
        assert int(actual.sentence_mask[i].sum()) == len(told)
        assert all(np.array_equal(a, b) for a, b in zip(actual.sentences[i], told, strict=False))
        assert actual.spans[i][actual.span_mask[i]].tolist() == q.spans.tolist()
    for i, one in enumerate(questions):
        np.testing.assert_array_equal(actual.questions.vectors[i], data.vector(one.chunks))
        assert [
            c.tolist() for c in actual.questions.choices[i][actual.questions.choice_mask[i]]
        ] == [data.vector(c).tolist() for c in one.choices]
        assert actual.questions.answers[i] == one.question.answers
    assert actual.questions.right.tolist() == [
        -1 if q.question.right is None else q.question.right for q in questions
    ]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [4, 1], [3]])
def test_tokens_match_queries(rows):
    """Of a query in parts, those of all parts."""
    data, rows = with_tokens(corpus()), np.array(rows)
    queries = [q for q in data.queries if q.video in rows]
    questions = [q for q in data.questions if q.video in rows]
    actual = build_batch(data, rows, queries, questions)
    timed = {q.video for q in queries if q.is_timed}
    told = [(s,) for q in queries if q.video not in timed for s in q.sentences]
    texts = [*(q.chunks for q in queries), *told, *(q.chunks for q in questions)]
    texts += [c for q in questions for c in q.choices] + [
        c for q in questions for c in q.choices_only
    ]
    np.testing.assert_array_equal(
        packed_texts(actual), np.stack([data.vector(parts) for parts in texts])
    )
    texts = [q.chunks for q in queries]
    each = [
        [data.tokens.values[slice(*data.tokens.row_ranges[p])] for p in parts] for parts in texts
    ]
    each = [np.concatenate(some) for some in each]
    assert actual.token_mask.sum(1).tolist() == [len(some) for some in each]
    assert actual.token_mask.shape[1] == max(map(len, each))
    np.testing.assert_array_equal(actual.tokens, np.concatenate(each).astype(np.float32))
    for mine, some in zip(data.tokens_of(texts), each, strict=True):
        np.testing.assert_array_equal(mine, some)


def test_tokens_are_views_and_optional():
    data = with_tokens(corpus())
    assert np.shares_memory(CorpusArrays(data).tokens, data.tokens.values)
    plain = corpus()
    assert CorpusArrays(plain).tokens is None and plain.tokens_of([("s0",)]) is None
    actual = build_batch(plain, np.arange(5), plain.queries, plain.questions)
    assert actual.tokens.shape == (0, 8) and actual.token_mask.shape == (len(plain.queries), 0)


def test_contiguous_frames_are_not_copied():
    data = made_corpus(LENGTHS)
    values = np.concatenate([v.values for v in data.videos])
    starts = np.cumsum((0, *LENGTHS))
    videos = [
        replace(v, values=values[a : a + n])
        for v, a, n in zip(data.videos, starts, LENGTHS, strict=False)
    ]
    table = CorpusArrays(replace(data, videos=videos))
    assert np.shares_memory(table.frames, values)
    np.testing.assert_array_equal(table.frames, values)
    some = CorpusArrays(replace(data, videos=[videos[i] for i in (2, 1)], queries=[], questions=()))
    np.testing.assert_array_equal(some.frames, np.concatenate([videos[2].values, videos[1].values]))


def test_pooling_matches_mean_of_frames():
    mask = torch.arange(5)[None] < torch.tensor([5, 2, 3])[:, None]
    rows = torch.randn(
        10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    text = torch.zeros(0, 4, dtype=torch.float64)
    others = {
        "queries": text,
        "sentences": text[None],
        "questions": text,
        "choices": text[None],
        "choices_only": text[None],
    }
    others |= {
        "tokens": text[None],
        "token_mask": torch.zeros(0, 0, dtype=torch.bool),
        "scale": torch.tensor(1.0),
    }
    aligned = AlignedBatch(packed=rows, packing=Packing(mask), **others)
    assert torch.equal(aligned.frames, Packing(mask).pad(rows))
    videos, inside = (
        torch.tensor([2, 0, 0, 1]),
        torch.rand(4, 5, generator=torch.Generator().manual_seed(2)) > 0.4,
    )

    def direction(some):
        return some.sum(0) / some.sum(0).norm().clamp_min(1e-12)

    each = [aligned.frames[i][mask[i]] for i in range(3)]
    torch.testing.assert_close(aligned.videos, torch.stack([direction(e) for e in each]))
    expected = [
        direction(aligned.frames[v][inside[i] & mask[v]]) for i, v in enumerate(videos.tolist())
    ]
    torch.testing.assert_close(aligned.pool_spans(videos, inside), torch.stack(expected))
    parts, held = aligned.equal_segments(torch.tensor([1, 0]), 2)
    torch.testing.assert_close(parts[0], l2_normalize(each[1]))
    torch.testing.assert_close(
        parts[1], torch.stack([direction(each[0][:3]), direction(each[0][3:])])
    )
    assert held.all() and aligned.equal_segments(torch.tensor([1]), 4)[1].tolist() == [
        [True, False, True, False]
    ]

    def pooled(rows):
        return AlignedBatch(packed=rows, packing=Packing(mask), **others).pool_spans(videos, inside)

    assert torch.autograd.gradcheck(pooled, rows)


@pytest.mark.parametrize(("pages", "in_file"), [(672, False), (671, True)])
def test_features_of_over_half_of_the_memory_use_a_file(tmp_path, monkeypatch, pages, in_file):
    """The same batches, no copy of the features in memory, and nothing left behind.

    21 frames of 8 numbers of 2 bytes take 336 bytes.
    """
    data = made_corpus(LENGTHS)
    spec = FeatureSpec("toy", "8", "none", "none", "fps=2", 8)
    cache = FeatureCache.create(tmp_path, spec, EncoderSource("toy", "8", ""))
    for video in data.videos:
        cache.add_video(
            video,
            Receipt(video.video_id, "ok", "", 1, 1, "x", duration_seconds=video.duration_seconds),
        )
    known = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    monkeypatch.setattr(FeatureCache, "texts", lambda self, texts: TEXTS)
    monkeypatch.setattr(FeatureCache, "pieces", lambda self, text: ["a"])
    with monkeypatch.context() as machine:
        machine.setattr("os.sysconf", {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 1}.__getitem__)
        loaded = load_corpus(
            cache, [Annotation(f"{i}", "a", v.video_id) for i, v in enumerate(data.videos)]
        )
    table = CorpusArrays(loaded)
    np.testing.assert_array_equal(table.frames, np.concatenate([v.values for v in data.videos]))
    assert np.shares_memory(table.frames, loaded.videos[0].values)
    assert isinstance(loaded.videos[0].values, np.memmap) == in_file
    rows, queries = np.array([3, 1]), np.array([3, 1])
    actual = pad_ragged(table, rows, queries, np.zeros(0, np.int64))
    np.testing.assert_array_equal(actual.frames, naive(data, rows, [], [])[1])
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == known


TEXTS = TextFeatures(("a",), np.ones((1, 8)), np.ones((1, 1, 8)), np.ones((1, 1), bool))


@pytest.mark.parametrize("largest", [0.5, 0.0])
def test_large_tokens_use_a_file(tmp_path, monkeypatch, largest):
    """What the cache holds of each text, whichever shard that is in; nothing of it where nobody asks."""
    monkeypatch.setattr("vla.batches.corpus_reader._MAX_MEMORY_SHARE", largest)
    spec, encoder = FeatureSpec("toy", "8", "none", "none", "fps=2", 8), Encoder("8")
    cache = FeatureCache.create(tmp_path, spec, EncoderSource("toy", "8", ""))
    told = [
        "a small red ball rolls",
        "two dogs run. They bark at a man.",
        " ".join(f"word{i}" for i in range(40)),
    ]
    annotations = []
    for i, video in enumerate(made_corpus((4, 2, 3)).videos):
        cache.add_video(
            video,
            Receipt(video.video_id, "ok", "", 1, 1, "x", duration_seconds=video.duration_seconds),
        )
        annotations.append(Annotation(f"{i}", told[i], video.video_id))
    cache.add_texts(texts_to_cache(annotations), encoder, batch=2)
    cache = FeatureCache.open(cache.folder)
    assert load_corpus(cache, annotations).tokens is None
    loaded = load_corpus(cache, annotations, tokens=True)
    assert isinstance(loaded.tokens.values, np.memmap) == (largest == 0)
    assert len(loaded.queries[2].chunks) > 1  # longer than the encoder's context
    for parts in [q.chunks for q in loaded.queries]:
        words = " ".join(parts).split()
        (actual,) = loaded.tokens_of([parts])
        expected = np.stack([encoder.encode_text([w]).pooled[0] for w in words])
        np.testing.assert_allclose(actual, expected, atol=2e-3)
