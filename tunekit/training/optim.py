"""Optimizers and their schedules: which parameters decay, and lr and momentum at every batch.

In: a model and resolved TrainArgs. Out: a torch optimizer whose groups are marked with a role (bias, weight,
norm) and an lr_factor, and the numbers of every batch. Knows no data and no loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from tunekit.args import TrainArgs
from tunekit.models.heads import Detect
from tunekit.training.device import autocast_dtype
from tunekit.training.eager import leave_compiler_unloaded
from tunekit.training.muon import MuSGD

CLASS_BRANCHES = ("cv3", "one2one_cv3")  # of a detection head
CLASS_FACTOR = 3.0  # MuSGD trains them so much faster than the rest


def build_optimizer(model: nn.Module, args: TrainArgs) -> Optimizer:
    """An optimizer over the parameters that require gradients.

    The first groups are bias, weight and norm; MuSGD has those of the class branches after them. Weights
    alone decay, scaled by batch·accumulate/nbs, so that the decay is the same per image seen.
    """
    leave_compiler_unloaded()
    decay = args.weight_decay * args.batch * accumulation(args) / args.nbs
    groups = _groups(model, decay, muon=args.optimizer == "MuSGD")
    optimizer = _optimizer(groups, model, args)
    optimizer.register_load_state_dict_post_hook(_lay_out_as_parameters)
    return optimizer


def _optimizer(groups: list[dict[str, Any]], model: nn.Module, args: TrainArgs) -> Optimizer:
    lr, betas = args.lr0, (args.momentum, 0.999)
    match args.optimizer:
        case "SGD":
            return torch.optim.SGD(
                groups, lr=lr, momentum=args.momentum, nesterov=args.momentum > 0, fused=True
            )
        case "MuSGD":
            device = next(model.parameters()).device
            # Newton–Schulz bears bf16's rounding well; fp16 is no faster on anything that lacks bf16.
            bf16 = autocast_dtype(device, args.amp) is torch.bfloat16
            precision = torch.bfloat16 if bf16 else torch.float32
            return MuSGD(groups, lr=lr, momentum=args.momentum, precision=precision)
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


def _groups(model: nn.Module, decay: float, muon: bool) -> list[dict[str, Any]]:
    """Parameter groups; each says its role and by what its lr differs from lr0."""
    faster = _class_branches(model) if muon else set()
    members: dict[tuple[str, float, bool], list[nn.Parameter]] = {
        (role, 1.0, muon and role == "weight"): [] for role in ("bias", "weight", "norm")
    }
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            matrix = muon and parameter.ndim in (2, 4)
            role = "weight" if matrix else _role(module, name)
            factor = CLASS_FACTOR if id(parameter) in faster else 1.0
            members.setdefault((role, factor, matrix), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": decay if role == "weight" else 0.0,
            "role": role,
            "lr_factor": factor,
            **({"muon": matrix} if muon else {}),
        }
        for (role, factor, matrix), parameters in members.items()
    ]


def _role(module: nn.Module, name: str) -> str:
    if name == "bias":
        return "bias"
    return "norm" if isinstance(module, nn.modules.batchnorm._NormBase) else "weight"


def _class_branches(model: nn.Module) -> set[int]:
    """The ids of the parameters of the heads' class branches."""
    return {
        id(parameter)
        for head in model.modules()
        if isinstance(head, Detect)
        for name, parameter in head.named_parameters()
        if name.partition(".")[0] in CLASS_BRANCHES
    }


def _lay_out_as_parameters(optimizer: Optimizer) -> None:
    """Loaded momenta in the memory layout of their parameters.

    Fused kernels take it for granted, and compute nonsense on the CPU where it is not so.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def accumulation(args: TrainArgs) -> int:
    """Batches whose gradients are summed before a step, after warm-up."""
    return max(round(args.nbs / args.batch), 1)


@dataclass(frozen=True)
class Round:
    """Batches of an epoch that belong to the same optimizer step."""

    batches: range  # from 0
    steps: bool  # whether the step comes after them


@dataclass(frozen=True)
class Schedule:
    """lr, momentum and accumulation at every batch of a training of `epochs` epochs of `batches`.

    `epochs` are given beside `args` because `time` refits them while training. The warm-up does not follow
    them: it would jump in its midst.
    """

    args: TrainArgs
    batches: int
    epochs: int

    @property
    def warmup(self) -> int:
        """Batches of warm-up; never the whole training, unless `time` made it shorter than expected."""
        epochs = self.args.warmup_epochs
        if self.args.time is None:
            epochs = min(epochs, self.args.epochs - 1)
        return round(epochs * self.batches)

    def factor(self, epoch: int) -> float:
        """Share of lr0 in epoch (from 0): 1 -> lrf, linear or cosine."""
        lrf, done = self.args.lrf, min(epoch / self.epochs, 1.0)
        if self.args.cos_lr:
            return 1 - (1 - math.cos(math.pi * done)) / 2 * (1 - lrf)
        return (1 - done) * (1 - lrf) + lrf

    def apply(self, optimizer: Optimizer, epoch: int, batch: int) -> int:
        """Set the groups for batch `batch` of epoch `epoch` (both from 0); returns the accumulation."""
        args, done = self.args, epoch * self.batches + batch
        for group in optimizer.param_groups:
            start = args.warmup_bias_lr if group["role"] == "bias" else 0.0
            target = args.lr0 * group["lr_factor"] * self.factor(epoch)
            group["lr"] = self._warming(start, target, done)
            if "momentum" in group:
                group["momentum"] = self._warming(args.warmup_momentum, args.momentum, done)
        return self.accumulate(epoch, batch)

    def accumulate(self, epoch: int, batch: int) -> int:
        """Batches that have to wait, this one included, for the optimizer to step after it."""
        return max(1, round(self._warming(1, self._accumulation(), epoch * self.batches + batch)))

    def rounds(self, epoch: int, waiting: int, lanes: int, in_a_row: int) -> Iterator[Round]:
        """The epoch's batches in rounds between which steps may come, but not within them.

        A round has one batch for each of `lanes` or fewer, or up to `in_a_row` for each of them. `waiting`:
        batches of the epoch before that no step has followed yet.
        """
        first = 0
        for batch in range(self.batches):
            steps = waiting + batch - first + 1 >= self.accumulate(epoch, batch)
            if not steps and batch < self.batches - 1:
                continue
            while first <= batch:
                left = batch + 1 - first
                count = lanes * min(left // lanes, in_a_row) or left
                first += count
                yield Round(range(first - count, first), steps=steps and first > batch)
            waiting = 0 if steps else waiting

    def _accumulation(self) -> int:
        """After warm-up: a training shorter than that makes one step at least, if it can be known."""
        most = accumulation(self.args)
        return most if self.args.time is not None else min(most, self.batches * self.epochs)

    def _warming(self, start: float, end: float, done: int) -> float:
        return end if done >= self.warmup else start + (end - start) / self.warmup * done
