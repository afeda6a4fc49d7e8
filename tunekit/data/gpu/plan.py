"""One batch, decided: everything but the pixels.

In: an `Album`, which images, chance and the settings. Out: a `Plan`, NumPy arrays of a few numbers an
image, and the boxes. The order and the chances are those of augment.py and blend.py. Knows nothing of
devices.

A sample's picture, and the pictures that MixUp and CutMix add to it, are all of one kind: a canvas seen
through a matrix. There are P of them: first the B samples' own, then MixUp's, then CutMix's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunekit.data.augment import Augmentation
from tunekit.data.blend import SMALLEST_SHARE
from tunekit.data.gpu.canvas import LEFT, TOP, Canvases, laid_out, objects
from tunekit.data.gpu.chance import Chance
from tunekit.data.gpu.store import Album
from tunekit.data.gpu.view import seen, views

HUE_STEPS = 180  # OpenCV's circle of hues in a byte
SIXTHS = np.array([5.0, 3.0, 1.0])  # of the circle: where the lack of red, green and blue is counted from


@dataclass(frozen=True)
class Pictures:
    """P pictures: where each output pixel is looked for."""

    back: np.ndarray  # (P, 9) float32: from output to canvas pixels, both counted at pixels' middles
    corner: np.ndarray  # (P, 2) int32 x, y: where the four tiles meet
    reach: np.ndarray  # (P, 4, 2) int32: pixels of a tile from the corner on along x, y
    width: np.ndarray  # (P, 4) int32 of the tile's image
    base: np.ndarray  # (P, 4) int64: the row of the store that the pixel right below the corner would be


@dataclass(frozen=True)
class Overlays:
    """K pictures that are blended into samples, one at most into each."""

    rows: np.ndarray  # (K,) int64: into which, ascending
    rectangle: np.ndarray  # (K, 4) float32 xyxy: where, in the finished image
    weight: np.ndarray  # (K,) float32: how much of it is seen there


@dataclass(frozen=True)
class Plan:
    size: int  # of the output
    turned: bool  # some matrix does more than zoom and shift
    pictures: Pictures
    overlays: tuple[Overlays, Overlays]  # MixUp's and CutMix's, whose pictures follow the samples'
    colour: np.ndarray | None  # (B, 5) float32, see colour.py
    records: np.ndarray  # (B,) int64
    rows: np.ndarray  # (n,) int64 ascending: the sample of each box
    classes: np.ndarray  # (n,) int64
    boxes: np.ndarray  # (n, 4) float32 xyxy


@dataclass(frozen=True)
class _Seen:
    """Pictures, and what is to be seen in them."""

    rows: np.ndarray  # (P,) the samples that they are part of
    canvases: Canvases
    matrix: np.ndarray  # (P, 3, 3) from canvas to output pixels
    picture: np.ndarray  # (n,) in which of these pictures a target is
    targets: np.ndarray  # (n, 5) class, x1, y1, x2, y2 in output pixels


def planned(album: Album, records: np.ndarray, chance: Chance, a: Augmentation, *, mosaic: bool) -> Plan:
    """The batch of the images `records` (B,). `mosaic=False`: without anything that mixes (close_mosaic)."""
    size = album.imgsz
    mixing, cutting, recolour, upside_down, sideways = chance.choices.T

    def look(rows: np.ndarray, images: np.ndarray, draws: np.ndarray) -> _Seen:
        canvases = laid_out(album, images, draws[:, 1:7], a.mosaic if mosaic else 0.0)
        matrix, scale = views(canvases.side, size, a, draws[:, 7:])
        found = seen(objects(album, canvases), canvases.side, matrix, scale, size)
        return _Seen(rows, canvases, matrix, *found)

    def partners(rows: np.ndarray, draws: np.ndarray) -> _Seen:
        return look(rows, (draws[:, 0] * len(album)).astype(np.int64), draws)

    own = look(np.arange(len(records)), records, chance.own)
    rows = np.flatnonzero(mosaic & (mixing < a.mixup))
    mixed = partners(rows, chance.mixed[rows])
    weight = 1 - np.median(chance.ratio, axis=1)[rows]  # the median of 63 uniform numbers is Beta(32, 32)

    rows = np.flatnonzero(mosaic & (cutting < a.cutmix))
    rows, rectangle = _free(rows, _rectangles(chance.rectangles[rows], size), own, mixed)
    cut, rectangle = _cut_out(partners(rows, chance.cut[rows]), rectangle)

    parts = (own, mixed, cut)
    flips = np.column_stack((sideways < a.fliplr, upside_down < a.flipud))
    found = np.concatenate([part.targets for part in parts])
    rows = np.concatenate([part.rows[part.picture] for part in parts])
    order = np.argsort(rows, kind="stable")
    rows, found = rows[order], found[order]
    everywhere = np.tile(np.array([0, 0, size, size], np.float32), (len(mixed.rows), 1))
    return Plan(
        size=size,
        turned=bool(a.degrees or a.shear or a.perspective),
        pictures=_pictures(album, parts, flips, size),
        overlays=(
            Overlays(mixed.rows, everywhere, weight.astype(np.float32)),
            Overlays(
                cut.rows, _flipped(rectangle, flips[cut.rows], size), np.ones(len(cut.rows), np.float32)
            ),
        ),
        colour=_colour(chance.colour, recolour < a.bgr, a),
        records=records,
        rows=rows,
        classes=found[:, 0].astype(np.int64),
        boxes=_flipped(found[:, 1:], flips[rows], size),
    )


def _rectangles(draws: np.ndarray, size: int) -> np.ndarray:
    """(K, 3, 4) float32 xyxy at whole pixels, cut off at the image's edges: CutMix's candidates."""
    draws = draws.reshape(-1, 3, 3)
    side = np.floor(size * np.sqrt(1 - draws[:, :, :1]))  # Beta(1, 1) is uniform
    corner = np.floor(size * draws[:, :, 1:]) - side // 2
    return np.concatenate((corner, corner + side), axis=2).clip(0, size).astype(np.float32)


def _free(rows: np.ndarray, rectangles: np.ndarray, *parts: _Seen) -> tuple[np.ndarray, np.ndarray]:
    """Those of the samples that have a rectangle without any object, and the first such (K, 4)."""
    usable = np.asarray((rectangles[:, :, 2:] > rectangles[:, :, :2]).all(axis=2))
    for part in parts:
        samples = part.rows[part.picture]
        at = np.searchsorted(rows, samples)
        concerned = np.flatnonzero(np.isin(samples, rows))
        at = at[concerned]
        touched = _overlap(part.targets[concerned, None, 1:], rectangles[at]) > 0  # (n, 3)
        target, number = np.nonzero(touched)
        usable[at[target], number] = False
    found = usable.any(axis=1)
    return rows[found], rectangles[found, usable[found].argmax(axis=1)]


def _cut_out(partner: _Seen, rectangle: np.ndarray) -> tuple[_Seen, np.ndarray]:
    """The partners that have an object in their rectangle (K, 4), with what of it is in there."""
    targets, window = partner.targets, rectangle[partner.picture]
    area = (targets[:, 3:] - targets[:, 1:3]).prod(axis=1)
    inside = _overlap(targets[:, 1:], window) >= SMALLEST_SHARE * (area + 1e-7)
    targets, window, picture = targets[inside], window[inside], partner.picture[inside]
    targets[:, 1:3] = np.maximum(targets[:, 1:3], window[:, :2])
    targets[:, 3:] = np.minimum(targets[:, 3:], window[:, 2:])
    used, picture = np.unique(picture, return_inverse=True)
    kept = _Seen(partner.rows[used], partner.canvases[used], partner.matrix[used], picture, targets)
    return kept, rectangle[used]


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(...,) pixels that boxes (..., 4) share pairwise."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return sides.clip(0).prod(axis=-1)


def _flipped(boxes: np.ndarray, flips: np.ndarray, size: int) -> np.ndarray:
    """Boxes (n, 4) after the flips (n, 2) sideways, upside down of an image of this size."""
    x1, y1, x2, y2 = boxes.T
    mirrored = np.column_stack((size - x2, size - y2, size - x1, size - y1))
    return np.where(np.tile(flips, 2), mirrored, boxes)


def _pictures(album: Album, parts: tuple[_Seen, ...], flips: np.ndarray, size: int) -> Pictures:
    rows = np.concatenate([part.rows for part in parts])
    corner = np.concatenate([part.canvases.corner for part in parts])
    images = np.concatenate([part.canvases.images for part in parts])
    reach = np.concatenate([part.canvases.reach for part in parts])
    matrix = np.concatenate([part.matrix for part in parts])
    height, width = album.shapes[images].transpose(2, 0, 1)
    return Pictures(
        back=_back(matrix, flips[rows], size).reshape(-1, 9).astype(np.float32),
        corner=corner.astype(np.int32),
        reach=reach.astype(np.int32),
        width=width.astype(np.int32),
        # A tile that ends at the corner has its own first pixel that many rows and columns before it.
        base=album.first[images] + np.where(TOP, height, 0) * width + np.where(LEFT, width, 0),
    )


def _back(matrix: np.ndarray, flips: np.ndarray, size: int) -> np.ndarray:
    """(P, 3, 3) from (flipped) output pixels to canvas pixels; pixel i is where its middle is."""
    flip = np.tile(np.eye(3), (len(matrix), 1, 1))
    flip[:, [0, 1], [0, 1]] = np.where(flips, -1, 1)
    flip[:, :2, 2] = np.where(flips, size, 0)  # its own inverse
    to_middles = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    from_middles = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return to_middles @ np.linalg.inv(matrix) @ flip @ from_middles


def _colour(draws: np.ndarray, swap: np.ndarray, a: Augmentation) -> np.ndarray | None:
    """(B, 5) float32: where each channel's lack of colour is counted from, gains of saturation and value."""
    if not (a.hsv_h or a.hsv_s or a.hsv_v or a.bgr):
        return None
    gains = (2 * draws - 1) * (a.hsv_h, a.hsv_s, a.hsv_v)
    turn = np.round(gains[:, :1] * HUE_STEPS) / HUE_STEPS * 6
    channels = np.where(swap[:, None], SIXTHS[::-1], SIXTHS) + turn
    return np.column_stack((channels, 1 + gains[:, 1:])).astype(np.float32)
