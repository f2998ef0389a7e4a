"""`vla info`, `ls`, `verify`, `rm`, `gc` and `doctor` as a person runs them."""

import json

import av
import pytest

from e2e.command import vla
from e2e.test_cli import TOY
from vla.cache.store import active_cache
from vla.storage.workspace import Workspace


@pytest.fixture
def folder(tmp_path, clip):
    for name in ("a.mp4", "b.mp4"):
        clip(name, frames=10 if name == "a.mp4" else 12, fps=5)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "c.csv").write_text("video,caption\na.mp4,a thing\n")
    assert vla("extract", ".", "-c", "c.csv", *TOY, cwd=tmp_path).returncode == 3
    return tmp_path


def test_info(folder):
    said = vla("info", cwd=folder).stdout
    assert (
        "2 ok, 1 skipped" in said
        and "none yet: run `vla index`" in said
        and "1 (0 timed) of 1 video" in said
    )
    found = json.loads(vla("info", "--json", cwd=folder).stdout)
    assert found["features"]["frames"] == 9 and found["features"]["sampling"] == "fps=2"


def test_ls(folder):
    listed = vla("ls", cwd=folder)
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines() if ".mp4" in line] == [
        "a.mp4",
        "b.mp4",
        "broken.mp4",
    ]
    found = json.loads(vla("ls", "--status", "skipped", "--json", cwd=folder).stdout)
    assert [(e["video"], e["status"]) for e in found] == [("broken.mp4", "skipped")]
    assert vla("ls", "--status", "missing", cwd=folder).returncode == 1
    assert vla("ls", "--status", "odd", cwd=folder).returncode == 2
    assert vla("ls", "x*", cwd=folder).returncode == 4


def test_verify_and_repair(folder):
    assert vla("verify", "--read-data", cwd=folder).stdout.strip() == "No damage found."
    cache = active_cache(Workspace(folder).caches)
    path = cache.folder / "shards" / cache.receipts["a.mp4"].shard
    path.write_bytes(path.read_bytes()[:-3])
    found = vla("verify", "--read-data", cwd=folder)
    assert found.returncode == 4 and "a.mp4" in found.stdout and "altered" in found.stdout
    assert vla("verify", "--read-data", "--repair", "-q", cwd=folder).returncode == 4
    assert vla("verify", "--read-data", cwd=folder).returncode == 0
    assert "Processed 1 video (" in vla("extract", ".", cwd=folder).stdout


def test_rm_asks_and_gc_cleans(folder):
    refused = vla("rm", "a.mp4", cwd=folder)
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert vla("rm", cwd=folder).returncode == 2
    assert "Removed 1 video." in vla("rm", "a.mp4", "--yes", cwd=folder).stdout
    assert (folder / "a.mp4").is_file()
    assert "Nothing to delete." in vla("gc", cwd=folder).stdout
    (Workspace(folder).home / ".tmp-1").write_bytes(bytes(2000))
    assert "Deleted 1 file (2.0 kB)." in vla("gc", cwd=folder).stdout


def test_without_a_workspace(tmp_path):
    for command in (("info",), ("ls",), ("verify",), ("rm", "x", "-y"), ("gc",)):
        done = vla(*command, cwd=tmp_path, env={"VLA_WORKSPACE": str(tmp_path)})
        assert done.returncode == 4 and "hint: run `vla extract" in done.stderr, command


def test_doctor(tmp_path):
    done = vla("doctor", cwd=tmp_path)
    assert "h264" in done.stdout and "float" in done.stdout and done.returncode == 0
    found = {c["name"]: c for c in json.loads(vla("doctor", "--json", cwd=tmp_path).stdout)}
    assert found["torch"]["is_fine"] and found["models"]["is_fine"]
    assert vla("doctor", "--device", "cuda:77", cwd=tmp_path).returncode == 4


@pytest.mark.parametrize(
    ("options", "sampling", "frames"),
    [
        (["--num-frames", 3], "frames=3", 6),
        (["--keyframes"], "keyframes", None),
        (["--scenes"], "scenes", 2),
    ],
)
def test_other_ways_of_sampling(folder, options, sampling, frames):
    done = vla("extract", ".", "--change-encoder", *options, "--json", cwd=folder)
    found = json.loads(done.stdout)
    if frames is None:
        frames = 0
        for name in ("a.mp4", "b.mp4"):
            with av.open(str(folder / name)) as container:
                frames += sum(
                    packet.is_keyframe for packet in container.demux(video=0) if packet.size
                )
    assert found["frames"] == frames
    assert json.loads(vla("info", "--json", cwd=folder).stdout)["features"]["sampling"] == sampling


def test_one_way_of_sampling_at_a_time(folder):
    done = vla("extract", ".", "--keyframes", "--fps", 3, cwd=folder)
    assert done.returncode == 2 and "one of --fps" in done.stderr
