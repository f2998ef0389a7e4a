"""A skip must not hide a test in CI; see the hook in conftest.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest
def test_plain(): pytest.skip("no reason that was agreed on")
def test_named(): pytest.skip("named: a GPU")
@pytest.mark.skipif(True, reason="shared data: none here")
def test_shared(): pass
@pytest.mark.skipif(True, reason="whatever")
def test_marked(): pass
@pytest.mark.xfail(reason="known")
def test_expected(): assert False
"""


@pytest.mark.parametrize(
    ("ci", "expected"),
    [("", "4 skipped, 1 xfailed"), ("1", "1 failed, 2 skipped, 1 xfailed, 1 error")],
)
def test_a_skip_is_a_failure_in_ci_unless_named(tmp_path, ci, expected):
    shutil.copy(Path(__file__).parents[2] / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        "test_some.py",
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout
    if ci:
        assert "test_plain" in done.stdout and "does not begin with 'named:'" in done.stdout
