"""Arrays in numpy's own format, in a file or in a member of an archive."""

from __future__ import annotations

import warnings
from typing import IO

import numpy as np
from numpy.lib import format as numpy_format

from vla.errors import FormatError
from vla.formats.base import as_format_error, check_declared_size

_KINDS = "fiubU"


def read_header(file: IO[bytes], location: object) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and type that the array in `file` declares, without reading its values.

    Raises:
        FormatError: `file` is not in this format, or holds objects that need unpickling.
    """
    with as_format_error(location), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers that Python 2 wrote are accepted
        version = numpy_format.read_magic(file)
        readers = {
            (1, 0): numpy_format.read_array_header_1_0,
            (2, 0): numpy_format.read_array_header_2_0,
        }
        if version not in readers:
            raise FormatError(
                f"{location}: numpy's format {version} is only used for structures, not for numbers"
            )
        shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise FormatError(
            f"{location} holds Python objects, which are not unpickled: save plain numbers"
        )
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise FormatError(f"{location} holds {dtype}, which is neither numbers nor text")
    return tuple(int(n) for n in shape), dtype


def read_array(
    file: IO[bytes], stored_bytes: int, location: object, *, packed: bool = False
) -> np.ndarray:
    """Return the array in `file`, which must be seekable and begin with it.

    Args:
        file: an open file.
        stored_bytes: number of bytes available for the array, header included.
        location: name for messages.
        packed: whether these bytes are compressed.

    Raises:
        FormatError: the array cannot be read, or its declared size exceeds the bytes available.
    """
    shape, dtype = read_header(file, location)
    num_bytes = stored_bytes if packed else stored_bytes - file.tell()
    check_declared_size(shape, dtype.itemsize, num_bytes, location, packed=packed)
    with as_format_error(location), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.seek(0)
        array: np.ndarray = numpy_format.read_array(file, allow_pickle=False)
    return array
