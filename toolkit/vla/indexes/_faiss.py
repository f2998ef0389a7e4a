"""The one file that imports faiss."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np

from vla.errors import CacheError

# The four letters that a serialised IndexIDMap2 and the flat index inside it begin with, and how far apart they are (the
# header of any index): nothing else is handed to the parser, which knows dozens of kinds and believes what they say.
_OUTER, _INNER, _HEADER = b"IxM2", b"IxFI", 37


def serialized(index: Any) -> bytes:
    """Faiss's own format."""
    return faiss.serialize_index(index).tobytes()


def deserialized(content: bytes) -> Any:
    """The index in `content`; raises CacheError for kinds that we do not build and for whatever faiss refuses."""
    if content[:4] != _OUTER or content[_HEADER : _HEADER + 4] != _INNER:
        raise CacheError("this is not a FAISS index of vla: run 'vla index' again")
    try:
        # faiss believes the sizes it reads; the limit keeps a small file from claiming a terabyte.
        if hasattr(faiss, "set_deserialization_vector_byte_limit"):
            faiss.set_deserialization_vector_byte_limit(max(1 << 20, 2 * len(content)))
        return faiss.deserialize_index(np.frombuffer(content, np.uint8).copy())
    except RuntimeError as error:
        raise CacheError(f"FAISS refuses this index ({str(error).splitlines()[0]}): run 'vla index' again") from error


def flat(dim: int) -> Any:
    """Exact inner product with ids of our own."""
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dim))


def selector(ids: np.ndarray) -> Any:
    """What `remove_ids` takes."""
    return faiss.IDSelectorBatch(ids)
