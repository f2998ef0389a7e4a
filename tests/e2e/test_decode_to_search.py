"""From a file to a hit with the versions that are installed, each command in a process from scratch. Every leg of CI runs this."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from vla.workflows.doctor_trials import CLIPS

pytestmark = pytest.mark.install
EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
COLOURS = {"red": (220, 20, 20), "green": (20, 220, 20), "blue": (20, 20, 220)}


def vla(*arguments, cwd, path=()):
    """The command in a new interpreter, which sees the folders in `path` as if they were installed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, path), *(p for p in sys.path if p)]),
    }
    environment.pop("VLA_WORKSPACE", None)
    command = [sys.executable, "-m", "vla_cli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def write(path, colours, fps=4, seconds=2):
    """Each colour for `seconds`, in a codec that every PyAV has."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=fps)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for name in colours:
            for _ in range(fps * seconds):
                picture = np.full((64, 64, 3), COLOURS[name], np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example plug-in, laid out as pip lays out a distribution."""
    import shutil
    import tomllib

    site = tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE / "vla_colours", site / "vla_colours")
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    info = site / "vla_colours-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = (
        f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items())
        for group, points in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text("\n".join(groups))
    return site


@pytest.mark.slow
def test_the_codecs_of_doctor_become_hits(tmp_path):
    """The embedded model, a trained run, each kind of index."""
    for path in CLIPS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    names = sorted(path.name for path in CLIPS.iterdir())
    done = vla("extract", ".", "--model", "demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] >= 2 * len(names)
    for kind in ("exact", "faiss_flat", "auto"):
        done = vla("index", "--backend", kind, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        done = vla("search", "a red square", "--json", "-k", len(names), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
    assert vla("verify", "--read-data", cwd=tmp_path).returncode == 0


def test_the_example_plug_in_extracts_and_finds(tmp_path, installed):
    write(tmp_path / "a.mp4", ["red", "green", "blue"])
    write(tmp_path / "b.mp4", ["blue", "green"])
    (tmp_path / "captions.txt").write_text("a.mp4 | it is red | 0-2\nb.mp4 | blue, then green |\n")
    given = {"cwd": tmp_path, "path": [installed]}
    listed = vla("import", "--list", **given)
    assert listed.returncode == 0 and "video | caption | start-end" in listed.stdout
    done = vla(
        "extract",
        ".",
        "--encoder",
        "colours",
        "--captions",
        "captions.txt",
        "--format",
        "colours",
        "--json",
        **given,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == 12 + 8
    assert vla("index", **given).returncode == 0
    for colour, video, start, end in (
        ("red", "a.mp4", 0, 2),
        ("blue", None, None, None),
        ("green", None, None, None),
    ):
        done = vla("search", colour, "--json", **given)
        assert done.returncode == 0, done.stderr
        first = json.loads(done.stdout)
        first = (first["hits"] if isinstance(first, dict) else first)[0]
        if video:
            assert (
                first["video"] == video
                and abs(first["start"] - start) < 0.6
                and abs(first["end"] - end) < 0.6
            )
    # Where it is gone, the name is said; nothing is a defect of vla.
    gone = vla("search", "red", cwd=tmp_path)
    assert gone.returncode in (2, 4) and "colours" in gone.stderr and "defect" not in gone.stderr


def test_a_broken_plug_in_is_named_and_harms_nothing_else(tmp_path, installed):
    (tmp_path / "torn.py").write_text("raise ZeroDivisionError('at import')\n")
    info = tmp_path / "torn_plugin-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torn-plugin\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(
        "[vla.encoders]\ntorn = torn:Encoder\n[vla.datasets]\ntorn = torn:Dataset\n[vla.formats]\ntorn = torn:Format\n"
    )
    given = {"cwd": tmp_path, "path": [tmp_path, installed]}
    write(tmp_path / "a.mp4", ["red"])
    used = vla("extract", "a.mp4", "--encoder", "torn", **given)
    assert used.returncode == 4 and "torn-plugin 2.1" in used.stderr and "defect" not in used.stderr
    listed = vla("import", "--list", **given)
    assert (
        listed.returncode == 0
        and "torn-plugin 2.1" in listed.stdout
        and "video | caption | start-end" in listed.stdout
    )
    assert vla("extract", "a.mp4", "--encoder", "colours", **given).returncode == 0
