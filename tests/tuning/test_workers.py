"""Trials on two workers each: real Ray processes that stay up from trial to trial."""

from __future__ import annotations

import csv
import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from tests.processes import descendants
from tests.training.pair import pair_of_processes
from tests.training.test_distributed import table, worker_processes
from tests.training.test_ranks import TINY, trained
from tests.tuning.test_run import BREAKING
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError, ResourceError
from tunekit.search_args import TuneArgs
from tunekit.training.group import Team
from tunekit.training.place import free_places
from tunekit.tuning.mailbox import Mailbox, Order
from tunekit.tuning.result import DEATHS_OF_A_TRIAL
from tunekit.tuning.run import tune
from tunekit.tuning.storage import Storage
from tunekit.tuning.workers import MAILBOX, Crew, is_orphan

# Gradients wait for their step when an epoch ends: they must survive a death, too.
SETTINGS = {**TINY, "nbs": 32, "val": True, "workers": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def crew(shared_ray):
    """It keeps both cores: tests that want them for themselves come first."""
    crew = Crew(Team(2, 1, cuda=False), Path.cwd())
    yield crew
    crew.close()
    assert_nothing_is_left()


@pytest.fixture(scope="module")
def pair():
    """The same two workers, without Ray."""
    with pair_of_processes() as pair:
        yield pair


def assert_nothing_is_left() -> None:
    """No process of workers, and nothing that is kept for them."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
        if not worker_processes() and not groups and ray.available_resources().get("CPU") == 2:
            return
        time.sleep(0.1)
    raise AssertionError(f"{worker_processes()} {groups} {ray.available_resources()}")


def order(number: int, folder: Path, **settings) -> Order:
    args = build_args(TrainArgs, {**SETTINGS, **settings})
    return Order(args, folder / str(number))


@contextmanager
def killer(folder: Path, number: int, epochs: tuple[int, ...]):
    """Kill one of the workers when trial `number` has so many epochs, each time."""
    found = []

    def watch() -> None:
        for epoch in epochs:
            rows = folder / str(number) / "results.csv"
            while not (rows.exists() and len(rows.read_text().splitlines()) > epoch):
                time.sleep(0.01)
            while not (before := worker_processes()):
                time.sleep(0.01)
            os.kill(before[-1], signal.SIGKILL)
            found.append(before[-1])
            while set(worker_processes()) & set(before):
                time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield found
    thread.join(60)
    assert len(found) == len(epochs)


def test_a_search_runs_its_trials_on_two_workers(shared_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(BREAKING)
    given = {**TINY, "epochs": 2, "val": True, "workers": 2, "scheduler": "none", "sampler": "random"}
    given = {name: value for name, value in given.items() if name not in ("plots", "threads", "optimizer")}
    run = tune(build_args(TuneArgs, {**given, "iterations": 4, "name": "crew", "space": "mine.yaml"}))
    states = [(trial.state, trial.params["box"]) for trial in run.trials]
    assert {box for _, box in states} == {7.5, 1e39}, "the seed should draw some of each"
    assert all(state == ("FAIL" if box > 1e30 else "COMPLETE") for state, box in states)
    with (run.path / "tune_results.csv").open(newline="") as file:
        began = [row["trial"] for row in csv.DictReader(file)]
    assert began == ["0", "1", "2", "3"]
    assert_nothing_is_left()


@pytest.mark.slow
@pytest.mark.parametrize("title", ["TrainController", "ray::Mailbox"])
def test_a_search_outlives_the_death_of_what_keeps_its_workers(shared_ray, tmp_path, monkeypatch, title):
    """Ray's controller of a group starts its workers again, and the mailbox knows what they are to do."""
    monkeypatch.chdir(tmp_path)
    given = {**TINY, "epochs": 6, "val": True, "workers": 2, "scheduler": "none", "sampler": "random"}
    given = {name: value for name, value in given.items() if name not in ("plots", "threads", "optimizer")}
    killed = []

    def watch() -> None:
        rows = tmp_path / "runs/tune/crew/trials/0/results.csv"
        while not (rows.exists() and len(rows.read_text().splitlines()) > 2):
            time.sleep(0.01)
        found = [pid for pid, name in descendants([os.getpid()]).items() if title in name]
        os.kill(found[0], signal.SIGKILL)
        killed.append(found[0])

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    run = tune(build_args(TuneArgs, {**given, "iterations": 2, "name": "crew"}))
    assert killed
    assert [trial.state for trial in run.trials] == ["COMPLETE", "COMPLETE"]
    assert [row["epoch"] for row in run.epochs().to_pylist() if row["trial"] == 0] == [1, 2, 3, 4, 5, 6]
    assert_nothing_is_left()


@ray.remote(num_cpus=0)
class Slot:
    """What a trial's actor does with its workers."""

    def train(self, order: Order) -> dict[str, object]:
        self.crew = Crew(Team(2, 1, cuda=False), Path.cwd())
        return self.crew.train(order)

    def close(self) -> None:
        self.crew.close()


@pytest.mark.slow
def test_a_slot_that_dies_while_its_workers_come_up_leaves_no_place_taken(shared_ray, tmp_path):
    def kept() -> list[str]:
        table = placement_group_table().values()
        return [group["placement_group_id"] for group in table if group["state"] == "CREATED"]

    dying = Slot.remote()
    dying.train.remote(order(0, tmp_path))
    while not (places := kept()):
        time.sleep(0.01)
    ray.kill(dying)
    time.sleep(5)
    assert kept() == places, "Ray has freed the place itself: this is a test of nothing"
    heir = Slot.remote()
    assert ray.get(heir.train.remote(order(0, tmp_path)), timeout=100)["epoch"] == 1
    ray.get(heir.close.remote())
    ray.kill(heir)
    assert_nothing_is_left()


@pytest.mark.slow
def test_a_worker_that_dies_while_it_comes_up_is_told_with_the_reason(shared_ray, tmp_path):
    def kill() -> None:
        while len(found := worker_processes()) < 2:
            time.sleep(0.01)
        os.kill(found[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    crew = Crew(Team(2, 1, cuda=False), Path.cwd())
    note = crew.train(order(0, tmp_path))["note"]
    thread.join()
    crew.close()
    why = "one of them died as they came up (killed, or out of memory?)"
    assert note == f"the workers were gone: {why}: all started again and went on from its checkpoint"
    assert_nothing_is_left()


def test_places_are_given_up_by_their_marks(shared_ray):
    marked = {
        mark: placement_group([{"CPU": 0.1, "memory": mark}] * 2) for mark in (2_000, 3_000_000, 4_000_000)
    }
    others = [placement_group([room]) for room in ({"CPU": 0.1}, {"memory": 1}, {"memory": 10**8})]
    assert all(group.wait(10) for group in (*marked.values(), *others))
    asked = []

    def is_dead(mark: int) -> bool:
        asked.append(mark)
        return mark != 3_000_000

    def states(group) -> str:
        return placement_group_table(group)["state"]

    try:
        free_places(is_dead)
        assert sorted(asked) == [2_000, 3_000_000, 4_000_000]
        assert [states(group) for group in marked.values()] == ["REMOVED", "CREATED", "REMOVED"]
        assert [states(group) for group in others] == ["CREATED"] * 3
    finally:
        for group in (marked[3_000_000], *others):
            remove_placement_group(group)


def test_slots_that_live_and_trainings_keep_their_places(shared_ray):
    name = f"{MAILBOX}3000000"
    living = ray.remote(Mailbox).options(name=name, num_cpus=0).remote(2, 1.0)
    groups = {mark: placement_group([{"CPU": 0.1, "memory": mark}]) for mark in (2_000, 3_000_000, 4_000_000)}
    assert all(group.wait(10) for group in groups.values())
    try:
        free_places(is_orphan)
        states = [placement_group_table(group)["state"] for group in groups.values()]
        assert states == ["CREATED", "CREATED", "REMOVED"]
        ray.kill(living)
        while name in ray.util.list_named_actors():
            time.sleep(0.01)
        free_places(is_orphan)
        assert placement_group_table(groups[3_000_000])["state"] == "REMOVED"
    finally:
        remove_placement_group(groups[2_000])


def test_trials_take_turns_on_workers_that_stay_up(crew, pair, tmp_path):
    first = crew.train(order(0, tmp_path))
    assert (first["epoch"], first["finished"]) == (1, False)
    workers = worker_processes()
    results = [crew.train(order(1, tmp_path, lr0=0.02)) for _ in range(3)]
    assert [result["epoch"] for result in results] == [1, 2, 3]
    assert (results[-1]["finished"], results[-1]["done"]) == (True, True)
    assert len(table(tmp_path / "0")) == 1, "nobody ordered more"
    # A trial that is taken up again goes on where it was.
    assert [crew.train(order(0, tmp_path))["epoch"] for _ in range(2)] == [2, 3]
    assert worker_processes() == workers
    assert len(workers) == 2

    for number, lr0 in ((0, 0.01), (1, 0.02)):
        rows, _ = pair(trained, {**SETTINGS, "lr0": lr0}, False)[0]
        assert table(tmp_path / str(number)) == rows


def test_a_trial_that_fails_on_all_workers_costs_nobody_anything(crew, tmp_path):
    crew.train(order(0, tmp_path))
    workers = worker_processes()
    failed = crew.train(order(1, tmp_path, box=1e39))
    assert "loss is not finite" in failed["failed"]
    failed = crew.train(order(2, tmp_path, model="yolo11p.yaml", imgsz=32, batch=2))
    assert "more than one image in every batch on each of 2 workers" in failed["failed"]
    assert crew.train(order(3, tmp_path))["epoch"] == 1
    assert worker_processes() == workers


@pytest.mark.parametrize("stored", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_worker_that_dies_costs_its_epoch_alone(crew, pair, tmp_path, stored):
    """It has six epochs, so that the kill comes in time."""
    call, folder = order(0, tmp_path, epochs=6), tmp_path
    if stored:
        storage, folder = Storage(str(tmp_path)).below("store/0"), tmp_path / "store"
        call = Order(call.args, tmp_path / "not here" / "0", storage)
    with killer(folder, 0, (1,)):
        results = [crew.train(call) for _ in range(6)]
    assert [result["epoch"] for result in results] == [1, 2, 3, 4, 5, 6]
    notes = [result["note"] for result in results if result["note"]]
    assert len(notes) == 1
    assert "of 2 died (killed, or out of memory?): all started again" in notes[0]
    rows, _ = pair(trained, {**SETTINGS, "epochs": 6}, False)[0]
    assert table(folder / "0") == rows
    assert not (tmp_path / "not here").exists()


@pytest.mark.slow
def test_a_trial_that_kills_its_workers_every_time_is_given_up(crew, tmp_path):
    with killer(tmp_path, 0, (1,) * (DEATHS_OF_A_TRIAL + 1)):
        results = [crew.train(order(0, tmp_path, epochs=9))]
        while "failed" not in results[-1] and len(results) < 9:
            results.append(crew.train(order(0, tmp_path, epochs=9)))
    assert results[-1]["failed"].endswith(f"as {DEATHS_OF_A_TRIAL} times in a row before")
    assert crew.train(order(1, tmp_path))["epoch"] == 1


@pytest.mark.slow
def test_a_fault_that_one_worker_alone_meets_is_told_and_the_workers_start_again(crew, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "weights").write_text("in the way")  # of the first worker; the other waits for it
    assert "cannot make" in crew.train(order(0, tmp_path))["halted"]
    assert crew.train(order(1, tmp_path))["epoch"] == 1


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"workers": 64}, ResourceError, "workers=64.*64 workers of 1 CPU core"),
        ({"workers": 2, "concurrent": 9}, ResourceError, "workers=2, concurrent=9"),
        ({"workers": 2, "device": "0,1"}, ResourceError, "device=0,1: .* give workers=2"),
        ({"workers": 2, "gpus": 1}, ResourceError, "gpus=1"),
        ({"workers": 2, "batch": 1}, ArgumentError, "batch=1: 2 workers need"),
        ({"workers": 2, "lanes": 2}, ArgumentError, "lanes=2: .* by one worker"),
    ],
)
def test_workers_that_cannot_be_are_refused_before_anything_runs(shared_ray, tmp_path, given, error, words):
    with pytest.raises(error, match=words):
        tune(build_args(TuneArgs, {"project": str(tmp_path), **given}))
    assert not list(tmp_path.iterdir())
