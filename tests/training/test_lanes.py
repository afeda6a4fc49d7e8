"""Batches learned from side by side: the same training as one after another, whoever is done first."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
import torch

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError
from tunekit.models.build import build_model
from tunekit.models.spec import load_spec
from tunekit.training import lanes as lanes_module
from tunekit.training.engine import Engine
from tunekit.training.lanes import Lanes, lane_bytes, lanes_for

TINY = {"model": "yolo11p.yaml", "imgsz": 64, "fraction": 0.06, "batch": 4, "nbs": 16, "threads": 2}
TINY |= {
    "optimizer": "SGD",
    "lr0": 1e-4,
    "warmup_epochs": 1,
    "warmup_bias_lr": 0.0,
    "amp": False,
    "plots": False,
    "epochs": 3,
}


@pytest.fixture
def threads():
    """Gives the number of threads back that a test changed."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def engine(**settings) -> Engine:
    return Engine(build_args(TrainArgs, {**TINY, **settings}))


def trained(**settings) -> tuple[list, Engine]:
    with closing(engine(**settings)) as training:
        return list(training.epochs()), training


@pytest.mark.parametrize(
    "settings",
    [
        {"lanes": 2, "freeze": 3},
        pytest.param({"lanes": 2}, marks=pytest.mark.slow),
        pytest.param({"lanes": 3, "threads": 3}, marks=pytest.mark.slow),
    ],
)
def test_training_in_lanes_is_the_training_without_them(threads, settings):
    alone, one = trained(**settings | {"lanes": 1})
    side_by_side, several = trained(**settings)
    for expected, result in zip(alone, side_by_side, strict=True):
        assert result.losses == pytest.approx(expected.losses, rel=2e-4)
        assert result.val_losses == pytest.approx(expected.val_losses, rel=2e-3)
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(several.model.state_dict()[name], tensor, rtol=0, atol=3e-4, msg=name)


def test_statistics_and_gradients_are_those_of_the_batches_in_their_order(threads):
    """Closed: a lane computes with one thread, and so does what it is compared with."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(2, 3, 64, 64, generator=generator) for _ in range(4)]

    def model():
        return build_model(load_spec("yolo11p.yaml"), ["a", "b"], seed=0).train()

    def job(image: torch.Tensor):
        def learn(model) -> torch.Tensor:
            output = model(image)
            (output.cls.square().mean() + output.box.square().mean()).backward()
            return image.sum()

        return learn

    jobs, expected, actual = [job(image) for image in images], model(), model()
    sums = [learn(expected) for learn in jobs]
    lanes = Lanes(actual, 2, threads=2)
    with closing(lanes):
        assert lanes.run(jobs) == sums
    for ours, theirs in zip(actual.parameters(), expected.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    for (name, ours), theirs in zip(actual.named_buffers(), expected.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7, msg=name)
    assert int(actual.model[0].bn.num_batches_tracked) == 4


def test_it_does_not_matter_which_lane_is_done_first(threads, monkeypatch):
    original = lanes_module._Lane.run
    late = None

    def run(lane, jobs, threads):
        if lane is late:
            time.sleep(0.05)
        return original(lane, jobs, threads)

    monkeypatch.setattr(lanes_module._Lane, "run", run)
    found = []
    for number in (0, 1):
        with closing(engine(lanes=2, epochs=1)) as training:
            late = training.learner._lanes._lanes[number]
            found.append((next(training.epochs()).losses, training.model.state_dict()))
    (losses, weights), (others, other_weights) = found
    assert losses == others
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


def test_a_failure_in_a_lane_is_the_trainings_own(threads):
    with closing(engine(lanes=2)) as training:
        calls = []

        def learn(images):
            calls.append(threading.current_thread().name)
            raise MemoryError("no room")

        for lane in training.learner._lanes._lanes:
            lane._model.forward = learn
        with pytest.raises(MemoryError, match="no room"):
            list(training.epochs())
    assert calls
    assert all(name.startswith("tunekit-lane") for name in calls)


def test_no_thread_is_left(threads):
    trained(lanes=2, epochs=1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tunekit-")]


@pytest.mark.parametrize(
    ("settings", "lanes"),
    [
        ({}, 2),
        ({"threads": 1}, 1),
        ({"threads": 8}, 4),  # no more than batches in a step
        ({"batch": 16}, 1),
        ({"compile": True}, 1),
        ({"profile": True}, 1),
        ({"lanes": 3}, 3),
    ],
)
def test_lanes_follow_threads_and_the_batches_of_a_step(threads, monkeypatch, settings, lanes):
    monkeypatch.setattr(lanes_module, "available_cores", lambda: 8)
    with closing(engine(**settings)) as training:
        assert training.args.lanes == lanes


def test_lanes_that_memory_has_no_room_for_are_not_made(monkeypatch):
    model = build_model(load_spec("yolo11p.yaml"), ["a"], seed=0)
    monkeypatch.setattr(lanes_module, "available_cores", lambda: 8)
    needed = 16 * 640**2 * lane_bytes(model, None)

    def count(memory: float, threads: int = 8) -> int:
        monkeypatch.setattr(lanes_module, "total_memory", lambda: memory)
        return lanes_for(model, batches=4, images=16, imgsz=640, threads=threads, dtype=None)

    assert [count(needed * times) for times in (0.5, 2, 4.1, 6.1, 100)] == [1, 1, 2, 3, 4]
    assert count(needed * 8, threads=4) == 2  # half the cores, half of the half


@pytest.mark.parametrize("more", [{"compile": True}, {"profile": True}])
def test_lanes_where_there_can_be_none_are_refused(more):
    with pytest.raises(ArgumentError, match=r"lanes=2: .*set lanes=1"):
        engine(lanes=2, **more)


def test_a_resumed_training_in_lanes_is_the_uninterrupted_one_to_the_bit(threads):
    settings = {"lanes": 2, "batch": 8, "nbs": 32, "epochs": 2}
    whole, uninterrupted = trained(**settings)
    with closing(engine(**settings)) as first:
        begun = next(first.epochs())
        state = first.state_dict()
    assert state["learner"]["since_step"] > 0
    with closing(engine(**settings)) as second:
        second.load_state_dict(state)
        (rest,) = second.epochs()
    assert [begun.losses, rest.losses] == [result.losses for result in whole]
    for name, tensor in uninterrupted.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
