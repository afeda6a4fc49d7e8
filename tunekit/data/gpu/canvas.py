"""What lies on P canvases at once: one image in the middle, or a mosaic of four.

In: an `Album`, image numbers and chance. Out: `Canvases`, and the `Objects` on them. A canvas is four tiles
that meet in one corner; a single image is the first of them, with nothing in the other three. The meaning
and the chances are those of scene.py. Knows nothing of the view taken of a canvas.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from tunekit.data.gpu.store import Album
from tunekit.data.polygons import Polygons
from tunekit.data.scene import centred

LEFT = np.array([True, False, True, False])  # tiles: left top, right top, left bottom, right bottom
TOP = np.array([True, True, False, False])


@dataclass(frozen=True)
class Canvases:
    side: np.ndarray  # (P,) int64, pixels
    corner: np.ndarray  # (P, 2) int64 x, y at which the tiles meet
    images: np.ndarray  # (P, 4) int64, which image each tile is
    reach: np.ndarray  # (P, 4, 2) int64: pixels of the tile from the corner on along x, y; 0: not there

    def __getitem__(self, rows: np.ndarray) -> Canvases:
        return Canvases(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Objects:
    canvas: np.ndarray  # (n,) int64, ascending: on which of the canvases
    targets: np.ndarray  # (n, 5) float32 class, x1, y1, x2, y2 in canvas pixels, within the canvas
    outlines: Polygons | None  # of the targets, in canvas pixels, also beyond; None: boxes only


def laid_out(album: Album, images: np.ndarray, draws: np.ndarray, mosaic: float) -> Canvases:
    """The canvases of `images` (P,), each a mosaic with probability `mosaic`; draws (P, 6)."""
    s = album.imgsz
    several = draws[:, 0] < mosaic
    partners = (draws[:, 3:6] * len(album)).astype(np.int64)
    four = np.column_stack((images, np.where(several[:, None], partners, images[:, None])))
    size = album.shapes[four][:, :, ::-1]  # (P, 4, 2) w, h
    alone = centred(s, size[:, 0]) + size[:, 0]  # the corner that is the image's right bottom
    corner = np.where(several[:, None], (s * (0.5 + draws[:, 1:3])).astype(np.int64), alone)
    side = np.where(several, 2 * s, s)
    behind, ahead = corner, side[:, None] - corner  # the canvas's room on both sides of the corner
    room = np.where(_before(), behind[:, None], ahead[:, None])
    there = several[:, None] | (np.arange(4) == 0)
    return Canvases(side, corner, four, np.where(there[:, :, None], np.minimum(size, room), 0))


def places(album: Album, canvases: Canvases) -> np.ndarray:
    """(P, 4, 4) int64 w, h, x, y of the tiles on the canvas; they may overhang it."""
    size = album.shapes[canvases.images][:, :, ::-1]
    corner = canvases.corner[:, None]
    return np.concatenate((size, np.where(_before(), corner - size, corner)), axis=2)


def objects(album: Album, canvases: Canvases) -> Objects:
    """What of the images' labels is on the canvases."""
    images = canvases.images.ravel()
    there = canvases.reach[:, :, 0].ravel() > 0
    counts = np.where(there, album.ends[images + 1] - album.ends[images], 0)
    tile, labels = np.repeat(np.arange(len(images)), counts), _runs(album.ends[images], counts)
    place = places(album, canvases).reshape(-1, 4)[tile].astype(np.float32)
    rows, canvas = album.labels[labels], tile // 4
    centre = rows[:, 1:3] * place[:, :2] + place[:, 2:]
    half = rows[:, 3:] * (0.5 * place[:, :2])
    boxes = np.concatenate((centre - half, centre + half), axis=1).clip(0, canvases.side[canvas, None])
    solid = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    targets = np.column_stack((rows[:, 0], boxes)).astype(np.float32)[solid]
    return Objects(canvas[solid], targets, _outlines(album, labels[solid], place[solid]))


def _outlines(album: Album, labels: np.ndarray, place: np.ndarray) -> Polygons | None:
    """Those of the labels (n,), each on its tile's place (n, 4)."""
    if album.outlines is None:
        return None
    corners = album.outlines.corners
    points = album.outlines.points[_runs((corners.cumsum() - corners)[labels], corners[labels])]
    place = place.repeat(corners[labels], axis=0)
    return Polygons(corners[labels], points * place[:, :2] + place[:, 2:])


def _runs(first: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """For each of the pairs the numbers first, first + 1, ..., `counts` of them, one run after another."""
    return np.repeat(first - (counts.cumsum() - counts), counts) + np.arange(counts.sum())


def _before() -> np.ndarray:
    """(1, 4, 2): whether the tile lies before the corner along x, y."""
    return np.column_stack((LEFT, TOP))[None]
