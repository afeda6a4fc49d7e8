"""The size of an image in its file, from its header where that is enough.

In: a path, and the shape at which the image was decoded and resized. Out: (height, width) in pixels, as
the file's viewer shows it. Knows nothing of data sets.

A camera turns an image by a note in its EXIF, which decoding follows; the decoded shape shows whether it
was turned, so the note need not be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

import cv2
import numpy as np

from tunekit.errors import DataError

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG segments that begin with a size
_START_OF_SCAN = 0xDA


def image_size(path: str | Path, shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the image that was resized to `shape` (h, w)."""
    try:
        with open(path, "rb") as file:
            size = _from_header(file)
        if size is None or (size[0] != size[1] and shape[0] == shape[1]):  # nearly square: turned or not?
            return _decoded(path)
    except OSError as fault:
        raise DataError(f"{path}: image cannot be read: {fault.strerror}; put it back") from fault
    turned = (size[0] < size[1]) != (shape[0] < shape[1])
    return size[::-1] if turned and size[0] != size[1] else size


def _from_header(file: IO[bytes]) -> tuple[int, int] | None:
    """(height, width) as stored; None for kinds of files whose header is not read here."""
    start = file.read(24)
    if start.startswith(_PNG):
        return int.from_bytes(start[20:24], "big"), int.from_bytes(start[16:20], "big")
    if not start.startswith(_JPEG):
        return None
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != _START_OF_SCAN:
        if head[1] == 0xFF:  # fill bytes may stand before a marker
            file.seek(-3, 1)
        elif head[1] in _FRAMES:
            frame = file.read(5)
            size = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
            return size if all(size) else None
        else:
            file.seek(int.from_bytes(head[2:], "big") - 2, 1)
    return None


def _decoded(path: str | Path) -> tuple[int, int]:
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: image cannot be decoded any more; put back the one that was there")
    height, width = image.shape[:2]
    return height, width
