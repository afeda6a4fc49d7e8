"""What trials come to: whole ones what they came to, others what the curves of whole ones foretell.

How much a curve rises until its end, and how surely, is learnt from the whole trainings of the same search
(`outlook.py`), the same for all settings. A model of curves that lets settings differ in it knew better in
theory; it hoped for what had been stopped, tried the like, which was stopped as well, and never learnt
(benchmarks/RESULTS.md). Pure: reads trials, knows no study.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache
from itertools import accumulate

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from tunekit.search.outlook import FEWEST, outlook


def ends(trials: Sequence[FrozenTrial], sign: float) -> tuple[np.ndarray, np.ndarray]:
    """(N,) values, larger is better (`sign` -1: trials' own are better when less), and (N,) the squares of
    the scales of what is foretold, else 0. NaN of a trial without any value."""
    paths = [_best_so_far(trial, sign) for trial in trials]
    whole = [
        (path, sign * trial.value)
        for trial, path in zip(trials, paths, strict=True)
        if trial.state == TrialState.COMPLETE and trial.value is not None
    ]

    @cache
    def seen(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Where whole trainings were at `epoch`, and where they ended."""
        there = [(_at(path, epoch), end) for path, end in whole if path and path[0][0] <= epoch]
        return np.array([now for now, _ in there]), np.array([end for _, end in there])

    found = np.full((2, len(trials)), np.nan)
    for place, (trial, path) in enumerate(zip(trials, paths, strict=True)):
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            found[:, place] = sign * trial.value, 0.0
        elif path:
            epoch, best = path[-1]
            middle, scale = _foretold(best, *seen(epoch))
            found[:, place] = middle, scale**2
    return found[0], found[1]


def _foretold(value: float, now: np.ndarray, ends: np.ndarray) -> tuple[float, float]:
    """What is at `value` ends at, and the scale of the doubt."""
    if len(now) >= FEWEST:
        return outlook(value, now, ends)
    gains = ends - now if len(now) else np.zeros(1)  # fewer tell how much is gained, but not by whom
    return value + float(gains.mean()), float(gains.std())


def _best_so_far(trial: FrozenTrial, sign: float) -> list[tuple[int, float]]:
    """(epoch, best value until then), in order; what is no number is left out."""
    curve = sorted((epoch, sign * value) for epoch, value in trial.intermediate_values.items())
    curve = [(epoch, value) for epoch, value in curve if math.isfinite(value)]
    return list(zip([epoch for epoch, _ in curve], accumulate((v for _, v in curve), max), strict=True))


def _at(path: Sequence[tuple[int, float]], epoch: int) -> float:
    """The last value of `path` by `epoch`; there is one."""
    return path[bisect_right(path, (epoch, math.inf)) - 1][1]
