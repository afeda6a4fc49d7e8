"""The median stopping rule: a trial that is behind the middle of the others is stopped, at any epoch.

From epoch `grace` on, a trial goes on while its best fitness so far is not below the median of the other
trials' running averages up to that epoch (Golovin et al., Google Vizier, KDD 2017, section 3.2.2). Others are
those that came to that epoch, stopped ones and ones that still run included. Pure: knows no clock, no file,
no Ray.
"""

from __future__ import annotations

import math

from tunekit.search.ranking import Ranking
from tunekit.search.rule import Rule

FEWEST = 3  # other trials at an epoch: the median of fewer says little


class Median(Rule):
    """The rule of one search."""

    def __init__(self, grace: int, whole: int = 1) -> None:
        super().__init__(whole)
        self.grace = grace
        self._at: dict[int, Ranking] = {}  # by epoch

    def record(self, number: int, epoch: int, fitness: float | None) -> None:
        before = max(self._curves.get(number, ()), default=epoch)
        super().record(number, epoch, fitness)
        curve = self._curves[number]
        for one in range(min(epoch, before + 1), max(curve) + 1):  # all whose average is new or changed
            average = _average([value for past, value in curve.items() if past <= one])
            self._at.setdefault(one, Ranking()).put(number, average)

    def passes(self, number: int, epoch: int) -> bool:
        if epoch < self.grace or len(self._at[epoch]) <= FEWEST:  # itself included
            return True
        best = max(value for past, value in self._curves[number].items() if past <= epoch)
        return best >= self._at[epoch].median_beside(number)

    def at(self, epoch: int) -> dict[int, float]:
        """{trial number: its average fitness up to `epoch`} of the trials that came there."""
        return self._at[epoch].of if epoch in self._at else {}


def _average(values: list[float]) -> float:
    """fsum, so that the order does not matter; at most the largest value, so that rounding breaks no tie."""
    return min(math.fsum(values) / len(values), max(values))
