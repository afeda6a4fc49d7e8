"""Copy-paste: objects appear a second time on the canvas.

In: a `Scene`, and where the objects come from. Out: the scene with more tiles and targets. An object with an
outline is pasted with the pixels inside of it, one that is known by its box alone with the whole rectangle.
It is pasted only where its box covers less than 30% of every object that is there.
"""

from __future__ import annotations

import cv2
import numpy as np

from tunekit.data.polygons import Polygons, joined
from tunekit.data.scene import Scene, Tile, covered, paint

COVERED = 0.30
PAIRS = 1 << 20  # boxes compared at a time, which bounds the memory that scenes of thousands take
SUBPIXEL = 4  # binary places of an outline's coordinates when it is drawn


def with_pasted_objects(scene: Scene, probability: float, rng: np.random.Generator) -> Scene:
    """Mode flip: the scene's own objects, each with `probability`, mirrored left to right on the canvas."""
    return _pasted(scene, scene, _drawn(scene, probability, rng), mirror=True)


def with_objects_of(scene: Scene, other: Scene, probability: float, rng: np.random.Generator) -> Scene:
    """Mode mixup: objects of another scene on a canvas as large, each with `probability`, where they are."""
    return _pasted(scene, other, _drawn(other, probability, rng), mirror=False)


def _drawn(scene: Scene, probability: float, rng: np.random.Generator) -> np.ndarray:
    return np.flatnonzero(rng.random(len(scene.targets)) < probability)


def _pasted(scene: Scene, origin: Scene, rows: np.ndarray, *, mirror: bool) -> Scene:
    """The scene with those of the `rows` of another, or of itself, that cover little enough of it."""
    targets = origin.targets[rows]
    if mirror:
        targets[:, [1, 3]] = origin.side - targets[:, [3, 1]]
    free = _covers_little(scene.targets[:, 1:], targets[:, 1:])
    rows, targets = rows[free], targets[free]
    if not len(rows):
        return scene
    chosen = np.zeros(len(origin.targets), bool)
    chosen[rows] = True
    outlines = None if origin.polygons is None else origin.polygons.chosen(chosen)
    each = (None,) * len(rows) if outlines is None else outlines.each()
    tiles = [
        _cut_out(origin, box, outline, mirror)
        for box, outline in zip(origin.targets[rows, 1:].tolist(), each, strict=True)
    ]
    return Scene(
        scene.side,
        (*scene.tiles, *tiles),
        np.concatenate((scene.targets, targets)),
        _with(scene, outlines, len(rows), origin.side if mirror else None),
    )


def _with(scene: Scene, outlines: Polygons | None, count: int, mirrored_at: int | None) -> Polygons | None:
    """The outlines of a scene's objects and of the `count` objects that are pasted on it."""
    own = scene.polygons
    if own is None and outlines is None:
        return None
    if outlines is not None and mirrored_at is not None:
        mirrored = outlines.points.copy()
        mirrored[:, 0] = mirrored_at - mirrored[:, 0]
        outlines = Polygons(outlines.corners, mirrored)
    own = _none(len(scene.targets)) if own is None else own
    return joined((own, _none(count) if outlines is None else outlines))


def _none(count: int) -> Polygons:
    return Polygons(np.zeros(count, np.int32), np.zeros((0, 2), np.float32))


def _cut_out(scene: Scene, box: list[float], outline: np.ndarray | None, mirror: bool) -> Tile:
    """The pixels of an object: its rectangle, and of that what its outline encloses."""
    left, top, right, bottom = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
    pixels = np.empty((bottom - top, right - left, 3), np.uint8)
    paint(scene, left, top, pixels)
    mask = None if outline is None else _mask(outline - np.array((left, top), np.float32), pixels.shape[:2])
    if not mirror:
        return Tile(pixels, left, top, mask)
    mask = None if mask is None else np.ascontiguousarray(mask[:, ::-1])
    return Tile(np.ascontiguousarray(pixels[:, ::-1]), scene.side - right, top, mask)


def _mask(outline: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) bool: the pixels whose middle lies inside of the outline, or next to it."""
    mask = np.zeros(shape, np.uint8)
    points = np.rint((outline - 0.5) * (1 << SUBPIXEL)).astype(np.int32)  # OpenCV's pixel i sits at i
    cv2.fillPoly(mask, [points], 1, shift=SUBPIXEL)
    return mask.view(bool)


def _covers_little(boxes: np.ndarray, by: np.ndarray) -> np.ndarray:
    """(m,) bool: which of the boxes `by` cover less than the limit of every one of `boxes`."""
    rows = max(PAIRS // max(len(boxes), 1), 1)
    order = np.argsort(by[:, 0])  # neighbours together: few boxes come near to some of them
    little = np.ones(len(by), bool)
    for first in range(0, len(by), rows):
        some = order[first : first + rows]
        near = (boxes[:, 0] < by[some, 2].max()) & (boxes[:, 2] > by[some, 0].min())
        little[some] = (covered(boxes[near], by=by[some]) < COVERED).all(axis=1)
    return little
