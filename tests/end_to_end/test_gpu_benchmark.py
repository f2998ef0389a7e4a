"""The GPU check runs in its smallest form without a GPU, and its exit code says what is not well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*options):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, timeout=600, check=False
    )


@pytest.mark.slow
def test_the_check_runs_on_a_cpu(tmp_path):
    done = run(str(tmp_path), "--device", "cpu", "--model", "ViT-S-32-alt", "--json", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["check"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    assert not [row for row in rows.values() if row["fine"] is False]
    for check in ("doctor: torch", "features: images in bf16, cosine", "features: texts in fp16, cosine",
                  "memory: features in halves, cosine", "extraction: extract s", "training: steps/s of ours",
                  "training: steps/s of the plain loop", "training: largest relative difference of a loss"):  # fmt: skip
        assert check in rows and check in done.stdout
