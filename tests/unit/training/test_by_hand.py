"""Weight decay computed by hand; the epoch that is selected: test_selection."""

import torch

from support.made_corpus import DIM
from vla.model import AlignmentModel, ModelConfig
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.objective import Objective
from vla.training.step import Step


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
