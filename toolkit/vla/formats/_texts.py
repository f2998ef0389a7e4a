"""Texts with their vectors in files: released text features come in by them, and ours go out.

`.npz`   an array of texts and one of vectors `(texts, width)`; also `tokens` `(texts, length, width)` with `mask` or `lengths`
`.npy`   vectors, beside a `.json` that lists the texts
`.jsonl` an object with text and vector in each line; `.json` is a list of them
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla.errors import FormatError, VlaError
from vla.features import TextFeatures
from vla.formats._array import read_array
from vla.formats.base import as_format_error, nbytes
from vla.formats.npz import Archive
from vla.language.sentences import split_to_fit

SUFFIXES = (".npz", ".npy", ".jsonl", ".json")
TEXTS = ("texts", "text", "captions", "caption", "queries", "query", "sentences", "prompts")
VECTORS = ("pooled", "text_features", "text_feats", "embeddings", "vectors", "features", "feats", "embedding", "vector")
_LIMIT_BYTES = 4 << 30
_LONGEST_TEXT = 100_000


def read_texts(path: Path, texts_key: str = "", vectors_key: str = "") -> TextFeatures:
    """The texts in a file and their vectors, each text once, in order; without tokens where the file has none.

    Args:
        path: see this module.
        texts_key: name of the texts, where it is none of those that are usual.
        vectors_key: likewise, of their vectors.

    Raises:
        FormatError: it cannot be read, is not what it should be, or gives one text two vectors.
    """
    suffix = path.suffix.lower()
    readers: Mapping[str, Callable[..., tuple[list[Any], dict[str, np.ndarray]]]] = {
        ".npz": _from_npz, ".npy": _from_npy, ".jsonl": _from_json, ".json": _from_json,
    }  # fmt: skip
    if suffix not in readers:
        raise FormatError(f"{path}: texts with vectors are read from {', '.join(SUFFIXES)}, not from {suffix!r}")
    if nbytes(path) > _LIMIT_BYTES:
        raise FormatError(f"{path} has {path.stat().st_size} bytes, more than {_LIMIT_BYTES}: split it")
    texts, arrays = readers[suffix](path, texts_key, vectors_key)
    return _checked(path, texts, arrays)


def normalize_whitespace(text: str) -> str:
    """`text` as encoders are given it, and as the cache knows it: white space evened out."""
    return split_to_fit(text, lambda _: True)[0]


def same_vector(a: np.ndarray, b: np.ndarray) -> bool:
    """True if two vectors `(D,)` differ by no more than precision and batches make of one text (cosine at least .99)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(a @ b >= 0.99 * np.linalg.norm(a) * np.linalg.norm(b))


def npz_of(texts: Sequence[str], pooled: np.ndarray) -> bytes:
    """The `.npz` that `read_texts` reads; the same texts make the same bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, texts=np.array(list(texts), dtype=np.str_), pooled=pooled)
    return buffer.getvalue()


def _from_npz(path: Path, texts_key: str, vectors_key: str) -> tuple[list[Any], dict[str, np.ndarray]]:
    with Archive(path) as archive:
        there = archive.shapes
        texts = archive.read(_one_of(path, there, TEXTS, texts_key, "texts"))
        arrays = {"pooled": archive.read(_one_of(path, there, VECTORS, vectors_key, "vectors"))}
        arrays |= {name: archive.read(name) for name in ("tokens", "mask", "lengths") if there.get(name)}
    if texts.dtype.kind != "U" or texts.ndim != 1:
        raise FormatError(f"{path}: texts are a row of text, not {texts.dtype} of shape {texts.shape}")
    return texts.tolist(), arrays


def _from_npy(path: Path, texts_key: str, vectors_key: str) -> tuple[list[Any], dict[str, np.ndarray]]:
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise FormatError(f"{path}: the texts of these vectors should lie beside it, in {beside.name}")
    nbytes(beside)
    with as_format_error(beside):
        found = json.loads(beside.read_bytes())
    if isinstance(found, dict):
        found = found[_one_of(beside, found, TEXTS, texts_key, "texts")]
    with as_format_error(path), path.open("rb") as file:
        return (found if isinstance(found, list) else [found]), {"pooled": read_array(file, nbytes(path), path)}


def _from_json(path: Path, texts_key: str, vectors_key: str) -> tuple[list[Any], dict[str, np.ndarray]]:
    with as_format_error(path):
        content = path.read_bytes()
        lines = [b for b in content.split(b"\n") if b.strip()] if path.suffix.lower() == ".jsonl" else []
        rows = [json.loads(line) for line in lines] if lines else json.loads(content)
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise FormatError(f"{path} should list objects, each with a text and its vector")
    text = _one_of(path, rows[0], TEXTS, texts_key, "texts")
    vector = _one_of(path, rows[0], VECTORS, vectors_key, "vectors")
    with as_format_error(path):
        return [r[text] for r in rows], {"pooled": np.array([r[vector] for r in rows], np.float32)}


def _one_of(path: Path, there: Mapping[str, Any], usual: Sequence[str], named: str, what: str) -> str:
    found = [n for n in ((named,) if named else usual) if n in there]
    if not found:
        wish = repr(named) if named else f"{', '.join(usual[:4])} ..."
        raise FormatError(f"{path} has no {what} ({wish}); it has {', '.join(map(str, there))}")
    return found[0]


def _checked(path: Path, texts: list[Any], arrays: dict[str, np.ndarray]) -> TextFeatures:
    pooled = arrays["pooled"]
    if pooled.ndim != 2 or pooled.dtype.kind != "f" or len(pooled) != len(texts) or not pooled.size:
        raise FormatError(
            f"{path}: {len(texts)} texts need as many vectors, (texts, width), not {pooled.dtype} of shape {pooled.shape}"
        )
    wrong = next((t for t in texts if not _is_text(t)), None)
    if wrong is not None:
        raise FormatError(f"{path}: {wrong!r:.60} is no text that can be looked for")
    _require_finite(path, pooled)
    rows = _distinct(path, texts, pooled)
    tokens, mask = _tokens(path, arrays, pooled)
    try:
        return TextFeatures(tuple(texts[i] for i in rows), pooled[rows], tokens[rows], mask[rows])
    except VlaError as error:
        raise FormatError(f"{path}: {error}", hint=error.hint) from error


def _tokens(path: Path, arrays: dict[str, np.ndarray], pooled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Token features and their mask; no token at all where the file has none, which is what is known then."""
    count, width = pooled.shape
    if "tokens" not in arrays:
        return np.zeros((count, 0, width), np.float16), np.zeros((count, 0), bool)
    tokens, lengths, mask = arrays["tokens"], arrays.get("lengths"), arrays.get("mask")
    if tokens.ndim != 3 or tokens.dtype.kind != "f" or tokens.shape[::2] != (count, width):
        raise FormatError(f"{path}: tokens should be ({count}, length, {width}), not {tokens.dtype} of {tokens.shape}")
    if mask is None and (lengths is None or lengths.shape != (count,) or lengths.dtype.kind not in "iu"):
        raise FormatError(f"{path} has tokens, but neither 'mask' nor 'lengths' says which of them are real")
    if mask is None:
        mask = np.arange(tokens.shape[1])[None] < lengths[:, None]  # type: ignore[index]
    if mask.shape != tokens.shape[:2]:
        raise FormatError(f"{path}: a mask of shape {mask.shape} does not fit tokens of {tokens.shape}")
    mask = mask.astype(bool)
    _require_finite(path, tokens[mask])
    return tokens, mask


def _require_finite(path: Path, vectors: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        if not np.isfinite(vectors.astype(np.float16)).all():
            raise FormatError(f"{path}: vectors are not finite, or too large for float16")


def _distinct(path: Path, texts: list[str], pooled: np.ndarray) -> list[int]:
    """The row of each text's first vector; its others may differ by what batches round differently, no more."""
    first: dict[str, int] = {}
    for row, text in enumerate(texts):
        before = first.setdefault(normalize_whitespace(text), row)
        if before != row and not same_vector(pooled[before], pooled[row]):
            raise FormatError(f"{path} gives the text {text[:80]!r} two different vectors (rows {before} and {row})")
    return list(first.values())


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_TEXT or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
