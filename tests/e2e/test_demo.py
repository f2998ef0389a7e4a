"""The demo does the whole job, and the embedded encoder can be made anew by the script that made it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from e2e.command import vla
from vla.errors import UsageError
from vla.workflows.demo import demo as run_demo
from vla.world.clips import plan_clips
from vla_cli.commands.demo import command_of

ROOT = Path(__file__).parents[2]
CLIPS, TESTS = 60, 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder, report and progress stages of a small demo."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    stages = []
    report = run_demo(folder, clips=CLIPS, progress=lambda p: stages.append(p.stage))
    return folder, report, stages


@pytest.mark.slow
def test_the_demo_runs_every_stage_and_measures_against_the_truth(run):
    folder, report, stages = run
    assert {"render", "extract", "train", "index"} <= set(stages)
    assert report.clips == {"train": CLIPS - TESTS, "test": TESTS}
    retrieval = {
        "text to video",
        "video to text",
        "video to texts",
    }  # the clips have two descriptions each
    tasks = {m.task for m in report.metrics}
    assert retrieval | {"moment to video", "moment in its video", "moment by head"} <= tasks
    assert any(m.task.startswith("open") for m in report.metrics)
    assert all(0 <= m.value <= 100 for m in report.metrics if m.measure.startswith("R"))
    by_name = {(m.task, m.measure): m for m in report.metrics}
    # Clips in pairs of twins: an encoder that knows colours and shapes finds the pair.
    assert by_name["text to video", "R@5"].frozen > 90
    again = run_demo(folder, clips=CLIPS)
    assert [m.to_json() for m in again.metrics] == [m.to_json() for m in report.metrics]
    assert again.examples == report.examples and again.suggestions == report.suggestions


@pytest.mark.slow
def test_examples_are_drawn_by_the_rule_and_marked_by_the_truth(run):
    folder, report, _ = run
    tests = [replace(c, name=f"clips/{c.name}") for c in plan_clips("test", TESTS, 0)]
    assert [e.kind for e in report.examples] == ["thing"] * 5 + ["event"] * 5
    assert len({e.query for e in report.examples}) == 10
    spans = {}
    for clip in tests:
        for event in clip.scene.events:
            spans.setdefault(clip.name, []).append((event.start, event.end))
    for example in report.examples:
        assert example.right >= 1 and 0 <= example.rank <= 10 and 0 <= example.frozen_rank <= 10
        for hits, rank in (
            (example.hits, example.rank),
            (example.frozen_hits, example.frozen_rank),
        ):
            assert 0 < len(hits) <= 2
            assert next((n for n, h in enumerate(hits, 1) if h.is_right), 0) == (
                rank if rank <= 2 else 0
            )
            for hit in hits:
                assert hit.video.startswith("clips/test-") and hit.start <= hit.peak <= hit.end
                if hit.is_right and example.kind == "event":
                    assert any(a <= hit.peak <= b for a, b in spans[hit.video])
    with Image.open(report.sheet) as sheet:
        assert sheet.format == "PNG" and sheet.width > 1200 and sheet.height > 10 * 128


@pytest.mark.slow
def test_every_suggestion_finds_what_it_says(run):
    folder, report, _ = run
    # In so few clips, no trial of a kind may be right.
    kinds = [suggestion.kind for suggestion in report.suggestions]
    every = ["search", "negative", "sequence", "absent", "question"]
    assert kinds == [kind for kind in every if kind in kinds]
    assert {"search", "absent", "question"} <= set(kinds)
    scenes = {
        f"clips/{c.name}": c.scene
        for split, count, share in (("train", CLIPS - TESTS, 0.75), ("test", TESTS, 1.0))
        for c in plan_clips(split, count, 0, counterfactual_fraction=share)
    }
    for suggestion in report.suggestions:
        program, *arguments = command_of(suggestion)
        assert program == "vla"
        done = vla(*arguments, "--json", cwd=folder)
        answers = json.loads(done.stdout)
        if "--max-fpr" in arguments:
            assert (done.returncode, answers) == (1, [])
            assert "No hit passes --max-fpr" in vla(*arguments, cwd=folder).stderr
            continue
        assert done.returncode == 0
        first = answers[0]
        assert first["video"] == suggestion.video
        scene = scenes[suggestion.video]
        if arguments[0] == "ask":
            assert first["answer"] == suggestion.answer and first["answer"] in suggestion.outcome
            continue
        assert first["start"] <= suggestion.seconds <= first["end"]
        # What the words name is in the scene: colour and first synonym of the shape.
        color = arguments[1].split()[1]
        assert color in {o.color for o in scene.objects} | {e.color for e in scene.events}
        if "--not" in arguments:
            assert scene.background != arguments[-1]
        else:
            assert any(e.start <= suggestion.seconds <= e.end for e in scene.events)


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
