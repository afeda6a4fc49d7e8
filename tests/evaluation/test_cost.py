"""What models cost, against published figures and against each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tunekit.evaluation.cost import COSTS, Setting, measure_costs
from tunekit.models.build import DetectionModel, build_model, load_spec
from tunekit.models.fuse import fused
from tunekit.search_args import OBJECTIVES


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model_of(name: str, classes: int = 80) -> DetectionModel:
    return build_model(load_spec(name), [str(number) for number in range(classes)], seed=0)


def setting(imgsz: int) -> Setting:
    return Setting(imgsz, torch.device("cpu"), None)


def test_every_objective_but_the_fitness_can_be_measured() -> None:
    assert ("fitness", *COSTS) == OBJECTIVES


@pytest.mark.parametrize(
    ("name", "parameters", "gflops"), [("yolo11n.yaml", 2.6, 6.5), ("yolo26n.yaml", 2.4, 5.4)]
)
def test_sizes_are_those_that_are_published(name: str, parameters: float, gflops: float) -> None:
    """Of 640 pixels and 80 classes; YOLO26 without its second head."""
    found = measure_costs(("gflops", "parameters"), model_of(name), setting(640))
    assert list(found) == ["gflops", "parameters"]
    assert found["parameters"] == pytest.approx(parameters, abs=0.06)
    assert found["gflops"] == pytest.approx(gflops, rel=0.03)


def test_parameters_are_those_of_the_folded_model_and_the_model_is_left_alone() -> None:
    model = model_of("yolo11p.yaml", classes=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measure_costs(("parameters",), model, setting(64))
    expected = sum(parameter.numel() for parameter in fused(model).parameters()) / 1e6
    assert found["parameters"] == pytest.approx(expected, rel=1e-3)
    after = model.state_dict()
    assert model.training
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_sixteen_times_the_pixels_are_sixteen_times_the_work_and_take_longer() -> None:
    model = model_of("yolo11p.yaml", classes=2)
    small, large = (measure_costs(("gflops", "latency"), model, setting(imgsz)) for imgsz in (64, 256))
    assert large["gflops"] == pytest.approx(16 * small["gflops"], rel=0.05)
    assert large["latency"] > small["latency"] > 0


def test_the_latency_is_the_middle_of_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One in three takes a second: others compute beside it."""
    times = iter(range(10**6))
    clock = [0.0]

    def perf_counter() -> float:
        passed = next(times)
        if passed % 2:
            clock[0] += 1.0 if passed % 3 == 0 else 0.004
        return clock[0]

    monkeypatch.setattr("tunekit.evaluation.cost.time.perf_counter", perf_counter)
    assert measure_costs(("latency",), model_of("yolo11p.yaml", 2), setting(32))["latency"] == 4.0
