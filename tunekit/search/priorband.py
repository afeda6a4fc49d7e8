"""PriorBand's sampling as an Optuna sampler: a study's trials in, the next trial's parameters out.

Mallik et al., arXiv 2306.12370. A proposal is drawn from one of three distributions:
  - the prior: every gene around the default, normally and cut off at the ends of the range;
  - uniform: anything in the space, insurance against a prior that is wrong;
  - the incumbent: the best trial so far, with every other gene moved as the prior would be, around it.
Uniform draws have 1 / (1 + eta^r) of the chance: less at a rung `r` to which it is dear to train. Prior and
incumbent share the rest by how well each explains the best 1/eta of the trials at the highest rung that eta
of them have come to, the better ones weighing more. Before a training was whole there is no incumbent.

In the paper r is the first rung of the Hyperband bracket that is being filled. Here trials are promoted
asynchronously, by whatever `scheduler=` is, of which a sampler knows nothing. So each trial has the bracket
that it has with scheduler=hyperband, by its number alone, and r is that bracket's first rung: exactly as in
the paper there, where rungs and reduction are the usual ones; elsewhere the same mixture, a third uniform
draws. That is less than the paper has with asha (a half, as all begin at rung 0), and more than is good where
nothing is stopped.

The paper compares densities of all parameters together. Those of 26 are so far apart that one side would get
everything, so the densities here are a gene's, the geometric mean of all.

There is no state but the study; each proposal's randomness comes from (seed, trial number). Knows nothing of
Ray, of YOLO, or why a trial was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
from optuna.study import Study
from scipy.special import ndtr, ndtri

from tunekit.search.genes import from_units, is_taken, to_units
from tunekit.search.genetic import TRIES, History, Result
from tunekit.search.hyperband import assignment, sizes
from tunekit.search.space import Space
from tunekit.search.whole import WholeSampler

ETA = 3  # the usual reduction
RUNGS = 2  # that are usual, below the last epoch (asha.default_grace)
SIGMA = 0.25  # of a gene, around the default or the incumbent
MUTATED = 0.5  # of the incumbent's genes
FAVOURED = 0.5  # of a choice's chance is its centre's own, the rest is everyone's


class PriorBandSampler(WholeSampler):
    """Maximises or minimises."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        self._prior = to_units(space, space.defaults())
        self._options = np.array([len(parameter.choices) for parameter in space.parameters])  # 0: a range
        self._history: History | None = None

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        if self._history is None or self._history.study is not study:
            self._history = History(study, self._space)
        taken, ranked = self._history.read(number), self._history.ranked
        rng = np.random.default_rng((self._seed, number))
        uniform = uniform_share(number)
        incumbent = (1 - uniform) * self._incumbent_share(ranked)
        for _ in range(TRIES):
            genes = self._drawn(ranked, uniform, incumbent, rng)
            if not is_taken(genes, taken):
                break
        return from_units(self._space, genes)  # a small space may be used up

    def _incumbent_share(self, ranked: Sequence[Result]) -> float:
        """Of what is not uniform."""
        if len(ranked) < ETA or ranked[0].rung < math.inf:
            return 0.0
        rung = ranked[ETA - 1].rung  # the highest that ETA have come to: those there are the first of all
        there = sum(result.rung >= rung for result in ranked)
        best = ranked[: math.ceil(there / ETA)]
        weights = np.arange(len(best), 0, -1)
        incumbent, prior = (
            float(weights @ [self._density(result.genes, centre) for result in best])
            for centre in (ranked[0].genes, self._prior)
        )
        return incumbent / (incumbent + prior)

    def _density(self, genes: np.ndarray, centre: np.ndarray) -> float:
        """The geometric mean over genes (D,) of what `_around` would draw around `centre` (D,)."""
        inside = ndtr((1 - centre) / SIGMA) - ndtr(-centre / SIGMA)
        normal = np.exp(-0.5 * ((genes - centre) / SIGMA) ** 2) / (SIGMA * math.sqrt(2 * math.pi) * inside)
        # Times the options, so that 1 stands for an even chance here, too.
        choice = FAVOURED * self._options * (np.abs(genes - centre) < 1e-6) + (1 - FAVOURED)
        return float(np.exp(np.log(np.where(self._options > 0, choice, normal)).mean()))

    def _drawn(
        self, ranked: Sequence[Result], uniform: float, incumbent: float, rng: np.random.Generator
    ) -> np.ndarray:
        """(D,) genes of values that exist."""
        lot, width = rng.random(), len(self._prior)
        if lot < uniform:
            genes = rng.random(width)
        elif lot < uniform + incumbent:
            best = ranked[0].genes
            genes = np.where(rng.random(width) < MUTATED, self._around(best, rng), best)
        else:
            genes = self._around(self._prior, rng)
        return to_units(self._space, from_units(self._space, genes))

    def _around(self, centre: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(D,) genes: normal around `centre`, cut off at the ends; of a choice more often its own."""
        low, high = ndtr(-centre / SIGMA), ndtr((1 - centre) / SIGMA)
        moved = np.clip(centre + SIGMA * ndtri(rng.uniform(low, high)), 0, 1)
        chosen = np.where(rng.random(len(centre)) < FAVOURED, centre, rng.random(len(centre)))
        return np.where(self._options > 0, chosen, moved)


def uniform_share(number: int) -> float:
    """The chance that trial `number` is drawn from anywhere."""
    bracket = next(islice(assignment(sizes(RUNGS, ETA)), number, None))
    return 1 / (1 + ETA ** (RUNGS - bracket))  # bracket s begins at the last but s of the rungs
