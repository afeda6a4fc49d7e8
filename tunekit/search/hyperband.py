"""Hyperband, asynchronously: several successive halvings side by side, each with a first rung of its own.

How early a trial may be judged is a guess: a late bloomer loses at an early rung. Hyperband (Li et al.,
JMLR 18, 2018) spreads the trials over brackets instead. Bracket s has s rungs, the last s of all; bracket 0
stops nothing. Each has about the same epochs to spend, so the ones that stop early get more trials. Within a
bracket the rule is asha's, and trials are compared with their own bracket only.

The paper fills one bracket after the other. Here they fill side by side in the same proportions, so that a
search of any length has its share of each, and a trial's bracket follows from its number alone. Pure: knows
no clock, no file, no Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunekit.search.asha import Asha
from tunekit.search.rule import Rule


class Hyperband(Rule):
    """The brackets of one search over `rungs`, as asha would have them (`asha.rungs`)."""

    def __init__(self, rungs: tuple[int, ...], reduction: int, whole: int = 1) -> None:
        super().__init__(whole)
        first_rungs = range(len(rungs), -1, -1)
        self.brackets = tuple(Asha(rungs[first:], reduction) for first in first_rungs)
        self._assignment = assignment(sizes(len(rungs), reduction))
        self._assigned: list[int] = []

    def bracket(self, number: int) -> int:
        """The bracket of trial `number`."""
        while len(self._assigned) <= number:
            self._assigned.append(next(self._assignment))
        return self._assigned[number]

    def record(self, number: int, epoch: int, fitness: float | None) -> None:
        self.brackets[self.bracket(number)].record(number, epoch, fitness)

    def passes(self, number: int, epoch: int) -> bool:
        return self.brackets[self.bracket(number)].passes(number, epoch)


def sizes(most: int, reduction: int) -> tuple[int, ...]:
    """Trials of brackets 0, 1, ... `most` in one round: (most + 1) / (s + 1) · reduction^s, rounded up."""
    return tuple(-(-(most + 1) * reduction**s // (s + 1)) for s in range(most + 1))


def assignment(sizes: Sequence[int]) -> Iterator[int]:
    """The brackets of trials 0, 1, 2, ...: each trial goes to the bracket that lags its share most.

    Of equal ones to that with more rungs. Every sum(sizes) trials fill all brackets to the full. Trial 0, the
    defaults, is never stopped, so it takes a place in bracket 0, which stops nothing.
    """
    total = sum(sizes)
    filled = [0] * len(sizes)
    bracket, count = 0, 1
    while True:
        filled[bracket] += 1
        yield bracket
        count += 1
        bracket = max(range(len(sizes)), key=lambda s: (sizes[s] * count - filled[s] * total, s))
