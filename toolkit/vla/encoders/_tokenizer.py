"""CLIP's byte-pair tokenizer, from one file of open_clip: importing the package is slow."""

from __future__ import annotations

import copy
import functools
import gzip
import io
import sys
import zlib
from contextlib import suppress
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from vla.encoders._open_clip_import import import_open_clip
from vla.errors import UsageError
from vla.storage.regular_files import read_regular

_MAX_PACKED, _MAX_TEXT = 8 << 20, 32 << 20  # CLIP's own: 1.4 MB, unpacked 3.2 MB


def make_tokenizer(vocabulary: Path, context_length: int) -> Any:
    """Return open_clip's `SimpleTokenizer` with its default cleaning.

    Args:
        vocabulary: gzipped file of merges, one per line after the first.
        context_length: tokens per row.

    Raises:
        UsageError: the vocabulary cannot be used; see `read_vocabulary`.
        EnvironmentUnfitError: open_clip has no tokenizer file of its own, and cannot be imported.
    """
    read_vocabulary(vocabulary)  # open_clip unpacks a file of any size
    module = load_tokenizer_module()
    default = getattr(module, "_tokenizer", None)
    if default is not None and Path(module.default_bpe()).samefile(vocabulary):
        # The module has made one of this vocabulary already, which takes a while.
        tokenizer = copy.copy(default)
        tokenizer.context_length = context_length
        return tokenizer
    return module.SimpleTokenizer(str(vocabulary), context_length=context_length)


@functools.cache
def load_tokenizer_module() -> Any:
    """Load open_clip's `tokenizer.py`, or all of open_clip if it cannot be loaded alone."""
    package = find_spec("open_clip")
    if (
        package is not None
        and package.submodule_search_locations
        and "open_clip" not in sys.modules
    ):
        with suppress(ImportError, OSError):
            return load_file(Path(package.submodule_search_locations[0]) / "tokenizer.py")
    return import_open_clip().tokenizer


def load_file(path: Path) -> ModuleType:
    """Execute a Python file as a module that belongs to no package.

    Raises:
        OSError: there is no such file.
        ImportError: it imports something that is missing, or its own package.
    """
    spec = spec_from_file_location("vla_open_clip_tokenizer", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    is_slow = "ftfy" not in sys.modules and find_spec("ftfy") is not None
    if is_slow:
        stand_in: Any = ModuleType("ftfy")
        stand_in.fix_text = fix_text
        sys.modules["ftfy"] = stand_in
    try:
        spec.loader.exec_module(module)
    finally:
        if is_slow:
            del sys.modules["ftfy"]
    return module


def fix_text(text: str) -> str:
    """Return `ftfy.fix_text(text)`; import ftfy, which is slow, only if it may change `text`."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy

    return ftfy.fix_text(text)


def read_vocabulary(path: Path) -> str:
    """Return the text of a gzipped vocabulary, at most 32 MiB of it.

    Raises:
        UsageError: the file is missing, not regular, too large, unpacks to too much, or is not
            gzipped UTF-8.
    """
    content_gz = read_regular(path, _MAX_PACKED, what="vocabulary")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content_gz)) as file:
            content = file.read(_MAX_TEXT + 1)
        if len(content) > _MAX_TEXT:
            raise UsageError(f"the vocabulary {path} unpacks to more than {_MAX_TEXT} bytes")
        return content.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"the vocabulary {path} is not gzipped UTF-8 text: {error}") from error
