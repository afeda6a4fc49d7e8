"""Schedules against their closed forms and the reference, groups against the model's layers, exact resume."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn

from tunekit.args import OPTIMIZERS, TrainArgs
from tunekit.checks import build_args
from tunekit.models.build import build_model, load_spec
from tunekit.training.ema import WeightAverage
from tunekit.training.optim import Schedule, accumulation, build_optimizer


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
    schedule, optimizer = Schedule(arguments, 10, 10), build_optimizer(small_model(), arguments)
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
    linear = Schedule(args(epochs=10, lrf=0.1), 5, 10)
    cosine = Schedule(args(epochs=10, lrf=0.1, cos_lr=True), 5, 10)
    assert [linear.factor(e) for e in (0, 5, 10)] == pytest.approx([1, 0.55, 0.1])
    assert [cosine.factor(e) for e in (0, 5, 10)] == pytest.approx([1, 0.55, 0.1])
    assert cosine.factor(2) == pytest.approx(0.1 + 0.9 * (1 + math.cos(0.2 * math.pi)) / 2)


def test_warm_up_never_takes_the_whole_training():
    assert Schedule(args(epochs=2, warmup_epochs=3), 10, 2).warmup == 10
    assert Schedule(args(epochs=1, warmup_epochs=3), 10, 1).warmup == 0


def test_fitting_the_epochs_to_the_time_moves_the_end_and_not_the_warm_up():
    arguments = args(epochs=1, time=0.5, lr0=0.01, lrf=0.1)
    short, long = Schedule(arguments, 10, 5), Schedule(arguments, 10, 50)
    assert short.warmup == long.warmup == 30
    assert short.factor(5) == long.factor(50) == short.factor(7) == pytest.approx(0.1)
    assert short.factor(4) < long.factor(4)


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
    schedule, optimizer = Schedule(arguments, 5, 3), build_optimizer(small_model(), arguments)
    for step, (lr, bias_lr, momentum, accumulate) in enumerate(seen):
        assert schedule.apply(optimizer, *divmod(step, 5)) == accumulate
        group = {group["role"]: group for group in optimizer.param_groups}
        assert group["weight"]["lr"] == pytest.approx(lr, abs=1e-6)
        assert group["bias"]["lr"] == pytest.approx(bias_lr, abs=1e-6)
        assert group["weight"]["momentum"] == pytest.approx(momentum)


@pytest.mark.parametrize(
    ("waiting", "lanes", "in_a_row", "expected"),
    [
        (0, 1, 1, [(0, False), (1, False), (2, True), (3, False), (4, False), (5, True), (6, False)]),
        (2, 1, 1, [(0, True), (1, False), (2, False), (3, True), (4, False), (5, False), (6, True)]),
        (0, 2, 2, [((0, 1), False), (2, True), ((3, 4), False), (5, True), (6, False)]),
        (1, 3, 2, [((0, 1), True), ((2, 3, 4), True), ((5, 6), False)]),
    ],
)
def test_rounds_are_batches_without_a_step_between_them(waiting, lanes, in_a_row, expected):
    schedule = Schedule(args(batch=8, nbs=24, warmup_epochs=0, epochs=9), 7, 9)
    rounds = schedule.rounds(0, waiting, lanes, in_a_row)
    assert [(tuple(each.batches), each.steps) for each in rounds] == [
        (batches if isinstance(batches, tuple) else (batches,), steps) for batches, steps in expected
    ]


def test_a_lane_takes_several_batches_in_a_row_where_each_lane_gets_as_many():
    schedule = Schedule(args(batch=8, nbs=64, warmup_epochs=0, epochs=9), 8, 9)
    assert [tuple(each.batches) for each in schedule.rounds(0, 0, 2, 2)] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert [tuple(each.batches) for each in schedule.rounds(0, 0, 3, 2)] == [(0, 1, 2, 3, 4, 5), (6, 7)]


def test_musgds_schedule_is_the_references():
    """The same of MuSGD: lr of weights outside and inside of the class branches, of biases outside and
    inside, momentum and accumulation, in a training of 4 epochs of 4 batches of 12, cosine."""
    seen = [
        (0.0, 0.0, 0.1, 0.1, 0.6, 1),
        (0.0008333333333, 0.0025, 0.08416666667, 0.08583333333, 0.6561666667, 2),
        (0.0016666666667, 0.005, 0.06833333333, 0.07166666667, 0.7123333333, 2),
        (0.0025, 0.0075, 0.0525, 0.0575, 0.7685, 3),
        (0.0028939935051, 0.008681980515, 0.03622732684, 0.04201531385, 0.8246666667, 4),
        (0.0036174918814, 0.010852475644, 0.02028415856, 0.02751914231, 0.8808333333, 4),
        (0.0043409902577, 0.013022970773, 0.0043409902577, 0.013022970773, 0.937, 5),
        (0.0043409902577, 0.013022970773, 0.0043409902577, 0.013022970773, 0.937, 5),
        *[(0.00275, 0.00825, 0.00275, 0.00825, 0.937, 5)] * 4,
        *[(0.0011590097423, 0.003477029227, 0.0011590097423, 0.003477029227, 0.937, 5)] * 4,
    ]
    arguments = args(
        optimizer="MuSGD", epochs=4, batch=12, cos_lr=True, warmup_epochs=1.5, lr0=0.005, lrf=0.1,
        warmup_momentum=0.6,
    )  # fmt: skip
    schedule, optimizer = Schedule(arguments, 4, 4), build_optimizer(detector("yolo11p.yaml"), arguments)
    for step, (lr, class_lr, bias_lr, class_bias_lr, momentum, accumulate) in enumerate(seen):
        assert schedule.apply(optimizer, *divmod(step, 4)) == accumulate
        group = {(group["role"], group["lr_factor"]): group for group in optimizer.param_groups}
        rates = [group[key]["lr"] for key in (("weight", 1), ("weight", 3), ("bias", 1), ("bias", 3))]
        assert rates == pytest.approx([lr, class_lr, bias_lr, class_bias_lr], abs=1e-12, rel=1e-9)
        assert {group["momentum"] for group in optimizer.param_groups} == {group["norm", 3]["momentum"]}
        assert group["norm", 1]["momentum"] == pytest.approx(momentum, abs=1e-9)


@pytest.mark.parametrize(
    ("settings", "batches", "seen"),
    [
        ({"epochs": 3, "batch": 10}, 4, [1, 2, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6]),
        ({"epochs": 2, "batch": 24, "nbs": 400}, 2, [1, 2, 4, 4]),  # 17 would be more than there are
    ],
)
def test_accumulation_is_the_references(settings, batches, seen):
    arguments = args(**settings)
    schedule, optimizer = (
        Schedule(arguments, batches, arguments.epochs),
        build_optimizer(small_model(), arguments),
    )
    assert [schedule.apply(optimizer, *divmod(step, batches)) for step in range(len(seen))] == seen


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("yolo11n.yaml", {"bias": (72, 15), "weight": (72, 15), "norm": (69, 12)}),
        ("yolo26n.yaml", {"bias": (96, 30), "weight": (96, 30), "norm": (90, 24)}),
    ],
)
def test_musgds_groups_are_the_references(model, sizes):
    """Numbers of parameters outside and inside of the class branches, whose lr is three times the others'.
    (The reference counts the 16 constants of YOLO11's DFL as well, which get no gradients.)"""
    optimizer = build_optimizer(detector(model), args(optimizer="MuSGD", batch=64))
    groups = {(group["role"], group["lr_factor"]): group for group in optimizer.param_groups}
    assert {key: len(group["params"]) for key, group in groups.items()} == {
        (role, factor): count
        for role, counts in sizes.items()
        for factor, count in zip((1, 3), counts, strict=True)
    }
    for (role, _), group in groups.items():
        assert group["muon"] == (role == "weight")
        assert group["weight_decay"] == pytest.approx(0.0005 if role == "weight" else 0)


def detector(name: str):
    return build_model(load_spec(name), tuple("abcdefghij"), seed=0)


class Training:
    """Optimizer and schedule on a small model, batch after batch, without an engine."""

    def __init__(self, arguments: TrainArgs) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [
                nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8),
                nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(64, 6),
            ]  # fmt: skip
        self.model = nn.Sequential(*layers).to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.model, arguments)
        self.schedule = Schedule(arguments, 2, arguments.epochs)

    def run(self, steps: range) -> None:
        for step in steps:
            self.schedule.apply(self.optimizer, *divmod(step, 2))
            generator = torch.Generator().manual_seed(step)
            loss = self.model(torch.randn(4, 3, 8, 8, generator=generator)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def tensors(self) -> list[torch.Tensor]:
        states = self.optimizer.state_dict()["state"].values()
        return [
            *self.model.state_dict().values(),
            *(t for s in states for t in s.values() if torch.is_tensor(t)),
        ]


@pytest.mark.parametrize("cos_lr", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(name, cos_lr):
    arguments = args(optimizer=name, lr0=0.002, epochs=5, warmup_epochs=2, cos_lr=cos_lr, nbs=8, batch=4)
    whole = Training(arguments)
    whole.run(range(10))
    for stop in (3, 7):  # within the warm-up and after it
        first, second = Training(arguments), Training(arguments)
        first.run(range(stop))
        file = io.BytesIO()
        torch.save((first.model.state_dict(), first.optimizer.state_dict()), file)
        file.seek(0)
        model, optimizer = torch.load(file, weights_only=True)
        second.model.load_state_dict(model)
        second.optimizer.load_state_dict(optimizer)
        second.run(range(stop, 10))
        assert len(whole.tensors()) == len(second.tensors())
        assert all(torch.equal(*pair) for pair in zip(whole.tensors(), second.tensors(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_momenta_that_come_back_in_another_memory_layout_mean_the_same(name):
    """Fused kernels read raw memory: they would take one kernel cell's momentum for another's."""
    arguments = args(optimizer=name, lr0=0.002, epochs=5)
    whole, resumed = Training(arguments), Training(arguments)
    whole.run(range(3))
    state = copy.deepcopy(whole.optimizer.state_dict())
    for values in state["state"].values():
        for key, value in values.items():
            if torch.is_tensor(value):
                values[key] = value.clone(memory_format=torch.contiguous_format)
    resumed.model.load_state_dict(whole.model.state_dict())
    resumed.optimizer.load_state_dict(state)
    for training in (whole, resumed):
        training.run(range(3, 5))
    assert all(torch.equal(*pair) for pair in zip(whole.tensors(), resumed.tensors(), strict=True))
