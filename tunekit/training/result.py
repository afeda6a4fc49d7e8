"""What an epoch of training came to: the engine's output, and the line of results.csv."""

from __future__ import annotations

from dataclasses import dataclass

from tunekit.evaluation.metrics import DetectionMetrics
from tunekit.evaluation.validator import LOSS_PARTS


@dataclass(frozen=True)
class EpochResult:
    """What an epoch (from 1) of training came to; `metrics` is None where it was not validated."""

    epoch: int
    losses: dict[str, float]  # training: box, cls, dfl; means over batches
    val_losses: dict[str, float] | None
    metrics: DetectionMetrics | None
    lr: float
    elapsed: float  # seconds of training since epoch 1, across resumes
    seconds: float  # of this epoch, validation included
    images_per_second: float  # of training alone
    best: bool  # the run's best fitness so far

    @property
    def fitness(self) -> float | None:
        return None if self.metrics is None else self.metrics.fitness

    def row(self) -> dict[str, float | None]:
        """The line of results.csv, under the names YOLO users know."""
        found, val_losses = self.metrics, self.val_losses or {}
        return {
            "epoch": self.epoch,
            "time": self.elapsed,
            **{f"train/{part}_loss": self.losses[part] for part in LOSS_PARTS},
            "metrics/precision(B)": None if found is None else found.precision,
            "metrics/recall(B)": None if found is None else found.recall,
            "metrics/mAP50(B)": None if found is None else found.map50,
            "metrics/mAP50-95(B)": None if found is None else found.map,
            **{f"val/{part}_loss": val_losses.get(part) for part in LOSS_PARTS},
            "lr": self.lr,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }
