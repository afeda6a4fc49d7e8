"""Batches: which image comes when, on which rank, drawn by threads some batches ahead.

In: an `ImageSource` and settings. Out: `Batch`es, whose images are an NCHW view of memory laid out
channels_last. Knows nothing of models or devices.

All chance is a function of (seed, epoch, position in the epoch): a resumed run, or one with another
number of workers, sees the same batches to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from weakref import WeakSet

import numpy as np
import torch

from tunekit.data.augment import Augmentation, augment_into
from tunekit.data.cache import ImageSource
from tunekit.data.prefetch import Assembly, in_order
from tunekit.data.scene import FILL, centred
from tunekit.errors import DataError, TunekitError

PAD = 0.5  # of a stride: the margin that validation leaves around the images


@dataclass(frozen=True)
class Batch:
    images: torch.Tensor  # (B, 3, H, W) uint8 RGB, channels_last in memory
    image_index: torch.Tensor  # (N,) int64: row in the batch a box belongs to, ascending
    classes: torch.Tensor  # (N,) int64
    boxes: torch.Tensor  # (N, 4) float32 xyxy, pixels of the (H, W) input
    records: torch.Tensor  # (B,) int64 index into the ImageSource


class TrainLoader:
    """Augmented batches of one rank's share of every epoch."""

    def __init__(
        self,
        source: ImageSource,
        augmentation: Augmentation,
        *,
        batch: int,
        seed: int,
        workers: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._source, self._augmentation = source, augmentation
        self._batch, self._seed, self._workers = batch, seed, workers
        self._rank, self._world = rank, world
        self._running: WeakSet[Generator[Batch, None, None]] = WeakSet()

    def __len__(self) -> int:
        """Batches an epoch on this rank; the last one may be smaller."""
        return -(-len(range(self._rank, len(self._source), self._world)) // self._batch)

    def epoch(self, epoch: int, *, mosaic: bool) -> Generator[Batch, None, None]:
        """The batches of epoch number `epoch`. `mosaic=False`: the close_mosaic phase."""
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self._source))
        positions = np.arange(self._rank, len(order), self._world)

        def assembly(positions: np.ndarray) -> _Assembly:
            def draw(row: int, out: np.ndarray) -> np.ndarray:
                # Counted from 1: to NumPy (seed, epoch, 0) is the same seed as the order's (seed, epoch).
                rng = np.random.default_rng((self._seed, epoch, 1 + int(positions[row])))
                index = int(order[positions[row]])
                return augment_into(out, self._source, index, self._augmentation, rng, mosaic=mosaic)

            return _Assembly(self._source, order[positions], (self._source.imgsz,) * 2, draw)

        starts = range(0, len(positions), self._batch)
        batches = in_order((assembly(positions[i : i + self._batch]) for i in starts), self._workers)
        self._running.add(batches)
        return batches

    def close(self) -> None:
        """Ends what is under way, and its threads."""
        for running in list(self._running):
            running.close()


class ValLoader:
    """Every image once, unaugmented, in batches of like shapes."""

    def __init__(self, source: ImageSource, *, batch: int, workers: int, stride: int = 32) -> None:
        self._source, self._workers = source, workers
        self._running: WeakSet[Generator[Batch, None, None]] = WeakSet()
        ratio = source.shapes[:, 0] / source.shapes[:, 1]  # height over width
        order = np.argsort(ratio, kind="stable")
        self._records = [order[i : i + batch] for i in range(0, len(order), batch)]
        self._shapes = [_batch_shape(ratio[rows], source.imgsz, stride) for rows in self._records]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Batch]:
        assemblies = (self._assembly(*part) for part in zip(self._records, self._shapes, strict=True))
        batches = in_order(assemblies, self._workers)
        self._running.add(batches)
        return batches

    def _assembly(self, records: np.ndarray, shape: tuple[int, int]) -> _Assembly:
        def draw(row: int, out: np.ndarray) -> np.ndarray:
            return _letterbox_into(out, self._source, int(records[row]))

        return _Assembly(self._source, records, shape, draw)

    def close(self) -> None:
        """Ends what is under way, and its threads."""
        for running in list(self._running):
            running.close()


def _batch_shape(ratio: np.ndarray, imgsz: int, stride: int) -> tuple[int, int]:
    """Height and width, multiples of the stride, that hold images of these ratios with a margin."""
    h = min(float(ratio.max()), 1.0)
    w = min(1.0 / float(ratio.min()), 1.0)
    h, w = (int(np.ceil(side * imgsz / stride + PAD)) * stride for side in (h, w))
    return h, w


def _letterbox_into(out: np.ndarray, source: ImageSource, index: int) -> np.ndarray:
    """The image as it is in the middle of `out`, which is large enough; its targets."""
    pixels, labels = source.image(index), source.labels(index)
    h, w = pixels.shape[:2]
    left, top = centred(out.shape[1], w), centred(out.shape[0], h)
    out.fill(FILL)
    out[top : top + h, left : left + w] = pixels
    targets = np.empty((len(labels), 5), np.float32)
    half, shift = 0.5 * labels[:, 3:], np.array((left, top), np.float32)
    targets[:, 0] = labels[:, 0]
    targets[:, 1:3] = (labels[:, 1:3] - half) * (w, h) + shift
    targets[:, 3:] = (labels[:, 1:3] + half) * (w, h) + shift
    return targets


class _Assembly(Assembly[Batch]):
    """A batch in the making: threads draw its rows straight into its memory."""

    def __init__(
        self,
        source: ImageSource,
        records: np.ndarray,
        shape: tuple[int, int],
        draw: Callable[[int, np.ndarray], np.ndarray],
    ) -> None:
        self._source, self._records, self._draw = source, records, draw
        self._images = np.empty((len(records), *shape, 3), np.uint8)
        self._targets: list[np.ndarray] = [np.empty((0, 5), np.float32)] * len(records)

    def __len__(self) -> int:
        return len(self._records)

    def fill(self, row: int) -> None:
        try:
            self._targets[row] = self._draw(row, self._images[row])
        except TunekitError:
            raise
        except Exception as error:
            path = self._source.paths[int(self._records[row])]
            raise DataError(f"{path}: could not be drawn ({type(error).__name__}: {error})") from error

    def done(self) -> Batch:
        # In NumPy: torch would wake its pool of compute threads for arrays this small.
        targets = np.concatenate(self._targets)
        rows = np.repeat(np.arange(len(self._targets)), [len(part) for part in self._targets])
        return Batch(
            images=torch.from_numpy(self._images).permute(0, 3, 1, 2),
            image_index=torch.from_numpy(rows),
            classes=torch.from_numpy(targets[:, 0].astype(np.int64)),
            boxes=torch.from_numpy(np.ascontiguousarray(targets[:, 1:])),
            records=torch.from_numpy(self._records.astype(np.int64)),
        )
