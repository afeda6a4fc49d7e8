"""Asks the study what to try next and tells it what came of it: Ray Tune's Searcher over an Optuna study.

Interrupted trials (RUNNING in the study when it is opened) are handed out first, under their numbers. When
the budget is spent nothing more is handed out, and so the search ends. What a trial was: COMPLETE when it
trained to its end, PRUNED when the scheduler stopped it (Ray then calls only on_trial_complete), FAIL with
its reason otherwise. Never raises into Ray, which would run the trial again: a fault of ours ends the search
through `Control`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from optuna.study import Study
from optuna.trial import Trial, TrialState
from ray.tune.search import Searcher

from tunekit.control import Control
from tunekit.results.trials import COSTS
from tunekit.search.asking import ask
from tunekit.search.budget import Budget
from tunekit.search.grid import GridSampler
from tunekit.search.space import Space
from tunekit.tuning.curves import FITNESS, read_curve
from tunekit.tuning.depot import Depot
from tunekit.tuning.journal import together
from tunekit.tuning.study import handed_out, scores, writes
from tunekit.tuning.trial import trial_folder


class StudySearcher(Searcher):
    """Hands out `iterations` trials in all, as long as the budget lasts, never more than `concurrent` at a
    time. `cut_off`: trials that were ended because the time was up."""

    def __init__(
        self,
        study: Study,
        space: Space,
        run: Path,
        *,
        iterations: int,
        concurrent: int,
        budget: Budget,
        control: Control,
        depot: Depot | None = None,
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._space, self._run, self._depot = study, space, run, depot
        self._iterations, self._concurrent = iterations, concurrent
        self._budget, self._control = budget, control
        self._sampler = study.sampler
        self._scores = scores(study)
        self.cut_off = 0
        self.unwanted: set[int] = set()  # trials that are to end on request
        trials = handed_out(study)
        self._count = len(trials)
        self._waiting = len(study.get_trials(deepcopy=False)) - self._count
        self._interrupted = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        self._live: dict[str, Trial] = {}  # by Ray's id
        self._ended: list[int] = []  # trials that nobody has asked after
        self._told: dict[int, dict[int, float]] = {}  # fitness by epoch, of trials that have not ended
        with self._guarded():
            for number in self._interrupted:
                self._sync(self._trial(number))

    @property
    def left(self) -> int:
        """Trials still to be handed out. What was added by hand is tried in any case."""
        new = max(0, self._iterations - self._count)
        if isinstance(self._sampler, GridSampler):
            new = min(new, self._sampler.left(self._study) + self._waiting)
        return len(self._interrupted) + max(new, self._waiting)

    @property
    def used_up(self) -> bool:
        """Whether a grid has ended the search before `iterations`."""
        return isinstance(self._sampler, GridSampler) and not self.left and self._count < self._iterations

    @property
    def refusal(self) -> str | None:
        """Why what is added now will not be tried; None as long as a trial runs and there is time."""
        if self._live and not self._budget.time_is_up:
            return None
        return "this search hands out no more trials; with it ended: tunekit tune resume=... iterations=MORE"

    def curves(self) -> dict[int, dict[int, float]]:
        """Fitness by trial and epoch, as far as the scheduler is to know it from the start."""
        return {trial.number: dict(trial.intermediate_values) for trial in handed_out(self._study)}

    def shown(self, number: int) -> dict[str, Any]:
        """What people are to see of a trial: its hyperparameters."""
        return self._study.get_trials(deepcopy=False)[number].params

    def news(self) -> list[int]:
        """Trials that have ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def add(self, params: dict[str, Any]) -> int:
        """Have a trial with `params`, all of them, handed out before any other new one; its number."""
        number = len(self._study.get_trials(deepcopy=False))
        self._study.enqueue_trial(params)
        self._waiting += 1
        return number

    @property
    def spent(self) -> Literal["time", "stop", ""]:
        """What of the budget ends the search before all trials are handed out and finished.

        `stop` may be taken back: a trial that still runs may come out best. One that was interrupted counts
        as running.
        """
        if self.cut_off:
            return "time"
        if self.left and not self._interrupted and self._budget.is_stale(self._scores):
            return "stop"
        return "time" if self.left and self._budget.time_is_up else ""

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        over = not self.left or self.spent
        if self._control.ending or self.spent == "time" or (over and not self._live):
            return Searcher.FINISHED
        if over or len(self._live) >= self._concurrent:
            return None  # ask again when a trial has ended: more will be known, or have been added, then
        with self._guarded():
            trial = self._next()
            if trial is None:
                return None
            self._live[trial_id] = trial
            return self._config(trial)
        return Searcher.FINISHED

    def _next(self) -> Trial | None:
        """The trial to hand out; None: wait until one has ended."""
        return self._trial(self._interrupted.pop(0)) if self._interrupted else self._new_trial()

    def _config(self, trial: Trial) -> dict[str, Any]:
        """What its process is told (trial.py)."""
        return {"number": trial.number, "params": trial.params}

    def _new_trial(self) -> Trial:
        trial = ask(self._study, self._space)
        self._count += 1
        self._waiting = max(0, self._waiting - 1)
        self._told[trial.number] = {}
        return trial

    def _trial(self, number: int) -> Trial:
        frozen = self._study.get_trials(deepcopy=False)[number]
        self._told[number] = dict(frozen.intermediate_values)
        return Trial(self._study, frozen._trial_id)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self._guarded():
            if result["epoch"] - 1 not in {0, *self.curve(result["number"])}:
                self._sync(self._live[trial_id])  # the news of an epoch died with a process
            self._report(self._live[trial_id], {result["epoch"]: result["fitness"]})
            if result.get("note"):
                self._live[trial_id].set_user_attr("note", result["note"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if self._control.ending:
            return  # not the trial's doing: it stays RUNNING and goes on with the next resume
        with self._guarded():
            if error or result is None:
                return  # `died` comes next, and knows why
            trial = self._live.pop(trial_id)
            if result.get("halted"):
                self._control.fail(result["halted"])
            elif result.get("failed"):
                self._fail(trial, result["failed"])
            else:
                if result.get("costs"):
                    trial.set_user_attr(COSTS, self._costs(trial, dict(result["costs"])))
                self._end(trial, bool(result.get("finished")), result.get("note"))

    def again(self, trial_id: str) -> None:
        """Ray gave the trial up too early: it is handed out once more."""
        with self._guarded():
            trial = self._live.pop(trial_id)
            self._sync(trial)
            self._interrupted.insert(0, trial.number)

    def died(self, trial_id: str, reason: str) -> None:
        """Ray gave the trial up."""
        with self._guarded():
            self._fail(self._live.pop(trial_id), reason)

    def _end(self, trial: Trial, finished: bool, note: str | None) -> None:
        curve = self._describe(trial)
        if note:
            trial.set_user_attr("note", note)
        if not curve:
            self._fail(trial, f"its results.csv in {trial_folder(self._run, trial.number)} is gone")
            return
        if finished:
            costs = trial.user_attrs.get(COSTS, {})
            values = [max(row[FITNESS] for row in curve), *costs.values()]
            self._study.tell(trial, values, state=TrialState.COMPLETE)
        else:
            if trial.number in self.unwanted:
                trial.set_user_attr("reason", "stopped on request")
            elif self._budget.time_is_up:
                self.cut_off += 1
                trial.set_user_attr("reason", "the search's time was up")
            self._study.tell(trial, state=TrialState.PRUNED)
        self._scores.append(max(self._told.pop(trial.number).values()))
        self._ended.append(trial.number)

    def _costs(self, trial: Trial, measured: dict[str, float]) -> dict[str, float]:
        """Those of the trial's model as they were first measured: measured again, a latency differs by
        chance, by which one trial would seem better than another."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        model = trial.params.get("model")
        known = (row.user_attrs[COSTS] for row in complete if row.params.get("model") == model)
        return next(known, measured)

    def _fail(self, trial: Trial, reason: str) -> None:
        self._describe(trial)
        trial.set_user_attr("reason", reason)
        self._study.tell(trial, state=TrialState.FAIL)
        del self._told[trial.number]
        self._ended.append(trial.number)

    def _describe(self, trial: Trial) -> list[dict[str, float]]:
        """Write the trial's user attributes from its curve; the curve."""
        curve = self._sync(trial)
        if curve:
            best = max(curve, key=lambda row: row[FITNESS])
            trial.set_user_attr("metrics", {name: value for name, value in best.items() if "/" in name})
            trial.set_user_attr("seconds", curve[-1]["time"])
        trial.set_user_attr("epochs", len(curve))
        ended = sum(known.state.is_finished() for known in self._study.get_trials(deepcopy=False))
        trial.set_user_attr("place", ended + 1)
        return curve

    def _sync(self, trial: Trial) -> list[dict[str, float]]:
        """Report epochs that the folder has and the study has not: their news died with a process."""
        if self._depot is not None:
            self._depot.fetch_tables(trial.number)
        curve = read_curve(trial_folder(self._run, trial.number))
        self._report(trial, {int(row["epoch"]): row[FITNESS] for row in curve})
        return curve

    def curve(self, number: int) -> dict[int, float]:
        """The fitness by epoch of a trial that has not ended, as far as it has been told."""
        return self._told[number]

    def _report(self, trial: Trial, values: dict[int, float]) -> None:
        """Through the storage: `Trial.report` refuses where there are several objectives."""
        known = self._told[trial.number]
        for epoch, fitness in values.items():
            if epoch not in known:
                self._study._storage.set_trial_intermediate_value(trial._trial_id, epoch, fitness)
                known[epoch] = fitness

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._control.guarding(), writes(self._run), together(self._study):
            yield

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the study is the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}
