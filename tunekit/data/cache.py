"""Decoded images of a split, made once and shared by every process of a node.

A DataConfig and a split in, an ImageSource out. The Arrow file behind it (see records.py) is named by
the content it was made from: paths, sizes and times of images and labels. The first process builds it
under a lock, the others wait and map the same file; a file that is no longer current is removed.

    cache='disk'   in the user's cache folder
    cache='ram'    the same file in /dev/shm: one copy in memory for all processes
    cache=False    only sizes and labels are kept, images are decoded at each access

Knows nothing of batches, augmentation or training.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import filelock
import numpy as np

from tunekit.atomic import DISK_FULL, write_atomic
from tunekit.data import memory, room
from tunekit.data.cachedir import cache_folder
from tunekit.data.dataset import DataConfig, image_files, label_file
from tunekit.data.decode import BadImage, read_image
from tunekit.data.labels import Problem, summarize
from tunekit.data.polygons import Polygons
from tunekit.data.records import FORMAT, DamagedRecords, Records, read_records, write_records
from tunekit.errors import DataError, RunFolderError

log = logging.getLogger(__name__)
SINGLE = "item"  # what single_cls calls its one class


class ImageSource:
    """The usable images of a split, decoded and resized, with their labels."""

    def __init__(
        self,
        records: Records,
        names: tuple[str, ...],
        imgsz: int,
        rows: np.ndarray,
        single_cls: bool = False,
    ) -> None:
        """`rows`: of the records, those in use. With `single_cls` every label is of class 0."""
        self.names = (SINGLE,) if single_cls else names
        self.imgsz = imgsz
        self.problems: tuple[Problem, ...] = records.problems
        self.paths: tuple[str, ...] = tuple(records.paths[row] for row in rows)
        self.has_polygons = bool(records.points)
        self._records = records
        self._boxes = _of_class_0(records.boxes) if single_cls else records.boxes
        # Lists: to take one number out of an array takes longer.
        self._rows: list[int] = rows.tolist()
        self._sizes: list[list[int]] = records.shapes.tolist()
        self._ends: list[int] = records.ends.tolist()

    def __len__(self) -> int:
        return len(self.paths)

    def image(self, index: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB, the long side `imgsz`; read-only, and no copy where it is cached."""
        row = self._rows[index]
        height, width = self._sizes[row]
        if self._records.pixels:
            return self._records.pixels[row].reshape(height, width, 3)
        try:
            image = read_image(self.paths[index], self.imgsz)
        except BadImage as fault:
            raise DataError(f"{self.paths[index]}: {fault}; it was whole when training began") from None
        if image.shape[:2] != (height, width):
            raise DataError(f"{self.paths[index]}: the image changed since training began; start again")
        image.flags.writeable = False
        return image

    def labels(self, index: int) -> np.ndarray:
        """(n, 5) float32 class, x, y, w, h as shares of the image; read-only, n may be 0."""
        row = self._rows[index]
        return self._boxes[self._ends[row] : self._ends[row + 1]]

    def polygons(self, index: int) -> tuple[np.ndarray | None, ...]:
        """Of each label its outline, (k, 2) float32 x, y as shares of the image; None: a plain box."""
        row = self._rows[index]
        first, end = self._ends[row], self._ends[row + 1]
        if not self.has_polygons:
            return (None,) * (end - first)
        return Polygons(self._records.corners[first:end], self._records.points[row]).each()

    @property
    def shapes(self) -> np.ndarray:
        """(N, 2) h, w of every image, without decoding one."""
        return self._records.shapes[self._rows]

    @property
    def class_counts(self) -> np.ndarray:
        """(nc,) boxes of each class."""
        classes = [self.labels(index)[:, 0] for index in range(len(self))]
        every = np.concatenate([np.zeros(0, np.float32), *classes]).astype(np.int64)
        return np.bincount(every, minlength=len(self.names))


def _of_class_0(boxes: np.ndarray) -> np.ndarray:
    boxes = boxes.copy()
    boxes[:, 0] = 0
    boxes.flags.writeable = False
    return boxes


def open_split(
    config: DataConfig,
    split: str,
    imgsz: int,
    cache: str | bool,
    fraction: float = 1.0,
    single_cls: bool = False,
) -> ImageSource:
    """The images of a split at long side `imgsz`; only the first call on a machine takes time.

    `fraction` keeps that share of them, evenly spaced over the sorted paths: the same ones each time.
    `single_cls` takes all classes for one, called item.
    Raises DataError where the split is missing, has no usable label, or its cache has no room.
    """
    images = image_files(config, split)
    labels = [label_file(image) for image in images]
    records = _records(config, split, images, labels, imgsz, "ram" if cache is True else cache)
    if not len(records.boxes):
        raise DataError(_nothing_usable(config, split, records, len(images)))
    count = len(records.paths)
    kept = max(1, round(count * fraction))
    return ImageSource(records, config.names, imgsz, np.arange(kept) * count // kept, single_cls)


def _records(
    config: DataConfig, split: str, images: list[str], labels: list[str], imgsz: int, cache: str | bool
) -> Records:
    """The split's records: the file of this content, built here if nobody did yet."""
    folder = memory.folder() if cache == "ram" else cache_folder("images")
    dataset = _digest(str(config.source), split, str(imgsz), "pixels" if cache else "index")
    path = folder / f"{dataset}-{_content(images, labels, config.nc, imgsz)}.arrow"
    try:
        return _open(path, len(images), cache)
    except FileNotFoundError:
        pass
    except DamagedRecords as damage:
        log.warning("%s is damaged (%s) and is made again", path, damage)
    try:
        with filelock.FileLock(memory.lock_of(path)):
            try:
                return _open(path, len(images), cache)  # another process was faster
            except (FileNotFoundError, DamagedRecords):
                _remove_older(folder, dataset)
            log.info("decoding %d images of %s into %s", len(images), split, path)
            _build(path, images, labels, config.nc, imgsz, cache)
            return _open(path, len(images), cache)
    except OSError as fault:
        raise DataError(
            f"cannot write the image cache in {folder}: {fault.strerror or fault};"
            " set TUNEKIT_CACHE to a folder that can be written"
        ) from fault


def _build(path: Path, images: list[str], labels: list[str], nc: int, imgsz: int, cache: str | bool) -> None:
    needed = room.needed_bytes(images, imgsz) if cache else 0
    if room.free_bytes(path.parent, cache) < needed:
        raise room.no_room(path.parent, needed, cache)
    try:
        write_atomic(
            path,
            lambda file: write_records(file, images, labels, nc=nc, imgsz=imgsz, pixels=bool(cache)),
        )
    except RunFolderError as fault:
        reason = fault.__cause__
        if isinstance(reason, OSError) and reason.errno in DISK_FULL:
            raise room.no_room(path.parent, needed, cache) from reason
        raise reason or fault from None


def _open(path: Path, count: int, cache: str | bool) -> Records:
    if cache == "ram":
        memory.hold(path)
    return read_records(path, count)


def _remove_older(folder: Path, dataset: str) -> None:
    """Files of the same split with other content, and what a killed builder left.

    We have the split's lock, so nobody is building. On POSIX a process that has a file mapped keeps it
    after its name is gone; on Windows a file in use cannot be removed, and stays for the next time.
    """
    for path in [*folder.glob(f"{dataset}-*.arrow"), *folder.glob(f".{dataset}-*")]:
        try:
            path.unlink()
        except OSError:
            log.info("%s is out of date, but in use", path)


def _content(images: list[str], labels: list[str], nc: int, imgsz: int) -> str:
    """A key that changes when any image or label file does."""
    stamps = [_stamp(path) for pair in zip(images, labels, strict=True) for path in pair]
    return _digest(str(FORMAT), str(nc), str(imgsz), *images, *stamps)


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "-"
    return f"{status.st_size},{status.st_mtime_ns}"


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _nothing_usable(config: DataConfig, split: str, records: Records, count: int) -> str:
    sentence = f"{config.source}: {split}: none of its {count} images has a usable label"
    if records.problems:
        return f"{sentence}; the problems are\n{summarize(records.problems)}"
    expected = label_file(records.paths[0]) if records.paths else "labels/"
    return f"{sentence}; labels are looked for at the images' paths with 'images' as 'labels': {expected}"
