"""What stops losing trials, by name: thin Ray Tune schedulers around `tunekit.search`.

Their state is rebuilt from the study's learning curves, because Ray forgets a scheduler's when a run
is restored. To add one: a function here, a line in SCHEDULERS, its word in `TuneArgs.scheduler`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler

from tunekit.args import TrainArgs, TuneArgs
from tunekit.search.asha import Asha, default_grace, rungs

Curves = Mapping[int, Mapping[int, float]]  # trial number -> epoch -> fitness


class RunAll(FIFOScheduler):
    """Stops nothing."""

    def keeps(self, number: int, epoch: int, fitness: float) -> bool:
        """Whether a trial whose `epoch` came to `fitness` goes on."""
        return True

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        goes_on = self.keeps(result["number"], result["epoch"], result["fitness"])
        return self.CONTINUE if goes_on else self.STOP

    def __getstate__(self) -> dict[str, Any]:
        """Ray pickles it for a restore that is not ours: the study is the state."""
        return {}


class StopLosers(RunAll):
    """Asynchronous successive halving."""

    def __init__(self, asha: Asha) -> None:
        super().__init__()
        self.asha = asha

    def keeps(self, number: int, epoch: int, fitness: float) -> bool:
        return self.asha.decide(number, epoch, fitness)


def _none(args: TuneArgs, base: TrainArgs, curves: Curves) -> RunAll:
    return RunAll()


def _asha(args: TuneArgs, base: TrainArgs, curves: Curves) -> RunAll:
    grace = args.grace or default_grace(base.epochs, base.warmup_epochs)
    asha = Asha(rungs(base.epochs, grace, args.reduction), args.reduction)
    asha.replay(curves)
    return StopLosers(asha)


SCHEDULERS: dict[str, Callable[[TuneArgs, TrainArgs, Curves], RunAll]] = {"asha": _asha, "none": _none}


def make_scheduler(args: TuneArgs, base: TrainArgs, curves: Curves) -> RunAll:
    """The scheduler `args.scheduler`, knowing the `curves` of trials that ran before."""
    return SCHEDULERS[args.scheduler](args, base, curves)
