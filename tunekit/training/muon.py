"""MuSGD: SGD with momentum, whose matrices also move along their orthogonalised momentum (Muon).

In: parameters with gradients, in groups; `muon=True` in a group of matrices and convolution kernels. Out: new
parameters. Knows nothing of models and schedules. For a weight W with gradient g, momentum β, decay λ:

    m <- βm + (1−β)g                W <- W − lr·0.2·s·orthogonal(βm + (1−β)g)       (muon groups)
    v <- βv + g + λW                W <- W − lr·(g + λW + βv)                       (all groups)

Convolution kernels are matrices (out, in·height·width), but s = √max(1, rows/columns) is of the last two
dimensions of the kernel itself, and so 1. Muon: Keller Jordan, 2024, https://kellerjordan.github.io/posts/muon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.sgd import sgd

MUON_SHARE = 0.2  # of lr, for the orthogonal step; SGD's takes all of lr
ITERATIONS = 5
A, B, C = 3.4445, -4.7750, 2.0315  # Muon's polynomial: drives singular values to about 1 in five steps
SMALLEST_NORM = 1e-7

# A stack of matrices costs the time of so many additional floating-point operations, whatever its size:
# about 20 calls of 10 µs on a CPU; on a GPU of 4 µs, in which it could have done far more.
STACK_COST = {"cpu": 5e7, "cuda": 2e9}


class MuSGD(Optimizer):
    """`precision`: what matrices are orthogonalised in; bfloat16 does, where it is fast."""

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float,
        weight_decay: float = 0.0,
        precision: torch.dtype = torch.float32,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "muon": False}
        super().__init__(params, defaults)
        self._precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            gradients = [parameter.grad for parameter in parameters]
            lr, momentum = group["lr"], group["momentum"]
            if group["muon"]:
                means = self._buffers(parameters, "muon_buffer")
                _orthogonal_step(parameters, gradients, means, lr * MUON_SHARE, momentum, self._precision)
            sgd(  # sees the weights that the orthogonal step left
                parameters,
                gradients,
                self._buffers(parameters, "momentum_buffer"),
                fused=True,
                weight_decay=group["weight_decay"],
                momentum=momentum,
                lr=lr,
                dampening=0.0,
                nesterov=True,
                maximize=False,
            )
        return loss

    def _buffers(self, parameters: list[Tensor], name: str) -> list[Any]:
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]


def _orthogonal_step(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    lr: float,
    momentum: float,
    precision: torch.dtype,
) -> None:
    torch._foreach_lerp_(means, gradients, 1 - momentum)
    directions = torch._foreach_lerp(gradients, means, momentum)  # Nesterov: one step ahead
    shapes = tuple(tuple(parameter.shape) for parameter in parameters)
    device = parameters[0].device
    for stack in stacked(shapes, STACK_COST.get(device.type, STACK_COST["cuda"])):
        x = torch.zeros(len(stack.members), stack.rows, stack.columns, dtype=precision, device=device)
        corners = [_corner(place, shapes[index]) for place, index in zip(x, stack.members, strict=True)]
        torch._foreach_copy_(corners, [directions[index] for index in stack.members])
        for place, index in zip(orthogonal(x), stack.members, strict=True):
            rows, columns = shapes[index][-2:]
            scale = max(1.0, rows / columns) ** 0.5
            parameters[index].add_(_corner(place, shapes[index]), alpha=-lr * scale)


def orthogonal(x: Tensor) -> Tensor:
    """U·S'·Vᵀ of x = U·S·Vᵀ (n, rows, columns), rows <= columns, with S' near 1. Zeros around a matrix stay.

    Newton–Schulz: an odd polynomial of a matrix acts on its singular values, and needs products only.
    """
    x = x / (torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True) + SMALLEST_NORM)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        factor = torch.baddbmm(square, square, square, beta=B, alpha=C)
        x = torch.baddbmm(x, factor, x, beta=A)
    return x


@dataclass(frozen=True)
class Stack:
    """Matrices that are orthogonalised together, each in the corner of one of rows <= columns."""

    rows: int
    columns: int
    members: tuple[int, ...]

    def flops(self) -> float:
        per_matrix = 2 * self.rows * self.rows * (2 * self.columns + self.rows)
        return ITERATIONS * per_matrix * len(self.members)

    def joined(self, other: Stack) -> Stack:
        rows, columns = max(self.rows, other.rows), max(self.columns, other.columns)
        return Stack(rows, columns, self.members + other.members)


@lru_cache(maxsize=64)
def stacked(shapes: tuple[tuple[int, ...], ...], cost: float) -> tuple[Stack, ...]:
    """Which parameters of these shapes to orthogonalise together, when a stack costs `cost` operations.

    Equal shapes always; others as long as computing with the zeros around them is cheaper than another stack.
    """
    stacks: dict[tuple[int, int], Stack] = {}
    for index, shape in enumerate(shapes):
        rows, columns = sorted((shape[0], prod(shape[1:])))
        stack = Stack(rows, columns, (index,))
        stacks[rows, columns] = stacks[rows, columns].joined(stack) if (rows, columns) in stacks else stack
    found = list(stacks.values())
    while len(found) > 1:
        saved, one, other = max(
            ((cost + a.flops() + b.flops() - a.joined(b).flops(), a, b) for a, b in combinations(found, 2)),
            key=lambda candidate: candidate[0],
        )
        if saved <= 0:
            break
        found = [stack for stack in found if stack not in (one, other)] + [one.joined(other)]
    return tuple(found)


def _corner(matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The part of a stack's matrix that belongs to a parameter of `shape`, as a view of that shape.

    Tall ones lie on their side. Memory layouts play no part, so that a resumed training repeats to the bit.
    """
    rows, columns = shape[0], prod(shape[1:])
    flat = matrix[:rows, :columns] if rows <= columns else matrix[:columns, :rows].mT
    return flat.unflatten(1, shape[1:])
