"""The images that a training reads: its arguments in, both splits out, decoded and at training size.

Train and tune ask the same way, so a tune decodes for its trials.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.args import TrainArgs
from tunekit.data.cache import ImageSource, open_split
from tunekit.data.dataset import load_data_config


@dataclass(frozen=True)
class Sources:
    """The training and the validation images."""

    train: ImageSource
    val: ImageSource

    @property
    def names(self) -> tuple[str, ...]:
        return self.train.names


def open_sources(args: TrainArgs) -> Sources:
    """Raises DataError where one of the splits cannot be used."""
    config = load_data_config(args.data)
    cache = "disk" if args.cache == "gpu" else args.cache
    return Sources(
        open_split(config, "train", args.imgsz, cache, args.fraction, args.single_cls),
        open_split(config, "val", args.imgsz, cache, single_cls=args.single_cls),
    )
