"""What lies on the canvas before the camera looks at it: one image, or a mosaic of four.

In: images (h, w, 3) uint8 with labels (n, 5) class, x, y, w, h normalised. Out: a `Scene`: tiles at whole
pixels of a square canvas, and targets (n, 5) float32 class, x1, y1, x2, y2 in canvas pixels. The canvas
itself is never built: `paint` draws whatever window of it is needed. Knows nothing of the view taken of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tunekit.data.cache import ImageSource

FILL = 114  # the grey that stands for 'nothing here' in every YOLO
COVERED = 0.30  # a pasted object may cover less than this share of an object that is there


@dataclass(frozen=True)
class Tile:
    pixels: np.ndarray  # (h, w, 3) uint8
    x: int  # canvas column of its first pixel; tiles may overhang the canvas, what overhangs is not there
    y: int


@dataclass(frozen=True)
class Scene:
    side: int  # the canvas is side x side
    tiles: tuple[Tile, ...]  # painted in this order
    targets: np.ndarray  # (n, 5) float32 class, x1, y1, x2, y2 in canvas pixels, within the canvas


def letterboxed(source: ImageSource, index: int) -> Scene:
    """The image in the middle of an imgsz x imgsz canvas."""
    pixels, side = source.image(index), source.imgsz
    h, w = pixels.shape[:2]
    left, top = centred(side, w), centred(side, h)
    return _scene(source, side, (index,), (Tile(pixels, left, top),))


def centred(outer: int, inner: int) -> int:
    """Where `inner` pixels start in the middle of `outer`; of an odd rest the larger half goes behind."""
    return (outer - inner) // 2


def mosaic(source: ImageSource, index: int, rng: np.random.Generator) -> Scene:
    """The image and three random others around a random point of a canvas of twice the side."""
    s = source.imgsz
    u, v, *partners = rng.random(5).tolist()
    x, y = int(s * (0.5 + u)), int(s * (0.5 + v))
    indices = (index, *(int(p * len(source)) for p in partners))
    a, b, c, d = (source.image(i) for i in indices)
    tiles = (
        Tile(a, x - a.shape[1], y - a.shape[0]),
        Tile(b, x, y - b.shape[0]),
        Tile(c, x - c.shape[1], y),
        Tile(d, x, y),
    )
    return _scene(source, 2 * s, indices, tiles)


def with_pasted_objects(scene: Scene, probability: float, rng: np.random.Generator) -> Scene:
    """Copy-paste: objects appear a second time, mirrored left to right across the canvas.

    Labels are boxes, so what is pasted is the box's rectangle. An object is pasted with `probability`,
    and only where it would cover less than 30% of every object that is there.
    """
    boxes = scene.targets[:, 1:]
    mirrored = boxes[:, [2, 1, 0, 3]]
    mirrored[:, [0, 2]] = scene.side - mirrored[:, [0, 2]]
    free = (covered(boxes, by=mirrored) < COVERED).all(axis=1)
    chosen = np.flatnonzero(free & (rng.random(len(boxes)) < probability))
    if not len(chosen):
        return scene
    tiles = list(scene.tiles)
    for x1, y1, x2, y2 in boxes[chosen].tolist():
        left, top, right, bottom = int(x1), int(y1), int(np.ceil(x2)), int(np.ceil(y2))
        pixels = np.empty((bottom - top, right - left, 3), np.uint8)
        paint(scene, left, top, pixels)
        tiles.append(Tile(np.ascontiguousarray(pixels[:, ::-1]), scene.side - right, top))
    pasted = np.column_stack((scene.targets[chosen, 0], mirrored[chosen])).astype(np.float32)
    return Scene(scene.side, tuple(tiles), np.concatenate((scene.targets, pasted)))


def covered(boxes: np.ndarray, by: np.ndarray) -> np.ndarray:
    """(m, n): the share of each of n boxes (n, 4) xyxy that each of m boxes `by` covers."""
    sides = np.minimum(by[:, None, 2:], boxes[None, :, 2:]) - np.maximum(by[:, None, :2], boxes[None, :, :2])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return sides.clip(0).prod(axis=2) / (area + 1e-7)


def paint(scene: Scene, left: int, top: int, out: np.ndarray) -> None:
    """Draws the window of the canvas whose first pixel is (left, top) into `out` (h, w, 3)."""
    out.fill(FILL)
    # the window within the canvas
    x0, x1 = max(left, 0), min(left + out.shape[1], scene.side)
    y0, y1 = max(top, 0), min(top + out.shape[0], scene.side)
    for tile in scene.tiles:
        h, w = tile.pixels.shape[:2]
        a, b = max(x0, tile.x), min(x1, tile.x + w)
        c, d = max(y0, tile.y), min(y1, tile.y + h)
        if a < b and c < d:
            out[c - top : d - top, a - left : b - left] = tile.pixels[
                c - tile.y : d - tile.y, a - tile.x : b - tile.x
            ]


def _scene(source: ImageSource, side: int, indices: Sequence[int], tiles: tuple[Tile, ...]) -> Scene:
    labels = [source.labels(i) for i in indices]
    places = np.array([(*t.pixels.shape[1::-1], t.x, t.y) for t in tiles], np.float32)  # w, h, x, y
    return Scene(side, tiles, _targets(labels, places, side))


def _targets(labels: list[np.ndarray], places: np.ndarray, side: int) -> np.ndarray:
    """Normalised labels of each tile as xyxy canvas pixels, clipped to the canvas, none of them empty."""
    place = places.repeat([len(rows) for rows in labels], axis=0)
    rows = np.concatenate(labels)
    targets = np.empty((len(rows), 5), np.float32)
    centre = rows[:, 1:3] * place[:, :2] + place[:, 2:]
    half = rows[:, 3:] * (0.5 * place[:, :2])
    targets[:, 0] = rows[:, 0]
    np.subtract(centre, half, out=targets[:, 1:3])
    np.add(centre, half, out=targets[:, 3:])
    np.clip(targets[:, 1:], 0, side, out=targets[:, 1:])
    return targets[(targets[:, 3:] > targets[:, 1:3]).all(axis=1)]
