"""Pictures with handwritten digits: small ink maps in, an RGB scene and tight boxes out.

Pure functions of their inputs and a random generator; knows nothing of files, splits or classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

INK_EDGE = 0.35  # how much ink a pixel needs to lie inside a digit's box
OVERLAP = 0.05  # the share of a digit's box that another may cover
CONTRAST = 55.0  # least difference in grey levels of a digit from what is behind it
TRIES = 40  # places tried for a digit before it is left out of a full scene


@dataclass(frozen=True)
class Scene:
    image: np.ndarray  # (side, side, 3) uint8 RGB
    boxes: np.ndarray  # (n, 4) float64 x1, y1, x2, y2 in pixels
    drawn: tuple[int, ...]  # which of the digits given each box is of


def compose(
    digits: Iterable[np.ndarray], sizes: Iterable[float], side: int, rng: np.random.Generator
) -> Scene:
    """A textured scene with each of `digits` (8 x 8 ink, 0..1) drawn once, long side about `sizes` pixels."""
    image = _background(side, rng)
    boxes: list[tuple[int, int, int, int]] = []
    drawn = []
    for number, (digit, size) in enumerate(zip(digits, sizes, strict=True)):
        ink = _enlarge(digit, size, rng)
        place = _free_place(ink, boxes, side, rng)
        if place is None:
            continue
        x, y = place
        height, width = ink.shape
        ground = image[y : y + height, x : x + width]
        colour = _ink_colour(ground, rng)
        ground += ink[:, :, None] * (colour - ground)
        boxes.append(_box(ink, x, y))
        drawn.append(number)
    image += rng.normal(0, rng.uniform(1, 7), image.shape)  # the sensor's noise lies on digits too
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return Scene(pixels, np.array(boxes, np.float64).reshape(-1, 4), tuple(drawn))


def _background(side: int, rng: np.random.Generator) -> np.ndarray:
    """(side, side, 3) float32: two colours flowing into each other, stains of many sizes, lines."""
    first = rng.uniform(35, 220, 3)
    second = np.clip(first + rng.uniform(-60, 60, 3), 20, 235)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    blend = np.clip(0.5 + (np.cos(angle) * x + np.sin(angle) * y) * rng.uniform(0.4, 1.2), 0, 1)
    image = first + blend[:, :, None] * (second - first)
    for cells in (3, 8, 20, 50):
        stains = rng.normal(0, rng.uniform(1, 9), (cells, cells, 3))
        stains[:, :, :] += stains.mean(axis=2, keepdims=True)  # more light and shade than colour
        image += cv2.resize(stains, (side, side), interpolation=cv2.INTER_CUBIC)
    image = image.astype(np.float32)
    for _ in range(rng.integers(0, 7)):
        start, end = rng.integers(-side // 4, side + side // 4, (2, 2)).tolist()
        colour = image[rng.integers(side), rng.integers(side)] + rng.uniform(-35, 35)
        cv2.line(image, start, end, colour.tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)
    return image


def _enlarge(digit: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """The digit's ink at `size` pixels, 0..1: smooth strokes, turned, stretched and blurred a little."""
    canvas = cv2.resize(np.pad(digit.astype(np.float32), 3), (112, 112), interpolation=cv2.INTER_CUBIC)
    turn = cv2.getRotationMatrix2D((55.5, 55.5), rng.uniform(-15, 15), 1.0)
    canvas = cv2.warpAffine(canvas, turn, (112, 112), flags=cv2.INTER_LINEAR)
    edge = rng.uniform(0.25, 0.45)  # a thick pen or a thin one
    strokes = np.clip((canvas - edge) / 0.3, 0, 1)
    rows, columns = np.flatnonzero(strokes.any(axis=1)), np.flatnonzero(strokes.any(axis=0))
    strokes = strokes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = strokes.shape[0], strokes.shape[1] * rng.uniform(0.85, 1.15)
    ratio = size / max(height, width)
    shape = max(3, round(width * ratio)), max(3, round(height * ratio))
    ink = np.pad(cv2.resize(strokes, shape, interpolation=cv2.INTER_AREA), 2)
    return cv2.GaussianBlur(ink, (5, 5), rng.uniform(0.3, 1.0))


def _free_place(
    ink: np.ndarray, boxes: list[tuple[int, int, int, int]], side: int, rng: np.random.Generator
) -> tuple[int, int] | None:
    """A corner x, y where the digit fits and covers next to nothing of the others."""
    height, width = ink.shape
    if max(height, width) > side:
        return None
    for _ in range(TRIES):
        x, y = int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))
        box = _box(ink, x, y)
        if all(_covered(box, other) <= OVERLAP for other in boxes):
            return x, y
    return None


def _box(ink: np.ndarray, x: int, y: int) -> tuple[int, int, int, int]:
    inside = ink >= INK_EDGE * ink.max()
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1


def _covered(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """The common area as a share of the smaller box."""
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return max(0, width) * max(0, height) / min(areas)


def _ink_colour(ground: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A colour clearly brighter or darker than what is behind the digit."""
    grey = float(ground.mean())
    ways = [way for way in (-1, 1) if 0 <= grey + way * (CONTRAST + 20) <= 255]
    way = ways[rng.integers(len(ways))]
    room = 255 - grey if way > 0 else grey
    level = grey + way * rng.uniform(CONTRAST, max(CONTRAST, min(150, room)))
    tint = rng.uniform(-45, 45, 3)
    return np.clip(level + tint - tint.mean(), 0, 255).astype(np.float32)
