"""The random camera over P canvases at once: matrices, and boxes moved by them.

In: sides of canvases, the ranges to draw from, and chance. Out: (P, 3, 3) float64 matrices from canvas to
output pixels, and targets as they are seen. The meaning of a matrix and the rules by which a box is kept
are those of tunekit/data/view.py. Knows nothing of pixels.
"""

from __future__ import annotations

import numpy as np

from tunekit.data.augment import Augmentation
from tunekit.data.gpu.canvas import Objects
from tunekit.data.gpu.outlines import Views, seen_bounds
from tunekit.data.view import NEAREST, SMALLEST_SHARE, SMALLEST_SHARE_OF_OUTLINED, kept


def views(
    sides: np.ndarray, size: int, augmentation: Augmentation, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(P, 3, 3) matrices and (P,) scales, for an output of size x size; draws (P, 8) in [0, 1)."""
    a = augmentation
    draws = 2 * draws - 1
    scale = 1 + a.scale * draws[:, 0]
    matrix = matrices(
        sides,
        scale=scale,
        degrees=a.degrees * draws[:, 3],
        shear=a.shear * draws[:, 4:6],
        perspective=a.perspective * draws[:, 6:8],
        centre=size * (0.5 + a.translate * draws[:, 1:3]),
    )
    return matrix, scale


def matrices(
    sides: np.ndarray,
    *,
    scale: np.ndarray,
    degrees: np.ndarray,
    shear: np.ndarray,
    perspective: np.ndarray,
    centre: np.ndarray,
) -> np.ndarray:
    """(P, 3, 3): `view_matrix` for P canvases; shear, perspective and centre (P, 2), the others (P,)."""
    c, p, r, s, t = np.tile(np.eye(3), (5, len(sides), 1, 1))
    c[:, :2, 2] = -sides[:, None] / 2
    p[:, 2, :2] = perspective
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    r[:, 0, 0], r[:, 0, 1], r[:, 1, 0], r[:, 1, 1] = cos, sin, -sin, cos
    s[:, 0, 1], s[:, 1, 0] = np.tan(np.radians(shear)).T
    t[:, :2, 2] = centre
    return t @ s @ r @ p @ c


def seen(
    objects: Objects, sides: np.ndarray, matrix: np.ndarray, scale: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Canvas numbers (n,) and targets (n, 5), in output pixels, of what is seen enough of."""
    canvas, outlines = objects.canvas, objects.outlines
    before = objects.targets.copy()
    before[:, 0] = np.arange(len(before))  # `kept` carries the first number along
    after = moved(before, matrix[canvas])
    share: float | np.ndarray = SMALLEST_SHARE
    if outlines is not None:
        outlined = outlines.corners > 0
        after[outlined, 1:] = seen_bounds(outlines, canvas, Views(sides, matrix, size))[outlined]
        share = np.where(outlined, SMALLEST_SHARE_OF_OUTLINED, SMALLEST_SHARE)
    before[:, 1:] *= scale[canvas, None]  # each has its own, so `kept` is told of scale 1
    after = kept(before, after, 1.0, size, share)
    rows = after[:, 0].astype(np.int64)
    after[:, 0] = objects.targets[rows, 0]
    return canvas[rows], after


def moved(targets: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Targets (n, 5) whose boxes enclose the four corners, each moved by its own matrix (n, 3, 3).

    An empty box where a corner is behind the camera.
    """
    corners = np.ones((len(targets), 4, 3))
    corners[:, :, :2] = targets[:, [1, 2, 3, 2, 3, 4, 1, 4]].reshape(-1, 4, 2)
    corners = corners @ matrix.transpose(0, 2, 1)
    in_front = corners[:, :, 2:] > NEAREST
    points = corners[:, :, :2] / np.where(in_front, corners[:, :, 2:], 1.0)
    points = np.where(in_front.all(axis=1, keepdims=True), points, 0.0)
    new = np.empty_like(targets)
    new[:, 0] = targets[:, 0]
    new[:, 1:3], new[:, 3:] = points.min(axis=1), points.max(axis=1)
    return new
