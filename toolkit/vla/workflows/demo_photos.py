"""Videos of photographs for the demo on real pictures, with searches whose answers are known.

The photographs come with scikit-image. Its documentation places each of them in the public domain or
under CC0, or states that no copyright restrictions are known; others of its images are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla.errors import EnvironmentUnfitError

if TYPE_CHECKING:
    from PIL import Image

PACKAGE = "skimage"
INSTALL = "pip install scikit-image"
_SECONDS, _RATE = 4, 8
"""Duration of a photograph in a video, and frames per second."""
_SIZE = (320, 240)
_PER_VIDEO = 3
_ZOOM = 0.8
"""Width of the visible part of a photograph, which moves from one side to the other."""


@dataclass(frozen=True)
class Photo:
    """A photograph and a search for it.

    Attributes:
        file: its file in the data folder of scikit-image.
        query: the text to search for.
        source: author or origin, with its terms.
    """

    file: str
    query: str
    source: str


PHOTOS = (
    Photo("chelsea.png", "a cat", "Stefan van der Walt, CC0"),
    Photo("coffee.png", "a cup of coffee with a spoon", "Rachel Michetti, CC0"),
    Photo("rocket.jpg", "a rocket before its launch", "SpaceX, public domain"),
    Photo("astronaut.png", "an astronaut in a space suit", "NASA, public domain"),
    Photo("camera.png", "a man with a camera on a tripod", "Lav Varshney, CC0"),
    Photo("coins.png", "old coins", "Brooklyn Museum, no known restrictions"),
    Photo("brick.png", "a wall of stone", "CC0Textures, CC0"),
    Photo("grass.png", "grass in a meadow", "CC0Textures, CC0"),
    Photo("hubble_deep_field.jpg", "stars and galaxies", "NASA, public domain"),
)


@dataclass(frozen=True)
class PhotoVideo:
    """A planned video.

    Attributes:
        name: file name.
        photos: the photographs, shown one after the other.
    """

    name: str
    photos: tuple[Photo, ...]

    def photo_at(self, seconds: float) -> Photo:
        """Return the photograph on screen at a time."""
        return self.photos[min(int(seconds / _SECONDS), len(self.photos) - 1)]


def plan_videos(seed: int) -> list[PhotoVideo]:
    """Plan videos in which each photograph is shown twice, in random order."""
    rng = np.random.default_rng([seed, 8])
    rows = [int(i) for _ in range(2) for i in rng.permutation(len(PHOTOS))]
    groups = [rows[i : i + _PER_VIDEO] for i in range(0, len(rows), _PER_VIDEO)]
    return [
        PhotoVideo(f"photos-{number}.mp4", tuple(PHOTOS[i] for i in group))
        for number, group in enumerate(groups, 1)
    ]


def photo_folder() -> Path:
    """Return the folder of the photographs, without importing scikit-image.

    Raises:
        EnvironmentUnfitError: scikit-image is not installed, or lacks one of them.
    """
    spec = find_spec(PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location) / "data"
        missing = [photo.file for photo in PHOTOS if not (folder / photo.file).is_file()]
        if not missing:
            return folder
        raise EnvironmentUnfitError(
            f"scikit-image has no file {missing[0]} in {folder}: {INSTALL} --force-reinstall, "
            "or name videos of your own"
        )
    raise EnvironmentUnfitError(
        f"the demo on real pictures shows photographs of scikit-image, which is not installed: {INSTALL}, "
        "or name videos of your own"
    )


def write_video(video: PhotoVideo, folder: Path, photos: Path) -> None:
    """Write `video` as an H.264 file in `folder`; the view moves slowly over each photograph."""
    import av
    from PIL import Image

    path = folder / video.name
    partial = path.with_name(f".{path.name}")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=_RATE, options={"crf": "20"})
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for photo in video.photos:
            with Image.open(photos / photo.file, formats=("PNG", "JPEG")) as image:
                picture = image.convert("RGB")
            for number in range(_SECONDS * _RATE):
                view = _view(picture, number / (_SECONDS * _RATE - 1))
                for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(view), "rgb24")):
                    container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    partial.replace(path)


def _view(picture: Image.Image, progress: float) -> Image.Image:
    """Return the visible part of `picture`, at the left at progress 0 and at the right at 1."""
    from PIL import Image

    width, height = _SIZE
    scale = _ZOOM * min(picture.width / width, picture.height / height)
    size = (width * scale, height * scale)
    left = (picture.width - size[0]) * progress
    top = (picture.height - size[1]) / 2
    box = (left, top, left + size[0], top + size[1])
    return picture.resize(_SIZE, Image.Resampling.BILINEAR, box)
