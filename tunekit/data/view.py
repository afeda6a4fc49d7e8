"""The random camera: translate, shear, rotate, scale and tilt the canvas, in one pass over its pixels.

In: a `Scene` and the ranges to draw from. Out: the image drawn into the caller's (h, w, 3) uint8 array, and
targets (n, 5) float32 class, x1, y1, x2, y2 in its pixels. The box of an object with an outline is the one
around what is seen of it. Knows nothing of where scenes come from.

A point of the canvas goes to T·S·R·P·C: the canvas's centre to the origin, perspective, rotation with
scale, shear, and the origin to the (shifted) centre of the output. Coordinates are those of boxes: pixel
i covers [i, i+1), so pixels and boxes move by the same matrix without the half-pixel slip that comes from
giving OpenCV, whose pixel i sits at i, the matrix as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from tunekit.data.polygons import Region, bounds_within, cut, rectangle
from tunekit.data.scene import FILL, Scene, paint

if TYPE_CHECKING:
    from tunekit.data.augment import Augmentation

SMALLEST_SIDE = 2.0  # pixels; a box keeps both sides above it,
SMALLEST_SHARE = 0.10  # more than this share of its (scaled) area in the image,
SMALLEST_SHARE_OF_OUTLINED = 0.01  # (of which the box is sure to enclose something of the object)
LARGEST_ASPECT = 100.0  # and a shape below this
NEAREST = 1e-6  # points of the canvas nearer to the camera, or behind it, are not seen


def take_view(
    scene: Scene, augmentation: Augmentation, rng: np.random.Generator, out: np.ndarray
) -> np.ndarray:
    """Draws a random view of the scene into `out`; its targets."""
    a = augmentation
    draws = [2 * draw - 1 for draw in rng.random(8).tolist()]
    scale = 1 + a.scale * draws[0]
    height, width = out.shape[:2]
    x, y = width * (0.5 + a.translate * draws[1]), height * (0.5 + a.translate * draws[2])
    upright = not (a.degrees or a.shear or a.perspective)
    # Below half size the window would be larger than any canvas: there the general way reads less.
    if upright and scale >= 0.5:
        return _zoomed(scene, scale, x, y, out)
    matrix = view_matrix(
        scene.side,
        scale=scale,
        degrees=a.degrees * draws[3],
        shear=(a.shear * draws[4], a.shear * draws[5]),
        perspective=(a.perspective * draws[6], a.perspective * draws[7]),
        centre=(x, y),
    )
    warp(scene, matrix, out)
    new = moved(scene.targets, matrix)
    if scene.polygons is None:
        return kept(scene.targets, new, scale, (width, height))
    region = seen_region(scene.side, matrix, (width, height))
    outlined = scene.polygons.corners > 0
    new[outlined, 1:] = bounds_within(scene.polygons.chosen(outlined), region, matrix)
    return kept(scene.targets, new, scale, (width, height), _share(outlined))


def view_matrix(
    side: int,
    *,
    scale: float = 1.0,
    degrees: float = 0.0,
    shear: tuple[float, float] = (0.0, 0.0),
    perspective: tuple[float, float] = (0.0, 0.0),
    centre: tuple[float, float],
) -> np.ndarray:
    """(3, 3) float64 from canvas to output pixels; `centre` is where the canvas's centre goes."""
    c = np.array([[1, 0, -side / 2], [0, 1, -side / 2], [0, 0, 1]])
    p = np.array([[1, 0, 0], [0, 1, 0], [*perspective, 1]])
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    r = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])  # anticlockwise as seen, y points down
    sx, sy = np.tan(np.radians(shear))
    s = np.array([[1, sx, 0], [sy, 1, 0], [0, 0, 1]])
    t = np.array([[1, 0, centre[0]], [0, 1, centre[1]], [0, 0, 1]])
    return t @ s @ r @ p @ c


def _zoomed(scene: Scene, scale: float, x: float, y: float, out: np.ndarray) -> np.ndarray:
    """The view without turning or tilting: a window of the canvas, resized.

    The window is snapped to whole canvas pixels (its middle moves by half a pixel at most, its edges by
    three quarters), and the boxes move with it: this is exact, and three times as fast as a warp.
    """
    height, width = out.shape[:2]
    w, h = max(round(width / scale), 1), max(round(height / scale), 1)
    left = round(scene.side / 2 + (width / 2 - x) / scale - w / 2)
    top = round(scene.side / 2 + (height / 2 - y) / scale - h / 2)
    if (w, h) == (width, height):
        paint(scene, left, top, out)
    else:
        pixels = np.empty((h, w, 3), np.uint8)
        paint(scene, left, top, pixels)
        cv2.resize(pixels, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    zoom_x, zoom_y = width / w, height / h
    scale = (zoom_x * zoom_y) ** 0.5
    new = scene.targets.copy()
    new[:, 1:] -= np.array((left, top, left, top), np.float32)
    new[:, 1:] *= np.array((zoom_x, zoom_y, zoom_x, zoom_y), np.float32)
    if scene.polygons is None:
        return kept(scene.targets, new, scale, (width, height))
    first = max(left, 0), max(top, 0)
    last = min(left + w, scene.side), min(top + h, scene.side)
    outlined = scene.polygons.corners > 0
    boxes = scene.targets[:, 1:]
    whole = (boxes[:, :2] > first).all(axis=1) & (boxes[:, 2:] < last).all(axis=1)
    cut_off = outlined & ~whole  # the others' boxes are right as they are
    matrix = np.array([[zoom_x, 0, -left * zoom_x], [0, zoom_y, -top * zoom_y], [0, 0, 1]])
    new[cut_off, 1:] = bounds_within(scene.polygons.chosen(cut_off), rectangle(*first, *last), matrix)
    return kept(scene.targets, new, scale, (width, height), _share(outlined))


def warp(scene: Scene, matrix: np.ndarray, out: np.ndarray) -> None:
    """Draws the canvas through `matrix` (canvas to output) into `out`, painting only what will be seen."""
    height, width = out.shape[:2]
    back = np.linalg.inv(matrix)
    corners = back @ np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]])
    left, top, right, bottom = 0, 0, scene.side, scene.side
    horizon = (corners[2] <= NEAREST).any()
    if not horizon:  # else the corners do not bound what is seen
        seen = corners[:2] / corners[2]
        (a, b), (c, d) = np.floor(seen.min(axis=1)) - 2, np.ceil(seen.max(axis=1)) + 2
        left, top, right, bottom = int(max(a, 0)), int(max(b, 0)), int(min(c, right)), int(min(d, bottom))
    if left >= right or top >= bottom:
        out.fill(FILL)
        return
    pixels = np.empty((bottom - top, right - left, 3), np.uint8)
    paint(scene, left, top, pixels)
    to_centres = np.array([[1, 0, -0.5 - left], [0, 1, -0.5 - top], [0, 0, 1]])
    from_centres = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    cv2.warpPerspective(
        pixels,
        to_centres @ back @ from_centres,
        (width, height),
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(FILL, FILL, FILL),
    )
    if horizon:
        x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
        behind = back[2, 0] * x + (back[2, 1] * y + back[2, 2])[:, None] <= NEAREST
        out[behind] = FILL


def moved(targets: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Targets whose boxes enclose the four moved corners; an empty box where one is behind the camera."""
    corners = np.ones((len(targets), 4, 3))
    corners[:, :, :2] = targets[:, [1, 2, 3, 2, 3, 4, 1, 4]].reshape(-1, 4, 2)
    corners = corners @ matrix.T
    in_front = corners[:, :, 2:] > NEAREST
    points = corners[:, :, :2] / np.where(in_front, corners[:, :, 2:], 1.0)
    points = np.where(in_front.all(axis=1, keepdims=True), points, 0.0)
    new = np.empty_like(targets)
    new[:, 0] = targets[:, 0]
    new[:, 1:3], new[:, 3:] = points.min(axis=1), points.max(axis=1)
    return new


def seen_region(side: int, matrix: np.ndarray, size: tuple[int, int]) -> Region:
    """The part of the canvas that is before the camera and in an output of `size` (w, h)."""
    x, y, depth = matrix
    edges = np.array([depth, x, y, size[0] * depth - x, size[1] * depth - y])
    edges[0, 2] -= NEAREST
    return cut(rectangle(0, 0, side, side), edges)


def _share(outlined: np.ndarray) -> np.ndarray:
    return np.where(outlined, SMALLEST_SHARE_OF_OUTLINED, SMALLEST_SHARE)


def kept(
    before: np.ndarray,
    after: np.ndarray,
    scale: float,
    size: int | tuple[int, int],
    share: float | np.ndarray = SMALLEST_SHARE,
) -> np.ndarray:
    """The targets `after`, clipped to the output, of which enough of what was there `before` is in it."""
    width, height = (size, size) if isinstance(size, int) else size
    np.minimum(after[:, 1:], np.array((width, height, width, height), np.float32), out=after[:, 1:])
    np.maximum(after[:, 1:], 0, out=after[:, 1:])
    w, h = after[:, 3] - after[:, 1], after[:, 4] - after[:, 2]
    was = (before[:, 3] - before[:, 1]) * (before[:, 4] - before[:, 2])
    short, long = np.minimum(w, h), np.maximum(w, h)
    enough = w * h > was * (share * scale * scale)
    return after[(short > SMALLEST_SIDE) & (long < LARGEST_ASPECT * short) & enough]
