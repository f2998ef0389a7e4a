"""Devices that this machine lacks, by what torch would say of them."""

import subprocess
import sys
import time

import pytest
import torch

from vla.encoders import _device
from vla.encoders._device import Pieces, choose_dtype, computes_bfloat16, is_out_of_memory
from vla.errors import EnvironmentUnfitError
from vla.train.step import is_fast_in_half


@pytest.mark.parametrize(
    ("capability", "dtype"), [((6, 1), "float16"), ((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16"), ((12, 0), "bfloat16")]
)  # fmt: skip
def test_a_gpu_that_only_emulates_bfloat16_gets_float16(monkeypatch, capability, dtype):
    """torch.cuda.is_bf16_supported() is True of a T4, too, and is of the current GPU, not of the one that is asked for."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: {1: capability}.get(device.index, (7, 5)))
    chosen, _ = choose_dtype("auto", torch.device("cuda:1"))
    assert str(chosen) == f"torch.{dtype}"
    assert is_fast_in_half(torch.device("cuda:1")) == (dtype == "bfloat16")
    assert not computes_bfloat16(torch.device("cuda:0"))


def test_apples_gpu_runs_in_float32():
    assert choose_dtype("auto", torch.device("mps"))[0] == torch.float32
    assert not is_fast_in_half(torch.device("mps"))


@pytest.mark.skipif(
    time.get_clock_info("thread_time").resolution > 1e-4, reason="named: the thread's time is too coarse here"
)
def test_waiting_for_a_busy_core_does_not_count(monkeypatch):
    """Features of one workspace must not change their precision with what else the machine does."""
    real = torch.Tensor.__matmul__

    def interrupted(a, b):
        time.sleep(0.02 if a.dtype == torch.bfloat16 else 0.0)
        return real(a, b)

    a = torch.ones(64, 64, dtype=torch.bfloat16)
    monkeypatch.setattr(torch.Tensor, "__matmul__", interrupted)
    assert _device._seconds(a, a) < 0.015


def test_the_choice_is_made_alike_beside_other_work():
    code = "import torch; from vla.encoders._device import choose_dtype; print(choose_dtype('auto', torch.device('cpu'))[0])"
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    others = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"]) for _ in range(3)]
    try:
        runs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [run.communicate(timeout=100)[0] for run in runs] == [quiet] * 2
    finally:
        for other in others:
            other.kill()
            other.wait()


SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB, other allocations: 1 MB, max allowed: 9.07 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
    ),
]


@pytest.mark.parametrize("error", SHORT, ids=[str(e)[:24] for e in SHORT])
def test_too_little_memory_halves_the_batch_on_any_device(error):
    sizes = []

    def work(rows):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise error
        return rows * 2

    rows = torch.arange(13)
    pieces = Pieces()
    assert torch.equal(torch.cat(pieces.run(rows, work)), rows * 2)
    assert sizes == [13, 6, 3, 3, 3, 3, 1]
    sizes.clear()
    pieces.run(rows[:4], work)
    assert sizes == [3, 1]  # from then on
    with pytest.raises(EnvironmentUnfitError, match="no memory left for a single input"):
        Pieces().run(rows, lambda _: (_ for _ in ()).throw(error))


@pytest.mark.parametrize(
    "message", ["CUDA error: an illegal memory access", "shape '[2]' is invalid", "device-side assert"]
)
def test_other_errors_are_not_taken_for_it(message):
    assert not is_out_of_memory(RuntimeError(message))
    with pytest.raises(RuntimeError, match="CUDA|shape|assert"):
        Pieces().run(torch.arange(4), lambda _: (_ for _ in ()).throw(RuntimeError(message)))
