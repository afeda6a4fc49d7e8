"""What lies on the canvas before the camera looks at it: one image, or a mosaic of four.

In: images (h, w, 3) uint8 with labels (n, 5) class, x, y, w, h normalised, and outlines where labels have
them. Out: a `Scene`: tiles at whole pixels of a square canvas, and targets (n, 5) float32 class, x1, y1, x2,
y2 in canvas pixels. The canvas itself is never built: `paint` draws whatever window of it is needed. Knows
nothing of the view taken of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tunekit.data.polygons import Polygons, packed

if TYPE_CHECKING:
    from tunekit.data.cache import ImageSource

FILL = 114  # the grey that stands for 'nothing here' in every YOLO
# x, y, w, h times this is x1, y1, x2, y2.
CORNERS = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32)


@dataclass(frozen=True)
class Tile:
    pixels: np.ndarray  # (h, w, 3) uint8
    x: int  # canvas column of its first pixel; tiles may overhang the canvas, what overhangs is not there
    y: int
    mask: np.ndarray | None = None  # (h, w) bool: the pixels that are there; None: all of them


@dataclass(frozen=True)
class Scene:
    side: int  # the canvas is side x side
    tiles: tuple[Tile, ...]  # painted in this order
    targets: np.ndarray  # (n, 5) float32 class, x1, y1, x2, y2 in canvas pixels, within the canvas
    polygons: Polygons | None = None  # of the targets, in canvas pixels, also beyond; None: boxes only


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
            window = out[c - top : d - top, a - left : b - left]
            part = slice(c - tile.y, d - tile.y), slice(a - tile.x, b - tile.x)
            if tile.mask is None:
                window[:] = tile.pixels[part]
            else:
                np.copyto(window, tile.pixels[part], where=tile.mask[part][:, :, None])


def _scene(source: ImageSource, side: int, indices: Sequence[int], tiles: tuple[Tile, ...]) -> Scene:
    labels = [source.labels(i) for i in indices]
    places = np.array([(*t.pixels.shape[1::-1] * 2, t.x, t.y, t.x, t.y) for t in tiles], np.float32)
    places = places.repeat([len(rows) for rows in labels], axis=0)  # (n, 8): w, h, w, h, x, y, x, y
    rows = np.concatenate(labels)
    targets = np.empty((len(rows), 5), np.float32)
    targets[:, 0] = rows[:, 0]
    boxes = targets[:, 1:]
    np.matmul(rows[:, 1:], CORNERS, out=boxes)
    boxes *= places[:, :4]
    boxes += places[:, 4:]
    np.minimum(np.maximum(boxes, 0, out=boxes), side, out=boxes)
    there = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    if not source.has_polygons:
        return Scene(side, tiles, targets[there])
    outlines = packed([outline for i in indices for outline in source.polygons(i)])
    places = places.repeat(outlines.corners, axis=0)
    points = outlines.points * places[:, 2:4] + places[:, 6:]
    return Scene(side, tiles, targets[there], Polygons(outlines.corners, points).chosen(there))
