"""Population based training, the choice: learning curves in, who goes on and who begins again as whose child.

All trials of the population train side by side. At each of some epochs, the points, the worst quarter is
replaced: a child goes on from the weights of one of the best quarter, with hyperparameters near that one's
(Jaderberg et al., arXiv 1711.09846, truncation selection; `explore`). What is chosen at a point depends on
the fitness of all there, so the same curves in any order make the same children. Yet few have to wait for the
last one: who is better than a quarter of all, whatever the others will bring, goes on at once.

A trial that failed is replaced at the next point, too. Trial 0, the defaults, never is: it is the yardstick.
Pure: knows no clock, no file, no Ray.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tunekit.search.parameter import Parameter, Value
from tunekit.search.rule import BASELINE, Rule
from tunekit.search.space import Space

SHARE = 4  # one in so many is replaced, by children of as many; a fifth in the paper, a quarter in Ray
SMALLEST = SHARE  # a population
STEP = 0.1  # of a parameter's range, in its scale: of lr0's four decades that is a factor of 2 up or down
ANEW = 0.1  # of a child's hyperparameters are drawn anew, so that nothing is out of reach
# The optimizer's state is the parent's, and so is what decides of what kind it is, or whether it is searched.
INHERITED = ("optimizer",)

Fate = Literal["goes on", "waits", "lost"]


@dataclass(frozen=True)
class Child:
    """What a point brought: a trial that goes on from `parent` after epoch `point`, instead of `loser`."""

    point: int
    loser: int
    parent: int


def points(epochs: int, grace: int, interval: int | None) -> tuple[int, ...]:
    """The epochs after which trials are replaced: `grace`, then every `interval` (or tenth of them)."""
    return tuple(range(grace, epochs, interval or max(1, round(epochs / 10))))


class Population(Rule):
    """`size` trials, 0 and up, and the children that take their places, which have to `join`."""

    def __init__(self, size: int, points: Sequence[int], seed: int) -> None:
        super().__init__()
        self.size, self.points, self._seed = size, tuple(points), seed
        self._since = dict.fromkeys(range(size), 0)  # by trial: the epoch that it began after
        self._gone: dict[int, bool] = {}  # trials without a future, and whether a child is to replace them
        self._lost: dict[int, Child] = {}  # by loser
        self._closed = 0  # points that all have come to

    def join(self, number: int, point: int) -> None:
        """Trial `number` is the child that a point brought."""
        self._since[number] = point

    def leave(self, number: int, *, failed: bool) -> None:
        """The trial has ended before its last epoch, and not at a point. One that `failed` is replaced."""
        self._gone[number] = failed

    def passes(self, number: int, epoch: int) -> bool:
        return self.fate(number) == "goes on"

    def fate(self, number: int) -> Fate:
        """What becomes of a trial after the last epoch that is recorded of it."""
        self.close()
        if number in self._lost:
            return "lost"
        reached = [point for point in self.points if point in self._curves.get(number, ())]
        if number == BASELINE or all(self._is_safe(number, point) for point in reached):
            return "goes on"
        return "waits"

    def close(self) -> list[Child]:
        """Close the points that all have come to; all children that there have been."""
        while self._closed < len(self.points) and self._is_complete(self.points[self._closed]):
            point = self.points[self._closed]
            self._lost.update({child.loser: child for child in self._children(point)})
            self._closed += 1
        return list(self._lost.values())

    @property
    def closed(self) -> int:
        """The last point that is closed; 0 before the first."""
        return self.points[self._closed - 1] if self._closed else 0

    def _is_complete(self, point: int) -> bool:
        """Whether all that take part have come there, or will not come any more."""
        lost = [child for child in self._lost.values() if child.point < point]
        joined = len(self._since) - self.size
        return joined >= len(lost) and all(
            number in self._gone or point in self._curves.get(number, ()) for number in self._members(point)
        )

    def _members(self, point: int) -> Iterator[int]:
        for number, since in self._since.items():
            before = number in self._lost and self._lost[number].point < point
            ended = number in self._gone and not self._gone[number]
            if since < point and not before and not (ended and point not in self._curves.get(number, ())):
                yield number

    def _is_safe(self, number: int, point: int) -> bool:
        """Whether it is not among the losers of `point`, whoever is still to come."""
        if point <= self.closed:
            return True
        rank = self._rank(number, point)
        worse = sum(self._rank(other, point) < rank for other in self._ranked(point) if other != BASELINE)
        return worse >= self.size // SHARE

    def _ranked(self, point: int) -> list[int]:
        """Those of whom all is known at `point`, the worst first."""
        known = (
            number
            for number in self._members(point)
            if point in self._curves.get(number, ()) or number in self._gone
        )
        return sorted(known, key=lambda number: self._rank(number, point))

    def _rank(self, number: int, point: int) -> tuple[float, int]:
        """Of two with the same fitness the later trial is the worse one."""
        return self._curves.get(number, {}).get(point, -np.inf), -number

    def _children(self, point: int) -> Iterator[Child]:
        ranked = self._ranked(point)
        failed = [
            number for number in ranked if number in self._gone and point not in self._curves.get(number, ())
        ]
        share = self.size // SHARE
        others = [number for number in ranked if number not in failed]
        losers = [*failed, *(number for number in others if number != BASELINE)]
        best = others[-share:]
        for loser in losers[: max(share, len(failed))]:
            chance = np.random.default_rng((self._seed, point, loser))
            parent = best[int(chance.integers(len(best)))] if best else loser
            if self._rank(loser, point)[0] < self._rank(parent, point)[0]:
                yield Child(point, loser, parent)


def explore(space: Space, parent: Mapping[str, Value], child: Child, seed: int) -> dict[str, Any]:
    """Hyperparameters near those of the parent: each moves a step up or down in its own scale, or is drawn
    anew. What the parent has not, as a condition is not met, is near the prior if the child has it."""
    chance = np.random.default_rng((seed, child.point, child.loser, 1))
    inherited = set(INHERITED)
    for parameter in reversed(space.parents_first):
        if parameter.name in inherited:
            inherited.update(name for name, _ in parameter.when)
    before = {parameter.name: parent.get(parameter.name, parameter.prior) for parameter in space.parameters}
    return space.completed(
        {
            parameter.name: before[parameter.name]
            if parameter.name in inherited
            else _moved(parameter, before[parameter.name], chance)
            for parameter in space.parameters
        }
    )


def _moved(parameter: Parameter, value: Value, chance: np.random.Generator) -> Value:
    anew, step = chance.random() < ANEW, chance.normal(0, STEP)
    unit = chance.random()
    if anew:
        return parameter.from_unit(float(unit))
    if parameter.kind == "choice":
        return value
    moved = abs(parameter.to_unit(value) + step)
    return parameter.from_unit(float(moved if moved <= 1 else 2 - moved))
