"""Trainings on several workers, real Ray processes: deaths, mistakes, Ctrl-C, and what a user types."""

from __future__ import annotations

import csv
import os
import queue
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from tests.processes import descendants
from tests.training.pair import pair_of_processes
from tests.training.test_engine import TIMES
from tests.training.test_ranks import TINY, sparse_set, trained
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, CheckpointError, ResourceError, RunFolderError, TrainingError
from tunekit.models.weights import read_checkpoint
from tunekit.training.device import available_cores
from tunekit.training.distributed import MOST_DEATHS, check_workers, train_on_workers
from tunekit.training.group import WorkerFault
from tunekit.training.worker import Died, Judge, told

TWO = ("cpu", "cpu")
# Gradients wait for their step when an epoch ends: they must survive, too.
SETTINGS = {**TINY, "epochs": 4, "nbs": 32, "val": True, "workers": 2, "device": "cpu"}


def args(**settings) -> TrainArgs:
    return build_args(TrainArgs, {**SETTINGS, **settings})


def quietly(text: str) -> None:
    """Nobody reads what a test's training says."""


def table(folder: Path) -> list[dict[str, float]]:
    with (folder / "results.csv").open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if name not in TIMES}
            for row in csv.DictReader(file)
        ]


def worker_processes() -> list[int]:
    """Our own Ray's workers, among the processes that descend from this one."""
    return [pid for pid, title in descendants([os.getpid()]).items() if "RayTrainWorker" in title]


@pytest.mark.slow
def test_a_worker_may_also_die_in_a_ray_that_was_there_before(shared_ray, tmp_path):
    said: list[str] = []
    seen: list[int] = []

    def on_epoch(result) -> None:
        seen.append(result.epoch)
        if result.epoch == 2:
            os.kill(worker_processes()[0], signal.SIGKILL)

    used = train_on_workers(args(), TWO, tmp_path, resume=False, say=said.append, on_epoch=on_epoch)
    with pair_of_processes() as pair:  # the same two workers, without Ray and undisturbed
        rows, (_, averaged) = pair(trained, SETTINGS, False)[0]

    assert (used.workers, used.device, used.threads) == (2, "cpu", 1)
    assert sum("died" in text for text in said) == 1
    assert sum("2 workers, cpu" in text for text in said) == 1, "a training begins once"
    assert seen[:2] == [1, 2]
    assert len(set(seen)) == len(seen), "no epoch should be trained twice"
    assert table(tmp_path) == rows
    last = read_checkpoint(tmp_path / "weights" / "last.pt").weights
    assert all(np.array_equal(last[name].numpy(), averaged[name]) for name in averaged)


@pytest.mark.slow
def test_a_mistake_that_one_worker_alone_meets_is_told_at_once(shared_ray, tmp_path):
    (tmp_path / "weights").write_text("in the way")  # of the first worker; the other waits for it
    said: list[str] = []
    with pytest.raises(RunFolderError, match=r"cannot make .*weights: .*; choose project="):
        train_on_workers(args(), TWO, tmp_path, resume=False, say=said.append, on_epoch=None)
    assert not any("died" in text for text in said)


@pytest.mark.slow
def test_a_typed_training_survives_the_death_of_a_worker_to_the_bit(tmp_path):
    run = Typed(tmp_path, *new(epochs=3))
    lines = []
    for line in run.process.stdout:
        lines.append(line)
        if line.startswith("epoch 1/"):
            os.kill(run.workers()[0], signal.SIGKILL)
    _, err = run.process.communicate(timeout=60)
    assert run.process.returncode == 0, err
    assert "starting 2 workers" in lines[0]
    assert "on set/data.yaml" in lines[1]
    assert "2 workers, cpu" in lines[1]
    assert sum("died" in line for line in lines) == 1
    epochs = [line.split()[1] for line in lines if line.startswith("epoch ")]
    assert epochs == sorted(set(epochs)), "no epoch should be trained twice"
    assert "INFO" not in "".join(lines) + err, "Ray's chatter belongs in ray.log"
    run.assert_nothing_is_left()

    folder = tmp_path / "runs" / "train" / "together"
    with pair_of_processes() as pair:  # the same two workers, without Ray and undisturbed
        settings = {**SMALL_SET, "data": str(tmp_path / "set" / "data.yaml"), "epochs": 3}
        rows, (_, averaged) = pair(trained, settings, False)[0]
    assert table(folder) == rows
    last = read_checkpoint(folder / "weights" / "last.pt").weights
    assert all(np.array_equal(last[name].numpy(), averaged[name]) for name in averaged)


MARK = "TUNEKIT_TEST"
# Four batches, three of them an optimizer step: gradients wait for their step when an epoch ends.
SMALL_SET = {**TINY, "val": True, "fraction": 1.0, "batch": 4, "nbs": 12, "cache": False}


def new(epochs: int) -> list[str]:
    settings = {**SMALL_SET, "data": "set/data.yaml", "name": "together", "epochs": epochs}
    return [f"{name}={value}" for name, value in settings.items()]


class Typed:
    """`tunekit train workers=2 ...` in a folder of its own, with a small data set there."""

    def __init__(self, place: Path, *words: str) -> None:
        if not (place / "set").exists():
            sparse_set(place / "set")
            (place / "scratch").mkdir()
        self.place, self._mark = place, uuid.uuid4().hex
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tunekit", "train", "workers=2", "device=cpu", *words],
            cwd=place,
            env={
                **os.environ,
                "TUNEKIT_CACHE": str(place / "cache"),
                "TMPDIR": str(place / "scratch"),
                "RAY_TMPDIR": "/tmp",  # its sockets need short paths
                MARK: self._mark,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def assert_nothing_is_left(self) -> None:
        deadline = time.monotonic() + 30
        while self._family() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert self._family() == {}
        assert [path.name for path in (self.place / "scratch").glob("tunekit-*")] == []

    def workers(self) -> list[int]:
        return [pid for pid, title in self._family().items() if "RayTrainWorker" in title]

    def _family(self) -> dict[int, str]:
        """All that descends from this process, even where a parent is gone: its environment is theirs."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if f"{MARK}={self._mark}" in (entry / "environ").read_text():
                        found[int(entry.name)] = (entry / "cmdline").read_text()
                except (OSError, UnicodeDecodeError):
                    continue
        return found


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_and_says_how_to_go_on(tmp_path):
    run = Typed(tmp_path, *new(epochs=300))
    for line in run.process.stdout:
        if line.startswith("epoch 2/"):
            break
    os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does it
    out, err = run.process.communicate(timeout=120)
    assert run.process.returncode == 130, out + err
    assert "go on with: tunekit train resume=runs/train/together" in out
    assert "Traceback" not in out + err
    run.assert_nothing_is_left()
    done = len(table(tmp_path / "runs" / "train" / "together"))

    again = Typed(tmp_path, "resume=runs/train/together")
    for line in again.process.stdout:
        if line.startswith("epoch "):
            break
    os.killpg(again.process.pid, signal.SIGINT)
    again.process.communicate(timeout=120)
    assert line.startswith(f"epoch {done + 1}/300")
    again.assert_nothing_is_left()


@pytest.mark.slow
def test_workers_that_keep_dying_are_given_up(shared_ray, tmp_path):
    said: list[str] = []

    def on_epoch(result) -> None:
        os.kill(worker_processes()[-1], signal.SIGKILL)

    with pytest.raises(TrainingError, match=f"workers died {MOST_DEATHS + 1} times.*train resume="):
        train_on_workers(args(epochs=99), TWO, tmp_path, resume=False, say=said.append, on_epoch=on_epoch)
    assert sum("died" in text for text in said) == MOST_DEATHS


@pytest.mark.slow
def test_what_the_listener_raises_ends_the_workers(shared_ray, tmp_path):
    def on_epoch(result) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        train_on_workers(args(epochs=99), TWO, tmp_path, resume=False, say=quietly, on_epoch=on_epoch)
    deadline = time.monotonic() + 60
    while worker_processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert worker_processes() == []


@pytest.mark.slow
def test_without_checkpoints_a_death_costs_all_epochs(shared_ray, tmp_path):
    said, killed = [], []

    def on_epoch(result) -> None:
        if result.epoch == 2 and not killed:
            killed.append(worker_processes()[0])
            os.kill(killed[0], signal.SIGKILL)

    settings = args(save=False, epochs=3)
    train_on_workers(settings, TWO, tmp_path, resume=False, say=said.append, on_epoch=on_epoch)
    assert any("go on from epoch 1" in text for text in said)
    assert [row["epoch"] for row in table(tmp_path)] == [1, 2, 3]


def test_more_workers_than_there_is_room_for_are_refused():
    cores = available_cores()
    check_workers(args(batch=cores), ("cpu",) * cores)
    with pytest.raises(ResourceError, match=f"workers={cores + 1}: each needs a CPU core.* has {cores}"):
        check_workers(args(batch=64), ("cpu",) * (cores + 1))
    with pytest.raises(ArgumentError, match="batch=2: 3 workers need at least an image each"):
        check_workers(args(batch=2), ("cpu",) * 3)
    with pytest.raises(ArgumentError, match=r"lanes=2: .* by one worker on a CPU"):
        check_workers(args(batch=64, lanes=2), TWO)
    with pytest.raises(ResourceError, match="device=0,0: each GPU once"):
        check_workers(args(device="0,0"), ("cuda:0", "cuda:0"))
    with pytest.raises(ResourceError, match=r"device=0,cpu: .*nothing beside GPUs"):
        check_workers(args(device="0,cpu"), ("cuda:0", "cpu"))


def judged(**faults: Exception) -> list:
    words: queue.Queue = queue.Queue()  # stands for Ray's
    Judge(words).after_exception(None, {int(rank[1:]): fault for rank, fault in faults.items()})
    return [told(words, 0) for _ in range(words.qsize())]


def test_only_deaths_are_worth_another_attempt():
    mistake, fault = CheckpointError("last.pt is damaged"), WorkerFault("Traceback ...")
    assert judged(r0=fault, r1=RuntimeError("gone")) == [Died((2,))]
    assert judged(r0=RuntimeError("gone"), r1=RuntimeError("gone")) == [Died((1, 2))]
    with pytest.raises(CheckpointError, match="damaged"):
        judged(r0=fault, r1=mistake)
    with pytest.raises(WorkerFault):
        judged(r1=fault)
