"""Small work runs on one thread, and the host program's numbers of threads come back."""

import threading

import pytest
import torch

from vla.threads import _blas, limit_threads, single_thread, small_op_threads


@pytest.fixture(autouse=True)
def three(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads(), _blas("get")()
    torch.set_num_threads(3)
    _blas("set")(2)
    yield
    torch.set_num_threads(before[0])
    _blas("set")(before[1])


def blas_has_threads():
    return _blas("get")() == 2


def test_thread_counts_are_restored_after_errors():
    two = blas_has_threads()
    with pytest.raises(KeyError), small_op_threads():
        assert torch.get_num_threads() == 1 and _blas("get")() == 1
        raise KeyError
    assert torch.get_num_threads() == 3 and blas_has_threads() == two


@pytest.mark.parametrize(
    ("value", "count"), [("2", 2), ("2,1", 2), ("", 1), ("many", 1), ("0", 1), ("-4", 1)]
)
def test_environment_variable_sets_the_count(monkeypatch, value, count):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with small_op_threads():
        assert torch.get_num_threads() == count
    with single_thread():
        assert torch.get_num_threads() == 1


def test_nested():
    with small_op_threads():
        with limit_threads(2):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("first_out", [0, 1])
def test_overlapping_blocks_restore_the_original_counts(first_out):
    """The second one in sees 1 and must not make that everybody's number."""
    inside, leave = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def work(number):
        with small_op_threads():
            inside[number].set()
            leave[number].wait(10)

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for number, thread in enumerate(threads):
        thread.start()
        inside[number].wait(10)
    for number in (first_out, 1 - first_out):
        leave[number].set()
        threads[number].join(10)
    seen = []
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert seen == [3] and torch.get_num_threads() == 3


def test_as_a_decorator_it_keeps_the_signature():
    import inspect

    @small_op_threads()
    def product(a: int, *, b: int = 2) -> int:
        """Multiply."""
        return a * b * torch.get_num_threads()

    assert product(3) == 6 and product(3, b=5) == 15
    assert (
        str(inspect.signature(product)) == "(a: int, *, b: int = 2) -> int"
        and product.__doc__ == "Multiply."
    )
