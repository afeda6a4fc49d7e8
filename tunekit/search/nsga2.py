"""NSGA-II as an Optuna sampler: for several objectives, and for one (Deb et al., 'A fast and elitist
multiobjective genetic algorithm: NSGA-II', IEEE Transactions on Evolutionary Computation 6, 2002).

Optuna keeps the generations, in the study, and chooses the parents: of a generation and its parents the best
fronts, and of the last of these that fits in part those in the emptiest places. How a child comes about is
ours, on genes in [0, 1] (each parameter in its own scale), as Optuna's own knows no logit:
  1. the first generation are starts around the defaults, as in the genetic sampler;
  2. two parents, each the better one of two drawn at random, if one is better in all objectives;
  3. each gene is one or the other's, and a few are moved: a normal step, or anywhere.

Trials that were stopped or failed belong to no generation. There is no state but the study, and a proposal's
randomness comes from (seed, trial number): a search that was cut goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunekit.search.genes import from_units, is_taken, reflect, to_units
from tunekit.search.genetic import TRIES, Policy, scatter
from tunekit.search.pareto import dominates
from tunekit.search.space import Space

# A generation. The paper has 100, which a search of 100 trainings would spend on its first; on synthetic
# objectives over space=scales, 100 trials bring as much with 6 to 10, and less with 16 or 24.
SIZE = 10
MOVED = 2.0  # genes of a child, on average
SIGMA = 0.15  # of a step
ANYWHERE = 0.2  # of the moved genes


class Nsga2Sampler(NSGAIISampler):
    """Proposes through `study.ask(fixed_distributions=space.distributions())`."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(population_size=SIZE, seed=seed)
        self._space, self._seed = space, seed

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space.distributions()

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        rng = np.random.default_rng((self._seed, trial.number))
        parents = self.get_parent_population(study, self.get_trial_generation(study, trial))
        others = [row.params for row in study.get_trials(deepcopy=False) if row.number != trial.number]
        taken = np.array([to_units(self._space, params) for params in others if params])
        prior = to_units(self._space, self._space.defaults())
        for _ in range(TRIES):
            genes = (
                self._child(study, parents, rng) if parents else scatter(self._space, prior, rng, Policy())
            )
            if not is_taken(genes, taken):
                break
        return from_units(self._space, genes)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Nobody was asked for the defaults, nor for what was added by hand: those join here."""
        self.get_trial_generation(study, trial)
        super().after_trial(study, trial, state, values)

    def _child(self, study: Study, parents: list[FrozenTrial], rng: np.random.Generator) -> np.ndarray:
        signs = [1.0 if way == StudyDirection.MAXIMIZE else -1.0 for way in study.directions]
        worth = np.array([parent.values for parent in parents]) * signs
        pool = np.array([to_units(self._space, parent.params) for parent in parents])
        return child(self._space, pool, worth, rng)


def child(space: Space, pool: np.ndarray, worth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(D,) genes of a child of two of the `pool` (N, D), whose `worth` is (N, M), larger better."""
    first, second = pool[_winner(worth, rng)], pool[_winner(worth, rng)]
    width = pool.shape[1]
    genes = np.where(rng.random(width) < 0.5, first, second)
    moved = rng.random(width) < MOVED / width
    moved[rng.integers(width)] = True
    choices = np.array([parameter.kind == "choice" for parameter in space.parameters])  # have no near and far
    anywhere = choices | (rng.random(width) < ANYWHERE)
    near = reflect(genes + rng.normal(0, SIGMA, width))
    genes = np.where(moved, np.where(anywhere, rng.random(width), near), genes)
    return to_units(space, from_units(space, genes))


def _winner(worth: np.ndarray, rng: np.random.Generator) -> int:
    """The better of two drawn at random; the first where neither is."""
    first, second = (int(place) for place in rng.integers(len(worth), size=2))
    return second if dominates(worth[second], worth[first]) else first
