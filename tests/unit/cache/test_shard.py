"""Shards: what goes in comes out, and a file of somebody else's that plays tricks with HDF5 is refused."""

import hashlib
import io

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla.cache import shard
from vla.errors import CacheError, ShapeError
from vla.features import FrameFeatures, TextFeatures

pytestmark = pytest.mark.install
VALUES = hnp.arrays(np.float16, st.tuples(st.integers(0, 12), st.integers(1, 9)),
                    elements=st.floats(-60000, 60000, width=16, allow_nan=False))  # fmt: skip


def features(frames=4, dim=3, seed=0):
    values = np.random.default_rng(seed).standard_normal((frames, dim)).astype(np.float16)
    return FrameFeatures("v.mp4", values, np.arange(frames) / 3, frames / 3)


@given(VALUES, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_frames_round_trip(values, seed):
    times = np.sort(np.random.default_rng(seed).uniform(0, 1e5, len(values)))
    result = shard.read_frames(shard.frames_image(FrameFeatures("v", values, times, 1e5)), "v", 1e5)
    np.testing.assert_array_equal(result.values, values)
    np.testing.assert_array_equal(result.timestamps_seconds, times)
    assert result.values.dtype == np.float16 and result.timestamps_seconds.dtype == np.float64
    assert (result.video_id, result.duration_seconds) == ("v", 1e5)


@given(
    st.lists(st.text(max_size=30), max_size=6, unique=True),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=40)
def test_texts_round_trip(texts, dim, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 8, len(texts))
    longest = int(lengths.max(initial=1))
    mask = np.arange(longest)[None] < lengths[:, None]
    tokens = rng.standard_normal((len(texts), longest, dim)).astype(np.float16) * mask[..., None]
    pooled = rng.standard_normal((len(texts), dim)).astype(np.float16)
    result = shard.read_texts(
        shard.texts_image(TextFeatures(tuple(texts), pooled, tokens, mask)), "t"
    )
    assert result.texts == tuple(texts)
    np.testing.assert_array_equal(result.pooled, pooled)
    np.testing.assert_array_equal(result.tokens, tokens)
    np.testing.assert_array_equal(result.mask, mask)


def test_float32_is_rounded_to_float16():
    exact = np.array([[1 / 3, 1e-3]], np.float32)
    result = shard.read_frames(
        shard.frames_image(FrameFeatures("v", exact, np.zeros(1), 1.0)), "v", 1.0
    )
    np.testing.assert_array_equal(result.values, exact.astype(np.float16))


def test_image_is_deterministic():
    """The checksum is part of the name: equal features must give equal bytes."""
    assert shard.frames_image(features()) == shard.frames_image(features())
    assert shard.frames_image(features()) != shard.frames_image(features(seed=1))


def test_every_version_of_h5py_makes_the_same_bytes():
    """A digest made with h5py 3.11 to 3.16 alike. A superblock of version 0 has no checksum that HDF5 1.14 could get wrong."""
    content = shard.frames_image(
        FrameFeatures("v", np.ones((100, 64), np.float16), np.arange(100) / 2, 50.0)
    )
    assert content[8] == 0
    assert hashlib.sha256(content).hexdigest()[:8] == "3873ad1a"


def test_rejects_values_too_large_for_float16():
    """As a ShapeError, which costs that video alone: a CacheError would stop the extraction of all."""
    large = FrameFeatures("v", np.array([[1e5]], np.float32), np.zeros(1), 1.0)
    with pytest.raises(ShapeError, match="too large for float16"):
        shard.frames_image(large)
    mask = np.ones((1, 1), bool)
    for pooled, tokens in ((1e5, 1.0), (1.0, -1e5)):
        texts = TextFeatures(
            ("t",), np.array([[pooled]], np.float32), np.array([[[tokens]]], np.float32), mask
        )
        with pytest.raises(ShapeError, match="too large for float16"):
            shard.texts_image(texts)


# Hostile files


def made(fill, **options):
    """The bytes of an HDF5 file that `fill` wrote."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", **options) as file:
        fill(file)
    return buffer.getvalue()


TIMES = np.arange(4) / 3
GOOD = np.ones((4, 3), np.float16)


def good_but(values=None):
    """A file in which only `values` is what `values(file)` makes of it."""

    def fill(file):
        file["timestamps_seconds"] = TIMES
        if values is not None:
            values(file)

    return made(fill)


def test_reads_hand_made_shard():
    """So that the refusals below are for their reason alone."""
    result = shard.read_frames(good_but(lambda f: f.create_dataset("values", data=GOOD)), "v", 2.0)
    np.testing.assert_array_equal(result.values, GOOD)


def external_storage(file, path):
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_external(str(path).encode(), 0, 24)
    space = h5py.h5s.create_simple((4, 3))
    h5py.h5d.create(file.id, b"values", h5py.h5t.IEEE_F16LE, space, layout)


def virtual(file, path):
    layout = h5py.VirtualLayout((4, 3), np.float16)
    layout[:] = h5py.VirtualSource(str(path), "values", (4, 3))
    file.create_virtual_dataset("values", layout)


def external_link(file, path):
    file["values"] = h5py.ExternalLink(str(path), "/values")


def soft_link(file, path):
    file["real"] = GOOD
    file["values"] = h5py.SoftLink("/real")


def dangling(file, path):
    file["values"] = h5py.SoftLink("/nowhere")


def compressed(file, path):
    file.create_dataset("values", data=GOOD, compression="gzip")


def shuffled(file, path):
    file.create_dataset("values", data=GOOD, chunks=(2, 3), shuffle=True)


def checksummed(file, path):
    file.create_dataset("values", data=GOOD, fletcher32=True)


def huge(file, path):
    file.create_dataset("values", (1 << 40, 512), np.float16)


def huge_in_chunks(file, path):
    file.create_dataset("values", (1 << 40, 512), np.float16, chunks=(16, 512))


def large_without_content(file, path):
    file.create_dataset("values", (4, 3000), np.float16)


def a_group(file, path):
    file.create_group("values")


def a_type(file, path):
    file["values"] = np.dtype("f2")


def of_doubles(file, path):
    file["values"] = GOOD.astype(np.float64)


def big_endian(file, path):
    file["values"] = GOOD.astype(">f2")


def flat(file, path):
    file["values"] = GOOD.ravel()


def of_strings(file, path):
    file["values"] = ["a", "b", "c", "d"]


def of_references(file, path):
    file.create_dataset("values", (4, 3), dtype=h5py.ref_dtype)


def of_records(file, path):
    file["values"] = np.zeros((4, 3), [("a", "f2"), ("b", "i4")])


def without_shape(file, path):
    file["values"] = h5py.Empty("f2")


def of_a_time_type(file, path):
    h5py.h5d.create(file.id, b"values", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((4, 3)))


def missing(file, path):
    pass


def not_finite(file, path):
    file["values"] = np.full((4, 3), np.nan, np.float16)


def of_another_length(file, path):
    file["values"] = np.ones((5, 3), np.float16)


HOSTILE = [
    external_storage, virtual, external_link, soft_link, dangling, compressed, shuffled, checksummed, huge, huge_in_chunks,
    large_without_content, a_group, a_type, of_doubles, big_endian, flat, of_strings, of_references, of_records,
    without_shape, of_a_time_type, missing, not_finite, of_another_length,
]  # fmt: skip


@pytest.mark.parametrize("trick", HOSTILE, ids=lambda f: f.__name__)
def test_rejects_malicious_shards(trick, tmp_path):
    secret = tmp_path / "secret.h5"
    secret.write_bytes(good_but(lambda f: f.create_dataset("values", data=GOOD)))
    content = good_but(lambda f: trick(f, secret))
    with pytest.raises(CacheError, match="is not a shard of vla"):
        shard.read_frames(content, "v.mp4", 2.0)


def test_linked_file_is_never_opened(tmp_path, monkeypatch):
    """A FIFO would be waited for, a device read: links are looked at, not followed."""
    import os

    pipe = tmp_path / "pipe.h5"
    os.mkfifo(pipe)
    for trick in (external_link, external_storage, virtual):
        with pytest.raises(CacheError):
            shard.read_frames(good_but(lambda f, t=trick: t(f, pipe)), "v", 2.0)


def test_rejects_decreasing_timestamps():
    def fill(file):
        file["values"], file["timestamps_seconds"] = GOOD, TIMES[::-1]

    with pytest.raises(CacheError, match="timestamps decrease"):
        shard.read_frames(made(fill), "v", 2.0)


@pytest.mark.parametrize(
    "content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(2000)]
)
def test_rejects_non_hdf5(content):
    with pytest.raises(CacheError, match="is not a shard of vla"):
        shard.read_frames(content, "v", 1.0)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_rejects_truncated_shard(part):
    content = shard.frames_image(features(200, 30))
    with pytest.raises(CacheError):
        shard.read_frames(content[: int(len(content) * part)], "v", 100.0)


def text_parts(**changed):
    parts = {
        "pooled": np.ones((2, 3), np.float16), "tokens": np.ones((5, 3), np.float16),
        "token_ends": np.array([2, 5]), "text_bytes": np.frombuffer(b"abcde", np.uint8), "text_ends": np.array([1, 5]),
    }  # fmt: skip
    return made(lambda f: [f.create_dataset(k, data=v) for k, v in {**parts, **changed}.items()])


def test_reads_hand_made_texts():
    result = shard.read_texts(text_parts(), "t")
    assert result.texts == ("a", "bcde") and result.mask.sum(1).tolist() == [2, 3]


@pytest.mark.parametrize(
    "changed",
    [
        {"token_ends": np.array([2, 4])},
        {"token_ends": np.array([5, 2])},
        {"token_ends": np.array([-1, 5])},
        {"token_ends": np.array([5])},
        {"token_ends": np.array([2, 1 << 60])},
        {"text_ends": np.array([1, 9])},
        {"text_ends": np.array([1, 3, 5])},
        {"text_ends": np.zeros(0, np.int64)},
        {"text_bytes": np.frombuffer(b"\xff\xfe\xfdab", np.uint8)},
        {"pooled": np.ones((3, 3), np.float16)},
        {"pooled": np.ones((2, 4), np.float16)},
        {"pooled": np.full((2, 3), np.inf, np.float16)},
    ],
    ids=str,
)
def test_rejects_inconsistent_texts(changed):
    with pytest.raises(CacheError, match="is not a shard of vla"):
        shard.read_texts(text_parts(**changed), "t")
