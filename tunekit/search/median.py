"""The median stopping rule: a trial that is behind the middle of the others is stopped, at any epoch.

From epoch `grace` on, a trial goes on while its best fitness so far is not below the median of the other
trials' running averages up to that epoch (Golovin et al., Google Vizier, KDD 2017, section 3.2.2). Others are
those that came to that epoch, stopped ones and ones that still run included. Pure: knows no clock, no file,
no Ray.
"""

from __future__ import annotations

import math
from statistics import median

from tunekit.search.rule import Rule

FEWEST = 3  # other trials at an epoch: the median of fewer says little


class Median(Rule):
    """The rule of one search."""

    def __init__(self, grace: int) -> None:
        super().__init__()
        self.grace = grace

    def passes(self, number: int, epoch: int) -> bool:
        if epoch < self.grace:
            return True
        others = [average for other, average in self.at(epoch).items() if other != number]
        if len(others) < FEWEST:
            return True
        best = max(value for past, value in self._curves[number].items() if past <= epoch)
        return best >= median(others)

    def at(self, epoch: int) -> dict[int, float]:
        """{trial number: its average fitness up to `epoch`} of the trials that came there."""
        return {
            number: _average([value for past, value in curve.items() if past <= epoch])
            for number, curve in self._curves.items()
            if min(curve) <= epoch <= max(curve)
        }


def _average(values: list[float]) -> float:
    """fsum, so that the order does not matter; at most the largest value, so that rounding breaks no tie."""
    return min(math.fsum(values) / len(values), max(values))
