"""One tuned argument: what it may be, and its way to and from [0, 1].

Samplers see every parameter as a number in [0, 1], even in the parameter's scale (`to_unit`, `from_unit`),
or as an Optuna distribution. A parameter that cannot be searched is a SpaceError when it is made. Knows
nothing of files, nor of what the arguments mean, nor of the other parameters, whose values may decide whether
it is searched at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from tunekit.errors import SpaceError

Value = bool | int | float | str
Condition = tuple[tuple[str, tuple[Value, ...]], ...]
"""Names of choices, its parents, and which of their values allow it: all have to."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A choice has `choices`; the other kinds have `low` and `high` (both included) and `scale`.

    `when`: it is searched only in trials that meet this.
    """

    name: str
    kind: Literal["float", "int", "choice"]
    prior: Value
    low: float = 0.0
    high: float = 1.0
    scale: Literal["linear", "log", "logit"] = "linear"
    choices: tuple[Value, ...] = ()
    when: Condition = ()

    def __post_init__(self) -> None:
        if self.kind == "choice":
            self._check_choices()
        else:
            self._check_range()

    def _check_choices(self) -> None:
        if len(self.choices) < 2:
            raise SpaceError(
                f"{self.name}: a choice needs at least two options; to fix it, leave it out of the space"
            )
        for index, option in enumerate(self.choices):
            if option in self.choices[:index]:
                raise SpaceError(f"{self.name}: {option!r} is in the choice twice")
        if self.prior not in self.choices:
            raise SpaceError(
                f"{self.name}: prior {self.prior!r} is not among the choices {list(self.choices)}:"
                " add it, or set prior: to one of them"
            )

    def _check_range(self) -> None:
        span = f"[{self.low:g}, {self.high:g}]"
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise SpaceError(f"{self.name}: the range {span} needs two finite numbers")
        if self.low > self.high:
            raise SpaceError(f"{self.name}: low {self.low:g} is above high {self.high:g}: swap them")
        if self.low == self.high:
            raise SpaceError(
                f"{self.name}: the range {span} leaves nothing to search;"
                f" leave it out of the space and give {self.name}={self.low:g} to the command"
            )
        if self.scale == "log" and self.low <= 0:
            raise SpaceError(
                f"{self.name}: scale log needs a range above 0, not {span}: raise low, or use scale: linear"
            )
        if self.scale == "logit" and not 0 < self.low < self.high < 1:
            raise SpaceError(
                f"{self.name}: scale logit needs a range inside (0, 1), both ends left out, not {span}:"
                " narrow it, or use scale: linear"
            )
        if self.kind == "int" and self.scale == "logit":
            raise SpaceError(f"{self.name}: scale logit is for fractions, and this is a whole number")
        if not self.low <= cast(float, self.prior) <= self.high:
            raise SpaceError(
                f"{self.name}: prior {self.prior:g} is outside the range {span}:"
                " widen the range, or set prior: inside it"
            )

    def is_active(self, params: Mapping[str, Value]) -> bool:
        """Whether it is searched in a trial with `params`, in which those of its parents are that are."""
        return all(parent in params and params[parent] in values for parent, values in self.when)

    @property
    def condition(self) -> str:
        """`when` in words."""
        return " and ".join(f"{parent} is {' or '.join(map(str, values))}" for parent, values in self.when)

    def to_unit(self, value: Value) -> float:
        """`value` in [0, 1]. Each whole number and each choice stands for an equal part of [0, 1] (in its
        scale), and maps to that part's middle, so a uniform draw gives all of them the same chance."""
        if self.kind == "choice":
            return (self.choices.index(value) + 0.5) / len(self.choices)
        low, high = self._ends
        return min(max((self._scaled(cast(float, value)) - low) / (high - low), 0.0), 1.0)

    def from_unit(self, unit: float) -> Value:
        """The value at `unit` in [0, 1]; always one the parameter allows.

        Floats come with as few digits as tell them apart to 1e-5 of the range: people read them.
        """
        unit = min(max(unit, 0.0), 1.0)
        if self.kind == "choice":
            return self.choices[min(int(unit * len(self.choices)), len(self.choices) - 1)]
        low, high = self._ends
        value = self._unscaled(low + unit * (high - low))
        if self.kind == "int":
            return int(min(max(round(value), self.low), self.high))
        value = min(max(value, self.low), self.high)
        for digits in (6, 9, 12):
            short = min(max(float(f"{value:.{digits}g}"), self.low), self.high)
            if abs(self.to_unit(short) - unit) < 1e-5:
                return short
        return value

    def nearest(self, value: Value) -> Value:
        """The allowed value nearest to `value`; the prior where nothing is near (a choice of words)."""
        if self.kind != "choice":
            clipped = min(max(cast(float, value), self.low), self.high)
            return round(clipped) if self.kind == "int" else float(clipped)
        if value in self.choices:
            return value
        if isinstance(value, (int, float)) and all(
            isinstance(option, (int, float)) for option in self.choices
        ):
            return min(self.choices, key=lambda option: abs(cast(float, option) - cast(float, value)))
        return self.prior

    def distribution(self) -> BaseDistribution:
        """For Optuna, which knows no logit: its own samplers search such a parameter linearly."""
        if self.kind == "choice":
            return CategoricalDistribution(self.choices)
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), log=self.scale == "log")
        return FloatDistribution(self.low, self.high, log=self.scale == "log")

    def suggest(self, trial: Trial) -> Value:
        """Have Optuna choose its value in `trial`."""
        if self.kind == "choice":
            return cast(Value, trial.suggest_categorical(self.name, self.choices))
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.scale == "log")
        return trial.suggest_float(self.name, self.low, self.high, log=self.scale == "log")

    @cached_property
    def _ends(self) -> tuple[float, float]:
        half = 0.5 if self.kind == "int" else 0.0
        return self._scaled(self.low - half), self._scaled(self.high + half)

    def _scaled(self, value: float) -> float:
        if self.scale == "log":
            return math.log(value)
        if self.scale == "logit":
            return math.log(value / (1 - value))
        return float(value)

    def _unscaled(self, scaled: float) -> float:
        if self.scale == "log":
            return math.exp(scaled)
        if self.scale == "logit":
            return 1 / (1 + math.exp(-scaled))
        return scaled
