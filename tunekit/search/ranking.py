"""Trials' values kept in order: a trial's place among thousands is found without looking at all of them.

In: values by trial number, one at a time; a new one replaces the trial's old one. Out: places and medians.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable


class Ranking:
    """`of`: {trial number: value}; larger is better."""

    def __init__(self, values: Iterable[tuple[int, float]] = ()) -> None:
        self.of: dict[int, float] = {}
        self._ascending: list[float] = []
        for number, value in values:
            self.put(number, value)

    def __len__(self) -> int:
        return len(self.of)

    def put(self, number: int, value: float) -> None:
        before = self.of.get(number)
        if before == value:
            return
        if before is not None:
            del self._ascending[bisect_left(self._ascending, before)]
        self.of[number] = value
        insort(self._ascending, value)

    def better(self, number: int) -> int:
        """How many have a larger value than trial `number`."""
        return len(self) - bisect_right(self._ascending, self.of[number])

    def median_beside(self, number: int) -> float:
        """The median of the others' values; there must be some."""
        own = bisect_left(self._ascending, self.of[number])
        count = len(self) - 1
        low, high = (self._ascending[place + (place >= own)] for place in ((count - 1) // 2, count // 2))
        return (low + high) / 2 if low != high else low
