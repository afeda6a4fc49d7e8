"""Which images of an epoch make up which batch, and which of them are whose.

In: how many images, their shapes, a generator. Out: `Share`s, one a batch, as many on every rank and none of
them empty. Knows nothing of pixels.

A batch is of all ranks together; rank r draws every world-th of its images from r on. A last batch with
fewer images than ranks is joined to the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tunekit.errors import ArgumentError


@dataclass(frozen=True)
class Split:
    """How epochs are cut into batches, and whose part is asked for."""

    batch: int  # images of all ranks together
    rank: int = 0
    world: int = 1

    def sizes(self, images: int) -> list[int]:
        """Of an epoch's batches. Raises ArgumentError where a rank would have none of one."""
        least = min(images, self.batch)
        if least < self.world:
            what = f"batch={self.batch} is" if least == self.batch else f"{images} images are"
            raise ArgumentError(f"{what} too few for {self.world} workers: take at most workers={least}")
        full, rest = divmod(images, self.batch)
        sizes = [self.batch] * full
        if rest >= self.world:
            sizes.append(rest)
        elif rest:
            sizes[-1] += rest
        return sizes


@dataclass(frozen=True)
class Share:
    """What one rank draws of a batch."""

    records: np.ndarray  # (n,) int64, n >= 1: which images
    positions: np.ndarray  # (n,) int64: the how manieth of the epoch each of them is
    shape: tuple[int, int]  # h, w of the batch's images, on every rank


def shuffled(count: int, side: int, split: Split, rng: np.random.Generator) -> list[Share]:
    """Random batches of images that are drawn as squares of `side`."""
    order = rng.permutation(count)
    return [_share(order, rows, (side, side), split) for rows in _ranges(split.sizes(count))]


def shuffled_by_shape(shapes: np.ndarray, stride: int, split: Split, rng: np.random.Generator) -> list[Share]:
    """Batches of like shapes, in random order; images of one shape meet in another company each time."""
    order = rng.permutation(len(shapes))
    order = order[np.argsort(_ratios(shapes)[order], kind="stable")]
    sizes = split.sizes(len(shapes))
    rng.shuffle(sizes)  # else the smaller batch would always be that of the tallest images
    groups = [order[rows.start : rows.stop] for rows in _ranges(sizes)]
    groups = [groups[number] for number in rng.permutation(len(groups))]
    return _by_shape(shapes, groups, stride, 0.0, split)


def by_shape(shapes: np.ndarray, stride: int, margin: float, split: Split) -> list[Share]:
    """Batches of like shapes, the widest images first."""
    order = np.argsort(_ratios(shapes), kind="stable")
    groups = [order[rows.start : rows.stop] for rows in _ranges(split.sizes(len(shapes)))]
    return _by_shape(shapes, groups, stride, margin, split)


def _by_shape(
    shapes: np.ndarray, groups: list[np.ndarray], stride: int, margin: float, split: Split
) -> list[Share]:
    order = np.concatenate(groups)
    ranges = _ranges([len(group) for group in groups])
    return [
        _share(order, rows, _fitting(shapes[group], stride, margin), split)
        for group, rows in zip(groups, ranges, strict=True)
    ]


def _share(order: np.ndarray, rows: range, shape: tuple[int, int], split: Split) -> Share:
    positions = np.arange(rows.start, rows.stop)[split.rank :: split.world]
    return Share(order[positions], positions, shape)


def _ranges(sizes: list[int]) -> list[range]:
    ends = np.cumsum(sizes).tolist()
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _ratios(shapes: np.ndarray) -> np.ndarray:
    return shapes[:, 0] / shapes[:, 1]  # height over width


def _fitting(shapes: np.ndarray, stride: int, margin: float) -> tuple[int, int]:
    """Height and width, multiples of the stride, that hold these shapes (n, 2) and `margin` strides more."""
    h, w = (int(np.ceil(side / stride + margin)) * stride for side in shapes.max(axis=0).tolist())
    return h, w
