"""Hands out the trials of a population: the searcher of `scheduler=pbt`.

A trial trains from one point to the next, or on, where it need not wait for the others
(search/population.py). While it waits its slot is another one's, so that any number of slots trains a
population of any size, all of its trials about as far. A trial that lost is PRUNED, and its child is a new
trial of the study, whose origin is [parent, epoch]: so the hyperparameters of a trial never change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from tunekit.control import Control
from tunekit.errors import ArgumentError
from tunekit.results.trials import LOSER, ORIGIN
from tunekit.search.budget import Budget
from tunekit.search.population import Child, Population, explore
from tunekit.search.space import Space
from tunekit.tuning.depot import Depot
from tunekit.tuning.descent import Snapshots
from tunekit.tuning.searcher import StudySearcher

SIZE = "population"  # an attribute of the study


class PopulationSearcher(StudySearcher):
    """`iterations` trials side by side, and the children that take the losers' places."""

    def __init__(
        self,
        study: Study,
        space: Space,
        run: Path,
        population: Population,
        snapshots: Snapshots,
        *,
        seed: int,
        concurrent: int,
        budget: Budget,
        control: Control,
        depot: Depot | None = None,
    ) -> None:
        super().__init__(
            study,
            space,
            run,
            iterations=population.size,
            concurrent=concurrent,
            budget=budget,
            control=control,
            depot=depot,
        )
        self._population, self._snapshots, self._seed = population, snapshots, seed
        self._successors: dict[int, int] = {}  # children, by the trials whose places they took
        self._forgotten = 0  # the last point of which the states that nobody needs are deleted
        self._held: set[int] = set()  # trials that were cut off at a point, before their state was kept
        begun = study.user_attrs.get(SIZE, population.size)
        if begun != population.size:
            raise ArgumentError(
                f"iterations={population.size}: with scheduler=pbt they train side by side, and this search "
                f"has begun with {begun}; leave it out, or start a new run"
            )
        with self._guarded():
            study.set_user_attr(SIZE, population.size)
            self._take_up(study.get_trials(deepcopy=False))

    def _take_up(self, trials: list[FrozenTrial]) -> None:
        """What an earlier sitting of this search left."""
        kept = self._snapshots.kept() if self._interrupted else set()
        for trial in trials:
            number, last = trial.number, max(trial.intermediate_values, default=0)
            if ORIGIN in trial.user_attrs:
                self._population.join(number, trial.user_attrs[ORIGIN][1])
                self._successors[trial.user_attrs[LOSER]] = number
            if trial.state.is_finished():
                self._population.leave(number, failed=trial.state == TrialState.FAIL)
            elif last in self._snapshots.points and (number, last) not in kept:
                self._held.add(number)

    def curves(self) -> dict[int, dict[int, float]]:
        """Without an epoch that is to be told again."""
        found = super().curves()
        for number in self._held:
            del found[number][max(found[number])]
        return found

    @property
    def refusal(self) -> str | None:
        return "scheduler=pbt trains all its trials side by side, and they have begun: start a new run"

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        with self._guarded():
            self._settle()
            if not (self.left or self._live):
                self._snapshots.storage.clear()
        return super().suggest(trial_id)

    def _settle(self) -> None:
        """Enter what the points have brought since the last time: children, and the end of losers."""
        for child in self._population.close():
            if child.loser not in self._successors:
                self._successors[child.loser] = self._born(child)
            if child.loser in self._interrupted:
                self._interrupted.remove(child.loser)
                loser, successor = self._trial(child.loser), self._successors[child.loser]
                loser.set_user_attr("reason", f"replaced by trial {successor}, a child of {child.parent}")
                super()._end(loser, finished=False, note=None)
        if self._population.closed > self._forgotten:
            self._forgotten = self._population.closed
            self._forget()

    def _born(self, child: Child) -> int:
        """Have it handed out as a new trial; its number."""
        trials = self._study.get_trials(deepcopy=False)
        params = explore(self._space, trials[child.parent].params, child, self._seed)
        origin = {ORIGIN: [child.parent, child.point], LOSER: child.loser}
        self._study.enqueue_trial(params, user_attrs=origin)
        self._waiting += 1
        self._population.join(len(trials), child.point)
        return len(trials)

    def _forget(self) -> None:
        """Delete the states that no child needs any more."""
        needed = {
            tuple(trial.user_attrs[ORIGIN])
            for trial in self._study.get_trials(deepcopy=False)
            if ORIGIN in trial.user_attrs and not trial.intermediate_values and not trial.state.is_finished()
        }
        closed = {state for state in self._snapshots.kept() if state[1] <= self._forgotten}
        self._snapshots.forget(closed - needed)

    def _next(self) -> Trial | None:
        """Who lags most, so that the points close soon."""
        if self._waiting or self._count < self._iterations:
            return self._new_trial()
        free = [number for number in self._interrupted if self._population.fate(number) == "goes on"]
        assert free or self._live, "somebody is at work as long as somebody waits"
        if not free:
            return None
        number = min(free, key=lambda number: (max(self.curve(number), default=0), number))
        self._interrupted.remove(number)
        return self._trial(number)

    def _config(self, trial: Trial) -> dict[str, Any]:
        told = max(self.curve(trial.number), default=0)
        if trial.number in self._held:
            told -= 1
            self._held.remove(trial.number)
        return {**super()._config(trial), "origin": trial.user_attrs.get(ORIGIN), "told": told}

    def _end(self, trial: Trial, finished: bool, note: str | None) -> None:
        if finished or trial.number in self.unwanted:
            super()._end(trial, finished, note)
            self._population.leave(trial.number, failed=False)
        else:  # it waits, or it lost, or the time is up: then it goes on with a resume
            self._sync(trial)
            self._interrupted.append(trial.number)

    def _fail(self, trial: Trial, reason: str) -> None:
        super()._fail(trial, reason)
        self._population.leave(trial.number, failed=True)
