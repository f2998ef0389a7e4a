"""Archives whose members sum to more than the file."""

import copy
import zipfile

import pytest
import torch

from vla.errors import FormatError
from vla.formats import registry
from vla.formats.base import ArrayKeys


def test_members_that_sum_to_more_than_the_file(tmp_path):
    """Each member is there and has its size; together they are more than the file, because they lie on the same bytes."""
    path = tmp_path / "v.pt"
    torch.save(torch.arange(6000.0).reshape(60, 100), path)
    assert [one.read().values.shape for one in contents(path)] == [(60, 100)]
    with zipfile.ZipFile(path, "a") as archive:
        data = max(archive.infolist(), key=lambda m: m.file_size)
        for k in range(1, 4):
            other = copy.copy(data)
            other.filename = other.orig_filename = data.filename + str(k)
            archive.filelist.append(other)
            archive.NameToInfo[other.filename] = other
        archive._didModify = True
    with zipfile.ZipFile(path) as archive:
        assert sum(m.file_size for m in archive.infolist()) > path.stat().st_size
    with pytest.raises(FormatError, match="larger than its"):
        [one.read() for one in contents(path)]


def contents(path):
    return registry.get("torch")().contents(path, ArrayKeys())
