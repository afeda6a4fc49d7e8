"""Asynchronous successive halving: learning curves in, 'go on' or 'stop' out.

At each rung (an epoch) a trial goes on when it is among the best 1/reduction of the trials that have
come there so far, itself included; it waits for nobody (ASHA, arXiv 1810.05934, in its stopping form).
Pure: knows no clock, no file, no Ray.
"""

from __future__ import annotations

import math

from tunekit.search.ranking import Ranking
from tunekit.search.rule import Rule


def default_grace(epochs: int, warmup_epochs: float) -> int:
    """The first epoch after which a trial may be stopped.

    A ninth of the run, so that with reduction 3 the rungs are R/9 and R/3 and a losing trial costs about
    a quarter of a full one. But not before the warm-up is over by an epoch: until then the learning rate is
    not yet the trial's own; and rather three epochs, where that is still in the first third of the run.
    100 epochs, 3 of warm-up: 12 (rungs 12, 36). 30: 6 (6, 18). 12: 4. 4: 4, so nothing is stopped.
    """
    settled = math.ceil(warmup_epochs) + 3
    grace = max(math.ceil(epochs / 9), min(settled, math.ceil(epochs / 3)), math.ceil(warmup_epochs) + 1)
    return min(grace, epochs)


def rungs(epochs: int, grace: int, reduction: int) -> tuple[int, ...]:
    """The epochs at which trials are judged: grace, grace·reduction, ... below `epochs`.

    Past grace none in the last quarter: a full result is worth more than the little that is saved there.
    """
    if grace < 1 or reduction < 2:
        raise ValueError(f"grace={grace} must be at least 1 and reduction={reduction} at least 2")
    found = [grace] if grace < epochs else []
    while found and found[-1] * reduction <= 0.75 * epochs:
        found.append(found[-1] * reduction)
    return tuple(found)


def goes_on(number: int, recorded: Ranking, reduction: int) -> bool:
    """Whether trial `number` goes on, given all values `recorded` at a rung: its own too.

    Ties go on: in the first epochs many a trial has fitness 0, and that says nothing yet.
    """
    return len(recorded) < reduction or recorded.better(number) * reduction < len(recorded)


class Asha(Rule):
    """The rungs of one search: a trial always goes on, but at a rung where it is not good enough."""

    def __init__(self, rungs: tuple[int, ...], reduction: int, whole: int = 1) -> None:
        super().__init__(whole)
        self.rungs = rungs
        self.reduction = reduction
        self._at = {rung: Ranking() for rung in rungs}

    def record(self, number: int, epoch: int, fitness: float | None) -> None:
        super().record(number, epoch, fitness)
        curve = self._curves[number]
        for rung in self.rungs:
            if min(curve) <= rung <= max(curve):
                # The best and not the last: a trial counts by its best epoch in the end, too, and one noisy
                # epoch does not throw it out.
                self._at[rung].put(number, max(value for past, value in curve.items() if past <= rung))

    def passes(self, number: int, epoch: int) -> bool:
        return epoch not in self.rungs or goes_on(number, self._at[epoch], self.reduction)

    def at(self, rung: int) -> dict[int, float]:
        """{trial number: best fitness up to that rung} of the trials that came there."""
        return self._at[rung].of
