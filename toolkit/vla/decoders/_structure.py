"""Truncation checks from the lengths that containers store, without decoding."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np

from vla.video import PACKETS

_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SIGNATURES = {  # first bytes of a file, for containers that are read once
    "matroska": b"\x1a\x45\xdf\xa3",
    "mov,": b"ftyp",
    "flv": b"FLV\x01",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
}
_SEARCH_BYTES = 4 << 20
_BLOCK = 188 * 192 * 17  # bytes, a whole number of packets of each size
_MAX_BOXES = 1 << 20


def is_cut(path: Path, container: str) -> bool | None:
    """Return whether the file at `path` ends within one of its elements; None if unknown.

    Args:
        path: a regular file.
        container: libav's name of its format. Some formats do not store enough to decide.
    """
    check = {"matroska,webm": _matroska, "avi": _avi, "flv": _flv, "asf": _asf}.get(container)
    check = _boxes if container.startswith("mov,") else check
    if check is None:
        return None
    with path.open("rb") as file:
        return check(file, path.stat().st_size)


def has_another(path: Path, container: str, start: int) -> bool:
    """Return whether another file of the same container begins behind byte `start`.

    `cat` joins files this way.
    """
    signature = next((m for name, m in _SIGNATURES.items() if container.startswith(name)), None)
    if signature is None:
        return False
    with path.open("rb") as file:
        file.seek(start)
        return signature in file.read(_SEARCH_BYTES)


def count_transport_bytes(path: Path, start: int, stop: int) -> int:
    """Return how many of the bytes `start` to `stop` belong to transport stream packets.

    Packets of every stream count, also those that carry no stream.
    """
    num_bytes = 0
    with path.open("rb") as file:
        file.seek(start)
        while block := file.read(min(_BLOCK, stop - file.tell())):
            marks = np.frombuffer(block, np.uint8) == 0x47
            counts = (
                marks[: len(marks) // size * size].reshape(-1, size).sum(0).max(initial=0) * size
                for size in PACKETS
            )
            num_bytes += int(max(counts))
    return num_bytes


def _matroska(file: IO[bytes], size: int) -> bool | None:
    """Walk the top-level elements: the header, then segments.

    A segment of unknown length is a live recording that was never finished.
    """
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(12)
        width = 4  # bytes of the identifiers of all elements at this level
        if head[:4] not in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67") and at == 0:
            return None
        if head[:4] not in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
            return False  # other data was appended
        if len(head) < 5 or not head[width]:
            return True
        extra = 9 - head[width].bit_length()
        value = int.from_bytes(head[width : width + extra], "big") & ((1 << 7 * extra) - 1)
        if value == (1 << 7 * extra) - 1:
            return None
        at += width + extra + value
    return at > size


def _avi(file: IO[bytes], size: int) -> bool | None:
    """Walk the RIFF chunks. A recorder that crashed leaves a length of 0."""
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
    """Compare the last tag with its length, stored behind it."""
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
    declared_size = int.from_bytes(head[at + 40 : at + 48], "little")
    return declared_size > size if declared_size else None


def _boxes(file: IO[bytes], size: int) -> bool | None:
    """Walk the ISO boxes, adjacent to the end of the file. The last may have length 0: the rest."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at >= size:
            return at > size
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if not all(0x20 <= b < 0x80 or b == 0xA9 for b in head[4:8]) or len(head) < 8:
            # Zero padding behind the last box is common. A hole between boxes ends the walk too.
            return not _is_blank(file, at, size)
        if length == 0:
            return False
        if length < 8:
            return True
        at += length
    return None


def _is_blank(file: IO[bytes], at: int, size: int) -> bool:
    """Return whether only zeros follow."""
    file.seek(at)
    while block := file.read(1 << 16):
        if block.strip(b"\0"):
            return False
    return True
