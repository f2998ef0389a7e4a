"""An index from a stranger: its checksums are right, because the stranger wrote them, and its content is not."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from vla import api, durable
from vla.errors import CacheError
from vla.indexes import registry
from vla.search.store import open_index


def forge(folder, change_rows=None, vectors=None):
    """Change what an index holds, and its checksums with it."""
    path = folder / "index.json"
    record = json.loads(path.read_text())
    if change_rows:
        rows = load((folder / record["rows"]).read_bytes())
        content = save({k: np.ascontiguousarray(v) for k, v in change_rows(rows).items()})
        (folder / record["rows"]).write_bytes(content)
        record["rows_sha256"] = durable.sha256(content)
    if vectors is not None:
        (folder / record["vectors"]).write_bytes(vectors)
        record["vectors_sha256"] = durable.sha256(vectors)
    path.write_text(json.dumps(record))


def replaced(name, change):
    return lambda rows: {**rows, name: change(rows[name].copy())}


def spoiled(array, place, value):
    array[place] = value
    return array


ROWS = {
    "a video that is not there": replaced("video_of_row", lambda a: spoiled(a, 0, 99)),
    "a video before the first": replaced("video_of_row", lambda a: spoiled(a, 0, -1)),
    "videos as fractions": replaced("video_of_row", lambda a: a.astype(np.float32)),
    "one row too few": replaced("spans", lambda a: a[:-1]),
    "three ends": replaced("spans", lambda a: np.concatenate([a, a[:, :1]], 1)),
    "no number": replaced("spans", lambda a: spoiled(a, (0, 0), np.nan)),
    "without end": replaced("spans", lambda a: spoiled(a, (0, 1), np.inf)),
    "backwards": replaced("spans", lambda a: a[:, ::-1]),
    "no spans": lambda rows: {"video_of_row": rows["video_of_row"]},
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_forged_rows_are_refused(toy_workspace, change):
    api.index(workspace=toy_workspace.root)
    forge(toy_workspace.root / ".vla" / "index", change)
    with pytest.raises(CacheError, match="run 'vla index' again"):
        api.open_workspace(toy_workspace.root).search("a dog")


@pytest.mark.parametrize("backend", registry.names())
@pytest.mark.parametrize("forgery", ["ids beyond the rows", "no numbers"])
def test_forged_vectors_are_refused(toy_workspace, backend, forgery):
    api.index(workspace=toy_workspace.root, backend=backend)
    held = open_index(toy_workspace.index).vectors
    rows, dim = len(held), held.dim
    made = registry.build(backend, {}, dim=dim)
    vectors = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)
    made.add(np.arange(rows) + (7 if forgery == "ids beyond the rows" else 0), vectors)
    content = made.to_bytes()
    if forgery == "no numbers":
        content = content.replace(vectors.tobytes(), np.full_like(vectors, np.nan).tobytes())
        assert content != made.to_bytes()
    forge(toy_workspace.root / ".vla" / "index", vectors=content)
    try:
        found = api.open_workspace(toy_workspace.root).search("a dog")
    except CacheError as error:
        assert "run 'vla index' again" in str(error)
    else:  # FAISS passes over what is no number
        assert forgery == "no numbers" and found == []
