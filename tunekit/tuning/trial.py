"""A slot of the search, inside its Ray actor: hyperparameters in, one result an epoch out.

The actor is reused for one trial after another, so that torch, or a group of workers, is started once. Only
the death of its process is left to Ray; every other fault is a result (result.py).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.exceptions import RayActorError

from tunekit.training.group import Team
from tunekit.tuning.depot import trial_storage
from tunekit.tuning.descent import Descent, Snapshots
from tunekit.tuning.mailbox import Order
from tunekit.tuning.plan import Plan
from tunekit.tuning.result import Result, told
from tunekit.tuning.storage import Storage
from tunekit.tuning.workers import Crew

if TYPE_CHECKING:
    from tunekit.tuning.training import Training


@dataclass(frozen=True)
class Job:
    """What all trials of a run share. Sent to each actor once."""

    run: Path  # absolute
    plan: Plan
    directory: Path | None  # which relative paths are meant from; None: the process is there
    team: Team | None  # None: a trial trains in its actor
    storage: Storage | None = None  # the run's part of it. None: all nodes have the run's folder
    snapshots: Snapshots | None = None  # of a population


def trial_folder(run: Path, number: int) -> Path:
    return run / "trials" / str(number)


class TuneTrial(tune.Trainable):
    """Runs trials one after another."""

    def setup(self, config: dict[str, Any], job: Job) -> None:  # type: ignore[override]
        self._job = job
        self._crew: Crew | None = None
        self._training: Training | None = None
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._end_training()
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        if self._job.directory is not None:
            os.chdir(self._job.directory)  # Ray may have moved us to a folder of its own
        self._number, self._params = config["number"], config["params"]
        self._descent = None
        if self._job.snapshots is not None:
            self._descent = Descent(self._number, config["origin"], config["told"], self._job.snapshots)

    def step(self) -> Result:
        """The next epoch. The first call also builds the training."""
        result: Result = {"number": self._number, "epoch": 0, "fitness": 0.0, "done": True}
        try:
            return {**result, **self._epoch()}
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is this trial's, not the search's
            self._end_training()  # its folder may be awaited by who took the trial over
            return {**result, **told(fault)}

    def _epoch(self) -> Result:
        args = self._job.plan.trial_args(self._params)
        folder = trial_folder(self._job.run, self._number)
        storage = None if self._job.storage is None else trial_storage(self._job.storage, self._number)
        order = Order(args, folder, storage, self._descent, self._job.plan.costs)
        if self._job.team is not None:
            return self._epoch_by_crew(self._job.team, order)
        if self._training is None:
            # Here and not above: the driver needs this module, but not the trainer's seconds of imports.
            from tunekit.tuning.training import Training

            self._training = Training(order)
        return self._training.next()

    def _epoch_by_crew(self, team: Team, order: Order) -> Result:
        if self._crew is None:
            self._crew = Crew(team, self._job.directory)
        try:
            return self._crew.train(order)
        except RayActorError:
            # Its mailbox is gone, and with this process all that belongs to the slot: Tune starts it anew.
            ray.actor.exit_actor()
            raise

    def _end_training(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None

    def cleanup(self) -> None:
        """The actor's last call."""
        self._end_training()
        if self._crew is not None:
            self._crew.close()
            self._crew = None
