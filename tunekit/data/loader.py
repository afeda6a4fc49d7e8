"""Batches: which image comes when, on which rank, drawn by threads some batches ahead.

In: an `ImageSource` and settings. Out: `Batch`es, whose images are an NCHW view of memory laid out
channels_last. Knows nothing of models or devices.

All chance is a function of (seed, epoch, attempt, position in the epoch): a resumed run, or one with another
number of threads or ranks, sees the same images to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from weakref import WeakSet

import numpy as np
import torch

from tunekit.data.augment import Augmentation, augment_into
from tunekit.data.cache import ImageSource
from tunekit.data.prefetch import Assembly, in_order
from tunekit.data.scene import FILL, centred
from tunekit.data.shards import Share, Split, by_shape, shuffled, shuffled_by_shape
from tunekit.errors import DataError, TunekitError

MARGIN = 0.5  # of a stride: what validation leaves around the images


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
        rect: bool = False,
        stride: int = 32,
        pin: bool = False,
        together: int = 1,
    ) -> None:
        """`batch` images over all ranks; see shards.py for which of them are this one's.

        `rect`: batches of like shapes, multiples of `stride` with little padding, without mosaic, mixup
        and cutmix. `pin`: in page-locked memory, from which a GPU copies while others work. `together`:
        how many batches are taken at a time.
        """
        if rect:
            augmentation = replace(augmentation, mosaic=0.0, mixup=0.0, cutmix=0.0)
        self._source, self._augmentation = source, augmentation
        self._split = Split(batch, rank, world)
        self._count = len(self._split.sizes(len(source)))
        self._seed, self._workers = seed, workers
        self._rect, self._stride, self._pin, self._together = rect, stride, pin, together
        self._running: WeakSet[Generator[Batch, None, None]] = WeakSet()

    def __len__(self) -> int:
        """Batches an epoch, on every rank; the last one may be smaller."""
        return self._count

    def epoch(self, epoch: int, *, mosaic: bool, attempt: int = 0) -> Generator[Batch, None, None]:
        """The batches of epoch number `epoch`. `mosaic=False`: the close_mosaic phase.

        An epoch that is repeated takes another `attempt`: another order, other augmentation.
        """

        def chance(number: int) -> np.random.Generator:
            return np.random.default_rng((self._seed, epoch, number, attempt))

        def assembly(share: Share) -> _Assembly:
            def draw(row: int, out: np.ndarray) -> np.ndarray:
                rng = chance(1 + int(share.positions[row]))  # 0 is the order's
                index = int(share.records[row])
                return augment_into(out, self._source, index, self._augmentation, rng, mosaic=mosaic)

            return _Assembly(self._source, share, draw, pin=self._pin)

        batches = in_order(map(assembly, self._shares(chance(0))), self._workers, self._together)
        self._running.add(batches)
        return batches

    def _shares(self, rng: np.random.Generator) -> list[Share]:
        if self._rect:
            return shuffled_by_shape(self._source.shapes, self._stride, self._split, rng)
        return shuffled(len(self._source), self._source.imgsz, self._split, rng)

    def close(self) -> None:
        """Ends what is under way, and its threads."""
        for running in list(self._running):
            running.close()


class ValLoader:
    """Every image once, unaugmented, in batches of like shapes."""

    def __init__(
        self,
        source: ImageSource,
        *,
        batch: int,
        workers: int,
        stride: int = 32,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """`batch` images on each rank."""
        self._source, self._workers = source, workers
        self._running: WeakSet[Generator[Batch, None, None]] = WeakSet()
        self._shares = by_shape(source.shapes, stride, MARGIN, Split(batch * world, rank, world))

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[Batch]:
        batches = in_order(map(self._assembly, self._shares), self._workers)
        self._running.add(batches)
        return batches

    def _assembly(self, share: Share) -> _Assembly:
        def draw(row: int, out: np.ndarray) -> np.ndarray:
            return _letterbox_into(out, self._source, int(share.records[row]))

        return _Assembly(self._source, share, draw)

    def close(self) -> None:
        """Ends what is under way, and its threads."""
        for running in list(self._running):
            running.close()


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
        share: Share,
        draw: Callable[[int, np.ndarray], np.ndarray],
        pin: bool = False,
    ) -> None:
        self._source, self._records, self._draw, self._pin = source, share.records, draw, pin
        shape = (len(share.records), *share.shape, 3)
        self._images = torch.empty(shape, dtype=torch.uint8, pin_memory=pin)
        self._pixels = self._images.numpy()
        self._targets: list[np.ndarray] = [np.empty((0, 5), np.float32)] * len(share.records)

    def __len__(self) -> int:
        return len(self._records)

    def fill(self, row: int) -> None:
        try:
            self._targets[row] = self._draw(row, self._pixels[row])
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
            images=self._images.permute(0, 3, 1, 2),
            image_index=self._tensor(rows),
            classes=self._tensor(targets[:, 0].astype(np.int64)),
            boxes=self._tensor(np.ascontiguousarray(targets[:, 1:])),
            records=self._tensor(self._records.astype(np.int64)),
        )

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._pin else tensor
