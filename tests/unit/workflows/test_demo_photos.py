"""Videos of photographs: every photograph is where the plan says, and a missing package is named."""

import numpy as np
import pytest
from PIL import Image

from vla.decoders.pyav import Decoder
from vla.errors import EnvironmentUnfitError
from vla.workflows import demo_photos
from vla.workflows.demo_photos import PHOTOS, photo_folder, plan_videos, write_video


def test_every_photograph_is_planned_twice_and_in_different_videos_of_a_seed():
    videos = plan_videos(0)
    shown = [photo for video in videos for photo in video.photos]
    assert sorted(p.file for p in shown) == sorted(2 * [p.file for p in PHOTOS])
    assert len({v.name for v in videos}) == len(videos) > 4
    assert plan_videos(0) == videos != plan_videos(1)


def test_photographs_are_on_screen_at_the_planned_times(tmp_path):
    video = plan_videos(0)[0]
    levels = {photo.file: 40 + 60 * i for i, photo in enumerate(video.photos)}
    assert len(levels) == 3
    photos = tmp_path / "data"
    photos.mkdir()
    for file, level in levels.items():
        image = Image.new("RGB", (500, 300), (level,) * 3)
        image.save(photos / file)
    write_video(video, tmp_path, photos)
    with Decoder().open(tmp_path / video.name) as reader:
        for seconds in (0.0, 3.8, 4.1, 7.9, 8.2, 11.8):
            pixels = reader.frames_at(np.array([seconds])).pixels
            assert abs(pixels.mean() - levels[video.photo_at(seconds).file]) < 12, seconds
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", video.name]


def test_a_missing_package_or_photograph_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_photos, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentUnfitError, match="not installed: pip install scikit-image"):
        photo_folder()

    class Spec:
        submodule_search_locations = (str(tmp_path),)

    monkeypatch.setattr(demo_photos, "find_spec", lambda name: Spec)
    with pytest.raises(EnvironmentUnfitError, match=r"no file chelsea\.png"):
        photo_folder()
    (tmp_path / "data").mkdir()
    for photo in PHOTOS:
        (tmp_path / "data" / photo.file).write_bytes(b"")
    assert photo_folder() == tmp_path / "data"
