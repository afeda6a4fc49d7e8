"""Colour jitter in HSV, in place on an RGB image (h, w, 3) uint8."""

from __future__ import annotations

import cv2
import numpy as np

STRIP = 40_000  # pixels at a time: they stay in the core's cache, and are too few for malloc to map anew


def jitter(
    image: np.ndarray, gains: tuple[float, float, float], rng: np.random.Generator, *, swap: bool = False
) -> None:
    """Turns the hue by up to ±gains[0] of the circle, multiplies saturation and value by 1 ± gains[1:].

    `swap` exchanges red and blue, which costs nothing on the way back from HSV.
    """
    hue, saturation, value = (np.array(gains) * rng.uniform(-1, 1, 3)).tolist()
    shift(image, hue, 1 + saturation, 1 + value, swap=swap)


def shift(image: np.ndarray, hue: float, saturation: float, value: float, *, swap: bool = False) -> None:
    """Adds `hue` (in turns of the circle), multiplies by `saturation` and `value`, which stop at full."""
    # OpenCV's hue in a byte has 180 steps to the circle; its 256-step variant comes back at another rate.
    hues = ((np.arange(256) + round(hue * 180)) % 180).astype(np.uint8)
    back = cv2.COLOR_HSV2BGR if swap else cv2.COLOR_HSV2RGB
    rows = max(STRIP // image.shape[1], 1)
    for first in range(0, len(image), rows):
        strip = image[first : first + rows]
        h, s, v = planes = cv2.split(cv2.cvtColor(strip, cv2.COLOR_RGB2HSV))
        cv2.LUT(h, hues, dst=h)
        # For a mere product the vector units are faster than a table.
        cv2.convertScaleAbs(s, dst=s, alpha=saturation)
        cv2.convertScaleAbs(v, dst=v, alpha=value)
        cv2.cvtColor(cv2.merge(planes), back, dst=strip)
