"""After every trial: the run folder's tables and pictures, the best trial's weights, no other weights.

A folder that was killed at any moment is made right by the next call. In a search of thousands of trials, or
of very short ones, the books take a share of the driver's time only: several trials are entered at once.
"""

from __future__ import annotations

import time
from pathlib import Path

from optuna.study import Study

from tunekit.results.confirmation import confirmation_of
from tunekit.results.store import Epochs, write_confirmation, write_results
from tunekit.results.trials import FINISHED, TrialRow, trials_of
from tunekit.results.weights import (
    keep_best_weights,
    needed_weights,
    prune_confirmation,
    prune_trial_folders,
)
from tunekit.tuning.depot import Depot
from tunekit.tuning.drawing import SHARE, Pictures


class Books:
    """Keeps `run` in order for `study`."""

    def __init__(self, run: Path, study: Study, depot: Depot | None = None) -> None:
        """`depot`: where trials are kept that do not train in `run`."""
        self._run, self._study, self._depot = run, study, depot
        self._ended: Epochs = {}
        self._waiting = False  # trials that are not entered yet
        self._next = time.monotonic()
        self._pictures = Pictures(run)

    def update(self, final: bool = False) -> None:
        """A trial has ended, or the search has (`final`)."""
        self._waiting = True
        self.catch_up(final)

    def catch_up(self, final: bool = False) -> None:
        """Enter what waits, if it is time."""
        began = time.monotonic()
        if self._waiting and (final or began >= self._next):
            self._waiting = False
            trials = self._enter()
            ended = time.monotonic()
            self._next = ended + (ended - began) / SHARE
            self._draw(trials, final)
        else:
            self._pictures.catch_up()

    def _enter(self) -> list[TrialRow]:
        if self._depot is not None:
            for trial in trials_of(self._study):
                if trial.state not in FINISHED:  # the others' rows came with their end
                    self._depot.fetch_tables(trial.number)
        trials = write_results(self._run, self._study, self._ended)
        if self._depot is not None:
            self._depot.fetch_weights(trials)
        keep_best_weights(self._run, trials)
        prune_trial_folders(self._run, trials)
        if self._depot is not None:
            self._depot.prune(trials)
        return trials

    def _draw(self, trials: list[TrialRow], final: bool) -> None:
        if final:
            self._pictures.finish(trials)
        else:
            self._pictures.show(trials)


class ConfirmBooks(Books):
    """Those of the confirmation of the search in `run`, which has come to `trials`."""

    def __init__(self, run: Path, study: Study, depot: Depot | None, trials: list[TrialRow]) -> None:
        """`study`: the confirmation's; `depot`: where its runs are kept that do not train in `run`."""
        super().__init__(run, study, depot)
        self._trials = trials

    def _enter(self) -> list[TrialRow]:
        confirmation = confirmation_of(self._study)
        ended = [run for run in confirmation.runs if run.ended]
        if self._depot is not None:
            for run in ended:
                names = [f"weights/{name}" for name in needed_weights(confirmation, run)]
                self._depot.fetch_files(run.number, names)
        write_confirmation(self._run, confirmation, self._trials)
        keep_best_weights(self._run, self._trials)
        prune_confirmation(self._run, confirmation)
        if self._depot is not None:
            self._depot.drop_weights([run.number for run in ended])
        return self._trials

    def _draw(self, trials: list[TrialRow], final: bool) -> None:
        """The search's pictures are as they were."""
