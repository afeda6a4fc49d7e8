"""Batches made on the device: `TrainLoader`'s interface over images that lie in the device's memory.

In: an `ImageSource`, settings and a device. Out: `Batch`es whose tensors are there. A thread decides what
the next batches show and where their boxes are; the device draws them. Knows nothing of models.

All chance is a function of (seed, epoch, attempt, position in the epoch).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from weakref import WeakSet

import numpy as np
import torch

from tunekit.data.augment import Augmentation
from tunekit.data.cache import ImageSource
from tunekit.data.gpu.chance import chance
from tunekit.data.gpu.pixels import Painter
from tunekit.data.gpu.plan import Plan, planned
from tunekit.data.gpu.store import album_of, stored
from tunekit.data.loader import Batch
from tunekit.data.prefetch import Assembly, in_order
from tunekit.data.shards import Share, Split, shuffled
from tunekit.errors import ArgumentError


class GpuLoader:
    """Augmented batches of one rank's share of every epoch."""

    def __init__(
        self,
        source: ImageSource,
        augmentation: Augmentation,
        *,
        batch: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        compile: bool = False,
    ) -> None:
        """`batch` images over all ranks; see shards.py for which of them are this one's.

        Brings all images into the device's memory; raises ResourceError where they do not fit. `compile`:
        let torch.compile make the drawing faster, a minute later.
        """
        if augmentation.copy_paste:
            raise ArgumentError(
                f"copy_paste={augmentation.copy_paste:g} works with cache=disk, not with cache=gpu:"
                " choose one, or leave copy_paste at 0"
            )
        self._augmentation, self._seed = augmentation, seed
        self._split = Split(batch, rank, world)
        self._count = len(self._split.sizes(len(source)))
        self._album = album_of(source)
        self._painter = Painter(stored(source, self._album, device), compile)
        self._running: WeakSet[Generator[Batch, None, None]] = WeakSet()

    def __len__(self) -> int:
        """Batches an epoch, on every rank; the last one may be smaller."""
        return self._count

    def epoch(self, epoch: int, *, mosaic: bool, attempt: int = 0) -> Generator[Batch, None, None]:
        """The batches of epoch number `epoch`. `mosaic=False`: the close_mosaic phase.

        Another `attempt` at the same epoch draws other chance.
        """
        batches = self._drawn(epoch, mosaic, attempt)
        self._running.add(batches)
        return batches

    def _drawn(self, epoch: int, mosaic: bool, attempt: int) -> Generator[Batch, None, None]:
        # The order in which TrainLoader would take the images.
        order = np.random.default_rng((self._seed, epoch, 0, attempt))
        shares = shuffled(len(self._album), self._album.imgsz, self._split, order)

        def plan(share: Share) -> Plan:
            draws = chance(self._seed, epoch, attempt, share.positions)
            return planned(self._album, share.records, draws, self._augmentation, mosaic=mosaic)

        with closing(in_order((_Planning(plan, share) for share in shares), 1)) as plans:
            for made in plans:
                yield _batch(self._painter, made)

    def close(self) -> None:
        """Ends what is under way, and its thread."""
        for running in list(self._running):
            running.close()


def _batch(painter: Painter, plan: Plan) -> Batch:
    arrays = (plan.rows, plan.classes, plan.boxes, plan.records)
    return Batch(painter.drawn(plan), *map(painter.upload, arrays))


class _Planning(Assembly[Plan]):
    """A plan in the making, all in one part."""

    def __init__(self, plan: Callable[[Share], Plan], share: Share) -> None:
        self._make, self._share = plan, share

    def __len__(self) -> int:
        return 1

    def fill(self, part: int) -> None:
        self._plan = self._make(self._share)

    def done(self) -> Plan:
        return self._plan
