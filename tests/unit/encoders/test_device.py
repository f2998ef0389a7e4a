"""Devices that this machine lacks, simulated through torch."""

import pytest
import torch

from vla.encoders._device import OomSafeBatcher, choose_dtype, has_bf16_hardware, is_out_of_memory
from vla.errors import EnvironmentUnfitError
from vla.training.step import uses_bf16


@pytest.mark.parametrize(
    ("capability", "dtype"), [((6, 1), "float16"), ((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16"), ((12, 0), "bfloat16")]
)  # fmt: skip
def test_a_gpu_that_only_emulates_bfloat16_gets_float16(monkeypatch, capability, dtype):
    """torch.cuda.is_bf16_supported() is True of a T4, too, and is of the current GPU, not of the one that is asked for."""
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_capability",
        lambda device: {1: capability}.get(device.index, (7, 5)),
    )
    chosen, _ = choose_dtype("auto", torch.device("cuda:1"))
    assert str(chosen) == f"torch.{dtype}"
    assert uses_bf16(torch.device("cuda:1")) == (dtype == "bfloat16")
    assert not has_bf16_hardware(torch.device("cuda:0"))


def test_apples_gpu_runs_in_float32():
    assert choose_dtype("auto", torch.device("mps"))[0] == torch.float32
    assert not uses_bf16(torch.device("mps"))


@pytest.mark.parametrize(
    ("amx", "avx512", "dtype"), [(False, False, "float32"), (False, True, "bfloat16"), (True, False, "bfloat16"), (True, True, "bfloat16")]
)  # fmt: skip
def test_cpu_precision_depends_on_its_instructions_alone(monkeypatch, amx, avx512, dtype):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
    assert str(choose_dtype("auto", torch.device("cpu"))[0]) == f"torch.{dtype}"


def test_cpu_of_an_older_torch_gets_float32(monkeypatch):
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_dtype("auto", torch.device("cpu"))[0] == torch.float32


SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "MPS backend out of memory (MPS allocated: 9.06 GB, other allocations: 1 MB, max allowed: 9.07 GB)"
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"
    ),
]


@pytest.mark.parametrize("error", SHORT, ids=[str(e)[:24] for e in SHORT])
def test_out_of_memory_halves_the_batch(error):
    sizes = []

    def work(rows):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise error
        return rows * 2

    rows = torch.arange(13)
    pieces = OomSafeBatcher()
    assert torch.equal(torch.cat(pieces.run(rows, work)), rows * 2)
    assert sizes == [13, 6, 3, 3, 3, 3, 1]
    sizes.clear()
    pieces.run(rows[:4], work)
    assert sizes == [3, 1]  # from then on
    with pytest.raises(EnvironmentUnfitError, match="no memory left for a single input"):
        OomSafeBatcher().run(rows, lambda _: (_ for _ in ()).throw(error))


@pytest.mark.parametrize(
    "message",
    ["CUDA error: an illegal memory access", "shape '[2]' is invalid", "device-side assert"],
)
def test_other_errors_are_not_out_of_memory(message):
    assert not is_out_of_memory(RuntimeError(message))
    with pytest.raises(RuntimeError, match="CUDA|shape|assert"):
        OomSafeBatcher().run(
            torch.arange(4), lambda _: (_ for _ in ()).throw(RuntimeError(message))
        )
