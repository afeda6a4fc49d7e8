"""Outlines of objects, ragged: how many points each object's outline has, and all points in one array.

Points are (x, y), in shares of an image or in pixels. Knows nothing of images, files or classes. An outline
may cross itself; what lies inside is decided by the even-odd rule, as OpenCV fills it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Polygons:
    """The outlines of n objects; one that is known by its box alone has none."""

    corners: np.ndarray  # (n,) int: points of each object's outline, 0 where it has none
    points: np.ndarray  # (sum of corners, 2) float32

    def __len__(self) -> int:
        return len(self.corners)

    def each(self) -> tuple[np.ndarray | None, ...]:
        """Object after object: its (k, 2) points, or None."""
        ends = np.cumsum(self.corners).tolist()
        sizes = self.corners.tolist()
        return tuple(
            self.points[end - size : end] if size else None for end, size in zip(ends, sizes, strict=True)
        )

    def chosen(self, rows: np.ndarray) -> Polygons:
        """Those of some objects, in their order; `rows` is (n,) bool."""
        return Polygons(self.corners[rows], self.points[np.repeat(rows, self.corners)])


def packed(outlines: Sequence[np.ndarray | None]) -> Polygons:
    """From one outline, or None, for each object."""
    corners = np.array([0 if points is None else len(points) for points in outlines], np.int32)
    there = [points for points in outlines if points is not None]
    return Polygons(corners, np.concatenate(there) if there else np.zeros((0, 2), np.float32))


def joined(parts: Sequence[Polygons]) -> Polygons:
    """The objects of all parts, one part after another."""
    return Polygons(
        np.concatenate([part.corners for part in parts]), np.concatenate([part.points for part in parts])
    )


@dataclass(frozen=True)
class Region:
    """A convex part of the plane: inside are the points with a*x + b*y + c >= 0 for each of its sides."""

    sides: np.ndarray  # (m, 3) float64: a, b, c
    corners: np.ndarray  # (m', 2) float64; none where the region is empty


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Region:
    """An upright one; empty when its sides are."""
    sides = np.array([[1, 0, -x1], [-1, 0, x2], [0, 1, -y1], [0, -1, y2]], np.float64)
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
    return Region(sides, corners if x1 < x2 and y1 < y2 else corners[:0])


def cut(region: Region, sides: np.ndarray) -> Region:
    """What of a region lies on the inner side of all of `sides` (m, 3), too."""
    corners = region.corners
    for side in sides:
        if not len(corners):
            break
        corners = _cut_once(corners, corners @ side[:2] + side[2])
    return Region(np.concatenate((region.sides, sides)), corners)


def _cut_once(corners: np.ndarray, height: np.ndarray) -> np.ndarray:
    """A convex polygon without the part where `height`, a value at each corner, is negative."""
    after, height_after = np.roll(corners, -1, axis=0), np.roll(height, -1)
    kept = []
    for here, there, a, b in zip(corners, after, height, height_after, strict=True):
        if a >= 0:
            kept.append(here)
        if (a >= 0) != (b >= 0):
            kept.append(here + (there - here) * (a / (a - b)))
    return np.array(kept, np.float64).reshape(-1, 2)


def bounds_within(polygons: Polygons, region: Region, matrix: np.ndarray) -> np.ndarray:
    """(n, 4) float64: the box x1, y1, x2, y2 around what of each outline's inside lies in the region.

    The box is that of the part after a move by `matrix` (3, 3), under which all of the region must lie
    before the camera. It is all zeros where nothing is inside, and where there is no outline.
    """
    boxes = np.zeros((len(polygons), 4))
    there = np.flatnonzero(polygons.corners)
    if not len(there) or not len(region.corners):
        return boxes
    sizes = polygons.corners[there]
    first = np.cumsum(sizes) - sizes
    points = polygons.points.astype(np.float64)
    heights = points @ region.sides[:, :2].T + region.sides[:, 2]
    whole = (np.minimum.reduceat(heights, first) >= 0).all(axis=1)
    cut_up = ~whole & (np.maximum.reduceat(heights, first) >= 0).all(axis=1)
    low, high = np.full((len(there), 2), np.inf), np.full((len(there), 2), -np.inf)
    if whole.any():
        images = through(points, matrix)
        low[whole] = np.minimum.reduceat(images, first)[whole]
        high[whole] = np.maximum.reduceat(images, first)[whole]
    if cut_up.any():
        part = points[np.repeat(cut_up, sizes)]
        low[cut_up], high[cut_up] = _bounds_of_parts(part, sizes[cut_up], region, matrix)
    seen = (high > low).all(axis=1)
    boxes[there[seen]] = np.concatenate((low, high), axis=1)[seen]
    return boxes


def _bounds_of_parts(
    points: np.ndarray, sizes: np.ndarray, region: Region, matrix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest moved x, y of outlines that the region cuts; +inf, -inf where it has none of it.

    What is inside both is bounded by parts of the outline's edges, and by corners of the region that lie
    within the outline: the box around these is the box around it all.
    """
    first = np.cumsum(sizes) - sizes
    after = np.arange(1, len(points) + 1)
    after[first + sizes - 1] = first
    ends = points[after]

    begin, end = _clipped(points, ends, region.sides)
    seen = begin < end
    edge = ends - points
    both = [through(points + edge * np.where(seen, at, 0)[:, None], matrix) for at in (begin, end)]
    low = np.where(seen[:, None], np.minimum(*both), np.inf)
    high = np.where(seen[:, None], np.maximum(*both), -np.inf)
    low, high = np.minimum.reduceat(low, first), np.maximum.reduceat(high, first)

    held = _holds(points, ends, first, region.corners)
    corners = through(region.corners, matrix)
    low = np.minimum(low, np.where(held[:, :, None], corners, np.inf).min(axis=1))
    high = np.maximum(high, np.where(held[:, :, None], corners, -np.inf).max(axis=1))
    return low, high


def _clipped(begins: np.ndarray, ends: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which part of each edge, as shares 0..1 of its way, lies within all sides (Cyrus and Beck)."""
    a = begins @ sides[:, :2].T + sides[:, 2]  # (edges, sides)
    b = ends @ sides[:, :2].T + sides[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = a / (a - b)
    begin = np.where((a < 0) & (b >= 0), crossing, 0.0)
    end = np.where((a >= 0) & (b < 0), crossing, 1.0)
    end[(a < 0) & (b < 0)] = 0.0
    return begin.max(axis=1), end.min(axis=1)


def _holds(begins: np.ndarray, ends: np.ndarray, first: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(outlines, corners): whether a corner lies in an outline, by the edges that a ray from it meets."""
    x1, y1, x2, y2 = (values[:, None] for values in (*begins.T, *ends.T))
    x, y = corners.T
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * ((x2 - x1) / (y2 - y1)))
    return np.logical_xor.reduceat(meets, first)


def through(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(n, 2) points moved by a (3, 3) matrix; nonsense, but no fault, for what is not before the camera."""
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    if (matrix[2] == (0, 0, 1)).all():
        return moved[:, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return moved[:, :2] / moved[:, 2:]
