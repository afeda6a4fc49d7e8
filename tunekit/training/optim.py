"""Optimizers and their schedules: which parameters decay, and lr and momentum at every batch.

Pure of data and models' insides: in are parameters and TrainArgs, out are torch optimizers with
three groups (weights with decay, norm weights, biases) and numbers per batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from tunekit.args import TrainArgs


@dataclass(frozen=True)
class AutoChoice:
    """What optimizer=auto stands for."""

    optimizer: str
    lr0: float
    momentum: float
    warmup_bias_lr: float


def resolve_auto(nc: int, steps: int) -> AutoChoice:
    """The optimizer for `steps` nominal steps of training on `nc` classes.

    Short trainings get AdamW with lr0 = 0.002·5/(4 + nc), long ones SGD. Biases warm up from 0.
    """
    if steps > 10_000:
        return AutoChoice("SGD", 0.01, 0.9, 0.0)
    return AutoChoice("AdamW", round(0.002 * 5 / (4 + nc), 6), 0.9, 0.0)


def nominal_steps(images: int, args: TrainArgs) -> int:
    """Steps of max(batch, nbs) images in the whole training: what auto decides by."""
    return math.ceil(images / max(args.batch, args.nbs)) * args.epochs


def resolved(args: TrainArgs, nc: int, images: int) -> TrainArgs:
    """`args` with optimizer=auto written out: what is trained with is what is recorded."""
    if args.optimizer != "auto":
        return args
    choice = resolve_auto(nc, nominal_steps(images, args))
    return args.model_copy(
        update={
            "optimizer": choice.optimizer,
            "lr0": choice.lr0,
            "momentum": choice.momentum,
            "warmup_bias_lr": choice.warmup_bias_lr,
        }
    )


def build_optimizer(model: nn.Module, args: TrainArgs) -> Optimizer:
    """An optimizer over three groups, marked group['role']: 'bias', 'weight', 'norm'.

    The decay is scaled by batch·accumulate/nbs, so that it is the same per image seen.
    """
    roles = _roles(model)
    decay = args.weight_decay * args.batch * accumulation(args) / args.nbs
    groups = [
        {"params": roles["bias"], "weight_decay": 0.0, "role": "bias"},
        {"params": roles["weight"], "weight_decay": decay, "role": "weight"},
        {"params": roles["norm"], "weight_decay": 0.0, "role": "norm"},
    ]
    lr, betas = args.lr0, (args.momentum, 0.999)
    match args.optimizer:
        case "SGD":
            return torch.optim.SGD(
                groups, lr=lr, momentum=args.momentum, nesterov=args.momentum > 0, fused=True
            )
        case "RMSProp":
            return torch.optim.RMSprop(groups, lr=lr, momentum=args.momentum, foreach=True)
        case "Adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas, fused=True)
        case "AdamW":
            return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
        case "Adamax":
            return torch.optim.Adamax(groups, lr=lr, betas=betas, foreach=True)
        case "NAdam":
            return torch.optim.NAdam(groups, lr=lr, betas=betas, foreach=True)
        case "RAdam":
            return torch.optim.RAdam(groups, lr=lr, betas=betas, foreach=True)
    raise ValueError(f"optimizer {args.optimizer} is not resolved")


def _roles(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    roles: dict[str, list[nn.Parameter]] = {"bias": [], "weight": [], "norm": []}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias":
                roles["bias"].append(parameter)
            elif isinstance(module, nn.modules.batchnorm._NormBase):
                roles["norm"].append(parameter)
            else:
                roles["weight"].append(parameter)
    return roles


def accumulation(args: TrainArgs) -> int:
    """Batches whose gradients are summed before a step, after warm-up."""
    return max(round(args.nbs / args.batch), 1)


@dataclass(frozen=True)
class Schedule:
    """lr, momentum and accumulation at every batch of a training with `batches` an epoch."""

    args: TrainArgs
    batches: int

    @property
    def warmup(self) -> int:
        """Batches of warm-up; never the whole training."""
        return round(min(self.args.warmup_epochs, self.args.epochs - 1) * self.batches)

    def factor(self, epoch: int) -> float:
        """Share of lr0 in epoch (from 0): 1 -> lrf, linear or cosine."""
        args = self.args
        if args.cos_lr:
            return (1 + math.cos(math.pi * epoch / args.epochs)) / 2 * (1 - args.lrf) + args.lrf
        return (1 - epoch / args.epochs) * (1 - args.lrf) + args.lrf

    def apply(self, optimizer: Optimizer, epoch: int, batch: int) -> int:
        """Set the groups for batch `batch` of epoch `epoch` (both from 0); returns the accumulation."""
        args, done = self.args, epoch * self.batches + batch
        share = done / self.warmup if self.warmup else 1.0
        target = args.lr0 * self.factor(epoch)
        for group in optimizer.param_groups:
            start = args.warmup_bias_lr if group["role"] == "bias" else 0.0
            group["lr"] = _between(start, target, share)
            if "momentum" in group:
                group["momentum"] = _between(args.warmup_momentum, args.momentum, share)
        return max(1, round(_between(1.0, args.nbs / args.batch, share)))


def _between(start: float, end: float, share: float) -> float:
    return end if share >= 1 else start + (end - start) * share
