"""Gaussian processes as an Optuna sampler: a study's trials in, the next trial's parameters out.

Optuna's GPSampler (a Matern kernel, expected improvement, trials in flight accounted for), but over a study
of our making, written anew for every proposal:
  - of genes in [0, 1], each parameter in its own scale: Optuna knows no logit;
  - with the stopped trials in it, which Optuna's leaves out, with asha most of all;
  - with normal scores for values: the quantiles of a normal distribution at the trials' ranks, complete ones
    above stopped ones, those by the epoch they came to. Values of different epochs do not compare, and one
    trial that learnt nothing would otherwise flatten the differences between the good ones.
So there is no state but the study, and a resumed search goes on as it would have. The first `START` results
are of random trials, which a process needs to tell directions apart.

Knows nothing of Ray, of YOLO, or why a trial was
stopped.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from threadpoolctl import threadpool_limits

from tunekit.search.genes import to_units
from tunekit.search.genetic import place, result_of
from tunekit.search.space import Space, Value
from tunekit.search.whole import WholeSampler

START = 10


class GaussianProcessSampler(WholeSampler):
    """Proposes through `asking.ask`; maximises or minimises."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        self._distributions: dict[str, BaseDistribution] = {
            parameter.name: CategoricalDistribution(parameter.choices)
            if parameter.kind == "choice"
            else FloatDistribution(0.0, 1.0)
            for parameter in space.parameters
        }

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        seed = int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0])
        sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=START)
        ours = optuna.create_study(direction="maximize", sampler=sampler)
        ours.add_trials(self._known(study, number))
        # Not on cores that train: a threaded product of small matrices waits there, ten times as long.
        with threadpool_limits(1):
            return self._params(ours.ask(self._distributions).params)

    def _known(self, study: Study, number: int) -> list[FrozenTrial]:
        """All that has ended with a result, and what runs beside `number`."""
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        trials = study.get_trials(deepcopy=False)
        results = [result_of(trial, to_units(self._space, trial.params), sign) for trial in trials]
        ranked = sorted((result for result in results if result is not None), key=place, reverse=True)
        known = [
            create_trial(
                params=self._genes(trials[result.number].params),
                distributions=self._distributions,
                value=NormalDist().inv_cdf((rank + 0.5) / len(ranked)),
            )
            for rank, result in enumerate(ranked)
        ]
        return known + [
            create_trial(
                params=self._genes(trial.params),
                distributions=self._distributions,
                state=TrialState.RUNNING,
            )
            for trial in trials
            if trial.state == TrialState.RUNNING and trial.number != number and trial.params
        ]

    def _genes(self, params: dict[str, Value]) -> dict[str, Value]:
        """Choices stay what they are: the kernel has a place for them."""
        genes = to_units(self._space, params)
        return {
            parameter.name: parameter.from_unit(float(gene)) if parameter.kind == "choice" else float(gene)
            for parameter, gene in zip(self._space.parameters, genes, strict=True)
        }

    def _params(self, genes: dict[str, Any]) -> dict[str, Value]:
        return {
            parameter.name: genes[parameter.name]
            if parameter.kind == "choice"
            else parameter.from_unit(genes[parameter.name])
            for parameter in self._space.parameters
        }
