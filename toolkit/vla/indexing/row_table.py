"""Serialization of the rows of a fragment.

Safetensors, with the names of the videos as JSON in one of the arrays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vla.errors import CacheError
from vla.hints import Hint
from vla.indexing.fragments import Fragment


class RowTable(NamedTuple):
    """Fields of `Fragment` that describe its rows."""

    video_of_row: np.ndarray
    spans: np.ndarray
    videos: tuple[str, ...]
    keys: tuple[str, ...]


def to_bytes(part: Fragment) -> bytes:
    """Return the serialized rows of `part`."""
    from safetensors.numpy import save

    names = json.dumps([part.videos, part.keys]).encode("ascii")
    return save(
        {
            "video_of_row": part.video_of_row.astype(np.int32),
            "spans": part.spans.astype(np.float64),
            "names": np.frombuffer(names, np.uint8),
        }
    )


def from_bytes(content: bytes, source: Path) -> RowTable:
    """Return the rows in `content`; raises CacheError if it is not a valid table."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        owners, spans = arrays["video_of_row"], arrays["spans"]
        videos, keys = json.loads(arrays["names"].tobytes())
        if not all(isinstance(text, str) for text in (*videos, *keys)):
            raise TypeError("names are text")
    except (KeyError, TypeError, ValueError, RecursionError, SafetensorError) as error:
        raise CacheError(f"{source} is damaged ({error!r})", hint=Hint("index")) from error
    is_valid = (
        owners.dtype == np.int32
        and spans.dtype == np.float64
        and owners.ndim == 1
        and spans.shape == (len(owners), 2)
        and len(videos) == len(keys)
        and np.isfinite(spans).all()
        and (spans[:, 0] <= spans[:, 1]).all()
        and (not len(owners) or 0 <= owners.min() <= owners.max() < len(videos))
    )
    if not is_valid:
        raise CacheError(f"{source}: rows and videos do not fit together", hint=Hint("index"))
    return RowTable(owners, spans, tuple(videos), tuple(keys))
