"""Layouts of published features: each gives the intended videos, values and times."""

from contextlib import closing

import h5py
import numpy as np
import pytest
import torch

from support.refusals import refused
from support.shared_data import SHARED
from vla.errors import FormatError
from vla.formats import registry
from vla.formats.base import ArrayKeys

A, B = (np.random.default_rng(s).standard_normal((4, 3)).astype(np.float32) for s in (0, 1))


def found_in(folder, key="", times_key=""):
    """Every video in the files of a folder, with its values and times."""
    found = {}
    for path in sorted(folder.iterdir()):
        name = next(n for n in registry.names() if path.suffix in registry.get(n).suffixes)
        with closing(registry.build(name).contents(path, ArrayKeys(key, times_key))) as contents:
            found |= {s.name: s.read() for s in contents}
    return found


def check(folder, wanted, **options):
    found = found_in(folder, **options)
    assert sorted(found) == sorted(wanted)
    for name, (values, times) in wanted.items():
        np.testing.assert_array_equal(found[name].values, values)
        if times is None:
            assert found[name].timestamps_seconds is None
        else:
            np.testing.assert_allclose(found[name].timestamps_seconds, times, rtol=0, atol=1e-12)


def test_video_features(tmp_path):
    """`<stem>_<model>.npy`, `_fps.npy` and `_timestamps_ms.npy`, as v-iashin/video_features saves them."""
    for stem, values in (("v_one", A), ("two", B)):
        np.save(tmp_path / f"{stem}_clip.npy", values)
        np.save(tmp_path / f"{stem}_fps.npy", np.array(19.62))
        np.save(tmp_path / f"{stem}_timestamps_ms.npy", np.arange(4) * 50.5)
    check(tmp_path, {"v_one": (A, np.arange(4) * 0.0505), "two": (B, np.arange(4) * 0.0505)})


def test_video_features_of_models_with_long_names(tmp_path):
    np.save(tmp_path / "v_one_r2plus1d_34.npy", A)
    np.save(tmp_path / "v_one_timestamps_ms.npy", np.arange(4.0))
    np.save(tmp_path / "other_fps.npy", B)  # nothing beside it: a video that is called so
    check(tmp_path, {"v_one": (A, np.arange(4) / 1000), "other_fps": (B, None)})


def test_moment_detr(tmp_path):
    """`<vid>.npz` with `features`, one each 2 s; YouTube's names hold underscores, dashes and dots of time."""
    np.savez(tmp_path / "RoripwjYFp8_360.0_510.0.npz", features=A)
    check(tmp_path, {"RoripwjYFp8_360.0_510.0": (A, None)})


@pytest.mark.parametrize(
    "key", ["features", "feats", "values", "frame_features", "arr_0", "whatever"]
)
@pytest.mark.parametrize(
    ("times", "unit"),
    [("timestamps_seconds", 1), ("timestamps", 1), ("times", 1), ("timestamps_ms", 1000)],
)
def test_usual_names(key, times, unit, tmp_path):
    when = np.array([0.0, 0.5, 1.0, 1.75])
    np.savez(tmp_path / "a.npz", **{key: A, times: when * unit, "label": np.array(3)})
    torch.save(
        {key: torch.from_numpy(B), times: torch.from_numpy(when * unit), "note": "x"},
        tmp_path / "b.pt",
    )
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file[f"v1/{key}"], file[f"v1/{times}"] = A, when * unit
        file[f"v2/{key}"], file[f"v2/{times}"] = B, when * unit
    wanted = {"a": (A, when), "b": (B, when), "v1": (A, when), "v2": (B, when)}
    check(tmp_path, wanted, **({"key": key} if key == "whatever" else {}))


def test_requires_key_for_unusual_names(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        feats=A,
        feats_5fps=B,
        timestamps_ms=np.arange(9.0),
        timestamps_ms_5fps=np.arange(4) * 200.0,
    )
    check(tmp_path, {"a": (B, np.arange(4) / 5)}, key="feats_5fps", times_key="timestamps_ms_5fps")


def test_one_tensor_and_one_array(tmp_path):
    torch.save(torch.from_numpy(A), tmp_path / "a.pth")
    np.save(tmp_path / "b.2.npy", B.astype(np.float16))
    check(tmp_path, {"a": (A, None), "b.2": (B.astype(np.float16), None)})


def test_hdf5_of_one_video_and_of_many(tmp_path):
    with h5py.File(tmp_path / "v_one.h5", "w") as file:
        file["features"], file["timestamps"] = A, np.arange(4.0)
    with h5py.File(tmp_path / "many.hdf5", "w") as file:
        file["two"], file["folder/three.mp4"] = B, A
        file.create_group("empty")
    check(tmp_path, {"v_one": (A, np.arange(4.0)), "two": (B, None), "folder/three.mp4": (A, None)})


def test_hdf5_with_several_models_for_each_video(tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        for name, values in (("one", A), ("two", B)):
            file[f"{name}/clip"], file[f"{name}/slowfast"] = values, -values
    check(tmp_path, {"one": (A, None), "two": (B, None)}, key="clip")
    with refused(
        FormatError, "name_key", "cannot tell which array holds the features.*clip .*slowfast"
    ):
        found_in(tmp_path)


def test_exported_texts_are_not_a_video(tmp_path):
    np.save(tmp_path / "a.npy", A)
    np.savez(tmp_path / "texts.npz", pooled=B)
    (tmp_path / "texts.jsonl").touch()
    (npz,) = (p for p in tmp_path.iterdir() if p.suffix == ".npz")
    assert list(registry.build("npz").contents(npz, ArrayKeys())) == []
    (tmp_path / "texts.jsonl").unlink()
    check(tmp_path, {"a": (A, None), "texts": (B, None)})


REAL = SHARED / "features" / "v_GGSY1Qvo990_clip_vitb32.npz"


@pytest.mark.skipif(not REAL.is_file(), reason="named: the shared data is not here")
def test_features_of_public_releases():
    with np.load(REAL) as published:
        for key, times_key in (("", ""), ("feats_5fps", "timestamps_ms_5fps")):
            with closing(
                registry.build("npz").contents(REAL, ArrayKeys(key, times_key))
            ) as contents:
                (stored,) = contents
            assert stored.name == "v_GGSY1Qvo990_clip_vitb32"
            found = stored.read()
            np.testing.assert_array_equal(found.values, published[key or "feats"])
            np.testing.assert_allclose(
                found.timestamps_seconds * 1000, published[times_key or "timestamps_ms"], rtol=1e-15
            )
