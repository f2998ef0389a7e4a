"""Files of ours that were damaged at random, by thousands: each is refused with an error of ours, or read; nothing else happens."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SECONDS = os.environ.get("VLA_FUZZ_SECONDS", "8")
READERS = (
    "shard_frames",
    "shard_texts",
    "index",
    "captions",
    "beside",
    "records",
    "released_features",
    "texts_with_vectors",
    "parquet",
)
SEED = os.environ.get("VLA_FUZZ_SEED", "0")


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_refused(reader, tmp_path, record_property):
    if reader == "parquet" and find_spec("pyarrow") is None:
        pytest.skip("pyarrow is not installed")
    last = tmp_path / "last"
    command = [
        sys.executable,
        Path(__file__).with_name("fuzz_readers.py"),
        reader,
        SEED,
        SECONDS,
        last,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=float(SECONDS) + 120)
    assert done.returncode == 0, f"{done.stderr[-2000:]}\nthe file: {last}"
    record_property("counts", done.stdout.strip())
