"""Malicious and malformed files are refused with their reason, before they do harm."""

import io
import json
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import closing

import h5py
import numpy as np
import pytest
import torch

from vla.errors import FormatError
from vla.formats import registry
from vla.formats.base import ArrayKeys
from vla.hints import Hint

GOOD = np.ones((4, 3), np.float32)


def read(path, key="", times_key=""):
    name = next(n for n in registry.names() if path.suffix in registry.get(n).suffixes)
    found = {}
    with closing(registry.build(name).contents(path, ArrayKeys(key, times_key))) as contents:
        for stored in contents:
            try:
                found[stored.name] = stored.read()
            except FormatError as error:
                found[stored.name] = str(error)
    return found


def refusal(path, **wanted):
    try:
        (said,) = read(path, **wanted).values()
    except FormatError as error:
        return str(error)
    assert isinstance(said, str), said
    return said


class Armed:
    """Unpickling this leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def npy(array_header, content=b""):
    """A file in numpy's format whose header is what it says."""
    text = array_header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def declaring(shape, dtype="<f4"):
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"


# numpy


def test_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "v.npy", np.array([Armed(tmp_path / "mark")], object), allow_pickle=True)
    np.savez(tmp_path / "v.npz", features=np.array([Armed(tmp_path / "mark")], object))
    (tmp_path / "w.npy").write_bytes(pickle.dumps(Armed(tmp_path / "mark")))
    assert "Python objects" in refusal(tmp_path / "v.npy")
    assert "Python objects" in refusal(tmp_path / "v.npz")
    assert "w.npy" in refusal(tmp_path / "w.npy")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (declaring((1 << 40, 512)), "declares an array of shape"),
        (declaring((1 << 20, 512)), "declares an array of shape"),
        (declaring((-1, 3)), "declares an array of shape"),
        (declaring((1 << 62, 1 << 62)), "declares an array of shape"),
        (declaring((5, 3)), "declares an array of shape"),
        (declaring((1 << 60, 0)), "empty"),
        (declaring((1 << 60,), "|V0"), "neither numbers nor text"),
        (declaring((4, 3), "|S4"), "neither numbers nor text"),
        (
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 3), }",
            "neither numbers nor text",
        ),
        ("{'descr': '<f4', 'shape': (4, 3)}", "keys"),
        ("(" * 5000, "v.npy"),
        ("[" * 9000, "v.npy"),
        ("__import__('os').system('touch mark')", "v.npy"),
    ],
)
def test_rejects_oversized_headers_without_allocation(header, message, tmp_path):
    path = tmp_path / "v.npy"
    path.write_bytes(npy(header, GOOD.tobytes()))
    tracemalloc.start()
    try:
        assert message in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_reads_python_2_headers(tmp_path):
    (tmp_path / "v.npy").write_bytes(
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 3L), }", GOOD.tobytes())
    )
    np.testing.assert_array_equal(read(tmp_path / "v.npy")["v"].values, GOOD)


def test_reads_fortran_order(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.save(tmp_path / "v.npy", np.asfortranarray(array))
    np.testing.assert_array_equal(read(tmp_path / "v.npy")["v"].values, array)


@pytest.mark.parametrize("record", ["{", '{"a": ' * 5000, "\xff", "[" * 100_000])
def test_rejects_record_that_is_not_json(record, tmp_path):
    np.save(tmp_path / "v.npy", GOOD)
    (tmp_path / "v.json").write_bytes(record.encode("latin-1"))
    assert "v.json" in refusal(tmp_path / "v.npy")


@pytest.mark.parametrize(
    "record",
    [
        {"video": 3, "timestamps_seconds": [0, 1, 2, 3]},
        {"video": "", "timestamps_seconds": [0, 1, 2, 3]},
        {"video": "a\0b", "timestamps_seconds": [0, 1, 2, 3]},
        {"video": "\ud800", "timestamps_seconds": [0, 1, 2, 3]},
        {"video": "v" * 5000, "timestamps_seconds": [0, 1, 2, 3]},
        {"video": "v", "timestamps_seconds": [0, [1], 2, 3]},
        {"video": "v", "timestamps_seconds": "0123"},
        {"video": "v", "timestamps_seconds": [0, 1, 2, 3], "duration_seconds": "long"},
        {"video": "v", "timestamps_seconds": [0, 1, 2, 3], "duration_seconds": -1},
        {"video": "v", "timestamps_seconds": [0, 1, 2, 3], "spec": {"encoder": 1}},
        {"video": "v", "timestamps_seconds": [0, 1, 2, 3], "spec": []},
    ],
)
def test_rejects_invalid_record(record, tmp_path):
    np.save(tmp_path / "v.npy", GOOD)
    (tmp_path / "v.json").write_text(json.dumps(record))
    assert tmp_path.name in refusal(tmp_path / "v.npy")


def test_ignores_other_json(tmp_path):
    np.save(tmp_path / "v.npy", GOOD)
    for other in ({"caption": "a dog"}, ["a dog"], {"video": "x"}, 3):
        (tmp_path / "v.json").write_text(json.dumps(other))
        assert list(read(tmp_path / "v.npy")) == ["v"]


# zip


def zipped(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_rejects_zip_bomb(tmp_path):
    size = 100 << 20
    path = zipped(tmp_path / "v.npz", {"features.npy": npy(declaring((size // 4, 1)), bytes(size))})
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        assert "declares an array of shape" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_rejects_oversized_member(compression, tmp_path):
    path = zipped(
        tmp_path / "v.npz", {"features.npy": npy(declaring((1000, 3)), GOOD.tobytes())}, compression
    )
    assert "v.npz" in refusal(path)
    path = zipped(
        tmp_path / "v.npz",
        {"features.npy": npy(declaring((1 << 33, 3)), GOOD.tobytes())},
        compression,
    )
    assert "declares an array of shape" in refusal(path)


def test_rejects_member_with_wrong_checksum(tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, features=GOOD)
    content = bytearray(path.read_bytes())
    place = content.index(GOOD.tobytes())
    content[place + 3] ^= 1
    path.write_bytes(content)
    assert "CRC" in refusal(path)


def test_lists_ambiguous_arrays(tmp_path):
    np.savez(tmp_path / "v.npz", clip=GOOD, resnet=GOOD, three=GOOD[0])
    said = refusal(tmp_path / "v.npz")
    assert "clip (4, 3), resnet (4, 3), three (3,)" in said and said.hint == Hint("name_key")
    np.testing.assert_array_equal(read(tmp_path / "v.npz", key="resnet")["v"].values, GOOD)
    assert "no array 'four'; it has clip (4, 3)" in refusal(tmp_path / "v.npz", key="four")
    assert "no array 'when'" in refusal(tmp_path / "v.npz", key="resnet", times_key="when")


def test_rejects_too_many_arrays(tmp_path):
    path = zipped(tmp_path / "v.npz", {f"{i}.npy": b"" for i in range(10_001)}, zipfile.ZIP_STORED)
    assert "holds 10001 arrays" in refusal(path)


# torch


def test_malicious_pickle_is_not_executed(tmp_path):
    for mark, path in ((tmp_path / "a", tmp_path / "v.pt"), (tmp_path / "b", tmp_path / "w.pth")):
        torch.save({"features": torch.ones(4, 3), "more": Armed(mark)}, path)
        assert path.name in refusal(path)
        assert not mark.exists()
    with (tmp_path / "x.pt").open("wb") as file:
        pickle.dump(Armed(tmp_path / "c"), file)
    assert "save it again" in refusal(tmp_path / "x.pt")
    assert not (tmp_path / "c").exists()


def test_rejects_format_before_torch_1_6(tmp_path):
    torch.save(torch.ones(4, 3), tmp_path / "v.pt", _use_new_zipfile_serialization=False)
    assert "save it again" in refusal(tmp_path / "v.pt")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(1, 1).expand(1 << 20, 1 << 20), "declares an array of shape"),
        (torch.ones(3, 3, dtype=torch.complex64), "no"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.empty(3, 3, device="meta"), "meta"),
        (torch.ones(3, 3, dtype=torch.int32), "int32"),
    ],
    ids=["expanded", "complex", "sparse", "meta", "whole"],
)
@pytest.mark.filterwarnings("ignore")
def test_rejects_other_tensor_layouts(tensor, message, tmp_path):
    torch.save(tensor, tmp_path / "v.pt")
    assert message in refusal(tmp_path / "v.pt")


def test_bfloat16_gradients_and_lists_of_times_are_read(tmp_path):
    held = torch.nn.Parameter(torch.tensor([[1.5, -2.0], [0.25, 3.0]], dtype=torch.bfloat16))
    torch.save(
        {"feats": held, "times": [0, 1.5], "duration": 3.0, "note": "of mine"}, tmp_path / "v.pt"
    )
    found = read(tmp_path / "v.pt")["v"]
    np.testing.assert_array_equal(found.values, [[1.5, -2.0], [0.25, 3.0]])
    assert found.timestamps_seconds.tolist() == [0.0, 1.5] and found.duration_seconds == 3.0
    torch.save(["a", "list"], tmp_path / "w.pt")
    assert "holds a list" in refusal(tmp_path / "w.pt")


def test_rejects_compressed_torch_archive(tmp_path):
    torch.save(torch.zeros(1 << 20), tmp_path / "v.pt")
    with zipfile.ZipFile(tmp_path / "v.pt") as archive:
        members = {m.filename: archive.read(m) for m in archive.infolist()}
    assert "declares a content larger than its" in refusal(zipped(tmp_path / "w.pt", members))


@pytest.mark.filterwarnings("ignore")
def test_rejects_torchscript(tmp_path):
    zipped(
        tmp_path / "v.pt",
        {"v/constants.pkl": b"", "v/data.pkl": b"", "v/version": b"3\n"},
        zipfile.ZIP_STORED,
    )
    assert "not tensors" in refusal(tmp_path / "v.pt")


# HDF5


def test_links_are_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["features"] = GOOD
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/features")
        file["real"] = GOOD
        file["b"] = h5py.SoftLink("/real")
        file["c/features"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/features")
        file["d"] = h5py.SoftLink("/nowhere")
        file["e"] = h5py.ExternalLink(str(tmp_path), "/x")
    found = read(tmp_path / "v.h5")
    np.testing.assert_array_equal(found.pop("real").values, GOOD)
    assert set(found) == {"a", "b", "c/features", "d", "e"}
    assert all("is a link, which is not followed" in said for said in found.values())
    # A path would be followed through the links that it crosses.
    assert read(tmp_path / "v.h5", key="e/x") == {n: found[n] for n in ("a", "b", "d", "e")} | {
        "c/features": found["c/features"]
    }


def test_reports_arrays_in_too_many_groups(tmp_path):
    deepest, too_deep = "/".join("g" * 16), "/".join("h" * 17)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file[f"{deepest}/a"] = GOOD
        file[f"{too_deep}/a"] = GOOD
    found = read(tmp_path / "v.h5")
    np.testing.assert_array_equal(found.pop(f"{deepest}/a").values, GOOD)
    assert set(found) == {too_deep}
    assert "more than 16 groups" in found[too_deep]


def test_rejects_file_with_one_link(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["features"] = h5py.ExternalLink("secret.h5", "/features")
    assert "is a link, which is not followed" in refusal(tmp_path / "v.h5")


def test_external_storage_is_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(GOOD.tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["values"] = GOOD
    with h5py.File(tmp_path / "v.h5", "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_external(str(tmp_path / "secret").encode(), 0, GOOD.nbytes)
        h5py.h5d.create(file.id, b"a", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4, 3)), layout)
        virtual = h5py.VirtualLayout((4, 3), np.float32)
        virtual[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "values", (4, 3))
        file.create_virtual_dataset("b", virtual)
    assert all("in another file" in said for said in read(tmp_path / "v.h5").values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(shape=(1 << 40, 512)), "declares an array of shape"),
        (dict(shape=(1 << 40, 512), chunks=(64, 64)), "declares an array of shape"),
        (
            dict(shape=(1 << 40, 512), chunks=(64, 64), compression="gzip"),
            "declares an array of shape",
        ),
        (dict(shape=(4, 3)), "declares an array of shape"),
        (dict(shape=(4, 3), chunks=(2, 3), compression="gzip"), "was never written"),
        (
            dict(
                shape=(1, 1), maxshape=(None, None), chunks=(1 << 14, 1 << 14), compression="gzip"
            ),
            "declares an array of shape",
        ),
        (dict(shape=(4, 3), chunks=(2, 3), scaleoffset=0, dtype="i4"), "uses HDF5 filters [6]"),
        (dict(data=[["a", "b"]], dtype=h5py.string_dtype()), "not plain numbers"),
        (dict(data=h5py.Empty("f4")), "not plain numbers"),
    ],
    ids=lambda v: "" if isinstance(v, str) else str(v.get("shape", "")),
)
def test_rejects_datasets_without_data(options, message, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_dataset("v", **({"dtype": "f4"} if "shape" in options else {}) | options)
    assert message in refusal(tmp_path / "v.h5")


@pytest.mark.parametrize(
    "options", [dict(compression="gzip"), dict(compression="lzf", shuffle=True), dict(fletcher32=True), dict(chunks=(2, 2)),
                dict(maxshape=(None, 3))]
)  # fmt: skip
def test_reads_usual_compression(options, tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_dataset("v", data=GOOD, **options)
    np.testing.assert_array_equal(read(tmp_path / "all.h5")["v"].values, GOOD)


def test_recursive_groups_terminate(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        group = file.create_group("a")
        group["again"] = group
        group["top"] = file["/"]
        for level in range(30):
            below = file.create_group(f"levels/{level}")
            for copy in range(4):
                group[f"{level}_{copy}"] = below
            group = below
        group["v"] = GOOD
    found = read(tmp_path / "v.h5")
    assert len(found) <= 40


# tar


def tarred(path, *members):
    with tarfile.open(path, "w") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return path


def member(name, content=b"", **fields):
    made = tarfile.TarInfo(name)
    made.size = len(content)
    for field, value in fields.items():
        setattr(made, field, value)
    return made, content


def array_bytes(array=GOOD):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_tar_member_paths_are_only_names(tmp_path):
    names = ["../../up.npy", "/etc/a.npy", "dir/b.clip.npy", "c.npy"]
    path = tarred(tmp_path / "v.tar", *(member(n, array_bytes()) for n in names))
    found = read(path)
    assert list(found) == ["../../up", "/etc/a", "dir/b", "c"]
    assert [p.name for p in tmp_path.iterdir()] == ["v.tar"]


def test_ignores_links_and_devices_in_tar(tmp_path):
    odd = [
        member("a.npy", type=tarfile.SYMTYPE, linkname="/etc/passwd"), member("b.npy", type=tarfile.LNKTYPE, linkname="c.npy"),
        member("d.npy", type=tarfile.FIFOTYPE), member("e.npy", type=tarfile.CHRTYPE), member("f.npy", type=tarfile.DIRTYPE),
    ]  # fmt: skip
    assert list(read(tarred(tmp_path / "v.tar", *odd, member("c.npy", array_bytes())))) == ["c"]


def test_reports_duplicate_members(tmp_path):
    path = tarred(
        tmp_path / "v.tar", *(member(n, array_bytes()) for n in ("a.npy", "b.npy", "b.npy"))
    )
    found = read(path)
    np.testing.assert_array_equal(found["a"].values, GOOD)
    assert "twice" in found["v"]


def test_requires_key_for_several_arrays_of_a_sample(tmp_path):
    path = tarred(
        tmp_path / "v.tar",
        member("a.x.npy", array_bytes()),
        member("a.y.npy", array_bytes(2 * GOOD)),
    )
    assert "several arrays may hold the features: x.npy, y.npy" in refusal(path)
    np.testing.assert_array_equal(read(path, key="y")["a"].values, 2 * GOOD)


def test_truncated_tar_yields_its_complete_members(tmp_path):
    whole = tarred(
        tmp_path / "v.tar", *(member(f"{n}.npy", array_bytes(n * GOOD)) for n in range(1, 4))
    ).read_bytes()
    end = whole.index(b"2.npy")
    for cut in (whole[: 2 * 1024], whole[: end + 300], whole[: end + 100] + b"x" * 900):
        (tmp_path / "w.tar").write_bytes(cut)
        found = read(tmp_path / "w.tar")
        np.testing.assert_array_equal(found["1"].values, GOOD)
        assert any(isinstance(said, str) and "w.tar" in said for said in found.values())
