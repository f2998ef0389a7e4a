"""A torchvision that does not fit torch is reported with the command that installs a fitting one."""

import subprocess
import sys

import pytest


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
def test_names_fitting_torchvision_for_mismatched_build(tmp_path, error, said):
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert said in done.stdout and "CPU index" in done.stdout, done.stderr
    assert "pip install --force-reinstall torch==2.13.0 'torchvision==0.28.*'" in done.stdout
