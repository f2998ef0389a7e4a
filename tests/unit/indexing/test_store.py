"""An index from a stranger: its checksums are right, because the stranger wrote them, and its content is not."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

import vla
from support.refusals import refused
from vla.cache.receipts import Receipt
from vla.cache.store import EncoderSource, FeatureCache
from vla.encoders.toy import Encoder
from vla.errors import CacheError
from vla.features import FrameFeatures
from vla.indexes import registry
from vla.indexing.store import check_index, open_index, save_index
from vla.indexing.sync import build_index
from vla.model import AlignmentModel, ModelConfig
from vla.retrieval.searcher import Searcher
from vla.storage import atomic
from vla.storage.workspace import Workspace

ENCODER = Encoder("12")


def filled(folder, lengths):
    """A cache of videos of so many random frames."""
    cache = FeatureCache.create(
        folder, ENCODER.identity.spec("fps=2"), EncoderSource("toy", "12", "")
    )
    for number, frames in enumerate(lengths):
        values = (
            np.random.default_rng(number).standard_normal((frames, 12)).cumsum(0).astype(np.float16)
        )
        name = f"v/{number}.mp4"
        receipt = Receipt(name, "ok", "", 1, 1, "", duration_seconds=frames / 2)
        cache.add_video(FrameFeatures(name, values, np.arange(frames) / 2, frames / 2), receipt)
    return cache


def forge(folder, change_rows=None, **files):
    """Change what a part of an index holds, and its checksums with it: `files` by kind (`vectors`, `lists`)."""
    path = folder / "index.json"
    record = json.loads(path.read_text())
    part = record["parts"][0]
    if change_rows:
        rows = load((folder / part["rows"]).read_bytes())
        files["rows"] = save({k: np.ascontiguousarray(v) for k, v in change_rows(rows).items()})
    for kind, content in files.items():
        (folder / part[kind]).write_bytes(content)
        part[f"{kind}_sha256"] = atomic.sha256(content)
    del record["checksum"]
    atomic.write_json(path, record)


def replaced(name, change):
    return lambda rows: {**rows, name: change(rows[name].copy())}


def spoiled(array, place, value):
    array[place] = value
    return array


def text(value):
    return np.frombuffer(json.dumps(value).encode(), np.uint8)


ROWS = {
    "a video that is not there": replaced("video_of_row", lambda a: spoiled(a, 0, 99)),
    "a video before the first": replaced("video_of_row", lambda a: spoiled(a, 0, -1)),
    "videos as fractions": replaced("video_of_row", lambda a: a.astype(np.float32)),
    "one row too few": replaced("spans", lambda a: a[:-1]),
    "three ends": replaced("spans", lambda a: np.concatenate([a, a[:, :1]], 1)),
    "no number": replaced("spans", lambda a: spoiled(a, (0, 0), np.nan)),
    "without end": replaced("spans", lambda a: spoiled(a, (0, 1), np.inf)),
    "backwards": replaced("spans", lambda a: a[:, ::-1]),
    "no spans": lambda rows: {key: rows[key] for key in ("video_of_row", "names")},
    "no names": lambda rows: {key: rows[key] for key in ("video_of_row", "spans")},
    "names that are none": replaced("names", lambda a: a[:-1]),
    "too few names": replaced("names", lambda a: text([["only one"], ["k"]])),
    "names without keys": replaced("names", lambda a: text([["a", "b", "c"], []])),
    "numbers for names": replaced("names", lambda a: text([[1, 2, 3], ["k", "k", "k"]])),
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
def test_forged_rows_are_refused(toy_workspace, change):
    vla.index(workspace=toy_workspace.root)
    forge(toy_workspace.root / ".vla" / "index", change)
    with refused(CacheError, "index"):
        vla.open_workspace(toy_workspace.root).search("a dog")


EXACT = [name for name in registry.names() if registry.get(name).is_exact]


def spoiled_vectors(place, value):
    """The vectors of the index in `place`, the first `value`."""
    part = json.loads((place / "index.json").read_text())["parts"][0]
    vectors = (
        np.frombuffer((place / part["vectors"]).read_bytes(), part["kind"])
        .reshape(part["segments"], -1)
        .copy()
    )
    vectors[:, 0] = value
    return vectors


@pytest.mark.parametrize("backend", EXACT)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_forged_vectors_are_refused(toy_workspace, backend, value):
    vla.index(workspace=toy_workspace.root, backend=backend)
    forge(toy_workspace.index, vectors=spoiled_vectors(toy_workspace.index, value).tobytes())
    with refused(CacheError, "index"):
        vla.open_workspace(toy_workspace.root).search("a dog")


@pytest.fixture(params=[name for name in registry.names() if name not in EXACT])
def listed(request, tmp_path):
    """The folder of an index in lists, of 600 segments, and what makes a searcher of it."""
    cache = filled(tmp_path / "c", [60] * 12)
    model = AlignmentModel(ModelConfig(12)).eval()
    save_index(tmp_path / "i", build_index(cache, model, backend=request.param))
    return tmp_path / "i", lambda: Searcher(
        open_index(tmp_path / "i"), ENCODER, model, cache, Workspace(tmp_path)
    )


def changed(folder, kind, value):
    """The lists of the index in `folder` with `value(array)` for the array called `kind`."""
    part = json.loads((folder / "index.json").read_text())["parts"][0]
    arrays = load((folder / part["lists"]).read_bytes())
    return save({**arrays, kind: np.ascontiguousarray(value(arrays[kind].copy()))})


def test_rows_of_lists_that_fit_nothing_are_refused(listed):
    folder, _ = listed
    forge(folder, lists=changed(folder, "ids", lambda ids: ids + 10_000))
    with refused(CacheError, "index", "rows .*that fit nothing"):
        open_index(folder).vectors.search(
            np.ones((1, 12), np.float32), 1
        )  # of many more, all are looked at without lists


def test_lists_of_fewer_rows_are_refused(listed):
    folder, searcher = listed
    one = build_index(
        filled(folder / "other", [60] * 11),
        AlignmentModel(ModelConfig(12)).eval(),
        backend=open_index(folder).backend,
    )
    forge(folder, lists=one.parts[0].index.to_bytes())
    with pytest.raises(CacheError, match="do not fit together"):
        searcher()


@pytest.mark.parametrize("k", [1, 50])
def test_mapped_vectors_that_are_no_numbers_are_refused(listed, k):
    """Nobody reads them whole before they are searched; what is looked at is looked at."""
    folder, searcher = listed
    forge(folder, vectors=spoiled_vectors(folder, np.nan).tobytes())
    with refused(CacheError, "index"):
        searcher().search("a dog", k)


def test_altered_vectors_are_found_by_verify(listed):
    folder, searcher = listed
    check_index(folder)
    path = next(folder.glob("vectors-*"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    searcher().search("a dog")
    with pytest.raises(CacheError, match="was altered since it was written"):
        check_index(folder)
