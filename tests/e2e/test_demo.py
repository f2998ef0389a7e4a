"""The demo does the whole job, and the embedded encoder can be made anew by the script that made it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vla.errors import UsageError
from vla.workflows.demo import demo as run_demo

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_runs_every_stage_and_measures_against_the_truth(tmp_path):
    stages = []
    report = run_demo(tmp_path / "demo", clips=36, progress=lambda p: stages.append(p.stage))
    assert {"render", "extract", "train", "index"} <= set(stages)
    assert report.clips == {"train": 28, "test": 8}
    retrieval = {
        "text to video",
        "video to text",
        "video to texts",
    }  # the clips have two descriptions each
    assert set(report.before) == retrieval | {"moment to video", "moment in its video"}
    assert set(report.after) == {*report.before, "moment by head"}
    for measures in (report.before, report.after):
        assert all(
            0 <= v <= 100
            for task in measures.values()
            for k, v in task.items()
            if k.startswith("R")
        )
    # Eight clips in pairs of twins: an encoder that knows colours and shapes finds the pair, so far above 5 in 8.
    assert report.before["text to video"]["R@5"] > 90
    assert len(report.examples) == 5 and all(e.truth[2] > e.truth[1] for e in report.examples)
    assert all(e.right >= 1 and 0 <= e.rank <= 10 for e in report.examples)
    again = run_demo(tmp_path / "demo", clips=36)
    assert again.before == report.before and again.after == report.after


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and contains no demo"):
        run_demo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(UsageError, match="at least 12 clips"):
        run_demo(tmp_path / "new", clips=3)


@pytest.mark.slow
def test_the_script_that_trained_the_embedded_encoder_makes_one(tmp_path):
    script = ROOT / "examples" / "train_embedded_encoder.py"
    command = [
        sys.executable,
        str(script),
        str(tmp_path / "made"),
        "--scenes",
        "96",
        "--minutes",
        "0.05",
        "--batch",
        "16",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    from vla.encoders.open_clip import Encoder

    made, shipped = (
        Encoder(f"local-dir:{tmp_path / 'made'}", device="cpu"),
        Encoder("demo", device="cpu"),
    )
    assert (
        made.identity.dim == shipped.identity.dim
        and made.identity.preprocessing == shipped.identity.preprocessing
    )
    vectors = made.encode_text(["a red circle", "a blue star"]).pooled
    assert np.isfinite(vectors).all() and np.abs(vectors[0] - vectors[1]).max() > 1e-4
    config = json.loads((tmp_path / "made" / "open_clip_config.json").read_text())
    assert (
        config["model_cfg"]["vision_cfg"]
        == json.loads((ROOT / "toolkit/vla/encoders/_embedded/open_clip_config.json").read_text())[
            "model_cfg"
        ]["vision_cfg"]
    )
