"""The pixels of a batch, drawn on the device: every output pixel is looked up in the store.

In: the store's pixels (T, 3) uint8, of which the first is grey, and `Plan`s. Out: images (B, 3, S, S) uint8,
channels_last in memory. Nothing here asks the device for a value, so the caller never waits.

An output pixel goes back through its picture's matrix to a point of the canvas. Each of the four canvas
pixels around that point lies in one of the four tiles, by the side of the corner that it is on, or in
none: then it is the store's first. No canvas is ever built.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from tunekit.data.gpu.colour import recolour
from tunekit.data.gpu.plan import Pictures, Plan
from tunekit.data.view import NEAREST

PIXELS_AT_A_TIME = 2**21  # bounds what lies in memory on the way: 100 to 200 bytes a pixel
OUTSIDE = -2.0  # a coordinate whose neighbours are all before the canvas


@dataclass(frozen=True)
class _Pictures:
    """`Pictures` on the device."""

    back: Tensor
    corner: Tensor
    reach: Tensor
    width: Tensor
    base: Tensor

    def __getitem__(self, rows: slice) -> _Pictures:
        return _Pictures(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class _Layer:
    """`Overlays` on the device, with their pictures."""

    order: np.ndarray  # the rows, in this machine's memory
    pictures: _Pictures
    rows: Tensor
    rectangle: Tensor
    weight: Tensor


class Painter:
    """Draws what plans say."""

    def __init__(self, store: Tensor, compile: bool = False) -> None:
        """`compile`: as few passes over the pixels as possible, after a minute of compiling."""
        self.device = store.device
        self._store = store
        self._look_up = torch.compile(looked_up, dynamic=True) if compile else looked_up
        self._recolour = torch.compile(recolour, dynamic=True) if compile else recolour

    def drawn(self, plan: Plan) -> Tensor:
        """The batch's images."""
        count, size = len(plan.records), plan.size
        pictures = _Pictures(*(self.upload(getattr(plan.pictures, f.name)) for f in fields(Pictures)))
        layers = self._layers(plan, pictures)
        colour = None if plan.colour is None else self.upload(plan.colour)
        images = torch.empty((count, size, size, 3), dtype=torch.uint8, device=self.device)
        step = max(PIXELS_AT_A_TIME // size**2, 1)
        for begin in range(0, count, step):
            end = min(begin + step, count)
            part = self._seen(pictures[begin:end], plan)
            for layer in layers:
                among = slice(*np.searchsorted(layer.order, (begin, end)).tolist())
                if among.start < among.stop:
                    over = self._seen(layer.pictures[among], plan)
                    _blend(part, layer.rows[among] - begin, over, layer.rectangle[among], layer.weight[among])
            if colour is not None:
                part = self._recolour(part, colour[begin:end])
            images[begin:end] = part.add_(0.5)  # becomes whole by cutting off
        return images.permute(0, 3, 1, 2)

    def upload(self, array: np.ndarray) -> Tensor:
        """A copy of the array on the device, for which nobody waits."""
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()  # a copy from ordinary memory waits for all work under way
        return tensor.to(self.device, non_blocking=True)

    def _layers(self, plan: Plan, pictures: _Pictures) -> list[_Layer]:
        layers, first = [], len(plan.records)
        for part in plan.overlays:
            own = slice(first, first + len(part.rows))
            tensors = (self.upload(array) for array in (part.rows, part.rectangle, part.weight))
            layers.append(_Layer(part.rows, pictures[own], *tensors))
            first = own.stop
        return layers

    def _seen(self, pictures: _Pictures, plan: Plan) -> Tensor:
        tensors = (getattr(pictures, field.name) for field in fields(pictures))
        return self._look_up(self._store, *tensors, size=plan.size, turned=plan.turned)


def looked_up(
    store: Tensor,
    back: Tensor,
    corner: Tensor,
    reach: Tensor,
    width: Tensor,
    base: Tensor,
    *,
    size: int,
    turned: bool,
) -> Tensor:
    """`Pictures` (n, size, size, 3) float32, bilinear between the canvas's pixels."""
    u, v = _points(back, size, turned)
    left, top = u.floor(), v.floor()
    right, below = u - left, v - top  # weights of the neighbours on those sides
    # From here on counted from the corner where the tiles meet: before it is negative.
    x, y = (at.int() - middle for at, middle in zip((left, top), _each(corner), strict=True))
    tables = [table.flatten() for table in (*reach.unbind(-1), width, base)]
    first_tile = torch.arange(0, 4 * len(back), 4, device=back.device, dtype=torch.int32)[:, None, None]
    columns = [_Line.of(x + step, 1, weight) for step, weight in enumerate((1 - right, right))]
    rows = [_Line.of(y + step, 2, weight) for step, weight in enumerate((1 - below, below))]
    image = torch.zeros((len(back), size, size, 3), device=back.device)
    for row in rows:
        for column in columns:
            tile = (first_tile + row.tile) + column.tile
            pixels = store.index_select(0, _store_rows(column, row, tile, tables).flatten())
            image += pixels.view_as(image) * (row.weight * column.weight)[..., None]
    return image


def _points(back: Tensor, size: int, turned: bool) -> tuple[Tensor, Tensor]:
    """Canvas x and y of every output pixel, cut off where nothing is any more.

    (n, size, size); of upright pictures (n, 1, size) and (n, size, 1), and so is what follows from each.
    """
    x = torch.arange(size, device=back.device, dtype=torch.float32)
    y = x[:, None]
    a, b, c, d, e, f, g, h, i = _each(back)
    if turned:
        # Held before the camera: of points behind it, nearly a division by 0 leads far off the canvas.
        depth = (g * x + (h * y + i)).clamp(min=NEAREST)
        u, v = (a * x + (b * y + c)) / depth, (d * x + (e * y + f)) / depth
    else:
        u, v = a * x + c, e * y + f
    beyond = 2.0 * size + 1
    return u.clamp(OUTSIDE, beyond), v.clamp(OUTSIDE, beyond)


@dataclass(frozen=True)
class _Line:
    """The neighbours on one side, along x or along y."""

    at: Tensor  # int32: pixels from the corner
    away: Tensor  # int32: pixels between the corner and this one; -1 is as near as 0
    tile: Tensor  # int32: what the side adds to the tile's number
    weight: Tensor  # float32

    @classmethod
    def of(cls, at: Tensor, tile: int, weight: Tensor) -> _Line:
        return cls(at, torch.maximum(at, -1 - at), tile * (at >= 0).int(), weight)


def _store_rows(column: _Line, row: _Line, tile: Tensor, tables: list[Tensor]) -> Tensor:
    """(n, size, size) int64: which pixel of the store lies there; 0 where nothing is."""
    reach_x, reach_y, width, base = (table.index_select(0, tile.flatten()).view_as(tile) for table in tables)
    there = (column.away < reach_x) & (row.away < reach_y)
    return (row.at * width + column.at + base) * there


def _blend(images: Tensor, rows: Tensor, over: Tensor, rectangle: Tensor, weight: Tensor) -> None:
    """Blends `over` (k, h, w, 3) into these rows of images, each within its rectangle."""
    x = torch.arange(images.shape[2], device=images.device)
    y = x[:, None]
    x1, y1, x2, y2 = _each(rectangle)
    inside = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    share = (inside * weight[:, None, None])[..., None]
    images.index_copy_(0, rows, torch.lerp(images.index_select(0, rows), over, share.expand_as(over)))


def _each(columns: Tensor) -> tuple[Tensor, ...]:
    """(n, k) as k of (n, 1, 1)."""
    return columns[:, :, None, None].unbind(1)
