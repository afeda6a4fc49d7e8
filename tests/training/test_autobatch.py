"""batch=-1: from memory figures to a batch. The figures themselves need a GPU."""

from __future__ import annotations

import pytest
import torch

from tunekit.errors import ResourceError
from tunekit.models.build import build_model, load_spec
from tunekit.training import autobatch
from tunekit.training.autobatch import MemoryLine, TrainingStep, fitted_line, measured_batch, measured_peaks

GIB = 2**30
CPU = torch.device("cpu")


def memory(batch: int) -> int:
    """A GPU's: 1 GiB, and a quarter for each image."""
    return GIB + batch * GIB // 4


def test_the_line_is_found_through_what_was_measured():
    line = fitted_line([(batch, memory(batch)) for batch in (2, 4, 8, 16)])
    assert line.base == pytest.approx(GIB, rel=1e-6)
    assert line.each == pytest.approx(GIB / 4, rel=1e-6)
    wobbling = fitted_line([(2, memory(2) + 2**22), (4, memory(4) - 2**22), (8, memory(8)), (16, memory(16))])
    assert wobbling.each == pytest.approx(GIB / 4, rel=0.01)


def test_the_batch_is_the_largest_within_the_limit():
    line = MemoryLine(GIB, GIB / 4)
    assert line.batch(11 * GIB) == 40
    assert line.batch(11 * GIB - 1) == 39
    assert line.batch(GIB / 2) == 1  # there is no smaller one
    assert line.batch(10_000 * GIB) == 1024
    assert line.batch(11 * GIB, most=31) == 31


def test_one_measurement_is_taken_for_a_line_from_nothing():
    assert fitted_line([(2, 3 * GIB)]).batch(8 * GIB) == 5


def test_memory_that_does_not_grow_is_told():
    with pytest.raises(ResourceError, match=r"not to grow .*2: 1.00 GiB, 4: 1.00 GiB.*name a batch"):
        fitted_line([(2, GIB), (4, GIB)])


def test_measuring_ends_beyond_the_limit():
    tried = []
    peaks, most = measured_peaks(lambda batch: tried.append(batch) or memory(batch), limit=memory(5))
    assert tried == [2, 4, 8]
    assert peaks == [(batch, memory(batch)) for batch in tried]
    assert most == 1024


def test_a_batch_that_did_not_fit_is_never_chosen():
    def step(batch: int) -> int:
        if batch > 8:
            raise torch.cuda.OutOfMemoryError
        return memory(batch)

    peaks, most = measured_peaks(step, limit=1000 * GIB)
    assert [batch for batch, _ in peaks] == [2, 4, 8]
    assert fitted_line(peaks).batch(1000 * GIB, most) == 15


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_where_nothing_can_be_measured_it_is_said(kind):
    model = build_model(load_spec("yolo11p.yaml"), ("a",), seed=0)
    batch, sentence = measured_batch(model, 64, -1, torch.device(kind), None)
    assert batch == 16
    assert "batch=16" in sentence
    assert f"not on {kind}" in sentence


class Gpu:
    """Stands in for torch.cuda: 24 GiB, of which other programs hold 2 and this one 1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (21 * GIB, 24 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: GIB)
        monkeypatch.setattr(autobatch, "TrainingStep", lambda *args: self.step)

    def step(self, batch: int) -> int:
        return memory(batch)


def test_the_share_is_of_all_memory_and_others_use_of_it_counts(monkeypatch):
    gpu = Gpu(monkeypatch)
    model = build_model(load_spec("yolo11p.yaml"), ("a",), seed=0)  # its momenta take some MB
    batch, sentence = measured_batch(model, 64, -1, torch.device("cuda:0"), None)
    assert batch == (0.6 * 24 - 2 - 1) // 0.25 == 45
    assert sentence.startswith("batch=45: ")
    assert "fills 59% of the 24.0 GiB of cuda:0 (wanted: 60%)" in sentence
    assert measured_batch(model, 64, 0.9, torch.device("cuda:0"), None)[0] == 74
    monkeypatch.setattr(gpu, "step", lambda batch: (_ for _ in ()).throw(torch.cuda.OutOfMemoryError))
    with pytest.raises(ResourceError, match=r"2 images of imgsz=64 do not fit .* 21.0 of 24.0 GiB"):
        measured_batch(model, 64, -1, torch.device("cuda:0"), None)


@pytest.mark.parametrize("name", ["yolo11p.yaml", "yolov8p.yaml", "yolo26p.yaml"])
def test_the_measured_step_needs_gradients_of_everything(name):
    model = build_model(load_spec(name), ("a",), seed=0).train()
    TrainingStep(model, 64, CPU, None).train(2)
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_batch_fills_about_its_share_and_leaves_the_model_alone():
    device = torch.device("cuda:0")
    model = build_model(load_spec("yolo11n.yaml"), ("a",), seed=0).to(device)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    total = torch.cuda.mem_get_info(device)[1]
    share = 8 * GIB / total
    batch, _ = measured_batch(model, 320, share, device, torch.bfloat16)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert 16 < batch < 1024
    peak = TrainingStep(model, 320, device, torch.bfloat16)(batch)
    free = torch.cuda.mem_get_info(device)[0]
    assert abs(total - free - 8 * GIB) < 0.15 * 8 * GIB, (batch, peak)
