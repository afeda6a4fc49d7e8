"""A model and all that changes it: batches in, losses out, and weights that are a little better.

Holds the model, its running average, the optimizer and the gradients that wait for the next step. Knows
nothing of epochs, data sets or validation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from tunekit.args import TrainArgs
from tunekit.data.loader import Batch
from tunekit.errors import CheckpointError
from tunekit.models.build import DetectionModel
from tunekit.models.freeze import frozen_modules
from tunekit.models.heads import HeadOutput
from tunekit.training.device import autocast_dtype
from tunekit.training.ema import WeightAverage
from tunekit.training.lanes import Lanes
from tunekit.training.multiscale import rescaled
from tunekit.training.optim import build_optimizer
from tunekit.training.packing import packed, unpacked
from tunekit.training.ranks import Ranks

CLIP_NORM = 10.0

Loss = Callable[[HeadOutput, Batch], tuple[Tensor, Tensor]]


class Learner:
    """One model in training, on one device; one of several copies when `ranks` says so."""

    def __init__(
        self, model: DetectionModel, args: TrainArgs, device: torch.device, ranks: Ranks, *, lanes: int = 1
    ) -> None:
        """`model` is on `device` already. `args` are resolved: they name an optimizer and a batch."""
        if args.sync_bn and ranks.world > 1:
            nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.device, self.model = device, model
        self.held_norms: tuple[nn.Module, ...] = frozen_modules(model, args.freeze)  # keep their statistics
        self.average = WeightAverage(model)
        self.optimizer = build_optimizer(model, args)
        self.amp_dtype = autocast_dtype(device, args.amp)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.amp_dtype is torch.float16)
        self._ranks = ranks
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._module = _distributed(model, device, ranks)
        self._forward = torch.compile(self._module) if args.compile else self._module
        self._lanes = Lanes(model, lanes, torch.get_num_threads()) if lanes > 1 else None
        self.since_step = 0  # batches whose gradients wait for the next optimizer step

    def train_mode(self) -> None:
        self.model.train()
        for norm in self.held_norms:
            norm.eval()
        if self._lanes is not None:
            self._lanes.follow_mode()

    def learn(
        self,
        batches: Sequence[Batch],
        sizes: Sequence[int | None],
        loss: Loss,
        *,
        steps: bool,
        last: bool,
    ) -> list[Tensor]:
        """Gradients of some batches, and a step after them if `steps`. Returns the loss's parts of each.

        More than one batch are learned from side by side, in as many lanes. `sizes`: the long side to rescale
        each batch's images to (multi_scale). `last`: of the epoch; gradients that then still wait are the
        same on every worker, so that they can be saved.
        """
        if isinstance(self._module, nn.parallel.DistributedDataParallel):
            self._module.require_backward_grad_sync = steps or last
        jobs = [
            partial(self._gradients, batch, size, loss) for batch, size in zip(batches, sizes, strict=True)
        ]
        if len(jobs) == 1 or self._lanes is None:
            parts = [job(self._forward) for job in jobs]
        else:
            parts = self._lanes.run(jobs)
        self.since_step += len(jobs)
        if steps:
            with record_function("step"):
                self._step()
        return parts

    def _gradients(
        self, batch: Batch, size: int | None, loss: Loss, model: Callable[[Tensor], HeadOutput]
    ) -> Tensor:
        """Adds the gradients of one batch to those of `model`; the loss's parts."""
        with record_function("forward"):
            dtype = self.amp_dtype or torch.float32
            images = batch.images.to(self.device, non_blocking=True).to(dtype).div_(255)
            if size is not None:
                images, batch = rescaled(images, batch, size, max(self.model.stride))
            with torch.autocast(self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None):
                output = model(images)
        with record_function("loss"):
            total, parts = loss(output, batch)
        with record_function("backward"):
            # Workers' gradients are averaged; the loss is normalised over all of them, so it wants their sum.
            self.scaler.scale(total * self._ranks.world).backward()
        return parts

    def _step(self) -> None:
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP_NORM, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.average.update()
        self.since_step = 0

    def close(self) -> None:
        """Let the lanes' threads go."""
        if self._lanes is not None:
            self._lanes.close()

    def state_dict(self) -> dict[str, Any]:
        """Everything an exact continuation needs: plain data and a few long tensors, all of them copies."""
        optimizer = self.optimizer.state_dict()
        waiting = self._parameters if self.since_step else []
        return {
            "tensors": packed(
                {
                    "model": self.model.state_dict(),
                    "average": self.average.model.state_dict(),
                    "optimizer": optimizer["state"],
                    "gradients": {
                        index: parameter.grad
                        for index, parameter in enumerate(waiting)
                        if parameter.grad is not None
                    },
                }
            ),
            "updates": self.average.updates,
            "groups": optimizer["param_groups"],
            "scaler": self.scaler.state_dict(),
            "since_step": self.since_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises CheckpointError if it is of another model."""
        try:
            tensors = unpacked(state["tensors"])
            self.model.load_state_dict(tensors["model"])
            self.average.model.load_state_dict(tensors["average"])
            moments = {int(index): one for index, one in tensors.get("optimizer", {}).items()}
            self.optimizer.load_state_dict({"state": moments, "param_groups": state["groups"]})
        except (KeyError, IndexError, RuntimeError, ValueError) as fault:
            reason = " ".join(str(fault).split())[:200]
            raise CheckpointError(
                f"the checkpoint is not of this training ({self.model.spec.name}): {reason}"
            ) from fault
        self.average.updates = state["updates"]
        self.scaler.load_state_dict(state["scaler"])
        self.since_step = state["since_step"]
        self.optimizer.zero_grad()
        for index, gradient in tensors.get("gradients", {}).items():
            self._parameters[int(index)].grad = gradient.to(self.device)

    def adopt(self, state: dict[str, Any]) -> None:
        """The same of another training with this model and optimizer, but learning rates, momentum and decay
        stay one's own."""
        own = [
            {name: value for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        self.load_state_dict(state)
        for group, settings in zip(self.optimizer.param_groups, own, strict=True):
            group.update(settings)


def _distributed(model: DetectionModel, device: torch.device, ranks: Ranks) -> nn.Module:
    if ranks.world == 1:
        return model
    devices = [device.index] if device.type == "cuda" else None
    # Buffers are the first worker's where they count (Ranks.align), and no batch is trained with them.
    return nn.parallel.DistributedDataParallel(
        model, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True
    )
