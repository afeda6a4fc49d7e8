"""What searchers are compared on (benchmarks/search): trainings that are made up, and what is counted."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunekit.search.samplers import make_sampler
from tunekit.search.space import Parameter, Space

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "search"))

from boxes import PROBLEMS, Box, FromScratch, Synthetic, Training
from compare import critical, mean_ranks, reached
from simulate import Story, Strategy, search
from strategies import STRATEGIES

RANDOM = Strategy(lambda space, seed: make_sampler("random", space, seed), lambda epochs: None)


@dataclass(frozen=True)
class Line(Box):
    """x is worth x, but with luck .5 is worth more; above .9 it fails in its second epoch of three."""

    epochs: int = 3

    @cached_property
    def space(self) -> Space:  # type: ignore[override]
        return Space("line", (Parameter(name="x", kind="float", low=0, high=1, prior=0.5),))

    def truth(self, params: dict[str, Any]) -> float:
        return float(params["x"])

    def train(self, params: dict[str, Any], seed: int) -> Training:
        whole = np.array([0.1, 0.2, params["x"] + 2 * (params["x"] == 0.5)])
        return Training(whole[:1] if params["x"] > 0.9 else whole, np.ones(3))


@pytest.mark.parametrize("box", [*(Synthetic(kind, 3) for kind in PROBLEMS), FromScratch(3)], ids=str)
def test_the_defaults_are_worth_what_is_said_and_seeds_differ_around_the_truth(box: Synthetic) -> None:
    defaults = box.space.defaults()
    assert box.truth(defaults) == pytest.approx(0.07 if isinstance(box, FromScratch) else 0.55, rel=0.01)
    ends = [box.train(defaults, seed).fitness[-1] for seed in range(100)]
    assert np.mean(ends) == pytest.approx(box.truth(defaults), rel=0.05)
    assert box.train(defaults, 1).fitness.tolist() == box.train(defaults, 1).fitness.tolist()
    assert np.std(ends) > 0.5 * box.noise * (1 if isinstance(box, Synthetic) else box.truth(defaults))
    assert len(box.train(defaults, 1).fitness) == len(box.train(defaults, 1).seconds) == box.epochs


def test_every_epoch_is_counted_also_of_trainings_that_fail() -> None:
    story = search(RANDOM, Line(), 1, 60, 0)
    spent = np.diff([0, *story.epochs])
    assert set(spent) == {2, 3}, "a failed one has its epoch and the one in which it failed"
    assert 57 < story.epochs[-1] <= 60
    assert story.seconds == story.epochs, "one after another, a second each"
    side_by_side = search(RANDOM, Line(), 4, 60, 0)
    assert side_by_side.seconds[-1] == pytest.approx(60 / 4, abs=3)


def test_the_highest_score_is_reported_by_its_truth() -> None:
    story = search(RANDOM, Line(), 1, 60, 0)
    assert set(story.truth) == {0.5}, "the defaults, which were lucky"
    assert story.at(np.array([1, 60])).tolist() == [0.5, 0.5]


def test_a_rule_stops_what_is_losing() -> None:
    spent = np.diff([0, *search(STRATEGIES["random + asha"], Synthetic("bowl", 0), 1, 360, 0).epochs])
    assert spent[0] == 12, "the first has nobody to lose to"
    assert (spent < 12).mean() > 0.5


def test_ranks_and_the_way_to_the_target() -> None:
    ahead, behind = np.array([[0.3, 0.6]] * 4), np.array([[0.3, 0.5]] * 4)
    assert mean_ranks({"a": ahead, "b": behind}).tolist() == [[1.5, 1.0], [1.5, 2.0]]
    # Demsar's table 5: q is 2.343 for three classifiers, 2.728 for five
    assert critical(3, 10) == pytest.approx(2.343 * math.sqrt(3 * 4 / 60), abs=2e-3)
    assert critical(5, 30) == pytest.approx(2.728 * math.sqrt(5 * 6 / 180), abs=2e-3)
    there = Story([12, 24, 36], [6, 18, 30], [0.7, 0.4, 0.6])
    assert reached([there], 0.5, 12) == ["3.0", "2.5"], "what is lost again does not count"
    assert reached([there], 0.3, 12) == ["1.0", "0.5"]
    assert reached([there], 0.65, 12) == ["not reached"] * 2
