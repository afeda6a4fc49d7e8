"""Colour jitter in HSV, in place on an RGB image (h, w, 3) uint8."""

from __future__ import annotations

import cv2
import numpy as np


def jitter(
    image: np.ndarray, gains: tuple[float, float, float], rng: np.random.Generator, *, swap: bool = False
) -> None:
    """Turns the hue by up to ±gains[0] of the circle, multiplies saturation and value by 1 ± gains[1:].

    `swap` exchanges red and blue, which costs nothing on the way back from HSV.
    """
    hue, saturation, value = (gain * draw for gain, draw in zip(gains, rng.uniform(-1, 1, 3).tolist()))
    # HSV_FULL counts the hue in 256ths of the circle, so that uint8 wraps as the circle does.
    planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
    h, s, v = planes
    np.add(h, np.uint8(round(hue * 256) % 256), out=h)
    cv2.convertScaleAbs(s, dst=s, alpha=1 + saturation)
    cv2.convertScaleAbs(v, dst=v, alpha=1 + value)
    back = cv2.COLOR_HSV2BGR_FULL if swap else cv2.COLOR_HSV2RGB_FULL
    cv2.cvtColor(cv2.merge(planes), back, dst=image)
