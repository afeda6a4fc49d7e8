"""The Arrow file of a split: written once from image and label files, read as a memory map.

A row is an image, usable or not: `path` (the system's bytes), `h`, `w`, `labels` (n*5 float32: class,
x, y, w, h), `corners` (n int32: points of each label's polygon, or nothing where no label of the image has
one), `points` (all of them, x, y float32), `problems` (where, what) and, unless only an index is wanted,
`image` (h*w*3 uint8 RGB, uncompressed, so that a reader's pixels, like its points, are the map itself).
Unusable images have h = w = 0 and no pixels.
Knows nothing of where such files are kept or when they are out of date.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from tunekit.data.decode import BadImage, read_image
from tunekit.data.labels import COLUMNS, Problem, read_labels
from tunekit.data.polygons import Polygons

FORMAT = 2  # part of every key: raise it when the same images would give another file
CHUNK_BYTES = 32 << 20  # pixels in a record batch; a build holds about three of these

_INDEX = [
    pa.field("path", pa.binary()),
    pa.field("h", pa.int32()),
    pa.field("w", pa.int32()),
    pa.field("labels", pa.list_(pa.float32())),
    pa.field("corners", pa.list_(pa.int32())),
    pa.field("points", pa.list_(pa.float32())),
    pa.field("problems", pa.list_(pa.struct([("where", pa.string()), ("what", pa.string())]))),
]
_PIXELS = pa.field("image", pa.large_binary())


class DamagedRecords(Exception):
    """A file is not what `write_records` writes."""


@dataclass(frozen=True)
class Row:
    """One image while it is being written."""

    path: str
    boxes: np.ndarray  # (n, 5) float32
    polygons: Polygons | None
    problems: list[Problem]
    pixels: np.ndarray | None  # (h, w, 3) uint8; None: not usable


@dataclass(frozen=True)
class Records:
    """What a file holds of its usable images; arrays are read-only and pixels lie in the map."""

    paths: tuple[str, ...]
    shapes: np.ndarray  # (N, 2) int64 h, w
    boxes: np.ndarray  # (sum of n, 5) float32, image after image
    ends: np.ndarray  # (N + 1,) int64: image i has boxes[ends[i]:ends[i + 1]]
    corners: np.ndarray  # (sum of n,) int32: points of each box's polygon; (0,) where no box has one
    points: tuple[np.ndarray, ...]  # of each image, (its corners, 2) float32; () where no box has one
    pixels: tuple[np.ndarray, ...]  # each (h*w*3,) uint8; () in an index
    problems: tuple[Problem, ...]


def write_records(
    file: IO[bytes], images: Sequence[str], labels: Sequence[str], *, nc: int, imgsz: int, pixels: bool
) -> None:
    """Read, check and decode every image on all cores, and stream the rows to `file` in order."""
    schema = pa.schema([*_INDEX, _PIXELS] if pixels else _INDEX)
    chunk = max(1, CHUNK_BYTES // (imgsz * imgsz * 3))
    with pa.ipc.new_file(file, schema) as writer, ThreadPoolExecutor(_threads()) as pool:
        rows: list[Row] = []
        for row in _in_order(pool, images, labels, nc, imgsz, ahead=chunk):
            rows.append(row)
            if len(rows) == chunk:
                writer.write_batch(_batch(rows, schema))
                rows = []
        writer.write_batch(_batch(rows, schema))


def read_records(path: Path, count: int) -> Records:
    """The file's content, without reading its pixels. `count` images are expected in it.

    Raises DamagedRecords for anything but a whole file, FileNotFoundError where there is none.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        records = _read(batches, has_pixels=_PIXELS.name in reader.schema.names)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as fault:
        raise DamagedRecords(f"{type(fault).__name__}: {fault}") from fault
    if sum(batch.num_rows for batch in batches) != count:
        raise DamagedRecords(f"it should have {count} images")
    return records


def read_row(image: str, label: str, nc: int, imgsz: int) -> Row:
    """One image with its labels, or why not.

    An image whose label file has lines, but none that is usable, is left out: to train on it as
    background would teach that there is nothing where something is.
    """
    labels = read_labels(label, nc)
    problems, pixels = list(labels.problems), None
    if problems and not len(labels.boxes):
        problems.append(Problem(image, "image left out: its label file has no usable line"))
    else:
        try:
            pixels = read_image(image, imgsz)
        except BadImage as fault:
            problems.append(Problem(image, str(fault)))
    if pixels is None:
        return Row(image, labels.boxes[:0], None, problems, None)
    return Row(image, labels.boxes, labels.polygons, problems, pixels)


def _in_order(
    pool: ThreadPoolExecutor, images: Sequence[str], labels: Sequence[str], nc: int, imgsz: int, ahead: int
) -> Iterator[Row]:
    """Rows in the order of `images`, at most `ahead` decoded and waiting, so that memory is bounded."""
    waiting: deque[Future[Row]] = deque()
    for image, label in zip(images, labels, strict=True):
        waiting.append(pool.submit(read_row, image, label, nc, imgsz))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batch(rows: list[Row], schema: pa.Schema) -> pa.RecordBatch:
    shapes = [(0, 0) if row.pixels is None else row.pixels.shape[:2] for row in rows]
    columns = {
        "path": [os.fsencode(row.path) for row in rows],
        "h": [height for height, _ in shapes],
        "w": [width for _, width in shapes],
        "labels": [row.boxes.ravel() for row in rows],
        "corners": [() if row.polygons is None else row.polygons.corners for row in rows],
        "points": [() if row.polygons is None else row.polygons.points.ravel() for row in rows],
        "problems": [[{"where": _printable(p.where), "what": p.what} for p in row.problems] for row in rows],
        "image": [b"" if row.pixels is None else row.pixels.data for row in rows],
    }
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _printable(path: str) -> str:
    """A path whose name is not UTF-8, as systems allow, for a message."""
    return path.encode(errors="replace").decode()


def _read(batches: list[pa.RecordBatch], has_pixels: bool) -> Records:
    paths: list[str] = []
    shapes, boxes, counts = [np.zeros((0, 2), np.int64)], [np.zeros(0, np.float32)], [np.zeros(1, np.int64)]
    corners: list[np.ndarray] = [np.zeros(0, np.int32)]
    points: list[np.ndarray] = []
    pixels: list[np.ndarray] = []
    problems: list[Problem] = []
    has_points = any(len(batch["points"].flatten()) for batch in batches)
    for batch in batches:
        sizes = np.column_stack([batch["h"].to_numpy(), batch["w"].to_numpy()]).astype(np.int64)
        usable = np.flatnonzero(sizes[:, 0])
        names = batch["path"].to_pylist()
        paths += [os.fsdecode(names[row]) for row in usable]
        shapes.append(sizes[usable])
        boxes.append(batch["labels"].flatten().to_numpy())
        labelled = np.diff(batch["labels"].offsets.to_numpy()) // COLUMNS
        counts.append(labelled[usable])
        if has_points:
            corners.append(_corners(batch["corners"], labelled))
            points += [rows.reshape(-1, 2) for rows in _lists(batch["points"], usable)]
        problems += [Problem(**found) for found in batch["problems"].flatten().to_pylist()]
        if has_pixels:
            pixels += _views(batch["image"], sizes, usable)
    all_boxes, ends = np.concatenate(boxes).reshape(-1, COLUMNS), np.cumsum(np.concatenate(counts))
    all_corners = np.concatenate(corners)
    if len(all_boxes) != ends[-1]:
        raise ValueError("boxes and their counts disagree")
    if has_points and all_corners.sum(dtype=np.int64) != sum(map(len, points)):
        raise ValueError("polygons and their points disagree")
    all_shapes = np.concatenate(shapes)
    for array in (all_boxes, all_shapes, ends, all_corners):
        array.flags.writeable = False
    return Records(
        paths=tuple(paths),
        shapes=all_shapes,
        boxes=all_boxes,
        ends=ends,
        corners=all_corners,
        points=tuple(points),
        pixels=tuple(pixels),
        problems=tuple(problems),
    )


def _corners(column: pa.ListArray, labelled: np.ndarray) -> np.ndarray:
    """Of every label in a batch, also where an image's list is left out because all of it would be 0."""
    given = np.diff(column.offsets.to_numpy())
    corners = np.zeros(labelled.sum(), np.int32)
    corners[np.repeat(given > 0, labelled)] = column.flatten().to_numpy()
    return corners


def _lists(column: pa.ListArray, usable: np.ndarray) -> list[np.ndarray]:
    """Each usable image's values as an array over the map itself."""
    values, offsets = column.flatten().to_numpy(), column.offsets.to_numpy()
    offsets = offsets - offsets[0]
    return [values[offsets[row] : offsets[row + 1]] for row in usable]


def _views(column: pa.LargeBinaryArray, sizes: np.ndarray, usable: np.ndarray) -> list[np.ndarray]:
    """Each usable image's bytes as an array over the map itself: no copy."""
    _, offset_buffer, data_buffer = column.buffers()
    starts = np.frombuffer(offset_buffer, np.int64)[: len(column) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.zeros(0, np.uint8)
    if (np.diff(starts) != sizes.prod(axis=1) * 3).any() or (len(column) and starts[-1] > len(data)):
        raise ValueError("pixels and their sizes disagree")
    return [data[starts[row] : starts[row + 1]] for row in usable]


def _threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(16, len(os.sched_getaffinity(0)))
    return min(16, os.cpu_count() or 1)
