"""One training of the peer, in the peer's own environment: a job file in, a result file out.

    python train.py JOB.json RESULT.json

Job: model (a YAML or weights), settings (arguments of the peer's `train`, by its names), threads,
val_repeats, keep_weights (optional: a file for the last epoch's weights).
Result: parameters and a row an epoch: epoch, images_per_second (of the training loop alone: data to
EMA), losses and metrics; val_images_per_second of `val_repeats` validations after a first one that is not
counted.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics import YOLO, settings


class Watch:
    """Callbacks on a trainer that note what each epoch took and came to."""

    def __init__(self, threads: int | None) -> None:
        self.threads = threads
        self.images = self.parameters = 0
        self.epochs: list[dict[str, float]] = []
        self._start = 0.0

    def on_train_start(self, trainer: Any) -> None:
        # On CPU the peer lowers torch to (cores - 1) threads; give it as many as the other side has.
        if self.threads:
            torch.set_num_threads(self.threads)
        self.images = len(trainer.train_loader.dataset)
        self.parameters = sum(parameter.numel() for parameter in trainer.model.parameters())

    def on_train_epoch_start(self, trainer: Any) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any) -> None:
        seconds = time.perf_counter() - self._start
        self.epochs.append({"epoch": trainer.epoch + 1, "images_per_second": self.images / seconds})

    def on_fit_epoch_end(self, trainer: Any) -> None:
        # It fires once more after the last epoch, for the best weights: that row is not an epoch's.
        if trainer.epoch < len(self.epochs) and "metrics/mAP50(B)" not in self.epochs[trainer.epoch]:
            found = {**trainer.label_loss_items(trainer.tloss), **trainer.metrics}
            self.epochs[trainer.epoch].update(
                {name: float(value) for name, value in found.items() if "/" in name}
            )


def validation_rate(weights: Path, job: dict[str, Any]) -> float:
    """Images/s of the peer's own validation: the median after one that warms up."""
    given = job["settings"]
    times: list[float] = []
    model = YOLO(weights)
    start = 0.0

    def begin(validator: Any) -> None:
        nonlocal start
        if job["threads"]:
            torch.set_num_threads(job["threads"])
        start = time.perf_counter()

    def end(validator: Any) -> None:
        times.append((time.perf_counter() - start) / validator.seen)

    model.add_callback("on_val_start", begin)
    model.add_callback("on_val_end", end)
    for _ in range(job["val_repeats"] + 1):
        model.val(
            data=given["data"],
            imgsz=given["imgsz"],
            batch=2 * given["batch"],
            workers=given["workers"],
            device=given["device"],
            project=given["project"],
            name="val",
            exist_ok=True,
            plots=False,
            verbose=False,
        )
    kept = sorted(times[1:])
    return 1 / kept[len(kept) // 2]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    settings.update({"sync": False})
    watch = Watch(job["threads"])
    model = YOLO(job["model"])
    for event in ("on_train_start", "on_train_epoch_start", "on_train_epoch_end", "on_fit_epoch_end"):
        model.add_callback(event, getattr(watch, event))
    model.train(**job["settings"])
    if job.get("keep_weights"):
        shutil.copyfile(model.trainer.last, job["keep_weights"])
    rate = None
    if job["val_repeats"]:
        rate = validation_rate(Path(model.trainer.last), job)
    result = {
        "version": ultralytics.__version__,
        "parameters": watch.parameters,
        "epochs": watch.epochs,
        "val_images_per_second": rate,
    }
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
