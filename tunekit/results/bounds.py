"""Which hyperparameters ran into an end of their range: one and a search's trials in, that end out."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from tunekit.args import TrainArgs
from tunekit.checks import build_args
from tunekit.errors import ArgumentError
from tunekit.search.space import Parameter

ENOUGH = 20  # trials to tell anything from
ELITE, LEAST_ELITE = 0.2, 5  # the best so many of the trials
NEAR = 0.1  # of the range is 'at its end'

End = Literal["", "low", "high"]


def bound(parameter: Parameter, genes: np.ndarray, scores: np.ndarray, level: float) -> End:
    """The end at which most of the best trials crowd, and more of them than trials of whatever score do.

    `genes` (N,) and `scores` (N,) of the trials, larger better. How many of the best would be there by chance
    is hypergeometric; `level` is how often that may be said wrongly. That many trials, good and bad, lie
    where the search began is thus no reason.
    """
    if parameter.kind == "choice" or len(genes) < ENOUGH:
        return ""
    count = max(math.ceil(ELITE * len(genes)), LEAST_ELITE)
    best = np.argsort(-scores, kind="stable")[:count]
    # A whole number stands for a part of the range: the last one is at the end however wide that part is.
    near = max(NEAR, 1 / (parameter.high - parameter.low + 1)) if parameter.kind == "int" else NEAR
    ends: tuple[tuple[End, np.ndarray], ...] = (("low", genes <= near), ("high", genes >= 1 - near))
    for end, there in ends:
        crowd = int(there[best].sum())
        if (
            crowd > count / 2
            and at_least(crowd, count, int(there.sum()), len(genes)) <= level
            and _can_be_wider(parameter, end)
        ):
            return end
    return ""


def at_least(crowd: int, drawn: int, marked: int, total: int) -> float:
    """The chance of `crowd` or more marked ones among so many drawn from `total`."""
    ways = sum(
        math.comb(marked, some) * math.comb(total - marked, drawn - some)
        for some in range(crowd, min(drawn, marked) + 1)
    )
    return ways / math.comb(total, drawn)


def _can_be_wider(parameter: Parameter, end: End) -> bool:
    """Whether the argument itself takes values beyond that end: hsv_h below 0 is nothing."""
    if parameter.kind == "int":
        beyond = parameter.low - 1 if end == "low" else parameter.high + 1
        if parameter.scale == "log" and beyond < 1:
            return False
    elif end == "low":
        beyond = parameter.low * 0.99 if parameter.low > 0 else parameter.low - 0.01
    elif parameter.scale == "logit":
        beyond = parameter.high + 0.01 * (1 - parameter.high)
    else:
        beyond = parameter.high + 0.01 * abs(parameter.high)
    try:
        build_args(TrainArgs, {parameter.name: int(beyond) if parameter.kind == "int" else beyond})
    except ArgumentError:
        return False
    return True
