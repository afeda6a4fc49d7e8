"""What a training that is not over will come to, as the search's own whole trainings tell: `outlook`; and
a rule that stops a trial with next to no chance to become the best.

Trials that trained to their end show how well the best fitness by an epoch tells the best of the whole
training: a straight line through them, and how far they are from it (ordinary least squares; the end of
another trial then has Student's t distribution around the line). A trial is stopped when the chance that it
beats the best whole training is below CHANCE. What the rule knows is this search's: where early epochs tell
nothing of the end, as with rates that fall to the end and pay only then, nobody is stopped; where they
tell much, losers go early. Halving (`asha.py`) stops the same share either way, and with them what
would have been best (benchmarks/RESULTS.md). The criterion is the predictive termination of Domhan et al.
(IJCAI 2015), with the curves of others in place of a family of functions. Pure: knows no clock, no file, no
Ray.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtr

from tunekit.search.rule import Rule

CHANCE = 0.01
FEWEST = 5  # whole trainings: a line through fewer says little


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


def chance(value: float, now: np.ndarray, ends: np.ndarray, bar: float) -> float:
    """That what is at `value` ends at `bar` or above, where others that were at `now` (N,) ended at `ends`
    (N,), N at least 3."""
    if value == -math.inf:
        return 0.0
    middle, deviation = outlook(value, now, ends)
    # Ties go on, also where rounding is all that is left.
    return float(stdtr(len(now) - 2, (middle - bar + 1e-9) / math.hypot(deviation, 1e-10)))


def outlook(value: float, now: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """What becomes of what is at `value`, where others that were at `now` (N,) ended at `ends` (N,), N at
    least 3: the middle and the scale of its distribution."""
    apart = now - now.mean()
    spread = max(float(apart @ apart), 1e-12)
    # Who is ahead now is not behind in the end: of a few alike a line may say so.
    slope = max(float(apart @ ends) / spread, 0.0)
    middle = float(ends.mean()) + slope * (value - float(now.mean()))
    left = ends - ends.mean() - slope * apart
    lever = 1 + 1 / len(now) + (value - float(now.mean())) ** 2 / spread
    return middle, math.sqrt(float(left @ left) / (len(now) - 2) * lever)
