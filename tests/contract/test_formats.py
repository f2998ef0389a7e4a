"""Contract of feature formats: interchange with other tools, and refusal of invalid files.

Files are written and read by numpy, torch, h5py, pandas and tarfile, never by the code under test.
"""

import importlib.util
import io
import json
import os
import tarfile
from contextlib import closing

import h5py
import numpy as np
import pytest
import torch

from vla.errors import FormatError
from vla.features import FeatureSpec, FrameFeatures
from vla.formats import registry
from vla.formats.base import ArrayKeys, ExportItem

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
NAMES = [
    pytest.param(
        n,
        marks=pytest.mark.skipif(
            n == "parquet" and not HAS_PYARROW, reason="pyarrow is not installed"
        ),
    )
    for n in registry.names()
]
every = pytest.mark.parametrize("name", NAMES)
holding_many = pytest.mark.parametrize(
    "name", [p for p in NAMES if registry.get(p.values[0]).holds_many]
)
writing = pytest.mark.parametrize(
    "name", [p for p in NAMES if hasattr(registry.get(p.values[0]), "write")]
)


def values(frames=5, dim=3, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal((frames, dim)).astype(dtype)


TIMES = np.array([0.0, 0.04, 0.5, 0.5, 7.25])


# How others write each format: `WRITE[name](folder, {video: (values, times or None)})` returns the path.


def one(videos):
    ((video, (array, times)),) = videos.items()
    return video, array, times


def write_npy(folder, videos):
    video, array, times = one(videos)
    np.save(folder / f"{video}.npy", array)
    if times is not None:
        record = {"video": video, "timestamps_seconds": np.asarray(times).tolist()}
        (folder / f"{video}.json").write_text(json.dumps(record))
    return folder / f"{video}.npy"


def write_npz(folder, videos):
    video, array, times = one(videos)
    np.savez_compressed(
        folder / f"{video}.npz", features=array, **({} if times is None else {"timestamps": times})
    )
    return folder / f"{video}.npz"


def write_torch(folder, videos):
    video, array, times = one(videos)
    held = torch.from_numpy(np.array(array))
    torch.save(
        held
        if times is None
        else {"features": held, "timestamps": torch.from_numpy(np.array(times))},
        folder / f"{video}.pt",
    )
    return folder / f"{video}.pt"


def write_hdf5(folder, videos):
    with h5py.File(folder / "all.h5", "w") as file:
        for video, (array, times) in videos.items():
            if times is None:
                file[video] = array
            else:
                file[f"{video}/features"], file[f"{video}/timestamps"] = array, times
    return folder / "all.h5"


def write_parquet(folder, videos):
    import pandas

    rows = {"video": [], "feature": [], "timestamp_seconds": []}
    has_times = all(times is not None for _, times in videos.values())
    for video, (array, times) in videos.items():
        rows["video"] += [video] * len(array)
        rows["feature"] += list(array)
        rows["timestamp_seconds"] += list(times) if has_times else []
    if not has_times:
        del rows["timestamp_seconds"]
    pandas.DataFrame(rows).to_parquet(folder / "all.parquet")
    return folder / "all.parquet"


def write_webdataset(folder, videos):
    with tarfile.open(folder / "all.tar", "w") as archive:
        for number, (video, (array, times)) in enumerate(videos.items()):
            key = video if times is None else f"{number:04d}"
            buffer = io.BytesIO()
            np.save(buffer, array)
            members = {"npy": buffer.getvalue(), "txt": b"a caption"}
            if times is not None:
                record = {"video": video, "timestamps_seconds": np.asarray(times).tolist()}
                members["json"] = json.dumps(record).encode()
            for kind, content in members.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return folder / "all.tar"


WRITE = {
    "npy": write_npy, "npz": write_npz, "torch": write_torch, "hdf5": write_hdf5, "parquet": write_parquet,
    "webdataset": write_webdataset,
}  # fmt: skip


def wrote(name, folder, videos):
    assert name in WRITE, f"format {name!r} needs an entry in WRITE"
    return WRITE[name](folder, videos)


def read(name, path, key="", times_key=""):
    """What is in the file: by video, what was released, or the error."""
    found = {}
    with closing(registry.build(name).contents(path, ArrayKeys(key, times_key))) as contents:
        for stored in contents:
            try:
                found[stored.name] = stored.read()
            except FormatError as error:
                found[stored.name] = error
    return found


def refusal(name, path, **wanted):
    """The one error that the file is refused with."""
    try:
        (found,) = read(name, path, **wanted).values()
    except FormatError as error:
        return str(error)
    assert isinstance(found, FormatError), found
    return str(found)


@every
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_reads_features_and_times(name, dtype, tmp_path):
    array = values(dtype=dtype)
    found = read(name, wrote(name, tmp_path, {"v_1": (array, TIMES)}))
    assert list(found) == ["v_1"]
    np.testing.assert_array_equal(found["v_1"].values, array)
    assert found["v_1"].values.dtype == dtype
    np.testing.assert_array_equal(found["v_1"].timestamps_seconds, TIMES)
    assert found["v_1"].timestamps_seconds.dtype == np.float64 and found["v_1"].origin == ""


@every
def test_reads_features_without_times(name, tmp_path):
    found = read(name, wrote(name, tmp_path, {"v_1": (values(), None)}))
    np.testing.assert_array_equal(found["v_1"].values, values())
    assert found["v_1"].timestamps_seconds is None and found["v_1"].duration_seconds is None


@holding_many
def test_keeps_names_and_order_of_videos(name, tmp_path):
    videos = {
        v: (values(n + 1, seed=n), np.arange(n + 1) / 3)
        for n, v in enumerate(["a", "b/c.mp4", "d e", "ü"])
    }
    found = read(name, wrote(name, tmp_path, videos))
    assert sorted(found) == sorted(videos)
    for video, (array, times) in videos.items():
        np.testing.assert_array_equal(found[video].values, array)
        np.testing.assert_array_equal(found[video].timestamps_seconds, times)


@holding_many
def test_invalid_video_does_not_affect_others(name, tmp_path):
    bad = values()
    bad[2, 1] = np.nan
    found = read(
        name,
        wrote(name, tmp_path, {"a": (values(), TIMES), "b": (bad, TIMES), "c": (values(), TIMES)}),
    )
    assert isinstance(found["b"], FormatError) and "1 of 15 values are not finite" in str(
        found["b"]
    )
    for video in "ac":
        np.testing.assert_array_equal(found[video].values, values())


BAD = {
    "not a number": (
        np.array([[1, np.nan], [0, 1]], np.float32),
        None,
        "1 of 4 values are not finite",
    ),
    "infinite": (np.array([[1, -np.inf]], np.float32), None, "1 of 2 values are not finite"),
    "times decrease": (values(3), [0.0, 2.0, 1.0], "times decrease, from 2 s at frame 1 to 1 s"),
    "times are negative": (values(2), [-1.0, 0.0], "not negative"),
    "times are not finite": (values(2), [0.0, np.inf], "finite"),
    "whole numbers": (np.ones((2, 3), np.int64), None, "int64"),
}
NOT_IN_A_TABLE = {
    "a row": (values()[0], None, "shape (3,)"),
    "a block": (np.stack([values()] * 2), None, "pool them to one row per frame"),
    "no frames": (values(0), None, "empty"),
    "no width": (values(4, 0), None, "empty"),
    "too few times": (values(3), [0.0, 1.0], "3 frames need 3 times"),
    "too many times": (values(3), [0.0, 1.0, 2.0, 3.0], "3 frames need 3 times"),
    "times in pairs": (values(2), [[0.0, 1.0], [1.0, 2.0]], "2 frames need 2 times"),
}


@every
@pytest.mark.parametrize("case", [*BAD, *NOT_IN_A_TABLE])
def test_rejects_invalid_features_with_reason(name, case, tmp_path):
    array, times, message = (BAD | NOT_IN_A_TABLE)[case]
    if name == "parquet" and case not in ("infinite", "times decrease"):
        return  # a table with a row for each frame cannot say most of it, and each reading takes a process
    path = wrote(name, tmp_path, {"v": (array, None if times is None else np.array(times))})
    said = refusal(name, path)
    assert message in said and path.name in said


@every
def test_keeps_half_precision(name, tmp_path):
    """What float16 cannot hold is for the cache to refuse, not for the reader to round."""
    array = np.array([[1e30, -1e30]])
    np.testing.assert_array_equal(
        read(name, wrote(name, tmp_path, {"v": (array, None)}))["v"].values, array
    )


@every
def test_rejects_other_files(name, tmp_path):
    path = wrote(name, tmp_path, {"v": (values(40), np.arange(40.0))})
    good = path.read_bytes()
    wrong = [
        b"",
        b"\0" * 3000,
        b"nonsense",
        b"\x93NUMPY",
        b"PK\3\4" + good[4:40],
        b"\x89HDF\r\n\x1a\n",
        b"PAR1",
        good[::-1],
    ]
    wrong += [good[: len(good) * part // 20] for part in range(1, 20)]
    if name == "parquet":
        wrong = wrong[::6]  # each takes a process
    for content in wrong:
        path.write_bytes(content)
        try:
            found = read(name, path)
        except FormatError as error:
            assert path.name in str(error)
            continue
        # A tar may lose its end and still hold its first samples; nobody may make numbers up.
        for released in found.values():
            if not isinstance(released, FormatError):
                np.testing.assert_array_equal(released.values, values(40))
        if name != "webdataset":
            assert any(isinstance(r, FormatError) for r in found.values())


@every
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named: no pipes here")
def test_rejects_pipe_and_device(name, tmp_path):
    path = tmp_path / f"v{registry.get(name).suffixes[0]}"
    os.mkfifo(path)
    assert "not a regular file" in refusal(name, path)
    path.unlink()
    assert path.name in refusal(name, path)
    path.mkdir()
    assert path.name in refusal(name, path)


@every
def test_suffixes_are_unique(name):
    others = {s for n in registry.names() if n != name for s in registry.get(n).suffixes}
    suffixes = set(registry.get(name).suffixes)
    assert suffixes and not suffixes & others
    assert all(s == s.lower() and s.startswith(".") for s in suffixes)


# What we write

SPEC = FeatureSpec("toy", "3", "none", "x", "fps=2", 3)
ODD = ["clips/a.mp4", "/somewhere/b.mp4", "name\nwith\tall", "\udcff.mp4", "ü"]


def outgoing(
    video="clips/a.mp4",
    key="a",
    frames=5,
    dtype=np.float16,
    captions=("a dog", "two\nlines"),
    **said,
):
    features = FrameFeatures(
        video, values(frames, dtype=dtype), np.arange(frames) / 3, frames / 3 + 0.25
    )
    record = {
        "video": video,
        "timestamps_seconds": features.timestamps_seconds.tolist(),
        "duration_seconds": features.duration_seconds,
        "spec": SPEC.to_json(),
        "run": None,
        **said,
    }
    return ExportItem(key, features, record, captions)


def put(name, folder, *videos):
    registry.build(name).write(folder, "x", videos)
    written = sorted(p.name for p in folder.iterdir())
    assert written == sorted("x" + suffix for suffix in registry.get(name).output_suffixes)
    (path,) = (p for p in folder.iterdir() if p.suffix in registry.get(name).suffixes)
    return path


@writing
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_write_read_round_trip(name, dtype, tmp_path):
    sent = outgoing(dtype=dtype)
    (found,) = read(name, put(name, tmp_path, sent)).values()
    np.testing.assert_array_equal(found.values, sent.features.values)
    np.testing.assert_array_equal(found.timestamps_seconds, sent.features.timestamps_seconds)
    assert found.duration_seconds == sent.features.duration_seconds
    assert len(found.origin) == 16


@writing
def test_round_trip_of_odd_names(name, tmp_path):
    videos = [v for v in ODD if registry.get(name).allows_any_name or "\udcff" not in v]
    sent = [outgoing(v, f"k{i}", frames=2) for i, v in enumerate(videos)]
    if registry.get(name).holds_many:
        assert list(read(name, put(name, tmp_path, *sent))) == videos
        return
    for video, one_of in zip(videos, sent, strict=True):
        assert list(read(name, put(name, tmp_path, one_of))) == [video]


@writing
def test_origin_differs_between_spaces(name, tmp_path):
    def origin(folder, **said):
        (found,) = read(name, put(name, tmp_path / folder, outgoing(**said))).values()
        return found.origin

    for folder in "abc":
        (tmp_path / folder).mkdir()
    other = FeatureSpec("toy", "3", "none", "x", "fps=1", 3).to_json()
    assert (
        len(
            {
                origin("a"),
                origin("b", spec=other),
                origin("c", run={"name": "default", "digest": "0123"}),
            }
        )
        == 3
    )


@writing
def test_equal_videos_give_equal_bytes(name, tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        put(name, tmp_path / folder, outgoing())
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_npy_is_readable_by_numpy(tmp_path):
    sent = outgoing()
    put("npy", tmp_path, sent)
    np.testing.assert_array_equal(
        np.load(tmp_path / "x.npy", allow_pickle=False), sent.features.values
    )
    assert np.load(tmp_path / "x.npy").dtype == np.float16
    assert json.loads((tmp_path / "x.json").read_text()) == sent.record


def test_webdataset_is_readable_by_tarfile(tmp_path):
    sent = [outgoing(), outgoing("b", "b", 2, captions=())]
    put("webdataset", tmp_path, *sent)
    with tarfile.open(tmp_path / "x.tar") as archive:
        members = archive.getmembers()
        assert [m.name for m in members] == ["a.npy", "a.json", "a.txt", "b.npy", "b.json"]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {
            (0, 0, 0, "", "", 0o644)
        }
        held = {m.name: archive.extractfile(m).read() for m in members}
    np.testing.assert_array_equal(np.load(io.BytesIO(held["b.npy"])), sent[1].features.values)
    assert json.loads(held["a.json"]) == sent[0].record
    assert held["a.txt"].decode() == "a dog\ntwo lines\n"


@pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is not installed")
def test_parquet_is_readable_by_pandas(tmp_path):
    import pandas

    sent = [outgoing(), outgoing("b", "b", 2)]
    put("parquet", tmp_path, *sent)
    frame = pandas.read_parquet(tmp_path / "x.parquet")
    assert list(frame.columns) == ["video", "timestamp_seconds", "duration_seconds", "feature"]
    assert frame["video"].tolist() == ["clips/a.mp4"] * 5 + ["b"] * 2
    np.testing.assert_array_equal(
        np.stack(frame["feature"][5:]), sent[1].features.values.astype(np.float32)
    )
    assert frame["timestamp_seconds"].tolist() == [i / 3 for i in (*range(5), *range(2))]
    assert frame.attrs["spec"] == SPEC.to_json()


@pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is not installed")
def test_parquet_reads_single_videos_of_large_files(tmp_path):
    """Row groups hold 1024 rows; videos begin and end within them."""
    videos = {
        f"v{i}": (values(n, seed=i), np.arange(n) / 7)
        for i, n in enumerate((1500, 1, 600, 1024, 3))
    }
    rows = [outgoing(v, v, len(a)) for v, (a, _) in videos.items()]
    sent = [
        ExportItem(o.key, FrameFeatures(v, *videos[v], 999.0), o.record)
        for o, v in zip(rows, videos, strict=True)
    ]
    path = put("parquet", tmp_path, *sent)
    for left_out in (("v0", "v1"), ("v1", "v3")):
        with closing(registry.build("parquet").contents(path, ArrayKeys())) as contents:
            found = {s.name: s.read() for s in contents if s.name not in left_out}
        assert set(found) == set(videos) - set(left_out)
        for video, released in found.items():
            np.testing.assert_array_equal(released.values, videos[video][0])
            np.testing.assert_array_equal(released.timestamps_seconds, videos[video][1])


@pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is not installed")
def test_rejects_parquet_with_scattered_rows(tmp_path):
    import pandas

    rows = [{"video": v, "feature": [1.0, 2.0]} for v in ("a", "a", "b", "a")]
    pandas.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(FormatError, match="rows of 'a' are not contiguous"):
        list(registry.build("parquet").contents(tmp_path / "x.parquet", ArrayKeys()))


def test_missing_pyarrow_names_pip_line(tmp_path, monkeypatch):
    import sys

    from vla.errors import EnvironmentUnfitError

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(EnvironmentUnfitError, match="pip install pyarrow"):
        read("parquet", tmp_path / "x.parquet")
    with pytest.raises(EnvironmentUnfitError, match="pip install pyarrow"):
        registry.build("parquet").write(tmp_path, "y", [outgoing()])
