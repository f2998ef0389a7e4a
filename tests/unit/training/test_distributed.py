"""Several processes have the gradients of one process, to float64 precision."""

import multiprocessing
import os
import socket
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch

from support.made_corpus import made_corpus, with_tokens
from unit.training.test_loop import SPEC
from vla.batches.collate import build_batch
from vla.heads import registry as heads
from vla.model import AlignmentModel, ModelConfig
from vla.training.config import TrainConfig
from vla.training.distributed import ProcessGroup
from vla.training.loop import train
from vla.training.objective import Objective
from vla.training.split import Split
from vla.training.step import Step

SETTINGS = {"projector_options": {"width": 8, "heads": 2, "dropout": 0.0}}


def exact(value):
    """The same with every float in float64."""
    if is_dataclass(value):
        return replace(value, **{f.name: exact(getattr(value, f.name)) for f in fields(value)})
    return (
        value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
    )


def gradients(videos, processes):
    """Of one step on so many videos with captions and questions of all kinds, with weights that are nowhere zero."""
    data = with_tokens(made_corpus([2 + (5 * i) % 7 for i in range(videos)]))
    config = TrainConfig(**SETTINGS, score="tokens")
    quiet = {"dropout": 0.0}
    chosen = {
        name: heads.get(name).resolve_options(
            data, quiet if name != "retrieval" else {"score": "tokens"}
        )
        for name in ("retrieval", "choice_qa")
    }
    model = AlignmentModel(
        ModelConfig(8, "temporal", config.projector_options, heads=chosen)
    ).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.3)
        model.log_scale.fill_(1.5)
    batch = exact(build_batch(data, np.arange(videos), data.queries, data.questions))
    step = Step(model, Objective(config), config, 10, processes)
    parts = step.gradients(batch, 0)
    assert {"global", "segment", "pull", "choice_qa", "blind choice_qa"} <= set(parts)
    actual = {
        name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
    }
    return actual, {k: float(v.detach()) for k, v in parts.items()}


def _gradients(folder, videos, processes):
    torch.save(gradients(videos, processes), f"{folder}/{videos}-{processes.rank}.pt")


def _trained(folder, broken, processes):
    data = made_corpus([3 + i % 5 for i in range(15)], dim=16)
    options = {"width": 8, "heads": 2, "dropout": 0.0}
    # In halves, where a processor has hardware for them, sums of parts differ by more than is asked for below.
    config = TrainConfig(
        epochs=3, batch_size=4, projector_options=options, heads="", precision="fp32"
    )
    split = Split(np.arange(13), np.arange(13, 15))
    train(
        data,
        split,
        SPEC,
        20.0,
        config,
        folder / f"of {processes.world_size}",
        "same",
        processes=processes,
    )


def _started(rank, count, port, work, given):
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    processes = ProcessGroup()
    for one in given:
        work(*one, processes)
    if count > 1:
        torch.distributed.destroy_process_group()


def in_processes(count, work, given):
    """`work` in so many processes that share what they do."""
    with socket.socket() as actual:
        actual.bind(("127.0.0.1", 0))
        port = actual.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    started = [
        context.Process(target=_started, args=(r, count, port, work, given)) for r in range(count)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [p.exitcode for p in started] == [0] * count


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_match_single_process(tmp_path, count):
    sizes = (7, 6, 2)  # that do not divide; that do; fewer than there are processes
    in_processes(count, _gradients, [(str(tmp_path), videos) for videos in sizes])
    for videos in sizes:
        expected, losses = gradients(videos, ProcessGroup())
        largest = max(float(g.abs().max()) for g in expected.values() if g is not None)
        assert largest > 0.1
        for rank in range(count):
            actual, same_losses = torch.load(tmp_path / f"{videos}-{rank}.pt")
            assert same_losses == pytest.approx(losses, rel=1e-12)
            assert {n for n, g in actual.items() if g is None} == {
                n for n, g in expected.items() if g is None
            }
            worst = max(
                float((actual[n] - g).abs().max()) for n, g in expected.items() if g is not None
            )
            assert worst <= 1e-12 * max(1.0, largest)


def test_two_processes_match_single_process(tmp_path):
    _trained(tmp_path, None, ProcessGroup())
    in_processes(2, _trained, [(tmp_path, None)])
    from vla.training.checkpoint import load_model

    (one, of_one), (two, of_two) = (load_model(tmp_path / f"of {n}") for n in (1, 2))
    assert of_one.record["epochs"] == of_two.record["epochs"] == 3
    for mine, theirs in zip(of_one.record["history"], of_two.record["history"], strict=True):
        assert mine["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=1e-3, atol=1e-4)
