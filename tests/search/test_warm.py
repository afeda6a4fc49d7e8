"""Which settings of earlier searches are tried first, and as what."""

from __future__ import annotations

from tests.search.conditional import conditional_space
from tests.search.test_genetic import mixed_space
from tunekit.search.warm import Start, choose

SPACE = mixed_space()  # lr0 from 1e-4, momentum, mixup, close_mosaic from 0 to 3, optimizer


def line(run: str, *settings: dict[str, object]) -> list[Start]:
    return [Start(run, number, params) for number, params in enumerate(settings)]  # type: ignore[arg-type]


def mixups(run: str, *values: float) -> list[Start]:
    return line(run, *({**SPACE.defaults(), "mixup": value} for value in values))


def numbers(found: list[Start]) -> list[tuple[str, int]]:
    return [(start.run, start.number) for start in found]


def test_the_best_come_first_and_what_is_nearly_the_same_is_passed_over() -> None:
    found = choose([mixups("a", 0.05, 0.5, 0.55, 0.9, 0.45, 0.7, 0.3)], SPACE)
    assert numbers(found) == [("a", 1), ("a", 3), ("a", 5)], "0 is nearly the defaults, 2 and 4 nearly 1"
    assert [start.params["mixup"] for start in found] == [0.5, 0.9, 0.7]


def test_another_choice_is_another_setting() -> None:
    found = choose([line("a", *({"optimizer": name} for name in ("SGD", "Adam", "Adam", "AdamW")))], SPACE)
    assert [start.params["optimizer"] for start in found] == ["Adam", "AdamW"]


def test_runs_take_turns_and_each_has_its_best() -> None:
    a, b = mixups("a", 0.3, 0.5, 0.7), mixups("b", 0.32, 0.9)
    assert numbers(choose([a, b], SPACE)) == [("a", 0), ("b", 1), ("a", 1)]
    many = [mixups(str(run), 0.2 * run) for run in range(1, 6)]
    assert len(choose(many, SPACE)) == 5, "three in all, but one of each"
    assert choose([mixups("a", 0.0)], SPACE) == []


def test_a_setting_is_taken_over_as_far_as_it_can_be() -> None:
    params = {"lr0": 1e-9, "close_mosaic": 9, "optimizer": "Lion", "box": 3.0}
    (found,) = choose([line("a", params)], SPACE)
    assert found.params == {**SPACE.defaults(), "lr0": 1e-4, "close_mosaic": 3}
    assert found.source == "trial 0 of a"


def test_what_has_conditions_here_is_taken_over_where_they_are_met() -> None:
    space = conditional_space()
    sgd, adam = {"optimizer": "SGD", "momentum": 0.9}, {"optimizer": "AdamW", "momentum": 0.9, "mixup": 1.0}
    found = choose([line("a", sgd, adam)], space)
    assert [start.params for start in found] == [
        {"momentum": 0.9, "close_mosaic": 1, "cos_lr": True, "optimizer": "SGD", "mixup": 0.5},
        {"optimizer": "AdamW", "mixup": 1.0},
    ]
    assert choose([line("a", {"momentum": 0.9})], space) == [], "the defaults have AdamW"
