"""What the rules that stop trials have in common: learning curves in, 'go on' or 'stop' out.

The same numbers in any order make the same state, so that a resumed search replays the recorded curves and
decides as if it had never been cut. Pure: knows no clock, no file, no Ray.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

BASELINE = 0  # trial 0, the defaults: all others are measured against its full run, so it is never stopped


class Rule(ABC):
    """The curves of one search. `record` every epoch of every trial; `decide` also answers. The first `whole`
    trials, the defaults and what is tried with them on purpose, are never stopped."""

    def __init__(self, whole: int = 1) -> None:
        self._whole = whole
        self._curves: dict[int, dict[int, float]] = {}

    def record(self, number: int, epoch: int, fitness: float | None) -> None:
        """`fitness` (larger is better) of trial `number` after `epoch`, from 1; None, NaN: the worst.

        An epoch's first value holds, as in the study: a trial that had to start again tells it twice.
        """
        if fitness is None or not math.isfinite(fitness):
            fitness = -math.inf
        self._curves.setdefault(number, {}).setdefault(epoch, fitness)

    def decide(self, number: int, epoch: int, fitness: float | None) -> bool:
        """Record, and say whether the trial goes on."""
        self.record(number, epoch, fitness)
        return number < self._whole or self.passes(number, epoch)

    @abstractmethod
    def passes(self, number: int, epoch: int) -> bool:
        """Whether trial `number`, now at `epoch`, is good enough among all that is recorded."""

    def replay(self, curves: Mapping[int, Mapping[int, float | None]]) -> None:
        """Take up the curves {trial number: {epoch: fitness}} of an earlier run of this search."""
        for number, curve in curves.items():
            for epoch, fitness in curve.items():
                self.record(number, epoch, fitness)
