"""Preprocessing without PIL equals open_clip's with PIL up to one grey level, except for few pixels.

Measured when this was written (Pillow 13, torch 2.15), in normalised units, where CLIP's grey level is 0.0150: on the
pictures here at most 0.0300, two levels, and that for at most 5 values in 100,000 (7 in a million on those like
photographs); more than 99 % of the values are equal, except where small pictures are enlarged bilinearly (92 %). CLIP's
own tensors of seven photographs: see `test_published_tensors_of_clip`.

Pillow 13 filters the columns first where a portrait is squashed; older ones, and we, the rows. Each rounds in between, so
bicubic overshoots at hard edges then differ by up to 26 levels, between Pillow's own versions as well. There we compare
with Pillow told to filter rows first.
"""

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from support.shared_data import SHARED
from vla.encoders._preprocess import Preprocess
from vla.errors import EnvironmentUnfitError

REFERENCE = SHARED / "preprocess"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZES = [
    (240, 320),
    (320, 240),
    (64, 64),
    (224, 224),
    (100, 333),
    (481, 123),
    (37, 53),
    (720, 404),
    (225, 223),
]


def config(size=224, mode="shortest", interpolation="bicubic"):
    return {
        "size": size,
        "interpolation": interpolation,
        "resize_mode": mode,
        "mean": MEAN,
        "std": STD,
    }


def noise(height, width):
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


def photo(height, width):
    """Slow shades, sharp edges, saturated and nearly black and white areas, fine grain: what photographs are made of."""
    rng = np.random.default_rng([width, height])
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    shades = np.stack([np.sin(3 * x + 2 * y), np.cos(5 * x * y), np.sin(7 * y - x)], -1) * 0.5 + 0.5
    shades[(x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.05] = (1.0, 0.05, 0.0)
    shades[(x > 0.7) & (y > 0.6)] = 1.0
    shades[(x < 0.2) & (y > 0.7)] = 0.0
    shades[np.abs(np.sin(40 * x)) < 0.1] *= 0.3
    return np.clip(shades * 255 + rng.normal(0, 4, shades.shape), 0, 255).astype(np.uint8)


def normalised(prepared):
    values = torch.from_numpy(prepared).float() / 255
    return (values - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def rows_first(pixels, settings):
    """PIL's squash, rows before columns, whatever order this Pillow would choose."""
    size = settings["size"]
    height, width = (size, size) if isinstance(size, int) else size
    kind = Image.Resampling[settings["interpolation"].upper()]
    small = (
        Image.fromarray(pixels).resize((width, pixels.shape[0]), kind).resize((width, height), kind)
    )
    return normalised(np.array(small).transpose(2, 0, 1)[None])[0]


def reference(pixels, settings):
    transform = image_transform(
        settings["size"], is_train=False, mean=MEAN, std=STD, resize_mode=settings["resize_mode"],
        interpolation=settings["interpolation"],
    )  # fmt: skip
    return transform(Image.fromarray(pixels))


def difference(pixels, settings, reference=reference):
    ours = normalised(Preprocess(settings)(pixels[None]))[0]
    theirs = reference(pixels, settings)
    assert ours.shape == theirs.shape
    return (ours - theirs).abs()


def near(found):
    """At most two grey levels, at most 1 value in 10,000 more than one, and a small mean."""
    return found.max() <= 0.031 and (found > 0.02).float().mean() <= 1e-4 and found.mean() <= 0.0015


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("picture", [noise, photo])
def test_preprocessing_equals_open_clip(picture, size, mode, interpolation):
    portrait = mode == "squash" and size[0] > size[1]
    found = difference(
        picture(*size), config(224, mode, interpolation), rows_first if portrait else reference
    )
    assert near(found)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_bilinear_squash_is_within_a_level_in_either_order(size):
    """This is what the default model asks for."""
    assert difference(photo(*size), config(224, "squash", "bilinear")).max() <= 0.031


@pytest.mark.parametrize("side", [32, 64, 336, 384])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_other_input_sizes(side, mode):
    assert near(difference(photo(180, 290), config(side, mode)))


def test_rejects_crop_to_rectangular_input():
    settings = config((96, 160), "squash")
    assert Preprocess(settings)(photo(300, 200)[None]).shape == (1, 3, 96, 160)
    assert near(difference(photo(300, 200), settings, rows_first))


def test_picture_of_input_size_is_unchanged():
    pixels = noise(64, 64)
    np.testing.assert_array_equal(
        Preprocess(config(64))(pixels[None])[0], pixels.transpose(2, 0, 1)
    )


def test_the_crop_is_the_middle():
    """Only the middle square of a wide picture counts, however the sides look."""
    pixels = photo(64, 200)
    other = pixels.copy()
    other[:, :40] = other[:, -40:] = 0
    prepare = Preprocess(config(64))
    np.testing.assert_array_equal(prepare(pixels[None]), prepare(other[None]))
    np.testing.assert_array_equal(prepare(pixels[None])[0], pixels[:, 68:132].transpose(2, 0, 1))


def test_published_tensors_of_clip():
    """`reference.npz`: what CLIP's own preprocessing made of seven photographs."""
    if not (REFERENCE / "reference.npz").exists():
        pytest.skip(f"shared data: no reference.npz in {REFERENCE}")
    with np.load(REFERENCE / "reference.npz") as held:
        names, tensors = [str(n) for n in held["names"]], held["tensors"]
    assert len(names) == 7
    for name, tensor in zip(names, tensors, strict=True):
        with Image.open(REFERENCE / f"{name}.jpg") as picture:
            pixels = np.array(picture.convert("RGB"))
        found = (normalised(Preprocess(config())(pixels[None]))[0] - torch.from_numpy(tensor)).abs()
        # Measured: one level at most, two for a single value of 456_123; 99.2 % to 99.8 % of the values are equal.
        assert near(found) and (found > 0.02).sum() <= 1, name
        assert (found < 1e-5).float().mean() > 0.99, name


@pytest.mark.parametrize(
    "settings",
    [config(mode="longest"), config(interpolation="nearest"), config((96, 160), "shortest"), config(interpolation="random")],
)  # fmt: skip
def test_rejects_unsupported_settings(settings):
    with pytest.raises(
        EnvironmentUnfitError, match=r"not supported; 'shortest' and 'squash'|needs a square input"
    ):
        Preprocess(settings)


def test_description_depends_on_every_setting():
    """The description is part of a cache's identity."""
    variants = [
        config(), config(256), config(mode="squash"), config(interpolation="bilinear"),
        {**config(), "mean": (0.5, 0.5, 0.5)}, {**config(), "std": (0.5, 0.5, 0.5)}, config((224, 256), "squash"),
    ]  # fmt: skip
    assert len({str(Preprocess(v)) for v in variants}) == len(variants)
