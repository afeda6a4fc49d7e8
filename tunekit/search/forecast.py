"""Stops a trial that has next to no chance to become the best, as the search's own whole trainings tell.

How well an epoch tells the end is learnt from the trials that trained to their last epoch (`outlook.py`);
one that `patience` ended is not among them. Where early epochs tell nothing of the end, as with learning
rates that fall to the end and pay only then, nobody is stopped; where they tell much, losers go early.
Halving (`asha.py`) stops the same share either way, and with them what would have been best
(benchmarks/RESULTS.md). The criterion is the predictive termination of Domhan et al. (IJCAI 2015), with the
curves of others in place of a family of functions. Pure: knows no clock, no file, no Ray.
"""

from __future__ import annotations

import math

import numpy as np

from tunekit.search.outlook import FEWEST, chance
from tunekit.search.rule import Rule

CHANCE = 0.01  # to come to the best whole training's fitness: with less a trial is stopped


class Forecast(Rule):
    """The rule of one search: `epochs` are those of a whole training, `grace` the first that is judged."""

    def __init__(self, epochs: int, grace: int, whole: int = 1) -> None:
        super().__init__(whole)
        self.epochs, self.grace = epochs, grace
        self._best: dict[int, np.ndarray] = {}  # of each whole training (epochs,), the best up to each epoch
        self._together: np.ndarray | None = None  # (N, epochs), in the order of numbers

    def record(self, number: int, epoch: int, fitness: float | None) -> None:
        super().record(number, epoch, fitness)
        curve = self._curves[number]
        if self.epochs in curve:
            values = [curve.get(one, -math.inf) for one in range(1, self.epochs + 1)]
            self._best[number] = np.maximum.accumulate(values)
            self._together = None

    def passes(self, number: int, epoch: int) -> bool:
        if not self.grace <= epoch < self.epochs:
            return True
        if self._together is None:
            self._together = np.array([self._best[one] for one in sorted(self._best)])
            self._together = self._together.reshape(-1, self.epochs)
        now, ends = self._together[:, epoch - 1], self._together[:, -1]
        seen = np.isfinite(now)
        if seen.sum() < FEWEST:
            return True
        best = max(value for past, value in self._curves[number].items() if past <= epoch)
        return chance(best, now[seen], ends[seen], ends.max()) >= CHANCE
