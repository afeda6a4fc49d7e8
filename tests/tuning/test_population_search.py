"""A whole search with scheduler=pbt: real trainings in real Ray actors, disturbed and not."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
import yaml

from tests.tuning.test_run import TIMES, kill_trial_when
from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.results.run import Run
from tunekit.search_args import TuneArgs
from tunekit.training.run import train
from tunekit.tuning.run import tune

SIZE, EPOCHS, POINTS = 4, 5, (1, 3)
SETTINGS = {
    "imgsz": 64,
    "fraction": 0.2,
    "batch": 8,
    "epochs": EPOCHS,
    "warmup_epochs": 0,
    "optimizer": "AdamW",
    "space": "quick",
    "scheduler": "pbt",
    "grace": POINTS[0],
    "interval": POINTS[1] - POINTS[0],
    "iterations": SIZE,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    before = Path.cwd()
    folder = tmp_path_factory.mktemp("population")
    os.chdir(folder)
    # From weights that find something: from nothing all trials score 0 in so few epochs, and nobody loses.
    given = {"model": "yolo11p.yaml", "imgsz": 64, "epochs": 16, "batch": 8, "nbs": 8, "plots": False}
    train(build_args(TrainArgs, {**given, "name": "base"}))
    yield folder
    os.chdir(before)


def search(place: Path, name: str, **given) -> Run:
    model = place / "runs" / "train" / "base" / "weights" / "best.pt"
    return tune(build_args(TuneArgs, {**SETTINGS, "model": str(model), "name": name, **given}))


def outcome(run: Run) -> list[object]:
    """Everything of a search but times."""
    found: list[object] = [(t.number, t.state, t.fitness, t.params, t.origin) for t in run.trials]
    for trial in run.trials:
        with (run.path / "trials" / str(trial.number) / "results.csv").open(newline="") as file:
            found += [
                {name: value for name, value in row.items() if name not in TIMES}
                for row in csv.DictReader(file)
            ]
    return found


@pytest.fixture(scope="module")
def whole(shared_ray, place) -> Run:
    return search(place, "whole", concurrent=2)


@pytest.mark.slow
def test_losers_are_replaced_and_all_lines_come_to_the_last_epoch(whole):
    trials = whole.trials
    children = [trial for trial in trials if trial.origin is not None]
    assert len(trials) == SIZE + len(children)
    assert [child.origin[1] for child in children] == list(POINTS)
    assert sum(trial.state == "COMPLETE" for trial in trials) == SIZE
    for child in children:
        assert trials[child.instead_of].state == "PRUNED"
        epochs = [row["epoch"] for row in whole.epochs().to_pylist() if row["trial"] == child.number]
        assert epochs[0] == child.origin[1] + 1
    schedule = yaml.safe_load((whole.path / "pbt_schedule.yaml").read_text())
    assert schedule["best"][-1]["epochs"][1] <= EPOCHS
    assert len(schedule["replaced"]) == len(children)
    assert not list(whole.path.glob("population/*")), "states that nobody needs any more"


@pytest.mark.slow
def test_the_outcome_does_not_depend_on_slots_and_places(whole, place):
    run = search(place, "one", concurrent=1, threads=1, storage=str(place / "kept"))
    assert outcome(run) == outcome(whole)
    assert not list((place / "kept" / "one" / "population").glob("*"))


@pytest.mark.slow
def test_nor_on_processes_that_die(whole, place):
    killer = kill_trial_when(place / "runs" / "tune" / "two", 1, 1)
    run = search(place, "two", concurrent=2)
    assert not killer.is_alive()
    assert outcome(run) == outcome(whole)
