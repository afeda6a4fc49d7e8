"""Trainings that only take their time: 2 to 60 s an epoch, a learning curve, and nothing is learnt.

How long an epoch takes and how good a trial becomes follow from its number and its hyperparameters.
`SleepingTrial` is such a training in a slot of Ray Tune, in place of tunekit's own: it knows no torch, so
that dozens of them fit into memory.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from tunekit.search.parameter import Value
from tunekit.search.space import Space

FASTEST, SLOWEST = 2.0, 60.0  # seconds an epoch
FITNESS = "metrics/mAP50-95(B)"


@dataclass(frozen=True)
class Curve:
    """A trial's: `seconds` an epoch; fitness comes to `top`."""

    number: int
    seconds: float
    top: float

    def fitness(self, epoch: int) -> float:
        noise = np.random.default_rng((self.number, epoch)).normal(0, 0.005)
        return self.top * (1 - math.exp(-epoch / 8)) + float(noise)


def curve_of(space: Space, number: int, params: dict[str, Value]) -> Curve:
    """Best where all parameters are at 0.4 of their ranges."""
    units = np.array([parameter.to_unit(params[parameter.name]) for parameter in space.parameters])
    seconds = np.random.default_rng(number).uniform(FASTEST, SLOWEST)
    return Curve(number, float(seconds), 0.6 * math.exp(-float(np.mean(np.square(units - 0.4))) * 8))


def write_row(folder: Path, row: dict[str, float]) -> None:
    """Add an epoch to the trial's results.csv, which is whole at any time."""
    table = folder / "results.csv"
    before = ",".join(row) + "\n" if row["epoch"] == 1 else table.read_text()
    written = table.with_name(".results.csv")
    written.write_text(before + ",".join(map(repr, row.values())) + "\n")
    written.replace(table)


@dataclass(frozen=True)
class Work:
    """What all trials share. `shrink`: so many times shorter are their epochs. All begin when the processes
    of so many `slots` are up: Tune ends one that is coming up whenever another slot has become free, and on a
    few cores dozens take longer to come up than trials to end."""

    run: Path
    space: Space
    epochs: int
    shrink: float
    slots: int


class SleepingTrial(tune.Trainable):
    """Runs trials one after another, and writes down when each of its epochs began and ended."""

    def setup(self, config: dict[str, Any], job: Work) -> None:  # type: ignore[override]
        self._work = job
        self._up = job.run / "up"
        self._up.mkdir(exist_ok=True)
        (self._up / str(os.getpid())).touch()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._number, self._epoch = new_config["number"], 0
        self._curve = curve_of(self._work.space, self._number, new_config["params"])
        self._folder = self._work.run / "trials" / str(self._number)
        self._folder.mkdir(parents=True, exist_ok=True)  # Tune may have set it up in two slots
        return True

    def step(self) -> dict[str, Any]:
        while len(os.listdir(self._up)) < self._work.slots:
            time.sleep(1.0)
        began = time.time()
        self._epoch += 1
        time.sleep(self._curve.seconds / self._work.shrink)
        fitness, ended = self._curve.fitness(self._epoch), time.time()
        row = {"epoch": self._epoch, "time": self._epoch * self._curve.seconds, FITNESS: fitness}
        write_row(self._folder, {**row, "slot": os.getpid(), "began": began, "ended": ended})
        finished = self._epoch == self._work.epochs
        return {
            "number": self._number,
            "epoch": self._epoch,
            "fitness": fitness,
            "epochs": self._work.epochs,
            "finished": finished,
            "done": finished,
        }
