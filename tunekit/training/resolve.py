"""Arguments that stand for others, written out: optimizer=auto and lr_batch.

In: TrainArgs with a known batch, and what is known of the data. Out: TrainArgs that say what is trained with,
so that what is recorded can be trained again. Knows no models, no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunekit.args import TrainArgs
from tunekit.errors import ArgumentError


@dataclass(frozen=True)
class AutoChoice:
    """What optimizer=auto stands for."""

    optimizer: str
    lr0: float
    momentum: float
    warmup_bias_lr: float


def resolved(args: TrainArgs, nc: int, images: int) -> TrainArgs:
    """`args` for `images` training images of `nc` classes, with optimizer=auto and lr_batch written out.

    Doing it twice changes nothing more: lr_batch becomes the batch that lr0 is then meant for.
    """
    if args.batch < 1:
        raise ValueError(f"batch={args.batch} must be measured before arguments are resolved")
    if args.optimizer != "auto":
        return _scaled(args)
    if args.lr_batch is not None:
        raise ArgumentError(
            f"lr_batch={args.lr_batch} scales lr0, which optimizer=auto chooses itself: "
            "name an optimizer, or leave lr_batch out"
        )
    choice = resolve_auto(nc, nominal_steps(images, args))
    return args.model_copy(
        update={
            "optimizer": choice.optimizer,
            "lr0": choice.lr0,
            "momentum": choice.momentum,
            "warmup_bias_lr": choice.warmup_bias_lr,
        }
    )


def resolve_auto(nc: int, steps: int) -> AutoChoice:
    """The optimizer for `steps` nominal steps of training on `nc` classes.

    Short trainings get AdamW with lr0 = 0.002·5/(4 + nc), long ones MuSGD. Biases warm up from 0.
    """
    if steps > 10_000:
        # The reference says 0.9, but its warm-up ends at its default momentum, with which it then trains.
        return AutoChoice("MuSGD", 0.01, 0.937, 0.0)
    return AutoChoice("AdamW", round(0.002 * 5 / (4 + nc), 6), 0.9, 0.0)


def nominal_steps(images: int, args: TrainArgs) -> int:
    """Steps of max(batch, nbs) images in the whole training: what auto decides by.

    A batch that is still to be measured counts as no larger than nbs.
    """
    return math.ceil(images / max(args.batch, args.nbs)) * args.epochs


def _scaled(args: TrainArgs) -> TrainArgs:
    """lr0 in proportion to the batch, where lr_batch says which batch it is meant for."""
    if args.lr_batch is None or args.lr_batch == args.batch:
        return args
    lr0 = args.lr0 * args.batch / args.lr_batch
    if lr0 > 1:
        raise ArgumentError(
            f"lr0={args.lr0:g}, meant for lr_batch={args.lr_batch}, is {lr0:g} at batch={args.batch}, "
            "which is above 1: lower lr0 or batch"
        )
    return args.model_copy(update={"lr0": lr0, "lr_batch": int(args.batch)})
