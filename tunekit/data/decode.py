"""An image file in, 8-bit RGB pixels at training size out; or why it cannot be used.

Knows nothing of labels, caches or data sets.
"""

from __future__ import annotations

import math
import re

import cv2
import numpy as np


class BadImage(Exception):
    """Why an image cannot be used, as `kind: detail`."""


def read_image(path: str, imgsz: int) -> np.ndarray:
    """(h, w, 3) uint8 RGB with the long side `imgsz`; turned as EXIF says; any depth and channels."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise BadImage("image not there") from None
    except OSError as fault:
        raise BadImage(f"image cannot be read: {fault.strerror}") from None
    if not data:
        raise BadImage("image is an empty file")
    if _truncated(data):
        raise BadImage("image is cut off: the end of the file is missing")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise BadImage("image cannot be decoded")
    return resize(image, imgsz)


def resize(image: np.ndarray, imgsz: int) -> np.ndarray:
    """Bilinear to the long side `imgsz`; the short side is rounded up, as the reference does."""
    height, width = image.shape[:2]
    ratio = imgsz / max(height, width)
    if ratio == 1:
        return image
    size = min(math.ceil(width * ratio), imgsz), min(math.ceil(height * ratio), imgsz)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


# Decoders fill what is missing of a cut file with grey and only warn, so the end is looked for here.
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)  # stuffed 0 and restarts belong to pixels
_END_OF_IMAGE = 0xD9


def _truncated(data: bytes) -> bool:
    if data.startswith(_PNG):
        return b"IEND\xaeB`\x82" not in data
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    if data.startswith(b"BM"):
        return len(data) < int.from_bytes(data[2:6], "little")
    return data.startswith(_JPEG) and not data.endswith(b"\xff\xd9") and not _jpeg_ends(data)


def _jpeg_ends(data: bytes) -> bool:
    """Walks a JPEG's segments to its end marker: a thumbnail inside has one too, bytes may follow it."""
    position = 2
    while found := _NEXT_MARKER.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            return True
        position += int.from_bytes(data[position : position + 2], "big")
    return False
