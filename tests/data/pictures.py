"""An ImageSource in memory, with pictures on which every object has a colour of its own.

The background is black, the objects are plain rectangles, and each of their colours has a channel at 255:
a pixel that blends an object with anything else has not, so what is found by colour is that object alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.scene import FILL, Scene

_STRENGTHS = [name for name, kind in Augmentation.__annotations__.items() if kind == "float"]
NOTHING = Augmentation.from_args(TrainArgs(**dict.fromkeys(_STRENGTHS, 0.0)))  # type: ignore[arg-type]

TOLERANCE = 6  # of a channel; the objects' colours differ by 50


@dataclass
class Pictures:
    """The contract of tunekit.data.cache.ImageSource over arrays that are there."""

    images: Sequence[np.ndarray]  # (h, w, 3) uint8, long side imgsz
    boxes: Sequence[np.ndarray]  # (n, 5) float32 class, x, y, w, h normalised
    imgsz: int
    outlines: Sequence[tuple[np.ndarray | None, ...]] = ()  # of each picture's boxes, normalised
    names: tuple[str, ...] = tuple(str(i) for i in range(75))

    def __len__(self) -> int:
        return len(self.images)

    def image(self, i: int) -> np.ndarray:
        return self.images[i]

    def labels(self, i: int) -> np.ndarray:
        return self.boxes[i]

    @property
    def has_polygons(self) -> bool:
        return bool(self.outlines)

    def polygons(self, i: int) -> tuple[np.ndarray | None, ...]:
        return self.outlines[i] if self.outlines else (None,) * len(self.boxes[i])

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(f"images/{i}.jpg" for i in range(len(self)))

    @property
    def shapes(self) -> np.ndarray:
        return np.array([image.shape[:2] for image in self.images])


def colour_of(cls: int) -> np.ndarray:
    """The colour of a class: (255, g, b) and its rotations, 75 in all."""
    turn, rest = divmod(int(cls), 25)
    return np.roll(np.array([255, 50 * (rest // 5), 50 * (rest % 5)], np.uint8), turn)


def painted(n: int, imgsz: int, size: tuple[int, int] = (40, 30), seed: int = 0) -> Pictures:
    """`n` pictures, lying and standing, with one object of `size` (w, h) each; its class is the picture."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for i in range(n):
        w, h = (imgsz, imgsz * 3 // 4)[:: 1 if i % 2 else -1]
        image = np.zeros((h, w, 3), np.uint8)
        x, y = (int(rng.integers(4, outer - inner - 4)) for outer, inner in zip((w, h), size, strict=True))
        image[y : y + size[1], x : x + size[0]] = colour_of(i)
        image.flags.writeable = False
        images.append(image)
        box = (i, (x + size[0] / 2) / w, (y + size[1] / 2) / h, size[0] / w, size[1] / h)
        boxes.append(np.array([box], np.float32))
    return Pictures(images, boxes, imgsz)


def diamonds(n: int, imgsz: int, size: tuple[int, int] = (44, 44), seed: int = 0) -> Pictures:
    """`painted`, but of each rectangle only the diamond in it is there, which its outline tells."""
    source = painted(n, imgsz, size, seed)
    images, outlines = [], []
    for image, (box,) in zip(source.images, source.boxes, strict=True):
        x, y, w, h = box[1:].tolist()
        points = np.array([(x - w / 2, y), (x, y - h / 2), (x + w / 2, y), (x, y + h / 2)], np.float32)
        image = image.copy()
        middles = np.mgrid[: image.shape[0], : image.shape[1]].transpose(1, 2, 0) + 0.5
        off = np.abs(middles / image.shape[:2] - (y, x)) / (h / 2, w / 2)
        image[off.sum(axis=2) > 1] = 0
        images.append(image)
        outlines.append((points,))
    return Pictures(images, source.boxes, imgsz, outlines)


def classes_in(image: np.ndarray) -> np.ndarray:
    """(h, w) int: the class of the object at each pixel, -1 where there is none."""
    classes = np.full(image.shape[:2], -1)
    image = image.astype(int)
    for turn in range(3):
        top, a, b = np.moveaxis(np.roll(image, -turn, axis=2), 2, 0)
        near = [abs(channel - 50 * step) for channel in (a, b) for step in [(channel + 25) // 50]]
        pure = (top >= 255 - TOLERANCE) & (np.maximum(*near) <= TOLERANCE) & (np.maximum(a, b) <= 210)
        classes[pure] = (25 * turn + 5 * ((a + 25) // 50) + (b + 25) // 50)[pure]
    return classes


def mask_of(image: np.ndarray, cls: int) -> np.ndarray:
    """(h, w) bool: where the object of this class is."""
    return classes_in(image) == cls


def bounds(mask: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of what is set."""
    y, x = np.nonzero(mask)
    return np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])


def bounds_near(classes: np.ndarray, target: np.ndarray, margin: int) -> np.ndarray:
    """Where the target's object really is, looked for in its box and a margin around it."""
    x1, y1 = np.maximum(np.floor(target[1:3]).astype(int) - margin, 0)
    x2, y2 = np.ceil(target[3:]).astype(int) + margin
    return bounds(classes[y1:y2, x1:x2] == target[0]) + np.array((x1, y1, x1, y1))


def canvas_of(scene: Scene) -> np.ndarray:
    """The whole canvas, pixel by pixel: the slow, obvious version of `paint`."""
    canvas = np.full((scene.side, scene.side, 3), FILL, np.uint8)
    for tile in scene.tiles:
        for row, line in enumerate(tile.pixels):
            for column, pixel in enumerate(line):
                y, x = tile.y + row, tile.x + column
                there = tile.mask is None or tile.mask[row, column]
                if there and 0 <= y < scene.side and 0 <= x < scene.side:
                    canvas[y, x] = pixel
    return canvas
