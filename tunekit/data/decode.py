"""An image file in, 8-bit RGB pixels at training size out; or why it cannot be used.

Grey and palette images become RGB, CMYK is converted, transparency is dropped (the colours under it show),
and an image is turned as its EXIF says. 16 bits a channel become 8: see `_eight_bits`. Images are always
decoded in full: JPEG's cheaper decoding at a half or a quarter changes pixels by several grey levels on
average, as it smooths what bilinear resizing leaves rough. Knows nothing of labels, caches or data sets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import nullcontext
from threading import Lock

import cv2
import numpy as np

LARGE = 1 << 26  # pixels, or bytes of a file: 192 MB once decoded
_one_large_at_a_time = Lock()  # which bounds the memory, whatever the number of threads


class BadImage(Exception):
    """Why an image cannot be used, as `kind: detail`."""


def read_image(path: str, imgsz: int) -> np.ndarray:
    """(h, w, 3) uint8 RGB with the long side `imgsz`."""
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
    with _one_large_at_a_time if _is_large(data) else nullcontext():
        image = resize(_decoded(data), imgsz)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def resize(image: np.ndarray, imgsz: int) -> np.ndarray:
    """Bilinear to the long side `imgsz`; the short side is rounded up, as the reference does."""
    height, width = image.shape[:2]
    ratio = imgsz / max(height, width)
    if ratio == 1:
        return image
    size = min(math.ceil(width * ratio), imgsz), min(math.ceil(height * ratio), imgsz)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _decoded(data: bytes) -> np.ndarray:
    """(h, w, 3) uint8 BGR."""
    try:
        # Not as RGB: OpenCV 5.0 then returns noise for TIFFs of 16 bits.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error:
        image = None
    if image is None:
        raise BadImage("image cannot be decoded")
    if image.dtype == np.uint8:
        return image
    if image.dtype != np.uint16:
        raise BadImage(f"image has pixels of type {image.dtype}: save it with 8 or 16 bits a channel")
    return _eight_bits(image)


def _eight_bits(image: np.ndarray) -> np.ndarray:
    """The upper 8 of 16 bits; but of 12, or of 8, where no pixel needs more.

    Cameras and scanners put 12 bits into files of 16, whose upper 8 alone would be all but black.
    """
    peak = int(image.max())
    bits = next(bits for bits in (8, 12, 16) if peak < 1 << bits)
    return (image >> (bits - 8)).astype(np.uint8)


def _is_large(data: bytes) -> bool:
    if len(data) > LARGE:
        return True
    if data.startswith(_PNG):
        width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
        return width * height > LARGE
    if data.startswith(_JPEG):
        return _jpeg_pixels(data) > LARGE
    return False


# Decoders fill what is missing of a cut file with grey and only warn, so the end is looked for here.
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)  # stuffed 0 and restarts belong to pixels
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the markers that tell an image's size
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
    """Whether the end marker is there: a thumbnail inside has one too, bytes may follow it."""
    return any(marker == _END_OF_IMAGE for marker, _ in _jpeg_segments(data))


def _jpeg_pixels(data: bytes) -> int:
    for marker, at in _jpeg_segments(data):
        if marker in _FRAMES:
            height, width = data[at + 3 : at + 5], data[at + 5 : at + 7]
            return int.from_bytes(height, "big") * int.from_bytes(width, "big")
    return 0


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers of a JPEG, and where their segments begin."""
    position = 2
    while found := _NEXT_MARKER.search(data, position):
        marker, position = data[found.end() - 1], found.end()
        yield marker, position
        if marker == _END_OF_IMAGE:
            return
        position += int.from_bytes(data[position : position + 2], "big")
