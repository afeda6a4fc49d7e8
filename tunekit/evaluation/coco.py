"""Detections and truth of a split as COCO JSON, in pixels of the images' files.

In: batches with what was found in them, and the ImageSource they came from. Out: predictions.json, a list
of {image_id, file_name, category_id, bbox [x, y, w, h], score}, and ground_truth.json, the truth with the
same ids, so that COCO's own programs can judge the one by the other. Knows nothing of models.

image_id is the file's name as a number where all files are numbered, else its name. (pycocotools takes
both; faster-coco-eval only numbers.) category_id is the class counted from 1, or COCO's own where the
classes are COCO's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from tunekit.atomic import write_atomic
from tunekit.data.cache import ImageSource
from tunekit.data.loader import Batch
from tunekit.data.scene import centred
from tunekit.evaluation.imagesize import image_size
from tunekit.evaluation.validator import Detections

PREDICTIONS, TRUTH = "predictions.json", "ground_truth.json"
DIGITS = 3  # of a coordinate: a thousandth of a pixel
COCO_WITHOUT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # category ids up to 90 that COCO does not use


class CocoWriter:
    """Collects detections batch by batch, then writes both files."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source
        self._shapes = source.shapes
        self._ids = image_ids(source.paths)
        self._categories = category_ids(source.names)
        self._sizes: dict[int, tuple[int, int]] = {}
        self._found: list[
            tuple[int, np.ndarray, np.ndarray, np.ndarray]
        ] = []  # record, boxes, scores, classes

    def add(self, batch: Batch, found: Sequence[Detections]) -> None:
        """`found` in pixels of the batch's images, as an observer of `evaluate` gets it."""
        shape = batch.images.shape[2], batch.images.shape[3]
        for record, one in zip(batch.records.tolist(), found, strict=True):
            boxes = in_file_pixels(one.boxes, shape, self._decoded(record), self._size(record))
            self._found.append((record, boxes, one.scores, one.classes))

    def write(self, folder: Path) -> None:
        """predictions.json and ground_truth.json; images that were never added are in neither."""
        write_atomic(folder / PREDICTIONS, self._write_predictions)
        write_atomic(folder / TRUTH, lambda file: file.write(json.dumps(self._truth()).encode()))

    def _write_predictions(self, file: IO[bytes]) -> None:
        """An image at a time: a large data set has millions of detections."""
        separator = b"["
        for record, boxes, scores, classes in self._found:
            rows = [
                {
                    "image_id": self._ids[record],
                    "file_name": os.path.basename(self._source.paths[record]),
                    "category_id": self._categories[index],
                    "bbox": box,
                    # As few digits as tell it from every other score: rounded ones would be ties.
                    "score": float(str(score)),
                }
                for box, score, index in zip(_xywh(boxes), scores, classes.tolist(), strict=True)
            ]
            if rows:
                file.write(separator + json.dumps(rows)[1:-1].encode())
                separator = b",\n"
        file.write(b"]\n" if separator != b"[" else b"[]\n")

    def _truth(self) -> dict[str, object]:
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for record in sorted({entry[0] for entry in self._found}):
            height, width = self._size(record)
            name = os.path.basename(self._source.paths[record])
            images.append({"id": self._ids[record], "file_name": name, "width": width, "height": height})
            labels = self._source.labels(record).astype(np.float64)
            centres, sizes = labels[:, 1:3] * (width, height), labels[:, 3:] * (width, height)
            boxes = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)
            for index, box in zip(labels[:, 0].astype(int).tolist(), _xywh(boxes), strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # pycocotools takes 0 for no match
                        "image_id": self._ids[record],
                        "category_id": self._categories[index],
                        "bbox": box,
                        "area": round(box[2] * box[3], DIGITS),
                        "iscrowd": 0,
                    }
                )
        categories = [
            {"id": number, "name": name}
            for number, name in zip(self._categories, self._source.names, strict=True)
        ]
        return {"images": images, "annotations": annotations, "categories": categories}

    def _decoded(self, record: int) -> tuple[int, int]:
        height, width = self._shapes[record].tolist()
        return height, width

    def _size(self, record: int) -> tuple[int, int]:
        if record not in self._sizes:
            self._sizes[record] = image_size(self._source.paths[record], self._decoded(record))
        return self._sizes[record]


def in_file_pixels(
    boxes: np.ndarray, shape: tuple[int, int], decoded: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """(n, 4) xyxy in pixels of the file, clipped to it.

    `boxes` are in pixels of a batch of `shape` (H, W), in whose middle stands the image as it was `decoded`
    to (h, w); the file's is of `size` (height, width).
    """
    (h, w), (height, width) = decoded, size
    shift = centred(shape[1], w), centred(shape[0], h)
    scale = width / w, height / h  # each side was rounded by itself
    moved = (boxes.reshape(-1, 2, 2).astype(np.float64) - shift) * scale
    return moved.clip(0, (width, height)).reshape(-1, 4)


def image_ids(paths: Sequence[str]) -> list[int] | list[str]:
    """What COCO calls each image: numbers if all files' names are different numbers, else names.

    Never some of each, which COCO's programs cannot sort. Names that occur in several folders are
    told apart by their folders.
    """
    stems = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    if all(stem.isascii() and stem.isdecimal() for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    if len(set(stems)) == len(stems):
        return stems
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    return [Path(os.path.relpath(path, root)).as_posix() for path in paths]


def category_ids(names: Sequence[str]) -> list[int]:
    """COCO's number of each class."""
    if len(names) == 80 and (names[0], names[11], names[79]) == ("person", "stop sign", "toothbrush"):
        return [number for number in range(1, 91) if number not in COCO_WITHOUT]
    return list(range(1, len(names) + 1))


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    xywh: list[list[float]] = (
        np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), 1).round(DIGITS).tolist()
    )
    return xywh
