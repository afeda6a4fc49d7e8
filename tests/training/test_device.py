"""Which devices a training gets, alone and with several workers, on machines with and without GPUs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from tunekit.errors import ResourceError
from tunekit.training import device as device_module
from tunekit.training.device import (
    autocast_dtype,
    available_cores,
    select_device,
    total_memory,
    worker_devices,
)


@pytest.fixture
def gpus(monkeypatch):
    """Makes this machine look as if it had so many GPUs."""

    def there_are(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Model T")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return there_are


@pytest.mark.parametrize(
    ("count", "device", "selected"),
    [
        (0, None, "cpu"),
        (0, "cpu", "cpu"),
        (2, None, "cuda:0"),
        (2, "CPU", "cpu"),
        (2, "cuda", "cuda:0"),
        (2, "1", "cuda:1"),
        (2, "cuda:1", "cuda:1"),
    ],
)
def test_a_device_is_the_named_one_or_the_best_there_is(gpus, count, device, selected):
    gpus(count)
    assert select_device(device) == torch.device(selected)


@pytest.mark.parametrize("device", ["2", "cuda:2", "mps", "tpu", "cuda:x", "", "-1"])
def test_a_device_that_is_not_there_is_told_with_those_that_are(gpus, device):
    gpus(2)
    with pytest.raises(ResourceError, match=r"this machine has cpu, 0 \(Model T\), 1 \(Model T\)"):
        select_device(device)


@pytest.mark.parametrize(
    ("device", "workers", "chosen"),
    [
        (None, None, ("cuda:0",)),
        (None, 1, ("cuda:0",)),
        (None, 3, ("cuda:0", "cuda:1", "cuda:2")),
        ("cuda", 2, ("cuda:0", "cuda:1")),
        ("1", None, ("cuda:1",)),
        ("1,3", None, ("cuda:1", "cuda:3")),
        ("3,1", 2, ("cuda:3", "cuda:1")),
        ("cpu", None, ("cpu",)),
        ("cpu", 2, ("cpu", "cpu")),
    ],
)
def test_workers_get_the_named_gpus_or_the_first_ones(gpus, device, workers, chosen):
    gpus(4)
    assert worker_devices(device, workers) == chosen


@pytest.mark.parametrize(
    ("device", "workers", "told"),
    [
        ("0,1", 3, "workers=3 does not fit device=0,1"),
        ("0,7", None, "device=7 is not there"),
        ("1", 2, "name all the GPUs, as in device=0,1"),
        (None, 5, "device=4 is not there"),
        ("0,", None, "is not there"),
    ],
)
def test_workers_that_do_not_fit_the_gpus_are_refused(gpus, device, workers, told):
    gpus(4)
    with pytest.raises(ResourceError, match=told):
        worker_devices(device, workers)


def test_two_gpus_on_a_machine_without_any_are_refused(gpus):
    gpus(0)
    with pytest.raises(ResourceError, match=r"device=0 is not there: this machine has cpu, no CUDA GPU"):
        worker_devices("0,1", None)


def test_without_a_gpu_workers_share_the_cpu(gpus):
    gpus(0)
    assert worker_devices(None, 2) == ("cpu", "cpu")


def test_amp_can_be_switched_off_and_cores_are_counted():
    assert autocast_dtype(torch.device("cpu"), amp=False) is None
    assert available_cores() >= 1


def test_memory_is_what_the_container_may_take(tmp_path, monkeypatch):
    limits = [tmp_path / name for name in ("max", "limit", "missing")]
    limits[0].write_text("max\n")
    monkeypatch.setattr(device_module, "MEMORY_LIMITS", limits)
    whole = total_memory()
    assert whole > 2**28
    limits[1].write_text(f"{2**28}\n")
    assert total_memory() == 2**28
    monkeypatch.delattr(os, "sysconf")
    assert total_memory() == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is told through glibc's interface")
def test_buffers_of_every_step_come_from_kept_memory():
    """Pages that the system had to map while 62 MB were allocated, filled and dropped, again and again."""
    program = """
import resource, sys, torch
from tunekit.training.device import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory(torch.device("cpu"))
def step():
    buffers = [torch.ones(size) for size in (500_000, 3_000_000, 12_000_000)]
for _ in range(5):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {
        name: int(subprocess.check_output([sys.executable, "-c", program, name])) for name in ("kept", "left")
    }
    assert 50 * faults["kept"] < faults["left"]
