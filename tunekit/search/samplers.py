"""Samplers by name: what chooses the next trial's parameters, as Optuna samplers.

A sampler's choice depends on (seed, the trial's number, the study's trials) and on nothing else, so a
resumed search neither repeats itself nor needs more than the study. To add one: a file, a line in
SAMPLERS, its word in `TuneArgs.sampler`, a test.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from tunekit.search.auto import AutoSampler
from tunekit.search.cma import CmaSampler
from tunekit.search.genes import from_units
from tunekit.search.genetic import GeneticSampler
from tunekit.search.gp import GaussianProcessSampler
from tunekit.search.grid import STEPS, GridSampler
from tunekit.search.nsga2 import Nsga2Sampler
from tunekit.search.priorband import PriorBandSampler
from tunekit.search.space import Space
from tunekit.search.whole import WholeSampler


def make_sampler(name: str, space: Space, seed: int, steps: int = STEPS) -> BaseSampler:
    """The sampler `name` (a key of SAMPLERS) for `space`; `steps` are a grid's.

    Raises ArgumentError where it cannot search such a space.
    """
    return GridSampler(space, seed, steps) if name == "grid" else SAMPLERS[name](space, seed)


class RandomSampler(WholeSampler):
    """Independent draws, even in each parameter's own scale (Optuna's has no logit)."""

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        rng = np.random.default_rng((self._seed, number))
        return from_units(self._space, rng.random(len(self._space.parameters)))


class SeededByTrial(BaseSampler):
    """An Optuna sampler made anew, with a seed of its own, for every trial.

    Optuna's samplers carry a running generator: after a resume it would start again at its seed and
    propose the first trials once more.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make = make
        self._seed = seed
        self._number: int | None = None

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            state = np.random.SeedSequence((self._seed, trial.number)).generate_state(1)
            self._sampler = self._make(int(state[0]))
            self._number = trial.number
        return self._sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._of(trial).after_trial(study, trial, state, values)


def _tpe(space: Space, seed: int) -> BaseSampler:
    """Tree-structured Parzen estimator over all parameters at once (multivariate), running trials taken as
    bad ones (constant liar): what Optuna 5 does by itself. Ten random trials come first: fewer leave its
    density of good trials (a tenth of them) without a second point. With conditions, those parameters at once
    that trials have together (group)."""

    def make(of_trial: int) -> BaseSampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of group
            return TPESampler(n_startup_trials=10, seed=of_trial, group=space.is_conditional)

    return SeededByTrial(make, seed)


SAMPLERS: dict[str, Callable[[Space, int], BaseSampler]] = {
    "auto": AutoSampler,
    "genetic": GeneticSampler,
    "tpe": _tpe,
    "cmaes": CmaSampler,
    "gp": GaussianProcessSampler,
    "priorband": PriorBandSampler,
    "nsga2": Nsga2Sampler,
    "random": RandomSampler,
    "grid": GridSampler,
}
