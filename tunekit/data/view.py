"""The random camera: translate, shear, rotate, scale and tilt the canvas, in one pass over its pixels.

In: a `Scene` and the ranges to draw from. Out: the image drawn into the caller's (imgsz, imgsz, 3) uint8
array, and targets (n, 5) float32 class, x1, y1, x2, y2 in its pixels. Knows nothing of where scenes come
from.

A point of the canvas goes to T·S·R·P·C: the canvas's centre to the origin, perspective, rotation with
scale, shear, and the origin to the (shifted) centre of the output. Coordinates are those of boxes: pixel
i covers [i, i+1), so pixels and boxes move by the same matrix without the half-pixel slip that comes from
giving OpenCV, whose pixel i sits at i, the matrix as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from tunekit.data.scene import FILL, Scene, paint

if TYPE_CHECKING:
    from tunekit.data.augment import Augmentation

SMALLEST_SIDE = 2.0  # pixels; a box keeps both sides above it,
SMALLEST_SHARE = 0.10  # more than this share of its (scaled) area in the image,
LARGEST_ASPECT = 100.0  # and a shape below this
NEAREST = 1e-6  # points of the canvas nearer to the camera, or behind it, are not seen


def take_view(
    scene: Scene, augmentation: Augmentation, rng: np.random.Generator, out: np.ndarray
) -> np.ndarray:
    """Draws a random view of the scene into `out`; its targets."""
    a = augmentation
    draws = rng.uniform(-1.0, 1.0, 8).tolist()
    scale = 1 + a.scale * draws[0]
    x, y = (len(out) * (0.5 + a.translate * draw) for draw in draws[1:3])
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
    return kept(scene.targets, moved(scene.targets, matrix), scale, len(out))


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
    """The view without turning or tilting: a square window of the canvas, resized.

    The window is snapped to whole canvas pixels (its middle moves by half a pixel at most, its edges by
    three quarters), and the boxes move with it: this is exact, and three times as fast as a warp.
    """
    size = len(out)
    window = max(round(size / scale), 1)
    left, top = (round(scene.side / 2 + (size / 2 - at) / scale - window / 2) for at in (x, y))
    if window == size:
        paint(scene, left, top, out)
    else:
        pixels = np.empty((window, window, 3), np.uint8)
        paint(scene, left, top, pixels)
        cv2.resize(pixels, (size, size), dst=out, interpolation=cv2.INTER_LINEAR)
    scale = size / window
    new = scene.targets.copy()
    new[:, 1:] = (new[:, 1:] - np.array((left, top, left, top), np.float32)) * np.float32(scale)
    return kept(scene.targets, new, scale, size)


def warp(scene: Scene, matrix: np.ndarray, out: np.ndarray) -> None:
    """Draws the canvas through `matrix` (canvas to output) into `out`, painting only what will be seen."""
    size = len(out)
    back = np.linalg.inv(matrix)
    corners = back @ np.array([[0, size, size, 0], [0, 0, size, size], [1, 1, 1, 1]])
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
        (size, size),
        dst=out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(FILL, FILL, FILL),
    )
    if horizon:
        x = np.arange(size) + 0.5
        behind = back[2, 0] * x + (back[2, 1] * x + back[2, 2])[:, None] <= NEAREST
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


def kept(before: np.ndarray, after: np.ndarray, scale: float, size: int) -> np.ndarray:
    """The targets `after`, clipped to the output, of which enough of what was there `before` is in it."""
    np.clip(after[:, 1:], 0, size, out=after[:, 1:])
    w, h = (after[:, 3:] - after[:, 1:3]).T
    was = (before[:, 3:] - before[:, 1:3]).prod(axis=1) * np.float32(scale * scale)
    large = (w > SMALLEST_SIDE) & (h > SMALLEST_SIDE) & (w * h > SMALLEST_SHARE * was)
    slim = np.maximum(w, h) < LARGEST_ASPECT * np.minimum(w, h)
    return after[large & slim]
