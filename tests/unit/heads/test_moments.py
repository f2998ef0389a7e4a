"""Moment localization head: untrained predictions, time arithmetic, and chunked computation."""

from dataclasses import replace

import numpy as np
import torch

from support.made_corpus import DIM, made_corpus
from vla.batches.collate import build_batch
from vla.datasets.base import Saliency
from vla.heads._frames import edges, saliency_targets, to_frames, to_seconds
from vla.heads.base import LocalizationBatch
from vla.localization.refinement import refine_spans
from vla.model import AlignmentModel, ModelConfig
from vla.spans import iou


def batch_of(corpus):
    return build_batch(
        corpus, np.arange(len(corpus.videos)), [q for q in corpus.queries if q.is_timed]
    )


def model_of(name, **options):
    torch.manual_seed(0)
    return AlignmentModel(ModelConfig(DIM, "identity", heads={name: options})).eval()


def found_by(name, corpus, *, ends=True, **options):
    model, batch = model_of(name, **options), batch_of(corpus)
    model.heads[name].contrast_ends.fill_(ends)
    with torch.no_grad():
        return [actual.moments for actual in localized(model, name, batch)]


def localized(model, name, batch):
    return model.heads[name].localize(LocalizationBatch.from_batch(model(batch), batch))


def cosines(corpus, query):
    frames = corpus.videos[query.video].values.astype(np.float64)
    text = corpus.text_vector(query).astype(np.float64)
    return frames @ text / np.linalg.norm(frames, axis=1) / np.linalg.norm(text)


def listed(spans, scores, overlap=0.5):
    """Greedy suppression by a naive loop."""
    kept = []
    for i in sorted(range(len(spans)), key=lambda i: -scores[i]):
        if all(float(iou([spans[i]], [spans[j]])[0, 0]) <= overlap for j in kept):
            kept.append(i)
    return np.array([spans[i] for i in kept])


def test_untrained_points_match_window_contrast():
    corpus = made_corpus((13, 6, 1, 24), seed=2)
    queries = [q for q in corpus.queries if q.is_timed]
    for rows, query in zip(found_by("moments", corpus, ends=False), queries, strict=True):
        curve, video = cosines(corpus, query), corpus.videos[query.video]
        n, bounds = len(curve), np.append(video.timestamps_seconds, video.duration_seconds)
        spans, scores = [], []
        for stride in (1, 2, 4, 8, 16):
            if stride > 1 and n <= stride:
                break
            for k in range(-(-n // stride)):
                low, high = (
                    max(0, (k + 0.5) * stride - 2 * stride),
                    min(n, (k + 0.5) * stride + 2 * stride),
                )
                shares = [max(0, min(high, t + 1) - max(low, t)) for t in range(n)]
                scores.append(
                    (np.dot(shares, curve) / (high - low) - curve.mean()) * np.sqrt(high - low)
                )
                spans.append(tuple(np.interp([low, high], np.arange(n + 1), bounds)))
        np.testing.assert_allclose(rows[:, :2], listed(spans, scores)[:50], atol=1e-5)


def test_untrained_moments_are_refined_points():
    corpus = made_corpus((13, 6, 1, 24), seed=2)
    queries = [q for q in corpus.queries if q.is_timed]
    points = found_by("moments", corpus, ends=False)
    for moments, rows, query in zip(found_by("moments", corpus), points, queries, strict=True):
        curve, video = cosines(corpus, query), corpus.videos[query.video]
        bounds = np.append(video.timestamps_seconds, video.duration_seconds)
        spans, contrasts = refine_spans(curve, bounds, rows[:, :2])
        scores = np.sqrt(rows[:, 2] * np.clip(contrasts / max(contrasts.max(), 1e-9), 0, 1))
        np.testing.assert_allclose(moments[:, :2], listed(spans, scores), atol=1e-5)
        np.testing.assert_allclose(moments[:, 2].max(), scores.max(), rtol=1e-4)


def test_training_keeps_the_ends_that_it_learns():
    corpus = made_corpus((13, 6))
    model, batch = model_of("moments"), batch_of(corpus)
    head = model.heads["moments"]
    assert head.contrast_ends
    head.loss(model(batch), batch)
    assert not head.contrast_ends


def test_times_interpolate_within_frames():
    """Frames of any length, one of them with no time on screen, against numpy's interpolation."""
    corpus = made_corpus((5, 3))
    times = np.array([0.0, 0.5, 2.0, 2.0, 7.0])
    videos = [
        replace(corpus.videos[0], timestamps_seconds=times, duration_seconds=7.5),
        corpus.videos[1],
    ]
    batch = batch_of(replace(corpus, videos=videos, queries=corpus.queries[:4]))
    bounds = edges(batch)
    np.testing.assert_allclose(bounds, [[*times, 7.5], [0, 0.5, 1, 1.5, 1.5, 1.5]])
    asked = torch.tensor([[0.0, 0.3, 1.9, 2.5, 7.2, 7.5, 99.0]]).expand(2, -1)
    places = to_frames(asked, bounds)
    np.testing.assert_allclose(
        places[0],
        np.interp(asked[0].numpy(), [0, 0.5, 2, 2 + 1e-9, 7, 7.5], [0, 1, 2, 3, 4, 5]),
        atol=1e-5,
    )
    np.testing.assert_allclose(places[1], np.minimum(asked[1].numpy() * 2, 3), atol=1e-5)
    for row, end in enumerate((7.5, 1.5)):
        np.testing.assert_allclose(
            to_seconds(places, bounds)[row], asked[row].clamp(max=end), atol=1e-5
        )


def test_chunk_size_does_not_change_moments():
    corpus = made_corpus((24, 6, 17, 9), seed=1)
    batch, model = batch_of(corpus), model_of("moments", dropout=0.0).train()
    head, outcomes = model.heads["moments"], []
    for together in (10**6, 1):
        head.together = together
        model.zero_grad()
        loss = head.loss(model(batch), batch)
        loss.backward()
        with torch.no_grad():
            spans = [actual.moments for actual in localized(model, "moments", batch)]
        outcomes.append((loss.detach(), [p.grad.clone() for p in head.parameters()], spans))
    (loss, gradients, spans), (piecewise, others, actual) = outcomes
    torch.testing.assert_close(loss, piecewise)
    torch.testing.assert_close(gradients, others, rtol=1e-4, atol=1e-5)
    for one, other in zip(spans, actual, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_long_video_beside_does_not_change_moments():
    """Beside a long video, a short one has more points of padding than are listed as candidates."""
    corpus = made_corpus((6, 700), seed=3)
    alone = replace(corpus, videos=corpus.videos[:1], queries=corpus.queries[:2])
    short, _ = found_by("moments", corpus)
    assert len(short)
    np.testing.assert_allclose(short, found_by("moments", alone)[0], atol=1e-5)
    model, batch = model_of("moments"), batch_of(corpus)
    with torch.no_grad():
        located = LocalizationBatch.from_batch(model(batch), batch)
        output = model.heads["moments"].predict_moments(located)
    # Strides 1, 2 and 4 of 6 frames; the rest is padding.
    num_points = 6 + 3 + 2
    assert output.scores.shape[1] == 1000
    assert output.scores[0, :num_points].isfinite().all()
    assert (output.scores[0, num_points:] == -torch.inf).all()


def test_no_texts_have_no_moments():
    """Tensors without rows, as wide as those of texts would be."""
    corpus = made_corpus((5, 3))
    model = model_of("moments")
    batch = batch_of(replace(corpus, queries=[]))
    with torch.no_grad():
        located = LocalizationBatch.from_batch(model(batch), batch)
        output = model.heads["moments"].predict_moments(located)
    assert localized(model, "moments", batch) == []
    assert output.spans.shape == (0, 1, 2)
    assert output.scores.shape == (0, 1)
    assert output.saliency.shape == (0, 5)


def test_saliency_targets_follow_ratings():
    corpus = made_corpus((6, 6, 6))
    timed = [q for q in corpus.queries if q.is_timed]
    marks = (Saliency(1.0, (1, 2), ((3, 4), (1, 1))), None, Saliency(1.0, (0,), ((0, 0),)))
    queries = [
        replace(q, spans=np.array([[1.0, 2.0]]), annotation=replace(q.annotation, saliency=m))
        for q, m in zip(timed, marks, strict=True)
    ]
    shown = saliency_targets(batch_of(replace(corpus, queries=queries)), torch.arange(3))
    # The first by its ratings; nobody rated the second, and the third's say nothing: there its moment counts.
    np.testing.assert_allclose(
        shown, [[0, 0, 3.5, 3.5, 1, 1], [0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0]]
    )


def test_saliency_learns_ratings():
    """Of two halves of the moment annotators liked the second, which no cosine tells."""
    corpus = made_corpus((12,) * 6, seed=4)
    queries = [
        replace(
            q, spans=np.array([[1.0, 5.0]]),
            annotation=replace(q.annotation, saliency=Saliency(1.0, (1, 2, 3, 4), ((1,), (1,), (4,), (4,)))),
        )
        for q in corpus.queries if q.is_timed
    ]  # fmt: skip
    batch = batch_of(replace(corpus, queries=queries))
    model = model_of("moments", width=32)
    head = model.heads["moments"]
    optimizer = torch.optim.Adam(head.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        head.loss(model(batch), batch).backward()
        optimizer.step()
    with torch.no_grad():
        shown = [actual.saliency for actual in localized(model, "moments", batch)]
    for row in shown:
        assert row[6:10].min() > row[2:6].max() > row[[0, 1, 10, 11]].max()


def test_levels_follow_the_longest_moment():
    from vla.heads import registry

    head = registry.get("moments")
    corpus = made_corpus((40, 90))
    timed = [q for q in corpus.queries if q.is_timed]
    for frames, levels in ((3, 2), (4, 2), (5, 3), (16, 4), (80, 7)):
        queries = [replace(timed[1], spans=np.array([[0.0, frames / 2]]))]
        assert head.resolve_options(replace(corpus, queries=queries), {})["levels"] == levels
    assert head.resolve_options(replace(corpus, queries=[]), {"width": 32}) == {
        "levels": 2,
        "width": 32,
    }
