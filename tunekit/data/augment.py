"""One training sample: the order in which an image is augmented.

In: an `ImageSource`, an index, the settings, and a generator from which all chance comes. Out: an image
(h, w, 3) uint8 RGB and targets (n, 5) float32 class, x1, y1, x2, y2 in its pixels. Knows nothing of batches,
epochs or threads.

    mosaic | letterbox -> copy-paste -> view (scale, rotate, shear, tilt, shift)
    -> mixup -> cutmix -> HSV -> flips -> channels

The output may be a rectangle that one image fits into; mosaic, mixup and cutmix need a square of imgsz.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from tunekit.data import blend, colour
from tunekit.data.paste import with_objects_of, with_pasted_objects
from tunekit.data.scene import Scene, letterboxed, mosaic
from tunekit.data.view import take_view

if TYPE_CHECKING:
    from tunekit.args import TrainArgs
    from tunekit.data.cache import ImageSource


@dataclass(frozen=True)
class Augmentation:
    """How strongly to augment; the names, units and meanings of `TrainArgs`."""

    degrees: float
    translate: float
    scale: float
    shear: float
    perspective: float
    flipud: float
    fliplr: float
    bgr: float
    hsv_h: float
    hsv_s: float
    hsv_v: float
    mosaic: float
    mixup: float
    cutmix: float
    copy_paste: float
    copy_paste_mode: Literal["flip", "mixup"]

    @classmethod
    def from_args(cls, args: TrainArgs) -> Augmentation:
        return cls(**{field.name: getattr(args, field.name) for field in fields(cls)})


def augmented(
    source: ImageSource, index: int, augmentation: Augmentation, rng: np.random.Generator, *, mosaic: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A new image and its targets. `mosaic=False`: without anything that mixes or pastes (close_mosaic)."""
    image = np.empty((source.imgsz, source.imgsz, 3), np.uint8)
    return image, augment_into(image, source, index, augmentation, rng, mosaic=mosaic)


def augment_into(
    image: np.ndarray,
    source: ImageSource,
    index: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
    *,
    mosaic: bool,
) -> np.ndarray:
    """Draws the augmented image into `image`, C-contiguous (h, w, 3) uint8; its targets."""
    a = augmentation
    height, width = image.shape[:2]
    mixing, cutting, recolour, upside_down, sideways = rng.random(5).tolist()

    def partner() -> tuple[np.ndarray, np.ndarray]:
        other = np.empty_like(image)
        return other, _composed(other, source, int(rng.integers(len(source))), a, rng, mosaic)

    targets = _composed(image, source, index, a, rng, mosaic)
    if mosaic and mixing < a.mixup:
        targets = blend.mixup(image, targets, partner, rng)
    if mosaic and cutting < a.cutmix:
        targets = blend.cutmix(image, targets, partner, rng)

    swap = recolour < a.bgr
    if a.hsv_h or a.hsv_s or a.hsv_v:
        colour.jitter(image, (a.hsv_h, a.hsv_s, a.hsv_v), rng, swap=swap)
    elif swap:
        cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image)
    if upside_down < a.flipud:
        cv2.flip(image, 0, dst=image)
        targets[:, 2:5:2] = height - targets[:, 4:1:-2]
    if sideways < a.fliplr:
        cv2.flip(image, 1, dst=image)
        targets[:, 1:4:2] = width - targets[:, 3:0:-2]
    return targets


def _composed(
    image: np.ndarray,
    source: ImageSource,
    index: int,
    a: Augmentation,
    rng: np.random.Generator,
    mix: bool,
) -> np.ndarray:
    """Mosaic or letterbox, copy-paste, and the view of it."""
    several = mix and rng.random() < a.mosaic

    def canvas(index: int) -> Scene:
        return mosaic(source, index, rng) if several else letterboxed(source, index)

    scene = canvas(index)
    if mix and a.copy_paste:
        if a.copy_paste_mode == "flip":
            scene = with_pasted_objects(scene, a.copy_paste, rng)
        elif rng.random() < a.copy_paste:
            scene = with_objects_of(scene, canvas(int(rng.integers(len(source)))), a.copy_paste, rng)
    return take_view(scene, a, rng, image)
