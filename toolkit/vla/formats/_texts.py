"""Texts with their vectors in files, for import and export.

`.npz`   an array of texts and one of vectors `(texts, width)`; also `tokens`
         `(texts, length, width)` with `mask` or `lengths`
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
VECTORS = (
    "pooled",
    "text_features",
    "text_feats",
    "embeddings",
    "vectors",
    "features",
    "feats",
    "embedding",
    "vector",
)
_LIMIT_BYTES = 4 << 30
_MAX_TEXT_LENGTH = 100_000


def read_texts(path: Path, texts_key: str = "", vectors_key: str = "") -> TextFeatures:
    """Return the texts in a file and their vectors, each text once, in order.

    Token features are empty if the file has none.

    Args:
        path: a file of one of the formats above.
        texts_key: name of the texts, if it is not a usual one.
        vectors_key: name of their vectors, if it is not a usual one.

    Raises:
        FormatError: the file cannot be read, has wrong shapes or types, or gives one text two
            vectors.
    """
    suffix = path.suffix.lower()
    readers: Mapping[str, Callable[..., tuple[list[Any], dict[str, np.ndarray]]]] = {
        ".npz": _from_npz, ".npy": _from_npy, ".jsonl": _from_json, ".json": _from_json,
    }  # fmt: skip
    if suffix not in readers:
        raise FormatError(
            f"{path}: texts with vectors are read from {', '.join(SUFFIXES)}, not from {suffix!r}"
        )
    if nbytes(path) > _LIMIT_BYTES:
        raise FormatError(
            f"{path} has {path.stat().st_size} bytes, more than {_LIMIT_BYTES}: split it"
        )
    texts, arrays = readers[suffix](path, texts_key, vectors_key)
    return _check_texts(path, texts, arrays)


def normalize_whitespace(text: str) -> str:
    """Return `text` with normalized white space, as encoders and the cache take it."""
    return split_to_fit(text, lambda _: True)[0]


def same_vector(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether two vectors `(D,)` have a cosine of at least .99.

    Precision and batching change the vector of a text by less.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    return bool(a @ b >= 0.99 * np.linalg.norm(a) * np.linalg.norm(b))


def npz_bytes(texts: Sequence[str], pooled: np.ndarray) -> bytes:
    """Return the content of an `.npz` file for `read_texts`; equal texts give equal bytes."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, texts=np.array(list(texts), dtype=np.str_), pooled=pooled)
    return buffer.getvalue()


def _from_npz(
    path: Path, texts_key: str, vectors_key: str
) -> tuple[list[Any], dict[str, np.ndarray]]:
    with Archive(path) as archive:
        shapes = archive.shapes
        texts = archive.read(_find_key(path, shapes, TEXTS, texts_key, "texts"))
        arrays = {"pooled": archive.read(_find_key(path, shapes, VECTORS, vectors_key, "vectors"))}
        arrays |= {
            name: archive.read(name) for name in ("tokens", "mask", "lengths") if shapes.get(name)
        }
    if texts.dtype.kind != "U" or texts.ndim != 1:
        raise FormatError(
            f"{path}: texts should be a 1-D array of strings, not {texts.dtype} of shape "
            f"{texts.shape}"
        )
    return texts.tolist(), arrays


def _from_npy(
    path: Path, texts_key: str, vectors_key: str
) -> tuple[list[Any], dict[str, np.ndarray]]:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        raise FormatError(
            f"{path}: the texts of these vectors are missing: {sidecar.name} should list them"
        )
    nbytes(sidecar)
    with as_format_error(sidecar):
        content = json.loads(sidecar.read_bytes())
    if isinstance(content, dict):
        content = content[_find_key(sidecar, content, TEXTS, texts_key, "texts")]
    with as_format_error(path), path.open("rb") as file:
        return (content if isinstance(content, list) else [content]), {
            "pooled": read_array(file, nbytes(path), path)
        }


def _from_json(
    path: Path, texts_key: str, vectors_key: str
) -> tuple[list[Any], dict[str, np.ndarray]]:
    with as_format_error(path):
        content = path.read_bytes()
        lines = (
            [b for b in content.split(b"\n") if b.strip()]
            if path.suffix.lower() == ".jsonl"
            else []
        )
        rows = [json.loads(line) for line in lines] if lines else json.loads(content)
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        raise FormatError(f"{path} should list objects, each with a text and its vector")
    text_key = _find_key(path, rows[0], TEXTS, texts_key, "texts")
    vector_key = _find_key(path, rows[0], VECTORS, vectors_key, "vectors")
    with as_format_error(path):
        return [r[text_key] for r in rows], {
            "pooled": np.array([r[vector_key] for r in rows], np.float32)
        }


def _find_key(
    path: Path, content: Mapping[str, Any], usual_keys: Sequence[str], key: str, kind: str
) -> str:
    matches = [n for n in ((key,) if key else usual_keys) if n in content]
    if not matches:
        names = repr(key) if key else f"{', '.join(usual_keys[:4])} ..."
        raise FormatError(f"{path} has no {kind} ({names}); it has {', '.join(map(str, content))}")
    return matches[0]


def _check_texts(path: Path, texts: list[Any], arrays: dict[str, np.ndarray]) -> TextFeatures:
    pooled = arrays["pooled"]
    if pooled.ndim != 2 or pooled.dtype.kind != "f" or len(pooled) != len(texts) or not pooled.size:
        raise FormatError(
            f"{path}: {len(texts)} texts need {len(texts)} vectors, (texts, width), not "
            f"{pooled.dtype} of shape {pooled.shape}"
        )
    invalid_text = next((t for t in texts if not _is_text(t)), None)
    if invalid_text is not None:
        raise FormatError(f"{path}: invalid text {invalid_text!r:.60}")
    _require_finite(path, pooled)
    rows = _unique_rows(path, texts, pooled)
    tokens, mask = _tokens(path, arrays, pooled)
    try:
        return TextFeatures(tuple(texts[i] for i in rows), pooled[rows], tokens[rows], mask[rows])
    except VlaError as error:
        raise FormatError(f"{path}: {error}", hint=error.hint) from error


def _tokens(
    path: Path, arrays: dict[str, np.ndarray], pooled: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return token features and their mask; both have length 0 if the file has no tokens."""
    count, width = pooled.shape
    if "tokens" not in arrays:
        return np.zeros((count, 0, width), np.float16), np.zeros((count, 0), bool)
    tokens, lengths, mask = arrays["tokens"], arrays.get("lengths"), arrays.get("mask")
    if tokens.ndim != 3 or tokens.dtype.kind != "f" or tokens.shape[::2] != (count, width):
        raise FormatError(
            f"{path}: tokens should be ({count}, length, {width}), not {tokens.dtype} of "
            f"{tokens.shape}"
        )
    if mask is None and (
        lengths is None or lengths.shape != (count,) or lengths.dtype.kind not in "iu"
    ):
        raise FormatError(
            f"{path} has tokens, but neither 'mask' nor 'lengths' to mark the valid ones"
        )
    if mask is None:
        mask = np.arange(tokens.shape[1])[None] < lengths[:, None]  # type: ignore[index]
    if mask.shape != tokens.shape[:2]:
        raise FormatError(
            f"{path}: a mask of shape {mask.shape} does not fit tokens of {tokens.shape}"
        )
    mask = mask.astype(bool)
    _require_finite(path, tokens[mask])
    return tokens, mask


def _require_finite(path: Path, vectors: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        if not np.isfinite(vectors.astype(np.float16)).all():
            raise FormatError(f"{path}: vectors are not finite, or too large for float16")


def _unique_rows(path: Path, texts: list[str], pooled: np.ndarray) -> list[int]:
    """Return the row of each text's first vector; later ones must equal it up to rounding."""
    first_rows: dict[str, int] = {}
    for row, text in enumerate(texts):
        first_row = first_rows.setdefault(normalize_whitespace(text), row)
        if first_row != row and not same_vector(pooled[first_row], pooled[row]):
            raise FormatError(
                f"{path} gives the text {text[:80]!r} two different vectors (rows {first_row} "
                f"and {row})"
            )
    return list(first_rows.values())


def _is_text(value: Any) -> bool:
    if (
        not isinstance(value, str)
        or not value.strip()
        or len(value) > _MAX_TEXT_LENGTH
        or "\0" in value
    ):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
