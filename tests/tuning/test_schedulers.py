"""Schedulers by name, as Ray Tune calls them, without Ray."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError
from tunekit.search.asking import ask
from tunekit.search.budget import Budget
from tunekit.search.samplers import SAMPLERS, make_sampler
from tunekit.search.space import load_space
from tunekit.search_args import TuneArgs
from tunekit.tuning.schedulers import SCHEDULERS, StopLosers, make_scheduler

# Those that judge a trial when it comes. Under pbt they wait for each other: test_population.py.
ONE_BY_ONE = [name for name in SCHEDULERS if name != "pbt"]
# Whole trainings of nine epochs, which come to .5 and a bit.
EARLIER = {
    number: {epoch: 0.5 + number / 1000 + epoch / 100 for epoch in range(1, 10)} for number in range(1, 30)
}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def scheduler_of(name: str, clock: Clock | None = None, **given: Any) -> StopLosers:
    args = build_args(TuneArgs, {"epochs": 9, "warmup_epochs": 0, "scheduler": name, **given})
    base = build_args(TrainArgs, {"epochs": args.epochs, "warmup_epochs": 0})
    return make_scheduler(args, base, load_space("quick"), Budget(None, args.time, clock or Clock()))


def told(scheduler: StopLosers, number: int, epoch: int, fitness: float) -> bool:
    """Whether a trial goes on after an epoch."""
    result = {"number": number, "epoch": epoch, "fitness": fitness}
    return scheduler.on_trial_result(None, None, result) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("name", [name for name in ONE_BY_ONE if name != "none"])
def test_a_loser_is_stopped_and_the_defaults_and_a_winner_are_not(name: str) -> None:
    scheduler = scheduler_of(name, grace=1)
    for number in range(70, 100):
        assert told(scheduler, number, 1, 0.5)
    scheduler.replay(EARLIER)
    losers = range(30, 60)
    assert not all(told(scheduler, number, 1, 0.1) for number in losers)
    assert told(scheduler, 0, 2, 0.0)
    assert told(scheduler, 60, 1, 0.9)


@pytest.mark.parametrize("name", ["forecast", "asha", "hyperband", "median"])
@pytest.mark.parametrize(("sampler", "whole"), [("auto", 4), ("genetic", 1)])
def test_what_auto_opens_with_is_trained_to_its_end(name: str, sampler: str, whole: int) -> None:
    """Three settings follow the defaults; what comes after them may be stopped, as may others' trials."""
    scheduler = scheduler_of(name, grace=1, sampler=sampler)
    scheduler.replay({100 + number: curve for number, curve in EARLIER.items()})
    fates = [[told(scheduler, number, epoch, 0.1) for epoch in (1, 2, 3)] for number in range(20)]
    assert all(map(all, fates[:whole]))
    assert not all(map(all, fates[whole : whole + 3]))


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_a_scheduler_that_was_told_the_recorded_curves_decides_as_the_one_that_saw_them(name: str) -> None:
    given = {} if name == "none" else {"grace": 1}
    seen, resumed = scheduler_of(name, **given), scheduler_of(name, **given)
    curves: dict[int, dict[int, float]] = {}
    for number in range(40):
        for epoch in range(1, 9):
            fitness = (number * 7 + epoch * 3) % 11 / 10
            curves.setdefault(number, {})[epoch] = fitness
            if not told(seen, number, epoch, fitness):
                break
    resumed.replay(dict(reversed(curves.items())))
    for number in range(40, 80):
        for epoch in range(1, 9):
            fitness = (number * 5 + epoch * 3) % 11 / 10
            assert told(resumed, number, epoch, fitness) is told(seen, number, epoch, fitness)


@pytest.mark.parametrize("name", ["forecast", "asha", "hyperband", "median"])
def test_an_epoch_whose_news_died_is_judged_with_the_next_one(name: str) -> None:
    """A process that dies between its checkpoint and its report goes on behind the epoch that was lost."""
    seen, gap = scheduler_of(name, grace=1), scheduler_of(name, grace=1)
    curve = {1: 0.1, 2: 0.2}
    gap.listen(lambda number: curve)
    for scheduler in (seen, gap):
        scheduler.replay(EARLIER)
    stays = [told(seen, number, 1, curve[1]) and told(seen, number, 2, curve[2]) for number in range(30, 60)]
    assert [told(gap, number, 2, curve[2]) for number in range(30, 60)] == stays
    assert not all(stays)
    only_the_first = scheduler_of("asha", grace=1)  # the one rung that stops is that of the lost epoch
    only_the_first.replay({number: {1: 0.5} for number in range(30)})
    only_the_first.listen(lambda number: {1: 0.1})
    assert not told(only_the_first, 30, 2, 0.9)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_a_trial_that_is_to_end_ends_whatever_the_rule_says(name: str) -> None:
    scheduler = scheduler_of(name, **({} if name == "none" else {"grace": 1}))
    assert told(scheduler, 3, 1, 0.9)
    scheduler.end(3)
    assert not told(scheduler, 3, 2, 0.95)
    assert told(scheduler, 4, 2, 0.95)


@pytest.mark.parametrize(("name", "last"), [("forecast", 9), ("asha", 1), ("hyperband", 1), ("median", 1)])
def test_the_last_epoch_of_a_trial_counts_too_as_it_does_in_a_replay(name: str, last: int) -> None:
    """`patience` may end a trial at any epoch, and Ray tells that one only with the end."""
    seen, resumed = scheduler_of(name, grace=1), scheduler_of(name, grace=1)
    for number, curve in EARLIER.items():
        for epoch in range(1, last):
            told(seen, number, epoch, curve[epoch])
        result = {"number": number, "epoch": last, "fitness": curve[last], "done": True, "finished": True}
        seen.on_trial_complete(None, None, result)
        resumed.replay({number: {epoch: curve[epoch] for epoch in range(1, last + 1)}})
    stays = [told(seen, number, 1, 0.1) for number in range(30, 60)]
    assert stays == [told(resumed, number, 1, 0.1) for number in range(30, 60)]
    assert not all(stays)


def test_a_trial_that_failed_leaves_no_epoch_behind() -> None:
    scheduler = scheduler_of("asha", grace=1)
    failed = {"epoch": 0, "fitness": 0.0, "done": True}
    for number, why in enumerate(("failed", "halted"), start=1):
        scheduler.on_trial_complete(None, None, {"number": number, **failed, why: "out of memory"})
    # Were they at the rung, three would be there, and the last of them would have to be the best.
    for number in (1, 2):
        assert told(scheduler, number, 2, 0.5)
    assert told(scheduler, 3, 1, -1.0)


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_when_the_time_is_up_every_trial_ends_with_its_epoch(name: str) -> None:
    clock = Clock()
    scheduler = scheduler_of(name, clock, time=1)
    assert all(told(scheduler, number, 1, 0.5) for number in range(5))
    clock.now = 3600
    assert not any(told(scheduler, number, 2, 0.5) for number in range(5))


def test_none_stops_nothing() -> None:
    scheduler = scheduler_of("none")
    assert all(told(scheduler, number, 1, 1 / (number + 1)) for number in range(30))


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_a_scheduler_that_could_never_stop_a_trial_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match=rf"scheduler={name} could not stop any trial: .* epoch 4 on"):
        scheduler_of(name, epochs=4, grace=4)
    assert scheduler_of(name, epochs=5, grace=4)


@pytest.mark.parametrize(  # gp takes a second a proposal
    "sampler", [pytest.param(name, marks=pytest.mark.slow if name == "gp" else ()) for name in SAMPLERS]
)
@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_with_every_sampler_a_search_that_is_cut_goes_on_as_if_it_had_not_been(
    name: str, sampler: str
) -> None:
    whole, cut = Search(name, sampler), Search(name, sampler)
    whole.run(24)
    for trials in (7, 9, 8):
        cut.resume()
        cut.run(trials)
    assert cut.trials() == whole.trials()
    assert any(state == TrialState.PRUNED for state, _, _ in whole.trials()) is (name != "none")


class Search:
    """A search without Ray: trials one by one, with curves that follow from their learning rate."""

    def __init__(self, scheduler: str, sampler: str) -> None:
        self._space = load_space("quick")
        self._new_sampler = lambda: make_sampler(sampler, self._space, 0)
        grace = {} if scheduler == "none" else {"grace": 1}
        self._new_scheduler = lambda: scheduler_of(scheduler, **grace)
        self._study = optuna.create_study(direction="maximize")
        self.resume()

    def run(self, trials: int) -> None:
        for _ in range(trials):
            trial = ask(self._study, self._space)
            goal = 1 / (1 + abs(math.log10(trial.params["lr0"]) + 2))
            state = TrialState.COMPLETE
            for epoch in range(1, 10):
                value = goal * (1 - 0.5**epoch)
                trial.report(value, epoch)
                if epoch < 9 and not told(self._scheduler, trial.number, epoch, value):
                    state = TrialState.PRUNED
                    break
            last = {"number": trial.number, "epoch": epoch, "fitness": value, "done": True}
            self._scheduler.on_trial_complete(None, None, last)
            self._study.tell(trial, value if state == TrialState.COMPLETE else None, state)

    def resume(self) -> None:
        """Forget everything but the study."""
        self._study.sampler = self._new_sampler()
        self._scheduler = self._new_scheduler()
        self._scheduler.replay({trial.number: trial.intermediate_values for trial in self._study.trials})

    def trials(self) -> list[tuple[TrialState, dict[str, Any], dict[int, float]]]:
        return [(trial.state, trial.params, trial.intermediate_values) for trial in self._study.trials]


def test_the_default_may_do_nothing_in_a_short_run() -> None:
    scheduler = scheduler_of(build_args(TuneArgs, {}).scheduler, epochs=1)
    assert all(told(scheduler, number, 1, 1 / (number + 1)) for number in range(30))


@pytest.mark.parametrize(
    ("sampler", "why"), [("gp", "learns from trials"), ("grid", "tries every combination")]
)
def test_pbt_refuses_samplers_that_cannot_begin_a_population(sampler: str, why: str) -> None:
    with pytest.raises(ArgumentError, match=f"sampler={sampler} {why}"):
        scheduler_of("pbt", sampler=sampler, iterations=8)
    scheduler_of("pbt", sampler="cmaes", iterations=8)
