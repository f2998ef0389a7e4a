"""A search loads no compiler, and whoever wants one gets the real one."""

import subprocess
import sys

import pytest
import torch

from vla.encoders._imports import _disabling

SEARCH = """
import sys
import torch
disable = torch.compiler.disable
from vla.encoders.open_clip import Encoder
Encoder("demo", device="cpu").encode_text(["a dog"])
import vla.api
assert "torch._dynamo" not in sys.modules, "the compiler was loaded"
assert torch.compiler.disable is disable
assert "torch._dynamo.utils" not in sys.modules
"""
AFTER = """
import torchvision
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
found = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2)
assert found.shape == (1, 1, 2, 2) and float(found.mean()) == 1.0
assert torchvision.ops.roi_align.__globals__["is_compile_supported"]("cpu") in (True, False)
assert "torch._dynamo" in sys.modules
from torch._dynamo.utils import is_compile_supported
assert is_compile_supported.__module__ == "torch._dynamo.utils" and is_compile_supported("cpu") in (True, False)
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).tolist() == [2.0]
"""


def ran(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "code", [SEARCH, SEARCH + AFTER, "import sys, torch, torch._dynamo\n" + SEARCH.partition("assert")[0] + AFTER]
)
def test_the_compiler_is_loaded_by_who_wants_it(code):
    done = ran(code)
    assert done.returncode == 0, done.stderr


def test_functions_are_disabled_as_soon_as_there_is_a_compiler(monkeypatch):
    seen = []

    def disable(fn, recursive=True, *, reason=None):
        seen.append((fn, recursive, reason))
        return fn

    later = _disabling(disable)

    @later
    def plain(a, b=2):
        """Says so."""
        return a + b

    @later(recursive=False, reason="why")
    def told(a):
        return -a

    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    assert (plain(1), plain(1, b=5), told(3), plain.__doc__) == (3, 6, -3, "Says so.") and not seen
    monkeypatch.setitem(sys.modules, "torch._dynamo", object())
    assert (plain(1), told(3)) == (3, -3)
    assert [(fn.__name__, *rest) for fn, *rest in seen] == [("plain", True, None), ("told", False, "why")]
    layer = torch.nn.Identity()
    assert later(layer) is layer and seen[-1][0] is layer


@pytest.mark.install
@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("RuntimeError('operator torchvision::nms does not exist')", "nms does not exist"),
        ("OSError('libcudart.so.13: cannot open shared object file')", "libcudart"),
        ("ImportError('cannot import name register_fake')", "register_fake"),
        ("AttributeError('module torch has no attribute library')", "no attribute library"),
    ],
)
def test_a_torchvision_of_another_build_is_named_with_what_to_install(tmp_path, error, said):
    (tmp_path / "torchvision.py").write_text(f"raise {error}\n")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import torch
torch.__version__ = "2.13.0+cpu"
from vla.errors import EnvironmentUnfitError
from vla.encoders import registry
try:
    registry.build("open_clip", model="demo", device="cpu")
except EnvironmentUnfitError as error:
    print(error)
"""
    done = ran(code)
    assert said in done.stdout and "CPU index" in done.stdout, done.stderr
    assert "pip install --force-reinstall torch==2.13.0 'torchvision==0.28.*'" in done.stdout
