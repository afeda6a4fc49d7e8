"""MuSGD against its formula written down slowly, against the reference's numbers, and its batching."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tunekit.training.muon import STACK_COST, MuSGD, orthogonal, stacked

# 3x3, 1x1 wide and tall, depthwise, and matrices; some of equal size when laid on their side.
SHAPES = [
    (8, 4, 3, 3),
    (8, 4, 3, 3),
    (6, 12, 1, 1),
    (12, 6, 1, 1),
    (10, 1, 3, 3),
    (9, 5),
    (5, 9),
    (1, 7, 1, 1),
]


def optimizer_of(parameters: list[nn.Parameter], muon: bool = True, **settings) -> MuSGD:
    return MuSGD([{"params": parameters, "muon": muon}], **{"lr": 0.1, "momentum": 0.9, **settings})


def parameters(shapes=SHAPES, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def give_gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(100 + seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def slow_orthogonal(matrix: Tensor) -> Tensor:
    x = matrix / matrix.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x - 4.7750 * square @ x + 2.0315 * square @ square @ x
    return x


def slow_musgd(
    weight: Tensor, gradients: list[Tensor], momenta: list[float], lr: float, decay: float
) -> Tensor:
    """One weight through all steps, in float64, a line of the formula at a time."""
    weight, mean, velocity = weight.double(), torch.zeros(()), torch.zeros(())
    for gradient, beta in zip(gradients, momenta, strict=True):
        gradient = gradient.double()
        mean = beta * mean + (1 - beta) * gradient
        ahead = beta * mean + (1 - beta) * gradient
        scale = math.sqrt(max(1, weight.shape[-2] / weight.shape[-1]))
        direction = slow_orthogonal(ahead.reshape(len(ahead), -1)).reshape(weight.shape)
        weight = weight - lr * 0.2 * scale * direction
        decayed = gradient + decay * weight
        velocity = beta * velocity + decayed
        weight = weight - lr * (decayed + beta * velocity)
    return weight


def test_steps_are_the_formulas():
    weights, momenta = parameters(), [0.8, 0.85, 0.9, 0.9]
    starts = [weight.detach().clone() for weight in weights]
    optimizer = optimizer_of(weights, weight_decay=0.05)
    seen: list[list[Tensor]] = [[] for _ in weights]
    for step, momentum in enumerate(momenta):
        give_gradients(weights, step)
        optimizer.param_groups[0]["momentum"] = momentum
        optimizer.step()
        for gradients, weight in zip(seen, weights, strict=True):
            gradients.append(weight.grad.clone())
    for start, gradients, weight in zip(starts, seen, weights, strict=True):
        expected = slow_musgd(start, gradients, momenta, lr=0.1, decay=0.05)
        torch.testing.assert_close(weight.detach().double(), expected, rtol=0, atol=2e-5)


def test_without_muon_it_is_sgd():
    ours, theirs = parameters(), parameters()
    optimizers = [
        optimizer_of(ours, muon=False, weight_decay=0.05),
        torch.optim.SGD(theirs, lr=0.1, momentum=0.9, weight_decay=0.05, nesterov=True),
    ]
    for step in range(3):
        for side, optimizer in zip((ours, theirs), optimizers, strict=True):
            give_gradients(side, step)
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


# Parameters after three steps (first four values, sum of sizes), as the reference (8.4.190) was seen to reach
# them: lr 0.1, decay 0.05, momentum 0.8, 0.85, 0.9, weights sin(1.5i), gradients 0.1·sin(ki), i and k from 1.
REFERENCE = {
    (4, 2, 3, 3): ([0.8864, 0.1268, -0.9481, -0.2565], 44.261),
    (6, 1, 3, 3): ([0.8887, 0.1203, -0.9447, -0.2574], 33.145),
    (8, 3): ([0.8544, 0.1290, -0.9354, -0.2526], 14.968),
    (3, 8, 1, 1): ([0.8847, 0.1260, -0.9414, -0.2584], 14.981),
}


@pytest.mark.parametrize("shape", REFERENCE)
def test_steps_in_bf16_are_the_references(shape):
    count = torch.arange(1, math.prod(shape) + 1, dtype=torch.float32)
    weight = nn.Parameter(torch.sin(1.5 * count).reshape(shape))
    optimizer = optimizer_of([weight], weight_decay=0.05, precision=torch.bfloat16)
    for step, momentum in enumerate((0.8, 0.85, 0.9), start=1):
        optimizer.param_groups[0]["momentum"] = momentum
        weight.grad = 0.1 * torch.sin(step * count).reshape(shape)
        optimizer.step()
    first, size = REFERENCE[shape]
    assert weight.flatten()[:4].tolist() == pytest.approx(first, abs=1e-3)
    assert weight.abs().sum().item() == pytest.approx(size, abs=0.02)


def test_orthogonal_brings_singular_values_near_one_and_keeps_zeros():
    x = torch.randn(3, 6, 20, generator=torch.Generator().manual_seed(0))
    x[1, 4:] = 0
    x[2, :, 15:] = 0
    y = orthogonal(x)
    values = torch.linalg.svdvals(y)
    assert values[0].min() > 0.6
    assert values.max() < 1.3
    assert y[1, 4:].abs().max() == 0
    assert y[2, :, 15:].abs().max() == 0
    assert torch.equal(
        orthogonal(torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3)
    )  # a gradient of zeros moves nothing


@pytest.mark.parametrize("cost", [0.0, 1e4, 1e12])
def test_batching_changes_speed_and_nothing_else(cost, monkeypatch):
    monkeypatch.setitem(STACK_COST, "cpu", cost)
    together, alone = parameters(), parameters()
    optimizers = [optimizer_of(together), *(optimizer_of([weight]) for weight in alone)]
    for step in range(2):
        give_gradients(together, step)
        give_gradients(alone, step)
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12),
    cost=st.sampled_from([0.0, 1e5, 1e7, 1e12]),
)
def test_stacks_hold_every_matrix_once_with_room_for_it(shapes, cost):
    stacks = stacked(tuple(shapes), cost)
    assert sorted(index for stack in stacks for index in stack.members) == list(range(len(shapes)))
    for stack in stacks:
        for index in stack.members:
            rows, columns = sorted(shapes[index])
            assert rows <= stack.rows
            assert columns <= stack.columns
    if cost == 0:
        assert len(stacks) == len({tuple(sorted(shape)) for shape in shapes})
    if cost == 1e12:
        assert len(stacks) == 1


def test_memory_layouts_play_no_part():
    plain, last = parameters(), parameters()
    for weight in last:
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    for side in (plain, last):
        optimizer = optimizer_of(side, weight_decay=0.05)
        for step in range(2):
            give_gradients(side, step)
            for weight in side:  # as autograd lays gradients out
                weight.grad = torch.empty_like(weight).copy_(weight.grad)
            optimizer.step()
    for one, other in zip(plain, last, strict=True):
        assert torch.equal(one, other)


def test_parameters_without_gradients_stay():
    weights = parameters()
    before = weights[1].detach().clone()
    optimizer = optimizer_of(weights)
    for step in range(2):
        give_gradients(weights, step)
        weights[1].grad = None
        optimizer.step()
    assert torch.equal(weights[1], before)
    assert not optimizer.state[weights[1]]
