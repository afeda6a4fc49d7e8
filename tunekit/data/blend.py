"""Two augmented images become one: MixUp and CutMix, in place on the first.

Images are (s, s, 3) uint8, targets (n, 5) float32 class, x1, y1, x2, y2 in pixels. The partner is a
function that makes the second image and its targets, called only when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from tunekit.data.scene import covered

Partner = Callable[[], tuple[np.ndarray, np.ndarray]]
RECTANGLES = 3  # CutMix looks so often for a rectangle that no object lies in
SMALLEST_SHARE = 0.10  # an object of the partner's comes along with at least this share in the rectangle


def mixup(image: np.ndarray, targets: np.ndarray, partner: Partner, rng: np.random.Generator) -> np.ndarray:
    """Blends with the partner, nearly half and half (Beta(32, 32)); the objects of both."""
    ratio = float(rng.beta(32.0, 32.0))
    other, more = partner()
    cv2.addWeighted(image, ratio, other, 1 - ratio, 0, dst=image)
    return np.concatenate((targets, more))


def cutmix(image: np.ndarray, targets: np.ndarray, partner: Partner, rng: np.random.Generator) -> np.ndarray:
    """Replaces a rectangle that holds no object by the partner's, with the objects in it.

    The rectangle's share of the image is Beta(1, 1), its centre anywhere. Nothing happens when no free
    rectangle is found, or when the partner has no object in it.
    """
    rectangles = _rectangles(len(image), rng)
    taken = (covered(targets[:, 1:], by=rectangles) > 0).any(axis=1)
    free = ~taken & (rectangles[:, 2:] > rectangles[:, :2]).all(axis=1)
    if not free.any():
        return targets
    rectangle = rectangles[free.argmax()]
    other, more = partner()
    inside = covered(more[:, 1:], by=rectangle[None])[0] >= SMALLEST_SHARE
    if not inside.any():
        return targets
    more = more[inside]
    x1, y1, x2, y2 = rectangle.astype(int).tolist()
    image[y1:y2, x1:x2] = other[y1:y2, x1:x2]
    np.clip(more[:, 1::2], x1, x2, out=more[:, 1::2])
    np.clip(more[:, 2::2], y1, y2, out=more[:, 2::2])
    return np.concatenate((targets, more))


def _rectangles(size: int, rng: np.random.Generator) -> np.ndarray:
    """(3, 4) float32 xyxy at whole pixels, cut off at the image's edges."""
    side = np.floor(size * np.sqrt(1 - rng.beta(1.0, 1.0, RECTANGLES)))[:, None]
    corner = rng.integers(0, size, (RECTANGLES, 2)) - side // 2
    return np.concatenate((corner, corner + side), axis=1).clip(0, size).astype(np.float32)
