"""Whether a file ends where its container says it does: the lengths that containers keep, without decoding anything."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np

from vla.video import PACKETS

_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_FIRST = {  # bytes that a file begins with, of containers that are read once
    "matroska": b"\x1a\x45\xdf\xa3",
    "mov,": b"ftyp",
    "flv": b"FLV\x01",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
}
_NEAR = 4 << 20
_BLOCK = 188 * 192 * 17  # bytes, whole packets of each size
_MOST_BOXES = 1 << 20


def is_cut(path: Path, container: str) -> bool | None:
    """True if the file at `path` ends within one of its elements, False if it does not, None if `container` cannot tell.

    Args:
        path: a regular file.
        container: libav's name of its format.
    """
    check = {"matroska,webm": _matroska, "avi": _avi, "flv": _flv, "asf": _asf}.get(container)
    check = _boxes if container.startswith("mov,") else check
    if check is None:
        return None
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def has_another(path: Path, container: str, start: int) -> bool:
    """True if another file of the same container begins behind byte `start`, as `cat` joins them."""
    first = next((m for name, m in _FIRST.items() if container.startswith(name)), None)
    if first is None:
        return False
    with path.open("rb") as file:
        file.seek(start)
        return first in file.read(_NEAR)


def transported(path: Path, start: int, stop: int) -> int:
    """How many of the bytes from `start` to `stop` belong to packets of a transport stream, whatever they hold."""
    held = 0
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(min(_BLOCK, stop - file.tell())):
            marks = np.frombuffer(block, np.uint8) == 0x47
            counts = (
                marks[: len(marks) // size * size].reshape(-1, size).sum(0).max(initial=0) * size for size in PACKETS
            )
            held += int(max(counts))
    return held


def _matroska(file: IO[bytes], size: int) -> bool | None:
    """Top-level elements: the header, then segments. One of unknown length was recorded live and never finished."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(12)
        width = 4  # of the identifiers of all elements at this level
        if head[:4] not in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67") and at == 0:
            return None
        if head[:4] not in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
            return False  # something else was appended
        if len(head) < 5 or not head[width]:
            return True
        extra = 9 - head[width].bit_length()
        value = int.from_bytes(head[width : width + extra], "big") & ((1 << 7 * extra) - 1)
        if value == (1 << 7 * extra) - 1:
            return None
        at += width + extra + value
    return at > size


def _avi(file: IO[bytes], size: int) -> bool | None:
    """RIFF chunks; a recorder that crashed leaves a length of 0."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or not length:
            return None if at == 0 else False
        at += 8 + length + length % 2
    return at > size + 1


def _flv(file: IO[bytes], size: int) -> bool | None:
    """Each tag is followed by its length: so is the last."""
    if size < 24:
        return True
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 13:
        return True
    file.seek(size - 4 - length)
    tag = file.read(4)
    return tag[0] & 0x1F not in (8, 9, 18) or int.from_bytes(tag[1:], "big") + 11 != length


def _asf(file: IO[bytes], size: int) -> bool | None:
    head = file.read(1 << 16)
    at = head.find(_ASF_FILE)
    if at < 0 or at + 48 > len(head):
        return None
    declared = int.from_bytes(head[at + 40 : at + 48], "little")
    return declared > size if declared else None


def _boxes(file: IO[bytes], size: int) -> bool | None:
    """ISO boxes follow one another to the end of the file; the last may be of length 0, which is all that is left."""
    at = 0
    for _ in range(_MOST_BOXES):
        if at >= size:
            return at > size
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if not all(0x20 <= b < 0x80 or b == 0xA9 for b in head[4:8]) or len(head) < 8:
            # Padding of zeros behind the last box is common; a hole between boxes ends the reading, too.
            return not _is_blank(file, at, size)
        if length == 0:
            return False
        if length < 8:
            return True
        at += length
    return None


def _is_blank(file: IO[bytes], at: int, size: int) -> bool:
    """True if nothing but zeros follows."""
    file.seek(at)
    while block := file.read(1 << 16):
        if block.strip(b"\0"):
            return False
    return True
