"""Rules of training computed by hand: the epoch that is kept, and weight decay."""

from types import SimpleNamespace

import torch

from support.made_corpus import DIM
from vla.model import AlignmentModel, ModelConfig
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.objective import Objective
from vla.training.state import State
from vla.training.step import Step


def after(state, score, weight):
    result = SimpleNamespace(score=score, to_json=lambda: {"score": score})
    return state.after_epoch(result, {"w": torch.tensor(weight)})


def test_ties_keep_the_earlier_epoch():
    """A later pass has to be better: for the same score it is only further from the frozen encoder."""
    first = after(State(0, 0, {}, -1.0, 0, [], {}), 0.7, 1.0)
    assert (first.epoch, first.stale, first.best, float(first.best_weights["w"])) == (
        1,
        0,
        0.7,
        1.0,
    )
    second = after(first, 0.7, 2.0)
    assert (second.epoch, second.stale, second.best, float(second.best_weights["w"])) == (
        2,
        1,
        0.7,
        1.0,
    )
    worse = after(second, 0.6, 3.0)
    assert (worse.stale, worse.best, float(worse.best_weights["w"])) == (2, 0.7, 1.0)
    better = after(worse, 0.7000001, 4.0)
    assert (better.stale, better.best, float(better.best_weights["w"])) == (0, 0.7000001, 4.0)
    assert [row["epoch"] for row in better.history] == [1, 2, 3, 4]


def test_weights_decay_and_biases_do_not():
    """AdamW without a gradient is decay alone: matrices shrink by learning rate times decay, all else stays."""
    torch.manual_seed(0)
    model = AlignmentModel(
        ModelConfig(DIM, "temporal", {"width": 8, "heads": 2}, heads={"moments": {"width": 8}})
    )
    config = TrainConfig(learning_rate=0.1, weight_decay=0.5, precision="fp32")
    optimizer = Step(model, Objective(config), config, 10, ProcessGroup()).optimizer
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
            parameter.grad = torch.zeros_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    kinds = {True: 0, False: 0}
    for name, parameter in model.named_parameters():
        assert id(parameter) in trained, name
        kinds[parameter.ndim >= 2] += 1
        expected = 2.0 * (1 - 0.1 * 0.5) if parameter.ndim >= 2 else 2.0
        torch.testing.assert_close(
            parameter.detach(), torch.full_like(parameter, expected), msg=name
        )
    assert kinds[True] > 5 and kinds[False] > 5
