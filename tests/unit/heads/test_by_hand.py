"""Values of heads computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import DIM, made_corpus
from vla.batches.collate import build_batch
from vla.batches.corpus import QuestionExample
from vla.datasets.base import Annotation, Question
from vla.features import FrameFeatures
from vla.heads._points import Points, assign_moments, ious
from vla.heads.counting import _frame_seconds
from vla.heads.moments import MomentOutput
from vla.model import AlignmentModel, ModelConfig


def batch_of(corpus):
    return build_batch(corpus, np.arange(len(corpus.videos)), corpus.queries, corpus.questions)


def built(name, corpus, **options):
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(DIM, "identity", heads={name: options})).eval()
    for head in (*model.heads.values(), *model.blind.values()):
        head.fit(corpus)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.normal_(0, 0.3)
    return model


def test_frames_are_weighted_by_seconds():
    # Four frames in 1.5 s from first to last: .5 s each. Three at uneven times, 4 s: 2 s each. One: 1 s. Padding: 0.
    corpus = made_corpus((4, 3, 1))
    times = (np.arange(4) / 2, np.array([0.0, 1.0, 4.0]), np.zeros(1))
    videos = [
        replace(video, timestamps_seconds=own, duration_seconds=float(own[-1]) + 0.5)
        for video, own in zip(corpus.videos, times, strict=True)
    ]
    batch = batch_of(replace(corpus, videos=videos, queries=[]))
    seconds = _frame_seconds(built("counting", corpus)(batch), batch)
    np.testing.assert_allclose(
        seconds, [[0.5, 0.5, 0.5, 0.5], [2, 2, 2, 0], [1, 0, 0, 0]], atol=1e-6
    )


def test_counts_sum_over_seconds():
    """The same three seconds at 2 and at 4 frames a second; each frame twice. The gates are open for as long."""
    corpus = made_corpus((6,))
    video = corpus.videos[0]
    dense = FrameFeatures(
        video.video_id, np.repeat(video.values, 2, axis=0), np.arange(12) / 4, 3.0
    )
    model = built("counting", corpus)
    head, sums = model.heads["counting"], []
    for one in (video, dense):
        batch = batch_of(replace(corpus, videos=[one], queries=[]))
        rows = batch.questions.video_of_question[batch.questions.of_kind("count")]
        with torch.no_grad():
            aligned = model(batch)
            read = head.reader(
                aligned.questions[batch.questions.of_kind("count")], rows, aligned, batch
            )
            # Gates that no frame opens or shuts: half open throughout.
            head.gates.weight.zero_()
            head.gates.bias.zero_()
            sums.append(head._sums(read, rows, aligned, batch))
    # From the first frame to the last and one frame more: 6 x .5 s and 12 x .25 s, half open.
    np.testing.assert_allclose(sums[0], 1.5, atol=1e-6)
    np.testing.assert_allclose(sums[1], 1.5, atol=1e-6)


def choices_of(corpus, text, choices):
    """The corpus with one question about its first video."""
    rng = np.random.default_rng(5)
    vectors = dict(corpus.vectors)
    for t in (text, *choices, *(f"{text} {c}" for c in choices)):
        vectors.setdefault(t, rng.standard_normal(DIM).astype(np.float32))
    question = Annotation("q", text, "v0", question=Question(choices=choices, right=0))
    asked = QuestionExample(
        question, (text,), tuple((f"{text} {c}",) for c in choices), tuple((c,) for c in choices), 0
    )
    return replace(corpus, queries=[], questions=(asked,), vectors=vectors)


def scores_of(model, corpus):
    batch = batch_of(corpus)
    with torch.no_grad():
        return model.heads["choice_qa"](model(batch), batch)[0].numpy()


def test_choice_scores_are_permutation_equivariant():
    """Choices in another order have the same scores in that order: none of them is taken for the question."""
    corpus = made_corpus((7, 4))
    model = built("choice_qa", corpus, width=32)
    first = scores_of(model, choices_of(corpus, "When?", ("a", "b", "c", "d")))
    assert len({round(float(s), 3) for s in first}) == 4
    corpus = choices_of(corpus, "When?", ("a", "b", "c", "d"))
    asked, order = corpus.questions[0], (2, 0, 3, 1)
    choices = tuple(asked.question.choices[k] for k in order)
    moved = replace(
        asked,
        annotation=replace(
            asked.annotation, question=Question(choices=choices, right=order.index(0))
        ),
        choices=tuple(asked.choices[k] for k in order),
        choices_only=tuple(asked.choices_only[k] for k in order),
    )
    np.testing.assert_allclose(
        scores_of(model, replace(corpus, questions=(moved,))), first[list(order)], atol=1e-4
    )


def test_choice_scores_depend_on_question():
    """The text that stands alone as the question is read: with the same statements, another question moves the scores."""
    corpus = choices_of(made_corpus((7, 4)), "When?", ("a", "b", "c"))
    model = built("choice_qa", corpus, width=32)
    asked = corpus.questions[0]
    other = replace(corpus, questions=(replace(asked, chunks=("a",)),))
    assert np.abs(scores_of(model, corpus) - scores_of(model, other)).max() > 1e-3


def points_of(*levels):
    """Points of levels of so many points each, for one query; strides 1, 2, 4, ..."""
    strides = torch.cat([torch.full((n,), 2.0**k) for k, n in enumerate(levels)])
    centers = torch.cat([(torch.arange(n) + 0.5) * 2.0**k for k, n in enumerate(levels)])
    there = torch.ones(1, len(strides), dtype=torch.bool)
    empty = torch.zeros(1, len(strides))
    return Points(
        centers, strides, there, empty, torch.zeros(1, len(strides), 2), torch.zeros(1, 1)
    )


def found_at(points, *moments):
    expected = torch.tensor([moments], dtype=torch.float32)
    moment, finds = assign_moments(
        points, expected, torch.ones(expected.shape[:2], dtype=torch.bool), 1.0
    )
    rows = finds[0].nonzero()[:, 0].tolist()
    return [(float(points.strides[k]), float(points.centers[k]), int(moment[0, k])) for k in rows]


def test_moments_are_assigned_by_length():
    """A point's first window is four strides long; it is taken for moments of half of that and less than twice."""
    points = points_of(16, 8, 4)
    # 4 frames are as long as a window of the finest level, 1/2 of the next (taken) and 1/4 of the coarsest (not).
    assert {stride for stride, _, _ in found_at(points, (6.0, 10.0))} == {1.0, 2.0}
    # 8 frames: 2 of the finest (not), 1 of the middle, 1/2 of the coarsest.
    assert {stride for stride, _, _ in found_at(points, (4.0, 12.0))} == {2.0, 4.0}
    # Middles at most one stride away: of the finest level 7.5 and 8.5, of the middle one 7 and 9.
    assert [c for s, c, _ in found_at(points, (6.0, 10.0))] == [7.5, 8.5, 7.0, 9.0]


def test_extreme_lengths_are_assigned_to_outer_levels():
    points = points_of(16, 8, 4)
    assert found_at(points, (7.0, 7.5)) == [(1.0, 6.5, 0), (1.0, 7.5, 0)]
    assert {s for s, _, _ in found_at(points, (-40.0, 56.0))} == {4.0}
    # Only the finest level takes what is too short for it: half a frame is no quarter of a window anywhere else.
    assert {s for s, _, _ in found_at(points_of(16), (7.0, 7.5))} == {1.0}


def test_nearest_moment_is_assigned():
    points = points_of(16)
    assert (1.0, 5.5, 0) in found_at(points, (4.0, 7.0), (5.0, 8.0)) and (1.0, 6.5, 1) in found_at(
        points, (4.0, 7.0), (5.0, 8.0)
    )


@pytest.mark.parametrize(
    ("one", "other", "iou", "generous"),
    [
        ((0, 2), (0, 2), 1, 1),
        ((0, 2), (1, 3), 1 / 3, 1 / 3),
        ((0, 4), (1, 2), 1 / 4, 1 / 4),
        # Disjoint: of the 4 s from first to last 2 s are covered by neither.
        ((0, 1), (3, 4), 0, -1 / 2),
        ((8, 10), (0, 2), 0, -6 / 10),
        ((0, 1), (1, 2), 0, 0),
    ],
)
def test_generalised_iou(one, other, iou, generous):
    actual = ious(
        torch.tensor([one], dtype=torch.float64), torch.tensor([other], dtype=torch.float64)
    )
    assert [float(v) for v in actual] == pytest.approx([iou, generous], abs=1e-5)


def test_fused_features_match_naive_loop():
    """The meaning of saved weights: another sign or order of the parts would spoil the runs that exist."""
    width, lengths, rng = 6, (5, 3, 4), np.random.default_rng(0)
    head = built("moments", made_corpus(), width=width).heads["moments"]
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    queries = rng.standard_normal((3, DIM))
    context = rng.standard_normal((*mask.shape, 2 * width))
    curve = rng.standard_normal(mask.shape) * mask
    curve[2] = 0.0005 * mask[2]  # flatter than any deviation that is divided by
    weights = {name: p.detach().double().numpy() for name, p in head.named_parameters()}
    naive = np.zeros((*mask.shape, width))
    for i, n in enumerate(lengths):
        projected = weights["queries.weight"] @ (queries[i] * DIM**0.5) + weights["queries.bias"]
        query, key = projected[:width], projected[width:]
        deviation = max(1e-3, (sum(x * x for x in curve[i, :n]) / n) ** 0.5)
        for t in range(n):
            both = np.array([curve[i, t], curve[i, t] / deviation])
            of_curve = weights["curve.weight"] @ both + weights["curve.bias"]
            frames, gate = context[i, t, :width], context[i, t, width:]
            naive[i, t] = frames + query + gate * key + of_curve
    given = (torch.tensor(values, dtype=torch.float32) for values in (queries, context, curve))
    with torch.no_grad():
        fused = head._fuse(*given, torch.tensor(mask))
    np.testing.assert_allclose(fused, naive, atol=1e-4)


def test_empty_moments_are_dropped():
    """What is cut to nothing at an end of the video is no moment, however sure the head is of it."""
    corpus = made_corpus((6,))
    spans = torch.tensor([[[3.0, 3.0], [0.5, 1.5], [0.0, 0.0], [2.0, 2.5]]])
    located = MomentOutput(spans, torch.tensor([[4.0, 2.0, 1.0, -torch.inf]]), torch.zeros(1, 6))
    listed = built("moments", corpus).heads["moments"].select(located)
    np.testing.assert_allclose(listed[0], [[0.5, 1.5, 1 / (1 + np.exp(-2.0))]])
