"""Files of several videos, names with dots, and axes of length 1."""

import io
import json
import tarfile

import h5py
import numpy as np
import pytest
import torch

from vla.errors import FormatError
from vla.formats import registry
from vla.formats.base import ArrayKeys, frames_and_width
from vla.omissions import Omissions

A, B = (
    np.random.default_rng(s).standard_normal((n, 3)).astype(np.float32) for s, n in ((0, 4), (1, 6))
)
STAMPS = np.arange(4.0)


def read(path, **wanted):
    """Values by video, and what was left out."""
    name = next(n for n in registry.names() if path.suffix in registry.get(n).suffixes)
    omissions = Omissions()
    found = {
        s.name: s.read()
        for s in registry.build(name).contents(path, ArrayKeys(**wanted, omissions=omissions))
    }
    return found, omissions.counts


def check(path, expected, left_out=None, **wanted):
    found, counts = read(path, **wanted)
    assert list(found) == list(expected) and counts == (left_out or {})
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name].values, values)


def tarred(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            if isinstance(content, np.ndarray):
                buffer = io.BytesIO()
                np.save(buffer, content)
                content = buffer.getvalue()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("files", "videos"),
    [
        (["RoripwjYFp8_60.0_210.0.npy", "RoripwjYFp8_360.0_510.0.npy", "abc_0.0_150.0.npy"],
         ["RoripwjYFp8_60.0_210.0", "RoripwjYFp8_360.0_510.0", "abc_0.0_150.0"]),
        (["2024.05.01 walk.npy", "2024.05.02 walk.npy"], ["2024.05.01 walk", "2024.05.02 walk"]),
        (["dr. who.e1.npy", "mr. x.e2.npy"], ["dr. who.e1", "mr. x.e2"]),
        (["a.clip.npy", "b.clip.npy"], ["a", "b"]),
        (["a.mp4.npy", "b.mp4.npy"], ["a", "b"]),
        (["dir.1/a_1.5.npy", "dir.1/b_2.5.npy"], ["dir.1/a_1.5", "dir.1/b_2.5"]),
        (["a_1.0.clip.npy", "b_2.0.clip.npy"], ["a_1.0", "b_2.0"]),
        (["v1.0.npy"], ["v1.0"]),
        (["a.npy", "b_0.5.npy"], ["a", "b_0.5"]),
    ],
)  # fmt: skip
def test_names_with_dots_in_a_tar(files, videos, tmp_path):
    path = tarred(tmp_path / "x.tar", {file: A * n for n, file in enumerate(files, 1)})
    check(path, {video: A * n for n, video in enumerate(videos, 1)})


def test_members_of_name_with_dots(tmp_path):
    record = json.dumps({"video": "the video", "timestamps_seconds": STAMPS.tolist()}).encode()
    members = {
        "a_0.0_4.0.json": record,
        "a_0.0_4.0.npy": A,
        "a_0.0_4.0.txt": b"a dog",
        "b_1.0_5.0.npy": B,
    }
    found, _ = read(tarred(tmp_path / "x.tar", members))
    assert list(found) == ["the video", "b_1.0_5.0"]
    np.testing.assert_array_equal(found["the video"].timestamps_seconds, STAMPS)


def hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"v_0/c3d_features": A, "v_1/c3d_features": B}, {"v_0": A, "v_1": B}),
        ({"v_0/c3d_features": A}, {"v_0": A}),
        ({"x/v_0/i3d": A, "x/v_1/i3d": B}, {"x/v_0": A, "x/v_1": B}),
        ({"v_0/anything": A, "v_1/anything": B}, {"v_0": A, "v_1": B}),
        ({"v_0/CLIP_ViT-B32": A, "v_1/CLIP_ViT-B32": B}, {"v_0": A, "v_1": B}),
        ({"v_0/embeddings": A, "v_0/times": STAMPS}, {"v_0": A}),
        ({"c3d/v_0": A, "c3d/v_1": B}, {"c3d/v_0": A, "c3d/v_1": B}),
        ({"folder/three.mp4": A, "two": B}, {"folder/three.mp4": A, "two": B}),
        (
            {"s1/v_0": A, "s1/v_1": B, "s2/v_0": A, "s2/v_1": B},
            {"s1/v_0": A, "s1/v_1": B, "s2/v_0": A, "s2/v_1": B},
        ),
    ],
)
def test_hdf5_groups_as_videos(arrays, expected, tmp_path):
    check(hdf5(tmp_path / "x.h5", arrays), expected)


def test_counts_arrays_of_other_shapes(tmp_path):
    arrays = {
        "v_0": A,
        "v_1": B,
        "fps": np.array(25.0),
        "lengths": np.array([4, 6]),
        "names": np.array([b"v_0", b"v_1"]),
    }
    check(hdf5(tmp_path / "x.h5", arrays), {"v_0": A, "v_1": B}, {"array": 3})
    with pytest.raises(FormatError, match="shape"):
        read(hdf5(tmp_path / "y.h5", {"fps": np.arange(3.0)}))


def test_many_empty_groups_are_fast(tmp_path):
    import time

    with h5py.File(tmp_path / "x.h5", "w") as file:
        for number in range(5000):
            file.create_group(f"g{number}")
        file["v"] = A
    began = time.process_time()
    check(tmp_path / "x.h5", {"v": A})
    assert time.process_time() - began < 4  # 4.7 s of a quiet machine before, 0.3 s now


@pytest.mark.parametrize(
    "names",
    [("v_one", "v_two"), ("a.mp4", "b.mp4"), ("-4wsuPCjDBc_5_15", "0lh_UWF9ZP4_21_26"), ("1", "2")],
)
def test_an_archive_with_an_array_for_each_video(names, tmp_path):
    np.savez(tmp_path / "feats.npz", **dict(zip(names, (A, B), strict=True)), note=np.array("x"))
    check(tmp_path / "feats.npz", dict(zip(names, (A, B), strict=True)), {"array": 1})
    torch.save(
        {name: torch.from_numpy(v) for name, v in zip(names, (A, B), strict=True)},
        tmp_path / "feats.pt",
    )
    check(tmp_path / "feats.pt", dict(zip(names, (A, B), strict=True)))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ({"v1": {"features": A, "timestamps": STAMPS}, "v2": {"features": B}}, {"v1": A, "v2": B}),
        ({"features": {"v1": A, "v2": B}, "model": "clip"}, {"v1": A, "v2": B}),
        ({"v1": {"clip": A}}, {"v1": A}),
        ({"features": {"v1": A}}, {"v1": A}),
        ({"v1": A[None], "v2": B[:, None]}, {"v1": A, "v2": B}),
    ],
)
def test_dictionaries_of_videos(held, expected, tmp_path):
    def tensors(value):
        if isinstance(value, dict):
            return {k: tensors(v) for k, v in value.items()}
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    torch.save(tensors(held), tmp_path / "feats.pt")
    check(tmp_path / "feats.pt", expected)


def test_arrays_of_several_models_are_one_video(tmp_path):
    np.savez(tmp_path / "v.npz", clip_vitb32=A, resnet50=A)
    with pytest.raises(FormatError, match="cannot tell which array"):
        read(tmp_path / "v.npz")
    np.savez(tmp_path / "w.npz", one=A, two=np.ones((4, 5), np.float32))
    with pytest.raises(FormatError, match="cannot tell which array"):
        read(tmp_path / "w.npz")
    np.savez(tmp_path / "x.npz", features=A, other=B)
    check(tmp_path / "x.npz", {"x": A})


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 3), (4, 3)), ((1, 4, 3), (4, 3)), ((4, 1, 3), (4, 3)), ((4, 3, 1, 1), (4, 3)), ((1, 4, 3, 1, 1), (4, 3)),
        ((1, 1, 3), (1, 3)), ((1, 3, 1, 1), (1, 3)), ((4, 49, 3), None), ((4,), None), ((), None), ((4, 1, 1), None), ((0, 3), (0, 3)),
        ((1, 3), (1, 3)), ((2, 1, 4, 3), None),
    ],
)  # fmt: skip
def test_axes_of_length_one(shape, expected):
    assert frames_and_width(shape) == expected


@pytest.mark.parametrize("shape", [(1, 4, 3), (4, 1, 3), (4, 3, 1, 1), (1, 4, 3, 1)])
def test_features_with_axes_of_length_one(shape, tmp_path):
    np.save(tmp_path / "v.npy", A.reshape(shape))
    check(tmp_path / "v.npy", {"v": A})
    np.savez(tmp_path / "v.npz", feats=A.reshape(shape), timestamps=STAMPS[None])
    found, _ = read(tmp_path / "v.npz")
    np.testing.assert_array_equal(found["v"].values, A)
    np.testing.assert_array_equal(found["v"].timestamps_seconds, STAMPS)
    check(hdf5(tmp_path / "v.h5", {"a": A.reshape(shape), "b": B}), {"a": A, "b": B})
