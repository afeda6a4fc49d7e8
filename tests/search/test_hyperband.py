"""Hyperband: brackets against the paper's figures, shares at any length, and each bracket an asha."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.search.asha import Asha, rungs
from tunekit.search.hyperband import Hyperband, assignment, sizes


def test_brackets_are_those_of_the_paper() -> None:
    """Algorithm 1 with R = 81, eta = 3, brackets s = 4 to 0: n trials, judged first after r epochs."""
    hyperband = Hyperband(rungs(81, 1, 3), 3)
    first = [(bracket.rungs or (81,))[0] for bracket in reversed(hyperband.brackets)]
    paper = [(81, 1), (34, 3), (15, 9), (8, 27), (5, 81)]
    assert list(zip(reversed(sizes(4, 3)), first, strict=True)) == paper
    assert [bracket.rungs for bracket in hyperband.brackets] == [
        (),
        (27,),
        (9, 27),
        (3, 9, 27),
        (1, 3, 9, 27),
    ]


@pytest.mark.parametrize(
    ("most", "reduction", "expected"),
    [
        (3, 2, (4, 4, 6, 8)),  # R = 8, eta = 2, as other implementations have it
        (2, 3, (3, 5, 9)),
        (1, 3, (2, 3)),
        (0, 3, (1,)),
    ],
)
def test_sizes(most: int, reduction: int, expected: tuple[int, ...]) -> None:
    assert sizes(most, reduction) == expected


def test_trials_are_spread_side_by_side() -> None:
    assert list(islice(assignment((2, 3)), 10)) == [0, 1, 1, 0, 1, 1, 0, 1, 0, 1]
    assert list(islice(assignment((1, 1)), 6)) == [0, 1, 1, 0, 1, 0]  # of equal ones that with more rungs
    assert list(islice(assignment((1,)), 3)) == [0, 0, 0]


@given(st.integers(0, 5), st.integers(2, 4), st.integers(1, 600))
def test_a_search_of_any_length_has_its_share_of_each_bracket(most: int, reduction: int, trials: int) -> None:
    shares = sizes(most, reduction)
    order = list(islice(assignment(shares), trials))
    assert order[0] == 0
    counts = Counter(order)
    for s, size in enumerate(shares):
        assert abs(counts[s] - trials * size / sum(shares)) < len(shares)
        if trials % sum(shares) == 0:
            assert counts[s] == trials // sum(shares) * size


@given(st.lists(st.integers(0, 200), min_size=1, max_size=10))
def test_a_trials_bracket_follows_from_its_number_whoever_is_asked_first(numbers: list[int]) -> None:
    in_order = Hyperband((1, 3), 3)
    expected = [in_order.bracket(number) for number in range(201)]
    asked = Hyperband((1, 3), 3)
    assert [asked.bracket(number) for number in numbers] == [expected[number] for number in numbers]


@pytest.mark.parametrize("seed", range(5))
def test_each_bracket_decides_as_an_asha_that_sees_its_trials_alone(seed: int) -> None:
    random = Random(seed)
    hyperband = Hyperband((1, 3, 9), 3)
    alone = [Asha((), 3), Asha((9,), 3), Asha((3, 9), 3), Asha((1, 3, 9), 3)]
    running = dict.fromkeys(range(60), 0)
    stopped: Counter[int] = Counter()
    while running:
        number = random.choice(list(running))
        running[number] += 1
        fitness = random.randrange(5) / 10
        bracket = hyperband.bracket(number)
        goes_on = hyperband.decide(number, running[number], fitness)
        assert goes_on is alone[bracket].decide(number, running[number], fitness)
        stopped[bracket] += not goes_on
        if not goes_on or running[number] == 10:
            del running[number]
    assert stopped[0] == 0
    assert stopped[3] > 0


def test_the_first_rung_of_a_late_bracket_is_the_earliest_at_which_its_trials_stop() -> None:
    hyperband = Hyperband((1, 3), 3)
    late = [number for number in range(1, 60) if hyperband.bracket(number) == 1]
    assert all(hyperband.decide(number, epoch, 1 / number) for number in late for epoch in (1, 2))
    assert not all(hyperband.decide(number, 3, 1 / number) for number in late)
