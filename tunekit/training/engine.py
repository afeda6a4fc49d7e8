"""The training loop, as a generator: model + data + hyperparameters -> one EpochResult after another.

`Engine(args).epochs()` may be closed after any epoch; `state_dict()` holds everything, so that a
training resumed in another process goes on exactly: on CPU, to the bit. Randomness is a function of
(seed, epoch, position), so no random states need saving. Knows nothing of Ray, folders or terminals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from tunekit.args import TrainArgs
from tunekit.data.loader import Batch
from tunekit.data.sources import open_sources
from tunekit.errors import ArgumentError, ModelError, TrainingError
from tunekit.evaluation.validator import LOSS_PARTS, Evaluation, evaluate
from tunekit.models.heads import HeadOutput
from tunekit.models.start import check_model, starting_model
from tunekit.training.autobatch import measured_batch
from tunekit.training.device import (
    autocast_dtype,
    available_cores,
    keep_freed_memory,
    select_device,
    set_determinism,
)
from tunekit.training.ema import WeightAverage
from tunekit.training.feed import train_loader, val_loader
from tunekit.training.lanes import check_lanes, in_a_row, lanes_for
from tunekit.training.learner import Learner
from tunekit.training.loss import DetectionLoss, EndToEndLoss, make_loss
from tunekit.training.multiscale import random_size
from tunekit.training.optim import Schedule, accumulation
from tunekit.training.ranks import ALONE, Ranks
from tunekit.training.resolve import resolved
from tunekit.training.result import EpochResult

CHECK_EVERY = 64  # batches between looks at the loss: asking after each would make a GPU wait


class NotFinite(TrainingError):
    """The loss is no number any more; the epoch it happened in is lost."""


class Engine:
    """One training on one device, or one worker's part of it."""

    def __init__(self, args: TrainArgs, ranks: Ranks = ALONE) -> None:
        """Build everything; raises DataError, ModelError, ResourceError before any work is done.

        `self.args` is what is trained with: optimizer=auto, batch, device and threads are written out.
        `self.notes` is what the user should know of how that came about.
        """
        self.ranks = ranks
        self.device = select_device(args.device)
        threads = args.threads or max(available_cores() // ranks.world, 1)
        torch.set_num_threads(threads)
        set_determinism(self.device, args.deterministic)
        keep_freed_memory(self.device)
        workers = (
            args.loader_workers if args.loader_workers is not None else _loader_workers(self.device, threads)
        )
        check_lanes(args, self.device.type, ranks.world)
        check_model(args.model, args.pretrained)  # before images are decoded
        if args.sync_bn and self.device.type != "cuda" and ranks.world > 1:
            raise ArgumentError(f"sync_bn=True works on CUDA, not on {self.device}: leave it out")
        sources = open_sources(args)
        self.problems, self.source = sources.train.problems, sources.train
        model, started = starting_model(args, sources.names)
        layout = torch.channels_last if args.channels_last else torch.contiguous_format
        self.model = model.to(self.device, memory_format=layout)  # type: ignore[call-overload]
        args, measured = self._with_batch(args, len(sources.train))
        self.notes = tuple(note for note in (started, measured) if note is not None)
        args = resolved(args, len(sources.names), len(sources.train))
        lanes = self._lane_count(args, threads)
        self.args = args.model_copy(update={"threads": threads, "device": str(self.device), "lanes": lanes})
        stride = max(self.model.stride)
        _check_size(args, stride, len(sources.train), ranks)

        self.train_loader = train_loader(
            self.args, sources.train, self.device, ranks, workers=workers, stride=stride
        )
        self.val_loader = val_loader(args, sources.val, ranks, workers=workers, stride=stride)
        self.learner = Learner(self.model, args, self.device, ranks, lanes=lanes)
        self._counts = torch.from_numpy(sources.train.class_counts)
        self.planned = args.epochs  # epochs in all; `time` refits them
        self.epoch = 0  # finished ones
        self.best_epoch, self.best_fitness = 0, -math.inf
        self.elapsed = 0.0
        self.after_round: Callable[[], object] | None = None  # called when batches were learned from
        self.recoveries = 0  # epochs that were lost to a loss that is no number; they are drawn anew

    @property
    def average(self) -> WeightAverage:
        """The averaged weights, which are validated and kept."""
        return self.learner.average

    @property
    def amp_dtype(self) -> torch.dtype | None:
        return self.learner.amp_dtype

    def epochs(self) -> Iterator[EpochResult]:
        """Train the epochs that are left, until all planned are done or patience or time runs out.

        Raises NotFinite when the loss is no number any more.
        """
        while not self.finished:
            yield self._train_epoch()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train: all epochs are done, or patience ran out."""
        waited = self.epoch - self.best_epoch if self.args.val else 0
        return self.epoch >= self.planned or 0 < self.args.patience <= waited

    def _train_epoch(self) -> EpochResult:
        start = time.perf_counter()
        losses, images = self._fit()
        # Clocks of workers differ, and what they decide from them must not.
        trained = self.ranks.share(time.perf_counter() - start)
        self.epoch += 1
        if self.args.time is not None:
            an_epoch = (self.elapsed + trained) / self.epoch
            self.planned = max(self.epoch, int(self.args.time * 3600 / an_epoch))
        evaluation = None
        if self.args.val or self.epoch == self.planned:
            evaluation = self._validate()
        seconds = self.ranks.share(time.perf_counter() - start)
        self.elapsed += seconds
        fitness = -math.inf if evaluation is None else evaluation.metrics.fitness
        best = fitness > self.best_fitness
        if best:
            self.best_epoch, self.best_fitness = self.epoch, fitness
        return EpochResult(
            epoch=self.epoch,
            losses=losses,
            val_losses=None if evaluation is None else evaluation.losses,
            metrics=None if evaluation is None else evaluation.metrics,
            lr=self.learner.optimizer.param_groups[1]["lr"],
            elapsed=self.elapsed,
            seconds=seconds,
            images_per_second=images / trained,
            best=best,
        )

    def _fit(self) -> tuple[dict[str, float], int]:
        """One pass over the training images: mean losses and how many images."""
        args, learner, stride = self.args, self.learner, max(self.model.stride)
        learner.train_mode()
        schedule = Schedule(args, len(self.train_loader), self.planned)
        loss = self._loss(self.epoch)
        mosaic = self.epoch < self.planned - args.close_mosaic
        parts: list[Tensor] = []
        rates: list[float] = []
        batches = self.train_loader.epoch(self.epoch, mosaic=mosaic, attempt=self.recoveries)
        with closing(batches):
            lanes = self.args.lanes or 1
            for group in schedule.rounds(self.epoch, learner.since_step, lanes, in_a_row(lanes)):
                with record_function("data"):
                    chosen = [next(batches) for _ in group.batches]
                sizes: list[int | None] = [None] * len(chosen)
                for place, index in enumerate(group.batches):
                    schedule.apply(learner.optimizer, self.epoch, index)
                    rates.append(learner.optimizer.param_groups[1]["lr"])
                    if args.multi_scale:
                        key = (args.seed, self.epoch, index)
                        sizes[place] = random_size(args.imgsz, args.multi_scale, stride, key)
                last = len(rates) == len(self.train_loader)
                parts += learner.learn(chosen, sizes, loss, steps=group.steps, last=last)
                if self.after_round is not None:
                    self.after_round()
                if last or len(parts) % CHECK_EVERY < len(chosen):
                    self._check_finite(self.ranks.total(torch.stack(parts)), rates)
        mean = self.ranks.total(torch.stack(parts)).mean(0).tolist()
        return dict(zip(LOSS_PARTS, mean, strict=True)), len(self.source)

    def _validate(self) -> Evaluation:
        """The averaged weights' worth. On several workers they are the first one's."""
        self.ranks.align(self.average.model.buffers())
        shared = self._loss(self.epoch - 1)

        def loss(output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor]:
            whole, parts = shared(output, batch)
            return whole, self.ranks.total(parts)  # every worker has the same number of batches

        return evaluate(
            self.average.model,
            self.val_loader,
            device=self.device,
            amp_dtype=self.amp_dtype,
            loss=loss,
            ranks=self.ranks,
        )

    def _loss(self, epoch: int) -> DetectionLoss | EndToEndLoss:
        """The loss of `epoch`, counted from 0, normalised over all workers."""
        return make_loss(
            self.args,
            self.model,
            self._counts,
            epoch=epoch,
            epochs=self.planned,
            total=self.ranks.total,
        )

    def _check_finite(self, parts: Tensor, rates: list[float]) -> None:
        bad = ~parts.isfinite().all(1)
        if bad.any():
            batch = int(bad.nonzero()[0])
            named = ", ".join(
                f"{part} {value:g}" for part, value in zip(LOSS_PARTS, parts[batch].tolist(), strict=True)
            )
            raise NotFinite(
                f"the loss is not finite ({named}) at epoch {self.epoch + 1}, "
                f"batch {batch + 1} of {len(self.train_loader)}, learning rate {rates[batch]:.3g}: "
                "lower lr0 or the loss gains"
            )

    def _with_batch(self, args: TrainArgs, images: int) -> tuple[TrainArgs, str | None]:
        """`args` with a number of images for batch=-1 or a share of the memory, and what was measured."""
        if args.batch >= 1:
            return args, None
        if args.cache == "gpu":
            raise ArgumentError(
                f"batch={args.batch:g} measures the memory that cache=gpu fills: give a number of images"
            )
        share = 0.6 if args.batch == -1 else float(args.batch)
        stride = max(self.model.stride)
        largest = int(args.imgsz * (1 + args.multi_scale)) // stride * stride
        dtype = autocast_dtype(self.device, args.amp)
        batch, note = measured_batch(self.model, largest, share, self.device, dtype)
        # A worker measures for itself; the smallest GPU's word counts.
        batch = min(min(self.ranks.gather(batch)) * self.ranks.world, max(images, self.ranks.world))
        if self.ranks.world > 1:
            note = f"{note}; batch={batch} over {self.ranks.world} workers"
        return args.model_copy(update={"batch": batch}), note

    def _lane_count(self, args: TrainArgs, threads: int) -> int:
        """How many batches of a step are learned from side by side."""
        if args.lanes is not None:
            return args.lanes
        if not check_lanes(args, self.device.type, self.ranks.world):
            return 1
        return lanes_for(
            self.model,
            batches=accumulation(args),
            images=int(args.batch),
            imgsz=int(args.imgsz * (1 + args.multi_scale)),
            threads=threads,
            dtype=autocast_dtype(self.device, args.amp),
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact continuation needs: plain data and tensors."""
        return {
            "learner": self.learner.state_dict(),
            "planned": self.planned,
            "epoch": self.epoch,
            "best_epoch": self.best_epoch,
            "best_fitness": self.best_fitness,
            "elapsed": self.elapsed,
            "recoveries": self.recoveries,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises CheckpointError if it is of another model."""
        self.learner.load_state_dict(state["learner"])
        self.planned = state["planned"]
        self.epoch, self.elapsed = state["epoch"], state["elapsed"]
        self.best_epoch, self.best_fitness = state["best_epoch"], state["best_fitness"]
        self.recoveries = state["recoveries"]

    def adopt(self, state: dict[str, Any]) -> None:
        """Go on with the weights and momenta of another training, after its epoch, with one's own arguments.

        The best, the time and the patience are of one's own epochs. Raises CheckpointError if `state` is of
        another model or optimizer.
        """
        self.learner.adopt(state["learner"])
        self.epoch = self.best_epoch = state["epoch"]

    def close(self) -> None:
        """Let the threads of loaders and lanes go."""
        self.learner.close()
        self.train_loader.close()
        self.val_loader.close()


def _check_size(args: TrainArgs, stride: int, images: int, ranks: Ranks) -> None:
    if args.imgsz % stride:
        raise ModelError(f"imgsz={args.imgsz} is not a multiple of {args.model}'s stride {stride}")
    rest = images % int(args.batch)
    shares = (int(args.batch) // ranks.world, max(rest // ranks.world, min(rest, 1)))
    smallest = int(args.imgsz * (1 - args.multi_scale)) // stride * stride
    if smallest <= stride and 1 in shares:
        # Its deepest map is one pixel: batch norm has no spread to measure over a single image.
        raise ArgumentError(
            f"imgsz={args.imgsz} needs more than one image in every batch"
            + (f" on each of {ranks.world} workers" if ranks.world > 1 else "")
            + "; raise imgsz or batch"
        )


def _loader_workers(device: torch.device, threads: int) -> int:
    """Loading shares the CPU with training: one thread beside it; a GPU leaves all cores to loading."""
    return 1 if device.type == "cpu" else min(8, threads)
