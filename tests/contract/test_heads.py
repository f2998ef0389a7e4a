"""Contract of heads: independence of padding and order, training, and the untrained state."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from support.made_corpus import DIM, made_corpus
from support.score_tables import moments
from vla.batches.batch import AlignedBatch
from vla.batches.collate import build_batch
from vla.features import FrameFeatures
from vla.heads import registry
from vla.heads.base import Head, LocalizationBatch
from vla.model import AlignmentModel, ModelConfig
from vla.nn.l2_normalize import l2_normalize
from vla.spans import iou

every = pytest.mark.parametrize("name", registry.names())
trained = pytest.mark.parametrize("name", [n for n in registry.names() if n != "retrieval"])
locating = pytest.mark.parametrize(
    "name", [n for n in registry.names() if registry.get(n).task == "moments"]
)
choosing = pytest.mark.parametrize(
    "name", [n for n in registry.names() if registry.get(n).task == "choice"]
)


def built(name, corpus=None, shake=True, seed=0):
    """A model with this head alone, its weights moved away from where they start."""
    corpus = corpus or made_corpus()
    options = registry.get(name).resolve_options(corpus, {})
    torch.manual_seed(seed)
    model = AlignmentModel(ModelConfig(DIM, "identity", heads={name: options}))
    for head in (*model.heads.values(), *model.blind.values()):
        head.fit(corpus)
    if shake:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def batch_of(corpus, rows=None):
    rows = np.arange(len(corpus.videos)) if rows is None else np.asarray(rows)
    there = set(rows.tolist())
    return build_batch(
        corpus,
        rows,
        [q for q in corpus.queries if q.video in there],
        [q for q in corpus.questions if q.video in there],
    )


def decoded(model, batch, name):
    return said(model.heads[name], model(batch), batch)


@torch.no_grad()
def said(head, aligned, batch):
    """What any head says to what a batch asks of it: moments of timed queries, or answers."""
    if head.task == "moments":
        return [
            actual.moments for actual in head.localize(LocalizationBatch.from_batch(aligned, batch))
        ]
    return head.decode(head(aligned, batch), batch)


def same(one, other):
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        if isinstance(a, np.ndarray | float):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)
        else:
            assert a == b


@every
def test_implements_head_protocol(name):
    assert issubclass(registry.get(name), Head)
    assert registry.get(name).task in ("videos", "moments", "choice", "open", "count")


@trained
def test_padding_does_not_matter(name):
    """A video's answers are those it gets alone, whatever longer video shares its batch."""
    corpus = made_corpus()
    model = built(name, corpus)
    together = batch_of(corpus)
    dirty = replace(
        together, frames=together.frames.masked_fill(~together.frame_mask.unsqueeze(-1), 50.0)
    )
    same(decoded(model, dirty, name), decoded(model, together, name))
    alone = [
        item
        for row in range(len(corpus.videos))
        for item in decoded(model, batch_of(corpus, [row]), name)
    ]
    same(alone, decoded(model, together, name))


@trained
def test_the_order_of_questions_does_not_matter(name):
    corpus = made_corpus()
    model = built(name, corpus)
    turned = replace(corpus, queries=corpus.queries[::-1], questions=corpus.questions[::-1])
    same(decoded(model, batch_of(turned), name)[::-1], decoded(model, batch_of(corpus), name))


@trained
def test_decoded_types(name):
    corpus = made_corpus()
    asks, actual = registry.get(name).task, decoded(built(name, corpus), batch_of(corpus), name)
    assert len(actual) == len(corpus.videos)
    for item, video in zip(actual, corpus.videos, strict=True):
        if asks == "choice":
            assert type(item) is int and 0 <= item < 3
        elif asks == "open":
            assert item and set(item) <= {"red", "green", "blue"} and len(set(item)) == len(item)
        elif asks == "count":
            assert isinstance(item, float) and math.isfinite(item)
        else:
            assert item.dtype == np.float64 and item.shape[1] == 3 and len(item) > 0
            assert (item[:, 0] >= 0).all() and (item[:, 0] < item[:, 1]).all()
            assert (item[:, 1] <= video.duration_seconds + 1e-6).all()
            assert (np.diff(item[:, 2]) <= 0).all()


@trained
def test_every_parameter_has_a_gradient(name):
    corpus = made_corpus(seed=3)
    model = built(name, corpus, shake=False)
    batch = batch_of(corpus)
    own = [p for p in model.heads[name].parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(own, 0.01)
    losses, reached = [], set()
    for _ in range(60):
        loss = model.heads[name].loss(model(batch), batch)
        assert loss.ndim == 0 and torch.isfinite(loss)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in own)
        # At the first step nothing is behind a zero layer, at the last one everything may be learned.
        reached |= {i for i, p in enumerate(own) if p.grad.abs().sum() > 0}
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]
    assert len(reached) == len(own)


@trained
def test_no_loss_without_task(name):
    corpus = replace(made_corpus(), questions=())
    batch = build_batch(corpus, np.arange(4), [q for q in corpus.queries if not q.is_timed])
    model = built(name)
    assert model.heads[name].loss(model(batch), batch) is None
    assert decoded(model, batch, name) == []


@trained
def test_no_loss_without_targets(name):
    corpus = made_corpus()
    kept = tuple(
        replace(
            q,
            annotation=replace(
                q.annotation, question=replace(q.question, right=None, answers=(), count=None)
            ),
        )
        for q in corpus.questions
    )
    corpus = replace(corpus, questions=kept, queries=[q for q in corpus.queries if not q.is_timed])
    model, batch = built(name), batch_of(corpus)
    assert model.heads[name].loss(model(batch), batch) is None


@trained
def test_blind_head_ignores_video(name):
    """Where there is one, its answers and its gradients do not depend on the videos."""
    corpus = made_corpus()
    model = built(name, corpus)
    assert (name in model.blind) == registry.get(name).has_blind
    if name not in model.blind:
        return
    batch = batch_of(corpus)
    other = replace(batch, frames=torch.randn_like(batch.frames))
    head = model.blind[name]
    same(said(head, model(batch).blind(), batch), said(head, model(other).blind(), other))
    model.head_losses(model(batch), batch)[f"blind {name}"].backward()
    assert all(p.grad is None for p in (*model.projector.parameters(), model.log_scale))
    assert all(p.grad is None for p in model.heads[name].parameters())


@trained
def test_weights_round_trip(name):
    from safetensors.torch import load, save

    from vla.model import build_model, cpu_state_dict

    corpus = made_corpus()
    model = built(name, corpus)
    back = build_model(model.config, load(save(cpu_state_dict(model))), "test")
    same(decoded(back, batch_of(corpus), name), decoded(model, batch_of(corpus), name))


def timed(corpus, spans, seconds=None):
    """Of `corpus` the timed captions alone, each with `spans[video]`; `seconds(t)` is when what was at `t` is shown."""
    seconds = seconds or (lambda t: t)
    videos = [
        replace(
            v,
            timestamps_seconds=seconds(v.timestamps_seconds),
            duration_seconds=float(seconds(v.duration_seconds)),
        )
        for v in corpus.videos
    ]
    queries = [
        replace(q, spans=seconds(np.array(spans[q.video], float)))
        for q in corpus.queries
        if q.is_timed
    ]
    return replace(corpus, videos=videos, queries=queries, questions=())


def planted(seed, count=24, dim=DIM):
    """Videos in which a moment or two are frames that the query is least like: no cosine finds them."""
    rng = np.random.default_rng(seed)
    corpus = made_corpus(tuple(rng.integers(12, 25, count)), seed=seed, dim=dim)
    spans = {}
    for i, (video, query) in enumerate(
        zip(corpus.videos, [q for q in corpus.queries if q.is_timed], strict=True)
    ):
        starts = rng.permutation(len(video.values) // 6)[: 1 + i % 2] * 6
        spans[i] = [(s / 2, (s + rng.integers(3, 6)) / 2) for s in sorted(starts)]
        frames = 0.4 * video.values.astype(np.float32)
        for start, end in spans[i]:
            frames[int(2 * start) : int(2 * end)] -= corpus.text_vector(query)
        corpus.videos[i] = replace(video, values=frames.astype(np.float16))
    return timed(corpus, spans)


@locating
def test_learns_moments(name):
    known, new = planted(0, 48), planted(1)
    model = built(name, known, shake=False)
    head, batch, other = model.heads[name], batch_of(known), batch_of(new)
    truths = [q.spans for q in new.queries]
    before = moments(decoded(model, other, name), truths)["R1@0.5"]
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(80):
        optimizer.zero_grad()
        head.loss(model(batch), batch).backward()
        optimizer.step()
    actual = decoded(model, other, name)
    assert before < 20 and moments(actual, truths)["R1@0.5"] > 75
    both = [i for i, spans in enumerate(truths) if len(spans) == 2]
    assert len(both) > 8
    reached = [(iou(actual[i][:2, :2], truths[i]).max(0) > 0.4).all() for i in both]
    assert np.mean(reached) > 0.6


@locating
def test_moments_follow_timestamps(name):
    """What is shown three times as slowly is found at three times the seconds."""
    spans = {i: [(0.5, 1.0)] for i in range(4)}
    corpus = made_corpus((4, 9, 3, 14), seed=5)
    plain, slow = timed(corpus, spans), timed(corpus, spans, lambda t: 3 * t)
    at_once = decoded(built(name, plain), batch_of(plain), name)
    slowly = decoded(built(name, slow), batch_of(slow), name)
    same([rows * [3, 3, 1] for rows in at_once], slowly)


@locating
def test_moments_in_long_videos(name):
    """A raised stretch of a video of three hours, two frames a second."""
    rng = np.random.default_rng(0)
    corpus = timed(made_corpus((4,)), {0: [(7000.0, 7012.0)]})
    text = corpus.text_vector(corpus.queries[0])
    frames = rng.standard_normal((21600, DIM)).astype(np.float32)
    frames[14000:14024] += 3 * text / np.linalg.norm(text) * np.sqrt(DIM)
    long = FrameFeatures("long", frames.astype(np.float16), np.arange(21600) / 2, 10800.0)
    corpus = replace(corpus, videos=[long], queries=[corpus.queries[0]] * 3)
    model, batch = built(name, corpus, shake=False), batch_of(corpus)
    actual = decoded(model, batch, name)
    assert len(actual) == 3 and len(actual[0]) <= 100
    assert moments(actual, [q.spans for q in corpus.queries])["R1@0.5"] == 100


@locating
def test_saliency_has_one_value_per_frame(name):
    corpus = made_corpus()
    model, batch = built(name, corpus, shake=False), batch_of(corpus)
    with torch.no_grad():
        actual = model.heads[name].localize(LocalizationBatch.from_batch(model(batch), batch))
    for row, query in zip(
        [one.saliency for one in actual], [q for q in corpus.queries if q.is_timed], strict=True
    ):
        frames = corpus.videos[query.video].values.astype(np.float64)
        text = corpus.text_vector(query).astype(np.float64)
        cosines = frames @ text / np.linalg.norm(frames, axis=1) / np.linalg.norm(text)
        np.testing.assert_allclose(row, 20 * cosines, atol=1e-3)


@locating
def test_search_batch_matches_training_batch(name):
    """A search has aligned frames and one text: it localizes the same as an evaluation, to the bit."""
    corpus = made_corpus((7, 12, 3))
    queries = [q for q in corpus.queries if q.is_timed]
    model, batch = built(name, corpus), build_batch(corpus, np.arange(3), queries)
    with torch.no_grad():
        aligned = model(batch)
        searched = LocalizationBatch.from_videos(
            features=corpus.videos,
            frames=[
                rows[mask].numpy()
                for rows, mask in zip(aligned.frames, batch.frame_mask, strict=True)
            ],
            texts=aligned.queries.numpy(),
            scale=model.scale,
        )
        expected = LocalizationBatch.from_batch(aligned, batch)
        for field in fields(LocalizationBatch):
            assert torch.equal(getattr(searched, field.name), getattr(expected, field.name)), (
                field.name
            )
        for one, other in zip(
            model.heads[name].localize(searched), model.heads[name].localize(expected), strict=True
        ):
            np.testing.assert_array_equal(one.moments, other.moments)
            np.testing.assert_array_equal(one.saliency, other.saliency)


@locating
def test_only_the_rows_are_localized(name):
    corpus = made_corpus((7, 12, 3))
    model, batch = built(name, corpus), batch_of(corpus)
    with torch.no_grad():
        every = LocalizationBatch.from_batch(model(batch), batch)
        actual = model.heads[name].localize(every)
        one = model.heads[name].localize(replace(every, rows=every.rows[1:2]))
        assert model.heads[name].localize(replace(every, rows=every.rows[:0])) == []
    assert len(actual) == 3 and len(one) == 1
    same([one[0].moments], [actual[1].moments])


@choosing
def test_untrained_choice_head_is_retrieval(name):
    corpus = made_corpus()
    model, batch = built(name, corpus, shake=False), batch_of(corpus)
    with torch.no_grad():
        scores = model.heads[name](model(batch), batch)
    choices = [q for q in corpus.questions if q.question.kind == "choice"]
    for row, asked in zip(scores, choices, strict=True):
        frames = corpus.videos[asked.video].values.astype(np.float64)
        mean = (frames / np.linalg.norm(frames, axis=1, keepdims=True)).mean(0)
        for score, parts in zip(row, asked.choices, strict=True):
            text = corpus.vector(parts).astype(np.float64)
            cosine = text @ mean / np.linalg.norm(text) / np.linalg.norm(mean)
            assert float(score) == pytest.approx(20.0 * cosine, abs=1e-3)


def test_retrieval_matches_naive_loop():
    corpus = made_corpus((4, 2, 3), seed=4)
    model, batch = built("retrieval", corpus), batch_of(corpus)
    head = model.heads["retrieval"]
    scores = head(model(batch), batch).detach()
    for q, query in enumerate(corpus.queries):
        for v, video in enumerate(corpus.videos):
            frames = video.values.astype(np.float64)
            mean = (frames / np.linalg.norm(frames, axis=1, keepdims=True)).mean(0)
            text = corpus.text_vector(query).astype(np.float64)
            expected = text @ mean / np.linalg.norm(text) / np.linalg.norm(mean)
            assert float(scores[q, v]) == pytest.approx(expected, abs=1e-5)
    assert head.positives(batch).int().argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    assert [order[0] for order in head.decode(scores, batch)] == scores.argmax(1).tolist()


def test_blind_batch_has_no_frames():
    corpus = made_corpus()
    aligned = built("choice_qa", corpus)(batch_of(corpus))
    unseen = aligned.blind()
    assert (
        unseen.frames.shape == (4, 1, DIM) and not unseen.frames.any() and unseen.frame_mask.all()
    )
    assert not any(
        getattr(unseen, f.name).requires_grad for f in fields(AlignedBatch) if f.name != "packing"
    )
    torch.testing.assert_close(l2_normalize(unseen.choices), unseen.choices)
