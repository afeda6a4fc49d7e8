"""Population based training's choice: against an obvious version, in any order; and what must never be."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tunekit.search.population import SHARE, Child, Population, explore, points
from tunekit.search.space import Parameter, Space, load_space

POINTS, SEED = (2, 4), 3


def test_points() -> None:
    assert points(100, 12, None) == (12, 22, 32, 42, 52, 62, 72, 82, 92)
    assert points(10, 4, None) == (4, 5, 6, 7, 8, 9)
    assert points(10, 4, 3) == (4, 7)
    assert points(10, 10, None) == ()


def fitness(number: int, epoch: int) -> float:
    """A curve of every trial, with ties."""
    return random.Random(f"{number} {epoch}").randrange(12) / 10


def failing(number: int, epoch: int) -> bool:
    return number > 0 and random.Random(f"fails {number} {epoch}").random() < 0.04


def played(size: int, chance: random.Random, epochs: int = 6) -> tuple[list[Child], int]:
    """A whole search by an executor that takes any trial that may go on; all children, and waits seen."""
    population = Population(size, POINTS, SEED)
    epoch_of, since, ended, waits = dict.fromkeys(range(size), 0), {}, set(), 0
    known: list[Child] = []
    while True:
        for child in population.close()[len(known) :]:
            number = len(epoch_of)
            epoch_of[number], since[number] = child.point, child
            population.join(number, child.point)
            known.append(child)
        free = [number for number in epoch_of if number not in ended and population.fate(number) == "goes on"]
        waits += sum(number not in ended and population.fate(number) == "waits" for number in epoch_of)
        if not free:
            assert all(n in ended or population.fate(n) == "lost" for n in epoch_of), "nobody waits for ever"
            return known, waits
        number = chance.choice(free)
        epoch = epoch_of[number] = epoch_of[number] + 1
        if failing(number, epoch):
            ended.add(number)
            population.leave(number, failed=True)
        else:
            population.record(number, epoch, fitness(number, epoch))
            if epoch == epochs:
                ended.add(number)


def obvious(size: int) -> list[Child]:
    """The same when everybody waits for everybody at each point. Children are numbered as they come."""
    alive, count, dead, found = list(range(size)), size, set(), []
    for before, point in zip((0, *POINTS), POINTS, strict=False):
        dead |= {n for n in alive if any(failing(n, epoch) for epoch in range(before + 1, point + 1))}
        ranked = sorted(alive, key=lambda n: (-np.inf if n in dead else fitness(n, point), -n))
        living = [n for n in ranked if n not in dead]
        share = size // SHARE
        for loser in [n for n in ranked if n or n in dead][: max(share, len(ranked) - len(living))]:
            chance = np.random.default_rng((SEED, point, loser))
            best = living[-share:]
            parent = best[int(chance.integers(len(best)))]
            if loser in dead or fitness(loser, point) < fitness(parent, point):
                found.append(Child(point, loser, parent))
                alive.remove(loser)
                alive.append(count)
                count += 1
    return found


@settings(max_examples=60)
@given(st.integers(4, 13), st.integers(0, 1000))
def test_the_order_in_which_trials_train_does_not_matter(size: int, seed: int) -> None:
    children, _ = played(size, random.Random(seed))
    assert children == obvious(size)


def test_most_do_not_wait_for_the_last_one() -> None:
    population = Population(8, POINTS, SEED)
    for number, value in enumerate([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]):
        population.record(number, 2, value)
    fates = [population.fate(number) for number in range(7)]
    assert fates == ["goes on", "waits", "waits", *["goes on"] * 4], "of 0, the yardstick, nobody is a child"
    population.record(7, 2, 0.35)
    assert [child.loser for child in population.close()] == [1, 2]
    assert population.fate(1) == "lost"
    assert population.closed == 2


def test_where_all_are_the_same_nobody_is_replaced() -> None:
    """At the start of a training from nothing mAP is 0 for all: that says nothing."""
    population = Population(8, POINTS, SEED)
    for number in range(8):
        population.record(number, 2, 0.0)
    assert population.close() == []
    assert {population.fate(number) for number in range(8)} == {"goes on"}


def test_a_point_that_follows_waits_for_the_children_of_the_one_before() -> None:
    population = Population(4, POINTS, SEED)
    for epoch in POINTS:
        for number in range(4):
            if population.fate(number) != "lost":
                population.record(number, epoch, number / 10)
    assert [(child.point, child.loser) for child in population.close()] == [(2, 1)]
    assert population.fate(2) == "waits", "who may still come out better than the child"
    assert population.fate(3) == "goes on" or population.fate(3) == "waits"
    population.join(4, 2)
    assert population.closed == 2
    population.record(4, 4, 0.0)
    assert population.closed == 2 or population.close()[-1].loser == 4


def test_one_that_was_ended_by_its_user_is_not_replaced() -> None:
    population = Population(4, POINTS, SEED)
    population.leave(3, failed=False)
    for number in range(3):
        population.record(number, 2, 0.1 * number)
    assert [child.loser for child in population.close()] == [1]


def test_a_child_is_near_its_parent_and_inside_of_the_space() -> None:
    space = load_space("default")
    space = Space(
        "mine",
        (
            *space.parameters,
            Parameter(name="optimizer", kind="choice", choices=("SGD", "AdamW"), prior="SGD"),
        ),
    )
    parent = {**space.defaults(), "optimizer": "AdamW"}
    near, anew = [], []
    for loser in range(200):
        child = explore(space, parent, Child(4, loser, 0), SEED)
        assert list(child) == [parameter.name for parameter in space.parameters]
        assert child["optimizer"] == "AdamW", "whose state it goes on with"
        for parameter in space.parameters:
            assert parameter.nearest(child[parameter.name]) == child[parameter.name]
        moved = abs(space.parameters[0].to_unit(child["lr0"]) - space.parameters[0].to_unit(parent["lr0"]))
        (near if moved < 0.35 else anew).append(moved)
    assert 0.06 < np.mean(near) < 0.12, "in the scale of the parameter, which here is log"
    assert anew, "and now and then anywhere"
    again = explore(space, parent, Child(4, 7, 0), SEED)
    assert again == explore(space, parent, Child(4, 7, 0), SEED)
    assert again != explore(space, parent, Child(4, 8, 0), SEED)
