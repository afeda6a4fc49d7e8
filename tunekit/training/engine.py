"""The training loop, as a generator: model + data + hyperparameters -> one EpochResult after another.

`Engine(args).epochs()` may be closed after any epoch; `state_dict()` holds everything, so that a
training resumed in another process goes on exactly: on CPU, to the bit. Randomness is a function of
(seed, epoch, position), so no random states need saving. Knows nothing of Ray, folders or terminals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunekit.args import TrainArgs
from tunekit.data.augment import Augmentation
from tunekit.data.cache import open_split
from tunekit.data.dataset import load_data_config
from tunekit.data.loader import Batch, TrainLoader, ValLoader
from tunekit.errors import ArgumentError, CheckpointError, ModelError, TrainingError
from tunekit.evaluation.metrics import DetectionMetrics
from tunekit.evaluation.validator import LOSS_PARTS, evaluate
from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.weights import check_model, load_model
from tunekit.training.device import autocast_dtype, available_cores, select_device
from tunekit.training.ema import WeightAverage
from tunekit.training.loss import DetectionLoss, class_weights
from tunekit.training.optim import Schedule, build_optimizer, resolved

CLIP_NORM = 10.0


@dataclass(frozen=True)
class EpochResult:
    """What an epoch (from 1) of training came to."""

    epoch: int
    losses: dict[str, float]  # training: box, cls, dfl; means over batches
    val_losses: dict[str, float]
    metrics: DetectionMetrics
    lr: float
    elapsed: float  # seconds of training since epoch 1, across resumes
    seconds: float  # of this epoch, validation included
    images_per_second: float  # of training alone
    best: bool  # the run's best fitness so far

    @property
    def fitness(self) -> float:
        return self.metrics.fitness

    def row(self) -> dict[str, float]:
        """The line of results.csv, under the names YOLO users know."""
        return {
            "epoch": self.epoch,
            "time": self.elapsed,
            **{f"train/{part}_loss": self.losses[part] for part in LOSS_PARTS},
            "metrics/precision(B)": self.metrics.precision,
            "metrics/recall(B)": self.metrics.recall,
            "metrics/mAP50(B)": self.metrics.map50,
            "metrics/mAP50-95(B)": self.metrics.map,
            **{f"val/{part}_loss": self.val_losses[part] for part in LOSS_PARTS},
            "lr": self.lr,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }


class Engine:
    """One training on one device."""

    def __init__(self, args: TrainArgs) -> None:
        """Build everything; raises DataError, ModelError, ResourceError before any work is done.

        `self.args` is what is trained with: optimizer=auto, device and threads are written out.
        """
        self.device = select_device(args.device)
        threads = args.threads or available_cores()
        torch.set_num_threads(threads)
        workers = (
            args.loader_workers if args.loader_workers is not None else _loader_workers(self.device, threads)
        )
        check_model(args.model)  # before images are decoded
        config = load_data_config(args.data)
        source = open_split(config, "train", args.imgsz, args.cache, args.fraction)
        self.problems = source.problems
        args = resolved(args, config.nc, len(source))
        self.args = args.model_copy(update={"threads": threads, "device": str(self.device)})

        self.train_loader = TrainLoader(
            source, Augmentation.from_args(args), batch=args.batch, seed=args.seed, workers=workers
        )
        val_source = open_split(config, "val", args.imgsz, args.cache)
        self.val_loader = ValLoader(val_source, batch=2 * args.batch, workers=workers)

        self.model = _model(args, config.names).to(self.device).to(memory_format=torch.channels_last)
        if args.imgsz % max(self.model.stride):
            raise ModelError(
                f"imgsz={args.imgsz} is not a multiple of {args.model}'s stride {max(self.model.stride)}"
            )
        if args.imgsz == max(self.model.stride) and 1 in (args.batch, len(source) % args.batch):
            # Its deepest map is one pixel: batch norm has no spread to measure over a single image.
            raise ArgumentError(
                f"imgsz={args.imgsz} needs more than one image in every batch; raise imgsz or batch"
            )
        self._parameters = list(self.model.parameters())
        self.average = WeightAverage(self.model)
        self.optimizer = build_optimizer(self.model, args)
        self.schedule = Schedule(args, len(self.train_loader))
        self.amp_dtype = autocast_dtype(self.device, args.amp)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp_dtype is torch.float16)
        counts = torch.from_numpy(source.class_counts)
        weights = class_weights(counts, args.cls_pw)
        self.loss = DetectionLoss(
            args.box,
            args.cls,
            args.dfl,
            self.model.reg_max,
            None if weights is None else weights.to(self.device),
        )
        self.epoch = 0  # finished ones
        self.best_epoch, self.best_fitness = 0, -math.inf
        self.elapsed = 0.0
        self._since_step = 0  # batches whose gradients wait for the next optimizer step

    def epochs(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, until args.epochs or until patience runs out."""
        while not self.finished:
            yield self._train_epoch()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train: all epochs are done, or patience ran out."""
        return self.epoch >= self.args.epochs or 0 < self.args.patience <= self.epoch - self.best_epoch

    def _train_epoch(self) -> EpochResult:
        start = time.perf_counter()
        losses, images = self._fit()
        trained = time.perf_counter()
        evaluation = evaluate(
            self.average.model, self.val_loader, device=self.device, amp_dtype=self.amp_dtype, loss=self.loss
        )
        if evaluation.losses is None:
            raise AssertionError("evaluate() was given a loss and returned none")
        seconds = time.perf_counter() - start
        self.epoch += 1
        self.elapsed += seconds
        best = evaluation.metrics.fitness > self.best_fitness
        if best:
            self.best_epoch, self.best_fitness = self.epoch, evaluation.metrics.fitness
        return EpochResult(
            epoch=self.epoch,
            losses=losses,
            val_losses=evaluation.losses,
            metrics=evaluation.metrics,
            lr=self.optimizer.param_groups[1]["lr"],
            elapsed=self.elapsed,
            seconds=seconds,
            images_per_second=images / (trained - start),
            best=best,
        )

    def _fit(self) -> tuple[dict[str, float], int]:
        """One pass over the training images: mean losses and how many images."""
        self.model.train()
        mosaic = self.epoch < self.args.epochs - self.args.close_mosaic
        parts: list[Tensor] = []
        images = 0
        with closing(self.train_loader.epoch(self.epoch, mosaic=mosaic)) as batches:
            for index, batch in enumerate(batches):
                accumulate = self.schedule.apply(self.optimizer, self.epoch, index)
                parts.append(self._backward(batch))
                images += len(batch.images)
                self._since_step += 1
                if self._since_step >= accumulate:
                    self._step()
        mean = self._finite(torch.stack(parts)).mean(0).tolist()
        return dict(zip(LOSS_PARTS, mean, strict=True)), images

    def _backward(self, batch: Batch) -> Tensor:
        dtype = self.amp_dtype or torch.float32
        images = batch.images.to(self.device, non_blocking=True).to(dtype).div_(255)
        with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
            output = self.model(images)
        loss, parts = self.loss(output, batch)
        self.scaler.scale(loss).backward()
        return parts

    def _step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP_NORM, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.average.update()
        self._since_step = 0

    def _finite(self, parts: Tensor) -> Tensor:
        """The epoch's losses (batches, 3), once they are known to be numbers. Asked once an epoch:
        asking every batch would make a GPU wait."""
        bad = ~parts.isfinite().all(1)
        if bad.any():
            batch = int(bad.nonzero()[0])
            named = ", ".join(
                f"{part} {value:g}" for part, value in zip(LOSS_PARTS, parts[batch].tolist(), strict=True)
            )
            raise TrainingError(
                f"the loss is not finite ({named}) at epoch {self.epoch + 1}, "
                f"batch {batch + 1} of {len(parts)}, lr0={self.args.lr0:g}: lower lr0 or the loss gains"
            )
        return parts

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact continuation needs: plain data and tensors."""
        waiting = self._since_step > 0
        return {
            "model": self.model.state_dict(),
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_fitness": self.best_fitness,
            "elapsed": self.elapsed,
            "since_step": self._since_step,
            "gradients": [p.grad for p in self._parameters] if waiting else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises CheckpointError if it is of another model."""
        try:
            self.model.load_state_dict(state["model"])
            self.average.model.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (KeyError, RuntimeError, ValueError) as fault:
            raise CheckpointError(
                f"the checkpoint is not of this training ({self.args.model}): {fault}"
            ) from fault
        self.average.updates = state["updates"]
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.elapsed = state["epoch"], state["elapsed"]
        self.best_epoch, self.best_fitness = state["best_epoch"], state["best_fitness"]
        self._since_step = state["since_step"]
        if self._since_step:
            for parameter, gradient in zip(self._parameters, state["gradients"], strict=True):
                parameter.grad = None if gradient is None else gradient.to(self.device)

    def close(self) -> None:
        """Let the loaders' threads go."""
        self.train_loader.close()
        self.val_loader.close()


def _model(args: TrainArgs, names: tuple[str, ...]) -> DetectionModel:
    if not args.model.endswith(".pt"):
        return build_model(load_spec(args.model), names, seed=args.seed)
    model = load_model(Path(args.model))
    if model.names != names:
        raise ModelError(
            f"{args.model} was trained on {len(model.names)} classes that are not those of {args.data}; "
            "give a model YAML to train from scratch"
        )
    return model


def _loader_workers(device: torch.device, threads: int) -> int:
    """Loading shares the CPU with training: one thread beside it; a GPU leaves all cores to loading."""
    return 1 if device.type == "cpu" else min(8, threads)
