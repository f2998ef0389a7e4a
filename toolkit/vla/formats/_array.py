"""One array in numpy's own format, whatever it lies in: a file, a member of an archive."""

from __future__ import annotations

import warnings
from typing import IO

import numpy as np
from numpy.lib import format as numpy_format

from vla.errors import FormatError
from vla.formats.base import as_format_error, check_declared_size

_KINDS = "fiubU"


def header(file: IO[bytes], place: object) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that the array in `file` declares; the numbers are left unread.

    Raises:
        FormatError: it is no such file, or holds objects, which only unpickling would read.
    """
    with as_format_error(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers that Python 2 wrote are read all the same
        version = numpy_format.read_magic(file)
        readers = {(1, 0): numpy_format.read_array_header_1_0, (2, 0): numpy_format.read_array_header_2_0}
        if version not in readers:
            raise FormatError(f"{place}: numpy's format {version} is only used for structures, not for numbers")
        shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise FormatError(f"{place} holds Python objects; they are not unpickled: save plain numbers")
    if dtype.kind not in _KINDS or not dtype.itemsize:
        raise FormatError(f"{place} holds {dtype}, which is neither numbers nor text")
    return tuple(int(n) for n in shape), dtype


def read_array(file: IO[bytes], stored_bytes: int, place: object, *, packed: bool = False) -> np.ndarray:
    """The array in `file`, which is seekable and begins with it.

    Args:
        file: where it lies.
        stored_bytes: how many bytes there are for it, header included.
        place: for messages.
        packed: they are compressed.

    Raises:
        FormatError: it cannot be read, or claims more than is there.
    """
    shape, dtype = header(file, place)
    left = stored_bytes if packed else stored_bytes - file.tell()
    check_declared_size(shape, dtype.itemsize, left, place, packed=packed)
    with as_format_error(place), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.seek(0)
        array: np.ndarray = numpy_format.read_array(file, allow_pickle=False)
    return array
