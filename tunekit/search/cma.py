"""CMA-ES as an Optuna sampler: a study's trials in, the next trial's parameters out.

Covariance matrix adaptation (Hansen's tutorial, arXiv 1604.00772; its mathematics are the package `cmaes`)
draws from a normal distribution, which it moves and shapes after each so many results, by their ranks alone.
Here it searches genes in [0, 1], each parameter in its own scale, and begins at the defaults.

Its state is not stored: it is worked out anew for every proposal from the trials that have ended, a
population at a time, in the order of their numbers. Optuna's own CMA-ES pickles its state into a trial's
attributes, to be read when that trial is complete: a trial that is stopped or fails takes it along, and those
that are stopped, with asha most, teach it nothing. On the functions of benchmarks/search/boxes.py, 8 trials
at a time, with asha, its regret after 100 trials is 0.81 of the defaults', this one's 0.43 to 0.47. Here a
stopped trial ranks as for `genetic`: by the epoch it came to, then by its value there, below all complete
ones. Of trials side by side each is drawn from what was known when it began.

There is no normal distribution of choices: they are refused. Knows nothing of Ray, of YOLO, or why a trial
was stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from tunekit.errors import ArgumentError
from tunekit.search.genes import from_units, to_units
from tunekit.search.genetic import Result, place, result_of
from tunekit.search.space import Parameter, Space
from tunekit.search.whole import WholeSampler

# Of the first step, as a share of the range: the defaults are trusted, not much. On the benchmark above 0.1
# and 0.2 are much the same, and 0.3, with which most draws of 26 genes leave the space, is a third worse.
SIGMA = 0.15


class CmaSampler(WholeSampler):
    """Proposes through `asking.ask`; maximises or minimises."""

    def __init__(self, space: Space, seed: int) -> None:
        choices = [parameter.name for parameter in space.parameters if parameter.kind == "choice"]
        if choices:
            raise ArgumentError(
                f"sampler=cmaes searches numbers only, and the space {space.name} has choices: give "
                + " ".join(f"{name}=..." for name in choices)
                + " to the command, which fixes them, or use sampler=genetic, gp or tpe"
            )
        super().__init__(space, seed)

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        from cmaes import CMA

        prior = to_units(self._space, self._space.defaults())
        # One draw and no more: what lies outside is moved to the end. Many a default is at an end (mixup 0),
        # and 'off' should be tried, too; drawing until all genes are inside would take for ever.
        state = CMA(prior, SIGMA, np.array([[0.0, 1.0]] * len(prior)), n_max_resampling=1, seed=0)
        results = self._results(study)
        for first in range(0, len(results) - state.population_size + 1, state.population_size):
            ranked = sorted(results[first : first + state.population_size], key=place)
            state.tell([(result.genes, float(rank)) for rank, result in enumerate(ranked)])
        state.reseed_rng(int(np.random.SeedSequence((self._seed, number)).generate_state(1)[0]))
        return from_units(self._space, state.ask())

    def _results(self, study: Study) -> list[Result]:
        """Of what has ended, by number."""
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
        results = [result_of(trial, self._genes(trial), sign) for trial in ended]
        return [result for result in results if result is not None]

    def _genes(self, trial: FrozenTrial) -> np.ndarray:
        """(D,) in [0, 1]. A whole number stands for a part of [0, 1] and is told as some point of it: always
        its middle, and the distribution could become narrower than that part and never leave it."""
        genes = to_units(self._space, trial.params)
        anywhere = np.random.default_rng((self._seed, trial.number, 1)).random(len(genes))
        for gene, parameter in enumerate(self._space.parameters):
            if parameter.kind == "int":
                genes[gene] = _within(parameter, float(genes[gene]), float(anywhere[gene]))
        return genes


def _within(parameter: Parameter, gene: float, share: float) -> float:
    """A point of the part of [0, 1] that stands for the whole number at `gene`."""
    value = parameter.from_unit(gene)
    assert isinstance(value, int)
    below = parameter.to_unit(value - 1) if value > parameter.low else -gene
    above = parameter.to_unit(value + 1) if value < parameter.high else 2 - gene
    low, high = (gene + below) / 2, (gene + above) / 2
    return low + share * (high - low)
