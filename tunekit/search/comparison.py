"""Is any of several settings better than the defaults, and how sure is that? Runs in, an interval out.

Each setting was run with a few seeds, and their means are compared. The runs of one setting differ by chance,
in all settings by about as much, so that the spread is estimated from all of them together:

    gain of setting i over the defaults   mean_i - mean_0  ±  t · s · sqrt(1/n_i + 1/n_0)
    s² = sum of all squared deviations from their own setting's mean / (N - settings)
    t  = Student's quantile at 1 - 0.05/(2m) with N - settings degrees of freedom, for m settings beside the
         defaults

With a share of the 5% for each of the m intervals, all of them hold together in at least 95% of cases
(Bonferroni's inequality; Dunn, 'Multiple comparisons among means', Journal of the American Statistical
Association 56, 1961). So does that of the best, although it was chosen by the same runs. That the settings
share their seeds is not made use of: where it makes their runs alike, the intervals are wider than they need
be, not narrower.

Numbers only: knows neither trials nor files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Setting:
    """What its runs came to. A failed run is none."""

    runs: int
    mean: float | None  # None without a run
    sd: float | None  # None with fewer than two


@dataclass(frozen=True)
class Comparison:
    """`best`: of the settings beside the defaults, the one with the highest mean; None where none has one.

    `gain`: its mean less that of the defaults. `interval`: where the true gain lies; None where the runs are
    too few to tell how much they spread.
    """

    defaults: Setting
    others: Mapping[int, Setting]
    best: int | None
    gain: float | None
    interval: tuple[float, float] | None

    @property
    def beaten(self) -> bool:
        """Whether the best one's mean is above that of the defaults, or these have none."""
        return self.best is not None and (self.gain is None or self.gain > 0)

    @property
    def certain(self) -> bool:
        """Whether it is so by more than chance explains."""
        return self.interval is not None and self.interval[0] > 0


def compare(defaults: Sequence[float], others: Mapping[int, Sequence[float]]) -> Comparison:
    """`others`: the fitness of each setting's runs, by the setting's number."""
    base, rest = _setting(defaults), {number: _setting(values) for number, values in others.items()}
    means = {number: setting.mean for number, setting in rest.items() if setting.mean is not None}
    best = min(means, key=lambda number: (-means[number], number), default=None)
    if best is None or base.mean is None:
        return Comparison(base, rest, best, None, None)
    gain = means[best] - base.mean
    spread = _pooled([defaults, *others.values()])
    if spread is None:
        return Comparison(base, rest, best, gain, None)
    variance, freedom = spread
    t = t_quantile(1 - (1 - CONFIDENCE) / (2 * len(others)), freedom)
    margin = t * math.sqrt(variance * (1 / rest[best].runs + 1 / base.runs))
    return Comparison(base, rest, best, gain, (gain - margin, gain + margin))


def _setting(values: Sequence[float]) -> Setting:
    return Setting(len(values), fmean(values) if values else None, stdev(values) if len(values) > 1 else None)


def _pooled(groups: Sequence[Sequence[float]]) -> tuple[float, int] | None:
    """The variance within the groups, and its degrees of freedom; None where there are none."""
    groups = [values for values in groups if values]
    freedom = sum(map(len, groups)) - len(groups)
    if not freedom:
        return None
    squares = [(value - fmean(values)) ** 2 for values in groups for value in values]
    return math.fsum(squares) / freedom, freedom


def t_quantile(p: float, freedom: int) -> float:
    """What Student's t with so many degrees of freedom is below with probability `p`, 1/2 or more."""
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(60):  # halvings: to the last bits
        middle = (low + high) / 2
        low, high = (middle, high) if (1 + _central(middle, freedom)) / 2 < p else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _central(angle: float, freedom: int) -> float:
    """The probability of |t| < sqrt(freedom) · tan(angle), by the finite sums 26.7.3 and 26.7.4 of Abramowitz
    and Stegun, 'Handbook of Mathematical Functions'."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for step in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * step / (step + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
