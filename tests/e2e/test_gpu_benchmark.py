"""The GPU check runs in its smallest form without a GPU, and its exit code says what is not well."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


def run(*options):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.slow
def test_the_check_runs_on_a_cpu(tmp_path):
    done = run(
        str(tmp_path),
        "--device",
        "cpu",
        "--model",
        "ViT-S-32-alt",
        "--json",
        str(tmp_path / "gpu.json"),
    )
    rows = {row["check"]: row for row in json.loads((tmp_path / "gpu.json").read_text())["rows"]}
    wrong = [name for name, row in rows.items() if row["fine"] is False]
    # What bfloat16 keeps of random weights differs from processor to processor: .99989 to .99992 of texts were seen on CPUs. The
    # bound is meant for GPUs, and the exit code has to say that it was missed.
    assert done.returncode == bool(wrong), done.stdout + done.stderr
    assert set(wrong) <= {"features: images in bf16, cosine", "features: texts in bf16, cosine"}, (
        done.stdout
    )
    assert all(rows[name]["value"] > 0.9995 for name in wrong), done.stdout
    for check in ("doctor: torch", "features: images in bf16, cosine", "features: texts in fp16, cosine",
                  "memory: features in halves, cosine", "extraction: extract s", "training: steps/s of ours",
                  "training: steps/s of the plain loop", "training: largest relative difference of a loss"):  # fmt: skip
        assert check in rows and check in done.stdout
