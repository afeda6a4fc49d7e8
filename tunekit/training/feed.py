"""What a training reads: arguments and images in, the loaders of this worker's share out.

Knows nothing of models but their stride.
"""

from __future__ import annotations

import torch

from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.cache import ImageSource
from tunekit.data.gpu import GpuLoader
from tunekit.data.loader import TrainLoader, ValLoader
from tunekit.errors import ArgumentError
from tunekit.training.lanes import in_a_row
from tunekit.training.ranks import Ranks


def train_loader(
    args: TrainArgs, source: ImageSource, device: torch.device, ranks: Ranks, *, workers: int, stride: int
) -> TrainLoader | GpuLoader:
    """This worker's share of the augmented batches. `args.batch` is resolved: images over all workers."""
    batch, lanes, augmentation = int(args.batch), args.lanes or 1, Augmentation.from_args(args)
    if batch < ranks.world:
        raise ArgumentError(f"batch={batch}: {ranks.world} workers need at least an image each")
    if args.cache == "gpu":
        if args.rect:
            raise ArgumentError("rect=True needs images of many shapes, which cache=gpu has not: choose one")
        return GpuLoader(
            source,
            augmentation,
            batch=batch,
            seed=args.seed,
            device=device,
            rank=ranks.rank,
            world=ranks.world,
            compile=args.compile,
        )
    return TrainLoader(
        source,
        augmentation,
        batch=batch,
        seed=args.seed,
        workers=workers,
        rank=ranks.rank,
        world=ranks.world,
        rect=args.rect,
        stride=stride,
        pin=device.type == "cuda",
        together=lanes * in_a_row(lanes),
    )


def val_loader(args: TrainArgs, source: ImageSource, ranks: Ranks, *, workers: int, stride: int) -> ValLoader:
    return ValLoader(
        source,
        batch=max(2 * int(args.batch) // ranks.world, 1),
        workers=workers,
        stride=stride,
        rank=ranks.rank,
        world=ranks.world,
    )
