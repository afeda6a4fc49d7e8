"""A parameter's way to [0, 1] and back, in closed form and as properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tunekit.errors import SpaceError
from tunekit.search.parameter import Parameter


def number(low: float, high: float, scale: Any = "linear", prior: float | None = None) -> Parameter:
    return Parameter(
        name="x", kind="float", low=low, high=high, scale=scale, prior=low if prior is None else prior
    )


def whole(low: int, high: int, scale: Any = "linear") -> Parameter:
    return Parameter(name="n", kind="int", low=low, high=high, scale=scale, prior=low)


def choice(*options: Any) -> Parameter:
    return Parameter(name="c", kind="choice", choices=options, prior=options[0])


@pytest.mark.parametrize(
    ("parameter", "value", "unit"),
    [
        (number(-1, 3), 0.0, 0.25),
        (number(1e-4, 1e-1, "log"), 1e-3, 1 / 3),
        (number(0.1, 0.9, "logit"), 0.5, 0.5),
        (number(0.5, 0.99, "logit"), 0.9, math.log(9) / math.log(99)),
        (whole(0, 9), 3, 0.35),
        (choice("a", "b"), "b", 0.75),
    ],
)
def test_units_follow_the_scale(parameter: Parameter, value: Any, unit: float) -> None:
    assert parameter.to_unit(value) == pytest.approx(unit)
    assert parameter.from_unit(unit) == (value if isinstance(value, (str, int)) else pytest.approx(value))


@st.composite
def numbers(draw: st.DrawFn) -> Parameter:
    scale = draw(st.sampled_from(["linear", "log", "logit"]))
    bounds = {"linear": (-1e6, 1e6), "log": (1e-9, 1e6), "logit": (1e-6, 1 - 1e-6)}[scale]
    low, high = sorted(draw(st.tuples(st.floats(*bounds), st.floats(*bounds))))
    if high - low < 1e-3 * max(abs(low), abs(high), 1e-9):
        high = bounds[1]
        low = bounds[0]
    return number(low, high, scale)


@given(numbers(), st.floats(0, 1))
def test_a_unit_comes_back_from_its_value(parameter: Parameter, unit: float) -> None:
    value = parameter.from_unit(unit)
    assert parameter.low <= value <= parameter.high
    assert parameter.to_unit(value) == pytest.approx(unit, abs=1.1e-5)


@given(st.integers(-50, 50), st.integers(1, 40), st.data())
def test_every_whole_number_comes_back(low: int, span: int, data: st.DataObject) -> None:
    parameter = whole(low, low + span)
    value = data.draw(st.integers(low, low + span))
    assert parameter.from_unit(parameter.to_unit(value)) == value
    assert isinstance(parameter.from_unit(data.draw(st.floats(0, 1))), int)


def test_whole_numbers_share_the_unit_equally_also_the_first_and_the_last() -> None:
    drawn = [whole(0, 3).from_unit((i + 0.5) / 400) for i in range(400)]
    assert [drawn.count(value) for value in range(4)] == [100, 100, 100, 100]


def test_whole_numbers_can_be_even_in_the_logarithm() -> None:
    batch = whole(1, 64, "log")
    assert batch.distribution() == IntDistribution(1, 64, log=True)
    assert batch.from_unit(batch.to_unit(8)) == 8
    # Halves as likely as doubles: 2-4 and 16-32 are each one octave.
    assert batch.to_unit(4) - batch.to_unit(2) == pytest.approx(batch.to_unit(32) - batch.to_unit(16))


def test_values_are_short_enough_to_read() -> None:
    assert len(str(number(1e-5, 0.1, "log").from_unit(0.123456789123))) <= len("0.000310898")


@pytest.mark.parametrize(
    ("parameter", "value", "nearest"),
    [
        (number(0, 1), 7, 1.0),
        (number(0, 1), 0.3, 0.3),
        (whole(0, 9), -2, 0),
        (choice(8, 16, 32), 20, 16),
        (choice("SGD", "AdamW"), "Adam", "SGD"),
    ],
)
def test_nearest_is_inside(parameter: Parameter, value: Any, nearest: Any) -> None:
    assert parameter.nearest(value) == nearest
    assert type(parameter.nearest(value)) is type(nearest)


def test_optuna_gets_the_same_parameter() -> None:
    assert number(1e-4, 0.1, "log").distribution() == FloatDistribution(1e-4, 0.1, log=True)
    assert number(0.6, 0.9, "logit").distribution() == FloatDistribution(0.6, 0.9)
    assert choice("a", "b").distribution() == CategoricalDistribution(("a", "b"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"low": 2.0, "high": 1.0, "prior": 1.0}, "low 2 is above high 1"),
        ({"low": 1.0, "high": 1.0, "prior": 1.0}, "leaves nothing to search"),
        ({"low": 0.0, "scale": "log", "prior": 0.5}, "above 0"),
        ({"low": 0.0, "high": 0.9, "scale": "logit", "prior": 0.5}, "inside"),
        ({"low": 0.1, "high": 1.0, "scale": "logit", "prior": 0.5}, "inside"),
        ({"low": math.nan, "prior": 0.5}, "finite"),
        ({"high": math.inf, "prior": 0.5}, "finite"),
        ({"prior": 1.5}, "prior 1.5 is outside"),
        ({"prior": math.nan}, "outside"),
        ({"kind": "choice", "choices": ("a",), "prior": "a"}, "at least two"),
        ({"kind": "choice", "choices": ("a", "a"), "prior": "a"}, "twice"),
        ({"kind": "choice", "choices": ("a", "b"), "prior": "c"}, "not among the choices"),
    ],
)
def test_what_cannot_be_searched_is_refused_by_name(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpaceError, match=words) as fault:
        Parameter(**{"name": "momentum", "kind": "float", **settings})
    assert "momentum" in str(fault.value)
