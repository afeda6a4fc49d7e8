"""A generator that gives augment.py the numbers of one row of `Chance`, in the order in which it asks.

So both paths can be told to make the same sample, and be compared.
"""

from __future__ import annotations

import numpy as np

from tunekit.data.gpu.chance import Chance


class Script:
    """Stands in for numpy.random.Generator in `augment_into`."""

    def __init__(self, chance: Chance, row: int) -> None:
        self._chance, self._row = chance, row
        self._picture = chance.own[row]  # the one that is being composed
        self._partners = [chance.mixed[row], chance.cut[row]]
        self._fives = 0  # times five numbers were asked for: first the choices, then mosaics

    def random(self, size: int | None = None) -> np.ndarray | float:
        if size is None:
            return float(self._picture[1])  # whether a mosaic
        if size == 3:
            return self._chance.colour[self._row]
        if size == 8:
            return self._picture[7:]  # the view
        self._fives += 1
        return self._chance.choices[self._row] if self._fives == 1 else self._picture[2:7]

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        return low + (high - low) * np.asarray(self.random(size))

    def beta(self, a: float, b: float, size: int | None = None) -> np.ndarray | float:
        if size is None:  # MixUp's ratio: its partner comes next, else CutMix's would
            self._picture = self._partners[0]
            return float(np.median(self._chance.ratio[self._row]))
        self._picture = self._partners[1]
        return self._chance.rectangles[self._row].reshape(3, 3)[:, 0]

    def integers(self, low: int, high: int | None = None, size: tuple[int, int] | None = None):
        if size is None:
            return int(self._picture[0] * low)
        return (self._chance.rectangles[self._row].reshape(3, 3)[:, 1:] * high).astype(int)
