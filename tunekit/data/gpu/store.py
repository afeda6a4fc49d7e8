"""All images of a split in the device's memory, and what is known of them in this one's.

In: an `ImageSource` and a device. Out: an `Album` (shapes, labels, where each image's pixels begin) in
NumPy, and the pixels of all images, one after another without gaps, as one (T, 3) uint8 tensor on the
device. Its pixel 0 is the grey that stands for 'nothing here'. Knows nothing of augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from tunekit.data.polygons import Polygons, joined, packed
from tunekit.data.scene import FILL
from tunekit.errors import ResourceError

if TYPE_CHECKING:
    from tunekit.data.cache import ImageSource

LARGEST_SHARE = 0.8  # of the device's free memory; the rest is for the model and its batches
PORTION = 64 * 2**20  # bytes that go to the device at a time


@dataclass(frozen=True)
class Album:
    """The images without their pixels."""

    imgsz: int
    shapes: np.ndarray  # (N, 2) int64 h, w
    first: np.ndarray  # (N + 1,) int64: row of the store at which an image begins; the last: all rows
    labels: np.ndarray  # (n, 5) float32 class, x, y, w, h as shares of the image
    ends: np.ndarray  # (N + 1,) int64: image i has the labels [ends[i], ends[i + 1])
    outlines: Polygons | None  # of the labels, as shares of the image; None: boxes only

    def __len__(self) -> int:
        return len(self.shapes)


def album_of(source: ImageSource) -> Album:
    """What is known of the images, without decoding one."""
    everyone = range(len(source))
    labels = [source.labels(index) for index in everyone]
    shapes = np.asarray(source.shapes, np.int64)
    return Album(
        imgsz=source.imgsz,
        shapes=shapes,
        first=1 + _ends(shapes.prod(axis=1)),
        labels=np.concatenate([np.zeros((0, 5), np.float32), *labels]),
        ends=_ends(np.array([len(rows) for rows in labels], np.int64)),
        outlines=joined([packed(source.polygons(index)) for index in everyone])
        if source.has_polygons
        else None,
    )


def store_bytes(album: Album) -> int:
    """The device memory that the images take."""
    return 3 * int(album.first[-1])


def stored(source: ImageSource, album: Album, device: torch.device) -> torch.Tensor:
    """The (T, 3) uint8 pixels of all images on `device`. Raises ResourceError where they do not fit."""
    _check_room(album, device)
    try:
        pixels = torch.empty((int(album.first[-1]), 3), dtype=torch.uint8, device=device)
    except torch.OutOfMemoryError as fault:  # others took it meanwhile, or it is free in pieces only
        raise _no_room(album, device, _free_bytes(device)) from fault
    pixels[0] = FILL
    for begin, end in _portions(album):
        images = [source.image(index).reshape(-1, 3) for index in range(begin, end)]
        pixels[album.first[begin] : album.first[end]] = torch.from_numpy(np.concatenate(images)).to(device)
    return pixels


def _ends(counts: np.ndarray) -> np.ndarray:
    return np.concatenate((np.zeros(1, np.int64), counts.cumsum()))


def _portions(album: Album) -> list[tuple[int, int]]:
    """Runs of images whose pixels are about PORTION bytes together."""
    portion = 3 * (album.first[1:] - 1) // PORTION
    cuts = np.flatnonzero(np.diff(portion)) + 1
    bounds = [0, *cuts.tolist(), len(album)]
    return [(begin, end) for begin, end in pairwise(bounds) if begin < end]


def _check_room(album: Album, device: torch.device) -> None:
    if device.type == "cuda" and store_bytes(album) > LARGEST_SHARE * (free := _free_bytes(device)):
        raise _no_room(album, device, free)


def _free_bytes(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0]


def _no_room(album: Album, device: torch.device, free: int) -> ResourceError:
    return ResourceError(
        f"cache=gpu: the {len(album)} training images at imgsz={album.imgsz} take"
        f" {store_bytes(album) / 2**30:.2f} GiB of {device}'s memory, where {free / 2**30:.2f} GiB are free,"
        f" {1 - LARGEST_SHARE:.0%} of which must stay for the model: use cache=disk"
    )
