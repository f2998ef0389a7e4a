"""Gates: how much of what was learned vectors and heads use; worked tables, and ruined heads."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus
from unit.training.test_loop import SETTINGS, SPEC
from vla.batches.corpus import Query
from vla.evaluation.head_answers import answer
from vla.evaluation.results import PerQueryScores
from vla.evaluation.validation import ValidationResult
from vla.metrics.average_precision import average_precisions
from vla.model import AlignmentModel, ModelConfig, cpu_state_dict
from vla.retrieval.moments import MomentLocalizer
from vla.training.checkpoint import load_model
from vla.training.config import TrainConfig
from vla.training.gates import ALPHAS, HeadGate, select_alpha, select_head_gate, validate_epoch
from vla.training.loop import train
from vla.training.split import Split
from vla.training.validator import Validator

HEADS = {"moments": "moment by head", "choice_qa": "multiple choice"}


def gate(alpha, shares, ends=True):
    """The gate whose moments, if it has any, have ends by contrast."""
    return HeadGate(alpha, shares, {name: ends for name in shares if name == "moments"})


class Tabled:
    """A validator whose scores are a function of the gate that it reads off the weights.

    The initial weights of all heads are 0 and the trained ones 1, so a weight is a share.
    """

    def __init__(self, scores):
        self.scores, self.calls = scores, []

    def head_scores(self, model):
        alpha = float(model.head_alpha)
        self.ends = [bool(h.contrast_ends) for h in model.heads.values() if h.task == "moments"]
        found = {}
        for name, head in model.heads.items():
            values = torch.cat([p.detach().flatten() for p in head.parameters()])
            share = float(values[0])
            assert torch.equal(values, torch.full_like(values, share))
            found[HEADS[name]] = share
        self.calls.append((alpha, *found.values()))
        scored = {task: self.scores(task, alpha, share) for task, share in found.items()}
        return {task: score for task, score in scored.items() if score is not None}


def model_of(heads=("moments", "choice_qa")):
    torch.manual_seed(0)
    return AlignmentModel(ModelConfig(8, "residual", {"width": 4}, heads={n: {} for n in heads}))


def with_weights(heads):
    """A model whose parameters are 1, and its initial weights, 0 in the heads."""
    model = model_of(heads)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.zero_()
    initial = {k: v.clone() for k, v in cpu_state_dict(model).items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return model, initial


def gated(scores, alpha=0.5, heads=("moments", "choice_qa")):
    """The gate from weights 0 to 1."""
    model, initial = with_weights(heads)
    gate = select_head_gate(model, initial, Tabled(scores), alpha)
    for name, head in model.heads.items():
        if gate is not None:
            for parameter in head.parameters():
                expected = torch.full_like(parameter, gate.shares.get(name, 1.0))
                assert torch.equal(parameter.detach(), expected)
    assert all(torch.equal(p, torch.ones_like(p)) for p in model.projector.parameters()), (
        "the gate of heads changes heads alone"
    )
    if gate is not None:
        assert float(model.head_alpha) == gate.alpha
    return gate


def test_a_good_head_is_used_whole():
    actual = gated(lambda task, alpha, share: (0.3 + 0.1 * share + 0.1 * alpha, 0.2))
    assert actual == gate(1.0, {"moments": 1.0, "choice_qa": 1.0})


def test_a_ruined_head_is_not_used():
    actual = gated(lambda task, alpha, share: (0.3 - 0.1 * share - 0.1 * alpha, 0.2))
    assert actual == gate(0.0, {"moments": 0.0, "choice_qa": 0.0})


def test_equal_scores_keep_the_untrained_heads():
    actual = gated(lambda task, alpha, share: (0.3, 0.2))
    assert actual == gate(0.0, {"moments": 0.0, "choice_qa": 0.0})


def test_each_head_has_its_own_share_and_all_one_alpha():
    best = {"moment by head": 0.5, "multiple choice": 0.0}

    def scores(task, alpha, share):
        return 0.5 - abs(share - best[task]) - abs(alpha - 0.25), 0.0

    assert gated(scores) == gate(0.25, {"moments": 0.5, "choice_qa": 0.0})


def test_alpha_of_vectors_is_a_candidate():
    def scores(task, alpha, share):
        return 0.5 - abs(alpha - 0.75) - (1 - share) / 10, 0.0

    assert gated(scores, alpha=0.75).alpha == 0.75
    assert gated(scores, alpha=0.5).alpha in (0.5, 1.0)


def test_one_task_may_lose_what_others_gain():
    """The mean over the tasks decides the alpha, which all heads share."""

    def scores(task, alpha, share):
        gain = 0.4 if task == "moment by head" else -0.1
        return 0.5 + gain * alpha, 0.0

    assert gated(scores).alpha == 1.0


def test_held_out_concepts_must_not_lose():
    """The whole share would score best, and finds less of what no caption mentions."""

    def scores(task, alpha, share):
        return 0.3 + 0.2 * share + 0.1 * alpha, 0.4 if share <= 0.5 else 0.399

    assert gated(scores) == gate(1.0, {"moments": 0.5, "choice_qa": 0.5})
    # Where heads lose at any share, no alpha is admissible but that of the vectors, which held-out
    # concepts have admitted, and at that no training of the heads.
    actual = gated(lambda task, alpha, share: (0.3 + alpha, 0.4 if alpha == 0 else 0.3))
    assert actual == gate(0.5, {"moments": 0.0, "choice_qa": 0.0})


def test_ends_by_contrast_are_selected_with_the_share():
    """Trained ends are better as they are, and initial ones by contrast."""

    class OfEnds(Tabled):
        def head_scores(self, model):
            scores = super().head_scores(model)
            return {task: (a - 0.2 * self.ends[0], b) for task, (a, b) in scores.items()}

    def scores(task, alpha, share):
        return 0.5 + 0.3 * share + 0.1 * alpha, 0.2

    model, initial = with_weights(("moments",))
    actual = select_head_gate(model, initial, OfEnds(scores), 0.5)
    assert actual == gate(1.0, {"moments": 1.0}, ends=False)
    assert not model.heads["moments"].contrast_ends


def test_heads_that_are_not_scored_keep_their_training():
    """No question of their kind is asked of a validation video: nothing says that they are bad."""
    actual = gated(lambda task, alpha, share: None)
    assert actual is None
    actual = gated(
        lambda task, alpha, share: (0.3 - share, 0.2) if task == "moment by head" else None
    )
    assert actual == gate(0.0, {"moments": 0.0})


def test_no_heads_have_no_gate():
    assert gated(lambda *_: (0.0, 0.0), heads=()) is None


# With a true validator, on videos whose moments the untrained head finds.


def found_by_cosine(count=30, dim=8, seed=0):
    """Each video shows the direction of its caption in the captioned moment alone."""
    rng = np.random.default_rng(seed)
    data = made_corpus([16] * count, seed, dim)
    videos, queries = [], []
    for i, video in enumerate(data.videos):
        text = f"moment of {i}"
        first = int(rng.integers(0, 12))
        values = 0.2 * rng.standard_normal((16, dim))
        values[first : first + 4] += data.vectors[text]
        videos.append(replace(video, values=values.astype(np.float16)))
        spans = np.array([[first / 2, first / 2 + 2]])
        queries.append(Query(text, (text,), (text,), i, spans))
    return replace(data, videos=videos, queries=queries, questions=())


SPLIT = Split(np.arange(20), np.arange(20, 30))


def with_moments(data):
    torch.manual_seed(0)
    model = AlignmentModel(ModelConfig(data.dim, "identity", heads={"moments": {"width": 8}}))
    for head in model.heads.values():
        head.fit(data)
    return model.eval()


def shake(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 2)


def copied(model):
    return {k: v.clone() for k, v in cpu_state_dict(model).items()}


@pytest.mark.parametrize("is_ruined", [True, False])
def test_noise_in_place_of_training_is_not_used(is_ruined):
    """Noise for the trained weights, and then for the initial ones."""
    data = found_by_cosine()
    validator = Validator(data, SPLIT, "auto", 0)
    model = with_moments(data)
    good, good_scores = copied(model), validator.head_scores(model)
    shake(model)
    bad, bad_scores = copied(model), validator.head_scores(model)
    assert bad_scores["moment by head"][0] < good_scores["moment by head"][0] - 0.1
    model.load_state_dict(bad if is_ruined else good)
    gate = select_head_gate(model, good if is_ruined else bad, validator, 0.5)
    assert gate.shares == {"moments": 0.0 if is_ruined else 1.0}
    for task, scores in validator.head_scores(model).items():
        assert scores == pytest.approx(good_scores[task])


def test_scores_of_heads_by_hand():
    """Those of validation videos, and apart from them those of held-out captions."""
    data = found_by_cosine()
    held_out = np.array([3, 4, 5])
    split = replace(SPLIT, held_out_queries=held_out)
    model = with_moments(data)
    shake(model)
    found = Validator(data, split, "auto", 0).head_scores(model)["moment by head"]
    said = answer(model, data)["moment by head"]
    values = average_precisions(said.predictions, [q.spans for q in said.examples]).mean(1)
    videos = np.array([q.video for q in said.examples])
    expected = [values[np.isin(videos, rows)].mean() for rows in (SPLIT.val, held_out)]
    assert found == pytest.approx(expected, rel=1e-6)
    alone = Validator(data, SPLIT, "auto", 0).head_scores(model)["moment by head"]
    assert alone == pytest.approx([expected[0]] * 2, rel=1e-6)


def test_an_epoch_is_scored_with_the_better_heads():
    data = found_by_cosine()
    validator = Validator(data, SPLIT, "auto", 0)
    model = with_moments(data)
    good = copied(model)
    score = validator(model, 0.5).score
    shake(model)
    bad = copied(model)
    assert validator(model, 0.5).score < score - 0.1
    assert validate_epoch(model, good, validator).score == pytest.approx(score)
    for name, value in model.state_dict().items():
        assert torch.equal(value, bad[name]), name
    # Trained heads are scored with their own ends.
    model.load_state_dict(good)
    model.heads["moments"].contrast_ends.fill_(False)
    score = validator(model, 0.5).score
    assert validate_epoch(model, bad, validator).score == pytest.approx(score)


# The alpha of heads is used wherever heads answer.


def trained_at(alpha):
    """A projector and a head that are both nowhere zero, at another alpha for vectors."""
    data = made_corpus((12, 8, 10, 9))
    torch.manual_seed(0)
    heads = {"moments": {"width": 8}, "choice_qa": {}}
    model = AlignmentModel(ModelConfig(data.dim, "residual", {"width": 8}, heads=heads)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    model.projector.alpha.fill_(0.125)
    model.head_alpha.fill_(alpha)
    return model, data


def same_answers(ours, theirs):
    assert ours.keys() == theirs.keys() == set(HEADS.values())
    return all(
        np.array_equal(a, b)
        for task in ours
        for a, b in zip(ours[task].predictions, theirs[task].predictions, strict=True)
    )


def test_answers_are_at_the_alpha_of_heads():
    model, data = trained_at(0.25)
    first = answer(model, data)
    assert float(model.projector.alpha) == 0.125
    model.projector.alpha.fill_(1.0)
    assert same_answers(answer(model, data), first), "the alpha of vectors is of no account"
    model.head_alpha.fill_(1.0)
    other = answer(model, data)
    assert not same_answers(other, first)
    # Blind models are trained at alpha 1, and stay there.
    assert other["multiple choice"].blind_predictions == first["multiple choice"].blind_predictions


def test_search_localizes_at_the_alpha_of_heads():
    model, data = trained_at(0.25)
    localizer = MomentLocalizer.of(model)
    assert float(localizer.model.projector.alpha) == 0.125
    assert float(localizer.head_model.projector.alpha) == 0.25
    query = next(q for q in data.queries if q.is_timed)
    frames = localizer.head_model.align_videos(data.videos)
    raw = data.text_vector(query)
    found = localizer.predict([(data.videos[query.video], frames[query.video])], raw)[0]
    said = answer(model, data)["moment by head"]
    expected = said.predictions[[q.text for q in said.examples].index(query.text)]
    np.testing.assert_allclose(found.spans, expected[:, :2], atol=1e-4)
    np.testing.assert_allclose(found.probabilities, expected[:, 2], atol=1e-5)


def test_a_context_sets_the_alpha_of_heads_and_restores_that_of_vectors():
    model, _ = trained_at(0.25)
    with pytest.raises(KeyError), model.for_heads():
        assert float(model.projector.alpha) == 0.25
        raise KeyError
    assert float(model.projector.alpha) == 0.125 and float(model.head_alpha) == 0.25


# The alpha of vectors.


class Searched:
    """A validator with a score on validation videos and one on held-out concepts, by alpha."""

    def __init__(self, scores):
        self.scores = scores

    def __call__(self, model, alpha, *, heads):
        assert not heads
        return found(*self.scores[alpha])

    def held_out_score(self, result):
        return result.search_of(lambda videos: videos >= 5)


def found(search, held_out):
    part = PerQueryScores(np.array([held_out]), np.array([9]))
    return ValidationResult({}, 0.0, search, parts={"a": part})


@pytest.mark.parametrize(
    ("centring", "zero", "scores", "expected"),
    [
        (0.0, None, [(0.5, 0.5)] * 5, None),  # no better than before
        (0.0, None, [(0.6, 0.5), (0.7, 0.5), (0.65, 0.5), (0.6, 0.5), (0.5, 0.5)], 0.25),
        (0.0, None, [(0.6, 0.5), (0.7, 0.49), (0.65, 0.5), (0.6, 0.5), (0.5, 0.5)], 0.5),
        (0.0, None, [(0.9, 0.49)] * 5, None),  # all lose held-out concepts
        (0.5, (0.55, 0.5), [(0.5, 0.5)] * 5, 0.0),  # centering alone
        # Centering gained 0.2 on them, of which half may be lost.
        (0.5, (0.55, 0.7), [(0.6, 0.6), (0.7, 0.59), (0.5, 0.7), (0.5, 0.7), (0.5, 0.7)], 0.125),
        (0.5, (0.55, 0.3), [(0.6, 0.49)] * 5, None),  # centering and training both lose
    ],
)
def test_alpha_of_vectors_by_hand(centring, zero, scores, expected):
    model = model_of(())
    model.projector.centring.fill_(centring)
    table = dict(zip(ALPHAS, scores, strict=True)) | {0.0: zero}
    assert select_alpha(model, Searched(table), found(0.5, 0.5)) == expected


def test_questions_alone_select_no_alpha():
    assert select_alpha(model_of(()), Searched({}), ValidationResult({}, 0.3)) is None


# Whole runs.


def test_a_run_records_its_gate(tmp_path):
    data = found_by_cosine()
    config = TrainConfig(**SETTINGS, heads="moments", levels="segment")
    record = train(data, SPLIT, SPEC, 20.0, config, tmp_path / "r", "same").record
    model, run = load_model(tmp_path / "r")
    gate = record["head_gate"]
    assert run.record["head_gate"] == gate
    assert float(model.head_alpha) == gate["alpha"] and set(gate["shares"]) == {"moments"}
    # The model on disk answers as well as the record says, and not worse than before training.
    validator = Validator(data, SPLIT, "auto", 0)
    precision = validator.head_scores(model)["moment by head"][0]
    assert record["after"]["metrics"]["moment by head"]["mAP"] == pytest.approx(
        100 * precision, rel=1e-5
    )
    assert (
        record["after"]["metrics"]["moment by head"]["mAP"]
        >= record["before"]["metrics"]["moment by head"]["mAP"] - 1e-6
    )
    assert set(run.head_verdicts) == {"moment by head"}
    assert record["heads"]["moment by head"]["videos"] == 10
