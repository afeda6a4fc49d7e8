"""The boxes around what is seen of outlined objects, on P canvases at once.

In: outlines in canvas pixels, on which canvas each of them is, and the canvases' views. Out: boxes in output
pixels. It is `bounds_within` of tunekit/data/polygons.py, which does one canvas a call. Knows nothing of
images.

What is seen of a canvas is convex: it lies within the canvas's four edges and the output's, before the
camera. Each of these nine is a side, with a height above it that is linear in x and y and not negative where
something is seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tunekit.data.polygons import Polygons
from tunekit.data.view import NEAREST

SIDES = 9
SLACK = 1e-9  # below a side, where a corner still counts: its coordinates are rounded
ONE, OTHER = np.array(list(combinations(range(SIDES), 2))).T  # pairs of sides, which meet in corners


@dataclass(frozen=True)
class Views:
    """What is seen of P square canvases in outputs of size x size."""

    sides: np.ndarray  # (P,) of the canvases, pixels
    matrix: np.ndarray  # (P, 3, 3) from canvas to output pixels
    size: int

    def projected(self, points: np.ndarray, canvas: np.ndarray) -> np.ndarray:
        """(3, m) x, y, depth of the points (m, 2), each of its own canvas."""
        a, b, c, d, e, f, g, h, i = np.take(
            np.ascontiguousarray(self.matrix.reshape(-1, 9).T), canvas, axis=1
        )
        u, v = points.T
        return np.stack((a * u + b * v + c, d * u + e * v + f, g * u + h * v + i))

    def heights(self, points: np.ndarray, canvas: np.ndarray, projected: np.ndarray) -> np.ndarray:
        """(9, m) above each side."""
        (u, v), (x, y, depth), side = points.T, projected, self.sides[canvas]
        far = self.size * depth
        return np.stack((u, v, side - u, side - v, depth - NEAREST, x, y, far - x, far - y))


def seen_bounds(outlines: Polygons, canvas: np.ndarray, views: Views) -> np.ndarray:
    """(n, 4) float64 x1, y1, x2, y2; zeros where nothing is seen, and where there is no outline.

    canvas (n,): that of each outline.
    """
    boxes = np.zeros((len(outlines), 4))
    there = np.flatnonzero(outlines.corners)
    if not len(there):
        return boxes
    sizes, canvas = outlines.corners[there], canvas[there]
    first = sizes.cumsum() - sizes
    points, of_point = outlines.points.astype(np.float64), canvas.repeat(sizes)
    projected = views.projected(points, of_point)
    heights = views.heights(points, of_point, projected)
    whole = (np.minimum.reduceat(heights, first, axis=1) >= 0).all(axis=0)
    beyond = (np.maximum.reduceat(heights, first, axis=1) < 0).any(axis=0)  # all of it behind one side
    moved = _on_output(projected)
    bounds = np.concatenate((np.minimum.reduceat(moved, first), np.maximum.reduceat(moved, first)), axis=1)
    cut = ~(whole | beyond)
    if cut.any():
        part = np.repeat(cut, sizes)
        bounds[cut] = _bounds_of_parts(points[part], heights[:, part], sizes[cut], canvas[cut], views)
    seen = (bounds[:, 2:] > bounds[:, :2]).all(axis=1) & ~beyond
    boxes[there[seen]] = bounds[seen]
    return boxes


def _bounds_of_parts(
    points: np.ndarray, heights: np.ndarray, sizes: np.ndarray, canvas: np.ndarray, views: Views
) -> np.ndarray:
    """(k, 4) of outlines that are cut: low +inf and high -inf of one of which nothing is seen.

    What is inside the outline and seen is bounded by the seen parts of the outline's edges, and by the
    corners of what is seen that lie inside the outline: the box around these is the box around it all.
    """
    first, of_edge = sizes.cumsum() - sizes, canvas.repeat(sizes)
    following = np.arange(1, len(points) + 1)
    following[first + sizes - 1] = first
    ends = points[following]

    begin, end = _seen_of_edges(heights, heights[:, following])
    seen = begin < end
    edge = ends - points
    both = [
        _on_output(views.projected(points + edge * np.where(seen, at, 0)[:, None], of_edge))
        for at in (begin, end)
    ]
    low = np.minimum.reduceat(np.where(seen[:, None], np.minimum(*both), np.inf), first)
    high = np.maximum.reduceat(np.where(seen[:, None], np.maximum(*both), -np.inf), first)

    corners, moved = _corners(views)
    inside = _inside(points, ends, first, corners[of_edge])[:, :, None]
    low = np.minimum(low, np.where(inside, moved[canvas], np.inf).min(axis=1))
    high = np.maximum(high, np.where(inside, moved[canvas], -np.inf).max(axis=1))
    return np.concatenate((low, high), axis=1)


def _seen_of_edges(begins: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which part of each edge, as shares 0..1 of its way, is seen (Cyrus and Beck); heights (9, m)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = begins / (begins - ends)
    begin = np.where((begins < 0) & (ends >= 0), crossing, 0.0)
    end = np.where((begins >= 0) & (ends < 0), crossing, 1.0)
    end[(begins < 0) & (ends < 0)] = 0.0
    return begin.max(axis=0), end.min(axis=0)


def _corners(views: Views) -> tuple[np.ndarray, np.ndarray]:
    """(P, c, 2) the corners of what is seen of each canvas, in its pixels and in the output's.

    NaN where there are fewer than c.
    """
    count = len(views.sides)
    everyone = np.arange(count)

    def heights(points: np.ndarray, owner: np.ndarray) -> np.ndarray:
        return views.heights(points, owner, views.projected(points, owner))

    origin, right, below = (
        heights(np.tile(at, (count, 1)), everyone) for at in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    lines = np.stack((right - origin, below - origin, origin)).transpose(2, 1, 0)  # (P, 9, 3): a, b, c
    meeting = np.cross(lines[:, ONE], lines[:, OTHER])
    with np.errstate(divide="ignore", invalid="ignore"):
        points = meeting[:, :, :2] / meeting[:, :, 2:]
        flat, owner = points.reshape(-1, 2), everyone.repeat(len(ONE))
        seen = (heights(flat, owner) >= -SLACK).all(axis=0).reshape(count, -1)
        moved = _on_output(views.projected(flat, owner)).reshape(points.shape)
    few = np.argsort(~seen, axis=1, kind="stable")[:, : max(int(seen.sum(axis=1).max(initial=0)), 1)]
    both = np.where(seen[:, :, None], np.concatenate((points, moved), axis=2), np.nan)
    both = np.take_along_axis(both, few[:, :, None], axis=1)
    return both[:, :, :2], both[:, :, 2:]


def _inside(begins: np.ndarray, ends: np.ndarray, first: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(k, c): whether a corner lies in an outline, by the edges that a ray from it meets.

    begins, ends (m, 2) of the outlines' edges; corners (m, c, 2) of what is seen of an edge's canvas.
    """
    x1, y1, x2, y2 = (values[:, None] for values in (*begins.T, *ends.T))
    x, y = corners[:, :, 0], corners[:, :, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = ((y1 > y) != (y2 > y)) & (x < x1 + (y - y1) * ((x2 - x1) / (y2 - y1)))
    return np.logical_xor.reduceat(meets, first)


def _on_output(projected: np.ndarray) -> np.ndarray:
    """(m, 2) output pixels; what is behind the camera is held before it."""
    return (projected[:2] / np.maximum(projected[2], NEAREST)).T
