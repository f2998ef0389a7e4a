"""The demo encoder on videos that were not rendered: said once in each stage, and no confidence."""

import shutil

import pytest

import vla
from vla.errors import MissingError
from vla.features import FeatureSpec
from vla.storage.workspace import Workspace
from vla.workflows.demo_notice import unrendered_videos
from vla.world.clips import plan_clips
from vla.world.render import write_clip

DEMO = FeatureSpec("open_clip", "demo", "w", "p", "fps=2", 4)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi"])
def test_recognizes_copies_of_rendered_clips(tmp_path, suffix):
    place = Workspace.open_or_create(tmp_path)
    write_clip(plan_clips("train", 1, seed=0)[0].scene, tmp_path / f"a.{suffix}")
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / f"a.{suffix}", tmp_path / "other" / f"renamed.{suffix}")
    (tmp_path / "real.mp4").write_bytes(b"ftyp" * 50_000)
    names = [f"a.{suffix}", f"other/renamed.{suffix}", "real.mp4", "gone.mp4"]
    assert unrendered_videos(place, DEMO, names) == ["real.mp4", "gone.mp4"]
    # Another encoder is nobody's business here.
    assert (
        unrendered_videos(place, FeatureSpec("open_clip", "ViT-B-32", "w", "p", "fps=2", 4), names)
        == []
    )
    assert (
        unrendered_videos(place, FeatureSpec("imported", "demo", "w", "p", "fps=2", 4), names) == []
    )


def test_stages_warn_and_omit_confidence(tmp_path, clip):
    clip("real.mp4", frames=30)
    for number, clip in enumerate(plan_clips("train", 3, seed=0)):
        write_clip(clip.scene, tmp_path / f"{number}.mp4")
    messages = []
    report = vla.extract(
        str(tmp_path), workspace=str(tmp_path), model="demo", progress=messages.append
    )
    assert (
        len(report.warnings) == 1
        and "1 of the 4 videos here is something else" in report.warnings[0]
    )
    assert [p.message for p in messages if p.level == "warning"].count(report.warnings[0]) == 1
    assert report.warnings[0] in vla.index(workspace=tmp_path).notes
    opened_workspace = vla.open_workspace(tmp_path)
    assert report.warnings[0] in opened_workspace.notes()
    confidences = {
        hit.video_id: hit.confidence
        for hit in opened_workspace.search("a red circle moves left", k=20)
    }
    assert confidences.pop("real.mp4") is None
    assert len(confidences) == 3 and None not in confidences.values()
    for number in range(3):
        (tmp_path / f"{number}.mp4").write_bytes(b"something else")
    with pytest.raises(MissingError, match="the demo encoder knows nothing of these videos"):
        vla.open_workspace(tmp_path).search("a red circle", max_fpr=0.5)
