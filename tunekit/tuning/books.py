"""After every trial: the run folder's tables and pictures, the best trial's weights, no other weights.

A folder that was killed at any moment is made right by the next call.
"""

from __future__ import annotations

import time
from pathlib import Path

from optuna.study import Study

from tunekit.results.plots import write_plots
from tunekit.results.store import write_results
from tunekit.results.trials import FINISHED, trials_of
from tunekit.results.weights import keep_best_weights, prune_trial_folders
from tunekit.tuning.depot import Depot

SHARE_OF_PLOTS = 0.1  # of the driver's time: with short trials not every one gets new pictures


class Books:
    """Keeps `run` in order for `study`."""

    def __init__(self, run: Path, study: Study, depot: Depot | None = None) -> None:
        self._run, self._study, self._depot = run, study, depot
        self._next_plots = 0.0

    def update(self, final: bool = False) -> None:
        if self._depot is not None:
            for trial in trials_of(self._study):
                if trial.state not in FINISHED:  # the others' rows came with their end
                    self._depot.fetch_tables(trial.number)
        trials = write_results(self._run, self._study)
        if self._depot is not None:
            self._depot.fetch_weights(trials)
        keep_best_weights(self._run, trials)
        prune_trial_folders(self._run, trials)
        if self._depot is not None:
            self._depot.prune(trials)
        began = time.monotonic()
        if final or began >= self._next_plots:
            write_plots(self._run, trials)
            ended = time.monotonic()
            self._next_plots = ended + (ended - began) / SHARE_OF_PLOTS
