"""Schedules against their closed forms, groups against the model's layers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from tunekit.args import OPTIMIZERS, TrainArgs
from tunekit.checks import build_args
from tunekit.training.ema import WeightAverage
from tunekit.training.optim import Schedule, accumulation, build_optimizer, resolve_auto, resolved


def args(**settings) -> TrainArgs:
    return build_args(TrainArgs, {"optimizer": "SGD", **settings})


def small_model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def test_norms_and_biases_do_not_decay():
    model = small_model()
    groups = {group["role"]: group for group in build_optimizer(model, args(batch=16, nbs=64)).param_groups}
    assert groups["weight"]["weight_decay"] == pytest.approx(0.0005)
    assert groups["norm"]["weight_decay"] == groups["bias"]["weight_decay"] == 0
    assert {id(p) for p in groups["norm"]["params"]} == {id(model[1].weight)}
    assert {id(p) for p in groups["bias"]["params"]} == {id(model[1].bias), id(model[2].bias)}
    assert {id(p) for p in groups["weight"]["params"]} == {id(model[0].weight), id(model[2].weight)}


def test_decay_follows_the_batch_when_it_is_larger_than_nominal():
    optimizer = build_optimizer(small_model(), args(batch=128, nbs=64))
    assert optimizer.param_groups[1]["weight_decay"] == pytest.approx(0.001)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_steps_downhill(name):
    model = small_model()
    arguments = args(optimizer=name, lr0=1e-3)
    optimizer = build_optimizer(model, arguments)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    values = []
    for _ in range(20):
        loss = model(images).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0]


def test_warm_up_is_a_straight_line_from_zero_and_from_the_bias_lr():
    arguments = args(
        epochs=10, warmup_epochs=2, lr0=0.02, warmup_bias_lr=0.1, warmup_momentum=0.5, momentum=0.9, batch=16
    )
    schedule, optimizer = Schedule(arguments, batches=10), build_optimizer(small_model(), arguments)
    assert schedule.warmup == 20
    accumulate = schedule.apply(optimizer, epoch=1, batch=0)  # half-way
    lr = {group["role"]: group["lr"] for group in optimizer.param_groups}
    target = 0.02 * schedule.factor(1)
    assert lr["weight"] == lr["norm"] == pytest.approx(target / 2)
    assert lr["bias"] == pytest.approx((0.1 + target) / 2)
    assert optimizer.param_groups[0]["momentum"] == pytest.approx(0.7)
    assert accumulate == round((1 + 64 / 16) / 2)
    assert schedule.apply(optimizer, epoch=2, batch=0) == accumulation(arguments) == 4
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * schedule.factor(2))


def test_the_rate_falls_linearly_or_as_a_cosine_to_lrf():
    linear, cosine = Schedule(args(epochs=10, lrf=0.1), 5), Schedule(args(epochs=10, lrf=0.1, cos_lr=True), 5)
    assert [linear.factor(e) for e in (0, 5, 10)] == pytest.approx([1, 0.55, 0.1])
    assert [cosine.factor(e) for e in (0, 5, 10)] == pytest.approx([1, 0.55, 0.1])
    assert cosine.factor(2) == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.2 * math.pi)) / 2)


def test_warm_up_never_takes_the_whole_training():
    assert Schedule(args(epochs=2, warmup_epochs=3), 10).warmup == 10
    assert Schedule(args(epochs=1, warmup_epochs=3), 10).warmup == 0


def test_auto_is_written_out():
    short = resolved(build_args(TrainArgs, {"epochs": 10, "lr0": 0.5}), nc=10, images=400)
    assert (short.optimizer, short.lr0, short.momentum, short.warmup_bias_lr) == ("AdamW", 0.000714, 0.9, 0.0)
    assert resolve_auto(10, 10_001).optimizer == "SGD"
    explicit = args(lr0=0.5)
    assert resolved(explicit, nc=10, images=400) is explicit


def test_the_average_follows_its_formula():
    model = small_model()
    average = WeightAverage(model)
    start, value = model[0].weight.detach().clone(), model[0].weight.detach() + 1
    with torch.no_grad():
        model[0].weight.copy_(value)
    average.update()
    decay = 0.9999 * (1 - math.exp(-1 / 2000))
    torch.testing.assert_close(average.model[0].weight, decay * start + (1 - decay) * value)
    with torch.no_grad():
        model[1].running_mean.fill_(3.0)
    average.update()
    decay = 0.9999 * (1 - math.exp(-2 / 2000))
    torch.testing.assert_close(average.model[1].running_mean, torch.full((4,), (1 - decay) * 3.0))


def test_the_schedule_is_the_references():
    """lr of weights and of biases, momentum and accumulation at batches 0 to 10 of a training of
    3 epochs of 5 batches of 8, SGD, defaults: as the reference (8.4.190) was seen to set them."""
    seen = [
        (0.0, 0.1, 0.8, 1), (0.001, 0.091, 0.8137, 2), (0.002, 0.082, 0.8274, 2), (0.003, 0.073, 0.8411, 3),
        (0.004, 0.064, 0.8548, 4), (0.00335, 0.05335, 0.8685, 4), (0.00402, 0.04402, 0.8822, 5),
        (0.00469, 0.03469, 0.8959, 6), (0.00536, 0.02536, 0.9096, 7), (0.00603, 0.01603, 0.9233, 7),
        (0.0034, 0.0034, 0.937, 8),
    ]  # fmt: skip
    arguments = args(epochs=3, batch=8)
    schedule, optimizer = Schedule(arguments, batches=5), build_optimizer(small_model(), arguments)
    for step, (lr, bias_lr, momentum, accumulate) in enumerate(seen):
        assert schedule.apply(optimizer, *divmod(step, 5)) == accumulate
        group = {group["role"]: group for group in optimizer.param_groups}
        assert group["weight"]["lr"] == pytest.approx(lr, abs=1e-6)
        assert group["bias"]["lr"] == pytest.approx(bias_lr, abs=1e-6)
        assert group["weight"]["momentum"] == pytest.approx(momentum)
