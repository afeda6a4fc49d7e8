"""Colour jitter in HSV, in place on an RGB image (h, w, 3) uint8."""

from __future__ import annotations

import cv2
import numpy as np

STRIP = 40_000  # pixels at a time: they stay in the core's cache, and are too few for malloc to map anew
STEPS = 180  # of OpenCV's circle of hues in a byte; its variant with 256 comes back at another rate
STRAIGHT = cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, cv2.COLOR_HSV2BGR
MIRRORED = cv2.COLOR_BGR2HSV, cv2.COLOR_HSV2BGR, cv2.COLOR_HSV2RGB
ROOM = 255 - (STEPS - 1)  # steps that any hue can be raised by within the byte


def jitter(
    image: np.ndarray, gains: tuple[float, float, float], rng: np.random.Generator, *, swap: bool = False
) -> None:
    """Turns the hue by up to ±gains[0] of the circle, multiplies saturation and value by 1 ± gains[1:].

    `swap` exchanges red and blue, which costs nothing on the way back from HSV.
    """
    draws = rng.random(3).tolist()
    hue, saturation, value = (gain * (2 * draw - 1) for gain, draw in zip(gains, draws, strict=True))
    shift(image, hue, 1 + saturation, 1 + value, swap=swap)


def shift(image: np.ndarray, hue: float, saturation: float, value: float, *, swap: bool = False) -> None:
    """Adds `hue` (in turns of the circle), multiplies by `saturation` and `value`, which stop at full."""
    steps = round(hue * STEPS) % STEPS
    # Read as BGR, an image has its hues mirrored: raising those is lowering the true ones.
    lower = steps > STEPS // 2
    there, back, back_swapped = MIRRORED if lower else STRAIGHT
    steps = STEPS - steps if lower else steps
    # All three channels in one pass; the way back takes hues beyond the circle's end for what they are.
    change = np.array([[1, 0, 0, min(steps, ROOM)], [0, saturation, 0, 0], [0, 0, value, 0]])
    rows = max(STRIP // image.shape[1], 1)
    for first in range(0, len(image), rows):
        strip = image[first : first + rows]
        hsv = cv2.cvtColor(strip, there)
        if steps > ROOM:
            hsv[:, :, 0] = (hsv[:, :, 0] + np.uint8(steps - ROOM)) % STEPS
        cv2.transform(hsv, change, dst=hsv)
        cv2.cvtColor(hsv, back_swapped if swap else back, dst=strip)
