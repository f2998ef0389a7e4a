"""Texts with their vectors, read from published layouts."""

import io
import json

import numpy as np
import pytest

from vla.errors import FormatError
from vla.formats._texts import npz_bytes, read_texts

TEXTS = ["a person", "a  red\tcar", "ü\nand more"]
VECTORS = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)


def saved(folder, kind, texts=TEXTS, vectors=VECTORS, **more):
    path = folder / f"t.{kind}"
    if kind == "npz":
        np.savez(path, **{"texts": np.array(texts), "pooled": vectors, **more})
    elif kind == "npy":
        np.save(path, vectors)
        (folder / "t.json").write_text(json.dumps(texts))
    else:
        rows = [
            {"text": t, "vector": np.asarray(v).tolist()}
            for t, v in zip(texts, vectors, strict=True)
        ]
        path.write_text(
            "\n".join(map(json.dumps, rows)) + "\n" if kind == "jsonl" else json.dumps(rows)
        )
    return path


every = pytest.mark.parametrize("kind", ["npz", "npy", "jsonl", "json"])


@every
def test_reads_texts_and_vectors(kind, tmp_path):
    found = read_texts(saved(tmp_path, kind))
    assert found.texts == tuple(TEXTS)
    np.testing.assert_array_equal(found.pooled.astype(np.float32), VECTORS)
    assert found.tokens.shape == (3, 0, 4) and found.mask.shape == (3, 0)


def test_usual_and_requested_names(tmp_path):
    np.savez(
        tmp_path / "a.npz", feats=VECTORS, prompts=np.array(TEXTS), names=np.array(["x", "y", "z"])
    )
    assert read_texts(tmp_path / "a.npz").texts == tuple(TEXTS)
    assert read_texts(tmp_path / "a.npz", "names").texts == ("x", "y", "z")
    np.savez(tmp_path / "b.npz", mine=VECTORS, my_texts=np.array(TEXTS))
    assert read_texts(tmp_path / "b.npz", "my_texts", "mine").texts == tuple(TEXTS)
    with pytest.raises(FormatError, match=r"no texts .*it has mine, my_texts"):
        read_texts(tmp_path / "b.npz")
    with pytest.raises(FormatError, match="no vectors .*'yours'"):
        read_texts(tmp_path / "b.npz", "my_texts", "yours")


@pytest.mark.parametrize("by", ["mask", "lengths"])
def test_reads_tokens_and_mask(by, tmp_path):
    tokens = np.random.default_rng(1).standard_normal((3, 5, 4)).astype(np.float16)
    lengths = np.array([2, 5, 1])
    mask = np.arange(5)[None] < lengths[:, None]
    found = read_texts(
        saved(tmp_path, "npz", tokens=tokens, **{by: mask if by == "mask" else lengths})
    )
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_array_equal(found.tokens[mask], tokens[mask])


def test_npz_bytes_are_readable_and_deterministic():
    content = npz_bytes(TEXTS, VECTORS)
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        assert archive["texts"].tolist() == TEXTS
        np.testing.assert_array_equal(archive["pooled"], VECTORS)
    assert npz_bytes(TEXTS, VECTORS) == content


@every
def test_repeated_text_counts_once(kind, tmp_path):
    twice = np.concatenate([VECTORS, VECTORS[:1] * 1.001])
    found = read_texts(saved(tmp_path, kind, [*TEXTS, "a   person"], twice))
    assert found.texts == tuple(TEXTS)
    with pytest.raises(FormatError, match=r"two different vectors \(rows 0 and 3\)"):
        read_texts(
            saved(tmp_path, kind, [*TEXTS, "a person"], np.concatenate([VECTORS, -VECTORS[:1]]))
        )


@every
@pytest.mark.parametrize(
    ("texts", "vectors", "message"),
    [
        (TEXTS[:2], VECTORS, "2 texts need 2 vectors"),
        (["a", " ", "c"], VECTORS, "invalid text"),
        (TEXTS, np.full((3, 4), np.nan), "not finite"),
        (TEXTS, np.full((3, 4), 1e6), "too large for float16"),
        (TEXTS, VECTORS[:, 0], "3 texts need 3 vectors"),
        ([], np.zeros((0, 4), np.float32), "t."),
    ],
)
def test_rejects_invalid_values(kind, texts, vectors, message, tmp_path):
    if kind.startswith("json") and len(texts) != len(vectors):
        return  # each row has its own
    with pytest.raises(FormatError) as error:
        read_texts(saved(tmp_path, kind, texts, vectors))
    assert message in str(error.value) and "t." in str(error.value)


@every
@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 100, b"[1, 2]", b'[{"text": "a"}]', b'[{"text": 3, "vector": [1]}]',
                                     b'{"a": ' * 5000, b'[{"text": "a", "vector": [1]}, {"text": "b", "vector": [1, 2]}]'])  # fmt: skip
def test_rejects_other_files(kind, content, tmp_path):
    path = tmp_path / f"t.{kind}"
    path.write_bytes(content)
    (tmp_path / "t.json").write_bytes(content)
    with pytest.raises(FormatError, match=r"t\."):
        read_texts(path)


def test_objects_suffixes_and_missing_files(tmp_path):
    np.savez(tmp_path / "o.npz", texts=np.array(["a", 3], object), pooled=VECTORS[:2])
    with pytest.raises(FormatError, match="Python objects"):
        read_texts(tmp_path / "o.npz")
    with pytest.raises(FormatError, match=r"not from '\.csv'"):
        read_texts(tmp_path / "t.csv")
    with pytest.raises(FormatError, match=r"gone\.npz"):
        read_texts(tmp_path / "gone.npz")
    np.save(tmp_path / "alone.npy", VECTORS)
    with pytest.raises(FormatError, match=r"alone\.json"):
        read_texts(tmp_path / "alone.npy")
