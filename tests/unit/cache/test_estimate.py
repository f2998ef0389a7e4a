"""What `--dry-run` promises: nothing is written, and what it says is what then happens."""

import os

import pytest

import vla
from vla.errors import UsageError


@pytest.fixture
def folder(tmp_path, clip):
    for i in range(3):
        clip(f"v{i}.mp4", frames=23 + 15 * i, fps=10)
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    return tmp_path


def choice(sampling=None):
    return vla.EncoderChoice(encoder="toy", sampling=sampling)


def tree(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


@pytest.mark.parametrize("sampling", ["fps=2", "fps=50", "frames=4", "keyframes", "scenes"])
def test_estimate_matches_extraction(folder, sampling):
    before = tree(folder)
    said = vla.estimate([folder], workspace=folder, choice=choice(sampling), decoder="pyav")
    assert tree(folder) == before
    assert said.todo == ["torn.mp4", "v0.mp4", "v1.mp4", "v2.mp4"] and list(said.unreadable) == [
        "torn.mp4"
    ]
    assert said.video_seconds == pytest.approx(2.3 + 3.8 + 5.3)

    report = vla.extract([folder], workspace=folder, choice=choice(sampling), decoder="pyav")
    assert abs(said.frames - report.frames) <= max(3, 0.1 * report.frames)
    written = sum(
        p.stat().st_size
        for kind in ("shards", "videos")
        for p in folder.glob(f".vla/cache/*/{kind}/*")
    )
    assert 0.5 * written < said.bytes < 2 * written

    before = tree(folder)
    os.utime(folder / "v1.mp4")
    (folder / "v0.mp4").rename(folder / "w.mp4")
    again = vla.estimate([folder], workspace=folder, decoder="pyav")
    assert (again.todo, again.done, again.taken_over, again.frames) == ([], 2, 2, 0)
    assert {p for p in before if ".vla" in p.parts} <= set(tree(folder))
    assert vla.estimate([folder], workspace=folder, decoder="pyav", retry_failed=True).todo == [
        "torn.mp4"
    ]


def test_estimate_of_missing_files(folder):
    with pytest.raises(UsageError, match="no such file"):
        vla.estimate([folder / "nothing.mp4"], workspace=folder, choice=choice())
    assert not (folder / ".vla").exists()
