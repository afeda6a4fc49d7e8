"""What stops losing trials, by name: a thin Ray Tune scheduler around the rules of `tunekit.search`.

Their state is rebuilt from the study's learning curves, because Ray forgets a scheduler's when a run
is restored. To add one: a function here, a line in SCHEDULERS, its word in `TuneArgs.scheduler`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from tunekit.args import TrainArgs
from tunekit.errors import ArgumentError
from tunekit.search.asha import Asha, default_grace, rungs
from tunekit.search.budget import Budget
from tunekit.search.forecast import Forecast
from tunekit.search.hyperband import Hyperband
from tunekit.search.median import Median
from tunekit.search.opening import opening
from tunekit.search.population import SMALLEST, Population, points
from tunekit.search.rule import Rule
from tunekit.search.space import Space
from tunekit.search_args import TuneArgs

# Samplers with something to say before there are results.
BEGINNERS = ("auto", "genetic", "cmaes", "priorband", "random")
Curves = Mapping[int, Mapping[int, float]]  # trial number -> epoch -> fitness


class StopLosers(FIFOScheduler):
    """Starts trials as they come; stops those that the rule, if there is one, stops, and all of them when the
    time is up."""

    def __init__(self, rule: Rule | None, budget: Budget) -> None:
        super().__init__()
        self._rule, self._budget = rule, budget
        self._epochs: dict[int, int] = {}  # by trial: the last one that the rule knows
        self._ended: set[int] = set()
        self._curve_of: Callable[[int], Mapping[int, float]] = lambda number: {}

    @property
    def population(self) -> Population | None:
        """The rule, where it replaces trials: then it needs a searcher that hands out their children."""
        return self._rule if isinstance(self._rule, Population) else None

    def listen(self, curve_of: Callable[[int], Mapping[int, float]]) -> None:
        """`curve_of(number)`: all that is known of a trial's curve, if Ray did not tell it."""
        self._curve_of = curve_of

    def replay(self, curves: Curves) -> None:
        """Take up the curves of trials that ran before."""
        self._epochs.update({number: max(curve, default=0) for number, curve in curves.items()})
        if self._rule is not None:
            self._rule.replay(curves)

    def end(self, number: int) -> None:
        """Stop trial `number` with its present epoch."""
        self._ended.add(number)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number, epoch = result["number"], result["epoch"]
        # An epoch whose news died with a process is judged now.
        curve = {**self._curve_of(number), epoch: result["fitness"]}
        new = sorted(known for known in curve if self._epochs.get(number, 0) < known <= epoch)
        self._epochs[number] = epoch
        goes_on = self._rule is None or all([self._rule.decide(number, one, curve[one]) for one in new])
        goes_on = goes_on and number not in self._ended and not self._budget.time_is_up
        return self.CONTINUE if goes_on else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Ray tells a trial's last epoch only here; the study has it, and so a replay would."""
        if self._rule is not None and not (result.get("failed") or result.get("halted")):
            self._rule.record(result["number"], result["epoch"], result["fitness"])

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles it for a restore that is not ours: the study is the state."""
        return {}


def _none(args: TuneArgs, base: TrainArgs, whole: int) -> None:
    """Every trial trains to its end."""


def _forecast(args: TuneArgs, base: TrainArgs, whole: int) -> Rule:
    """The default, so in a short run it may do nothing."""
    return Forecast(base.epochs, _grace(args, base), whole)


def _asha(args: TuneArgs, base: TrainArgs, whole: int) -> Rule:
    grace = _grace(args, base)
    _check_room(args, base, grace)
    return Asha(rungs(base.epochs, grace, args.reduction), args.reduction, whole)


def _hyperband(args: TuneArgs, base: TrainArgs, whole: int) -> Rule:
    grace = _grace(args, base)
    _check_room(args, base, grace)
    return Hyperband(rungs(base.epochs, grace, args.reduction), args.reduction, whole)


def _median(args: TuneArgs, base: TrainArgs, whole: int) -> Rule:
    grace = _grace(args, base)
    _check_room(args, base, grace)
    return Median(grace, whole)


def _pbt(args: TuneArgs, base: TrainArgs, whole: int) -> Rule:
    grace = _grace(args, base)
    _check_room(args, base, grace)
    if args.iterations < SMALLEST:
        raise ArgumentError(
            f"iterations={args.iterations}: with scheduler=pbt it is a population's size, at least {SMALLEST}"
        )
    if args.sampler == "grid":
        raise ArgumentError(
            "sampler=grid tries every combination to its end, but with scheduler=pbt trials change theirs: "
            f"choose sampler={' or '.join(BEGINNERS)}, or another scheduler"
        )
    if args.sampler not in BEGINNERS:
        raise ArgumentError(
            f"sampler={args.sampler} learns from trials that have ended, but with scheduler=pbt all begin "
            f"before any ends: choose {', '.join(BEGINNERS[:-1])} or {BEGINNERS[-1]}"
        )
    return Population(args.iterations, points(base.epochs, grace, args.interval), args.seed)


SCHEDULERS: dict[str, Callable[[TuneArgs, TrainArgs, int], Rule | None]] = {
    "forecast": _forecast,
    "asha": _asha,
    "hyperband": _hyperband,
    "median": _median,
    "pbt": _pbt,
    "none": _none,
}


def make_scheduler(args: TuneArgs, base: TrainArgs, space: Space, budget: Budget) -> StopLosers:
    """The scheduler `args.scheduler` of trials of `space` that train with `base`.

    Raises ArgumentError when it could never stop a trial.
    """
    # What auto opens with is told whole: a high learning rate is late, and losing early on says little of it.
    whole = 1 + (len(opening(space)) if args.sampler == "auto" else 0)
    return StopLosers(SCHEDULERS[args.scheduler](args, base, whole), budget)


def _grace(args: TuneArgs, base: TrainArgs) -> int:
    return args.grace or default_grace(base.epochs, base.warmup_epochs)


def _check_room(args: TuneArgs, base: TrainArgs, grace: int) -> None:
    """Who names a scheduler that is not the default means it to stop trials."""
    if grace >= base.epochs:
        raise ArgumentError(
            f"scheduler={args.scheduler} could not stop any trial: it may from epoch {grace} on (grace), and "
            f"training ends with epoch {base.epochs}; give more epochs, a smaller grace=, or scheduler=none"
        )
