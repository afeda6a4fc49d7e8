"""Evolution as an Optuna sampler: a study's trials in, the next trial's parameters out.

Steady state and asynchronous: every proposal is bred from whatever has finished by then, so any number of
trials may be in flight and none waits for a generation. There is no state but the study (of which what has
ended is read once), and each proposal's randomness comes from (seed, trial number): the same history gives
the same proposal, after a resume too.

One proposal, on genes in [0, 1] (each parameter in its own scale):
  1. a parent out of the best few, better ones more often (`place`, `weights`), or, to average out the
     noise in their scores, the best few's mean (the recombination of evolution strategies: Beyer,
     'genetic repair'; Hansen's CMA-ES, arXiv 1604.00772);
  2. a random subset of genes (`mask`): with 26 genes and 100 trials, a few changes at a time can be
     told from noise (NePS and PriorBand mutate likewise, arXiv 2306.12370);
  3. a normal step, annealed, with the shrunken covariance of the elites once there are enough of
     them (`shrunken_covariance`); now and then a uniform draw instead, so nothing is out of reach;
  4. reflection at the ends of the range; no near-duplicates, of running trials neither (`is_taken`).

A stopped trial ranks by the rung it came to, then by its value there: below all complete ones. Failed
trials are not parents, only not repeated. Knows nothing of Ray, of YOLO, or why a trial was stopped.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tunekit.search.genes import from_units, is_taken, reflect, to_units, without_idle
from tunekit.search.space import Parameter, Space, Value
from tunekit.search.whole import WholeSampler

TRIES = 20  # to find a proposal that is not taken


@dataclass(frozen=True)
class Policy:
    """The constants. Chosen on the synthetic functions of benchmarks/search/boxes.py, seeds 1000 to 1015 or
    1023, near the best of two or three values each (`start`: seeds 2000 to 2023). Of most the exact value
    matters little: within the noise of the benchmark."""

    start: int = 3  # results before breeding; with 8, regret after 12 trials is 6% higher, after 100 the same
    start_sigma: float = 0.25  # a quarter of the range: the defaults are trusted, not much
    start_uniform: float = 0.15  # of the starts go anywhere, so that a bad prior is found out
    parents: int = 9  # with 15 regret is a tenth higher: it then averages over mediocre ones
    mean: float = 0.7  # of the children have the best's mean as parent; with none regret is a tenth higher
    sigma: tuple[float, float] = (0.2, 0.1)  # of a step, at first and at last; 0.25 to 0.13 is much the same
    mask: tuple[float, float] = (0.5, 0.3)  # of the genes change; down to 0.1 is worse at 100 trials
    halflife: float = 30.0  # results; about one a gene
    uniform: float = 0.1  # of the children are moved anywhere: insurance, and costs little
    # Of changed genes, go back to the prior: the way back to 'off', exactly 0. None at all is 5% better on
    # the benchmark, whose optima seldom lie on the prior; augmentations that are off by default often do.
    reset: float = 0.05
    covariance_from: int = 24  # results: fewer do not tell correlation from chance
    covariance: float = 0.7  # of the elites' spread, below 1 so that it shrinks
    elites: float = 0.2  # of the results, at least `parents`
    most_elites: int = 30


@dataclass(frozen=True, eq=False)
class Result:
    """A trial to learn from."""

    number: int
    genes: np.ndarray  # (D,) in [0, 1]
    rung: float  # the epoch it came to; infinite when complete
    value: float  # larger is better


class GeneticSampler(WholeSampler):
    """Proposes through `asking.ask`; maximises or minimises."""

    def __init__(self, space: Space, seed: int, policy: Policy | None = None) -> None:
        super().__init__(space, seed)
        self._policy = policy or Policy()
        self._history: History | None = None

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        if self._history is None or self._history.study is not study:
            self._history = History(study, self._space)
        taken = self._history.read(number)
        rng = np.random.default_rng((self._seed, number))
        return from_units(self._space, propose(self._space, self._history.ranked, taken, rng, self._policy))


class History:
    """A study as a sampler sees it. There may be thousands of trials, so each is read until it has ended,
    when it cannot change any more, and then no more. `ranked`: what has been learnt, best first. `sign`: -1
    where less is better."""

    def __init__(self, study: Study, space: Space) -> None:
        self.study, self._space = study, space
        self.sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        self.ranked: list[Result] = []
        self._ended = np.empty((0, len(space.parameters)))  # genes
        self._open: dict[int, tuple[dict[str, Value], np.ndarray]] = {}  # parameters and genes, by number
        self._seen = 0  # trials

    def read(self, number: int) -> np.ndarray:
        """(N, D) genes of all trials but `number`, running ones too."""
        trials = self.study.get_trials(deepcopy=False)
        ended = []
        for trial in [*map(trials.__getitem__, self._open), *trials[self._seen :]]:
            genes = self._genes(trial)
            if trial.state.is_finished():
                del self._open[trial.number]
                ended.append(genes)
                if (result := result_of(trial, genes, self.sign)) is not None:
                    insort(self.ranked, result, key=place)
        self._seen = len(trials)
        self._ended = np.concatenate([self._ended, np.array(ended)]) if ended else self._ended
        others = [genes for other, (_, genes) in self._open.items() if other != number]
        return np.concatenate([self._ended, np.array(others)]) if others else self._ended

    def running(self, number: int) -> list[tuple[FrozenTrial, np.ndarray]]:
        """Trials beside `number` that run, with their genes (D,), as of the last read."""
        trials = self.study.get_trials(deepcopy=False)
        others = [(trials[other], genes) for other, (params, genes) in self._open.items() if params]
        return [(trial, genes) for trial, genes in others if trial.number != number]

    def _genes(self, trial: FrozenTrial) -> np.ndarray:
        """(D,) in [0, 1]; a trial that waits gets its parameters when it begins."""
        known = self._open.get(trial.number)
        if known is None or known[0] != trial.params:
            params = dict(trial.params)  # a copy: a storage in memory changes its own
            known = self._open[trial.number] = (params, to_units(self._space, params))
        return known[1]


def result_of(trial: FrozenTrial, genes: np.ndarray, sign: float) -> Result | None:
    """What a trial teaches; None for failed and unfinished ones. `sign` is -1 where less is better."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return Result(trial.number, genes, math.inf, sign * trial.value)
    if trial.state == TrialState.PRUNED:
        curve = {step: sign * v for step, v in trial.intermediate_values.items() if math.isfinite(v)}
        if curve:
            return Result(trial.number, genes, max(curve), max(curve.values()))
    return None


def propose(
    space: Space, ranked: Sequence[Result], taken: np.ndarray, rng: np.random.Generator, policy: Policy
) -> np.ndarray:
    """(D,) genes of the next trial, given what is known, best first, and the genes `taken` (N, D) so far."""
    prior = to_units(space, space.defaults())
    genes = scatter(space, prior, rng, policy)
    for _ in range(TRIES):
        if len(ranked) >= policy.start:
            genes = breed(space, ranked, rng, policy)
        if not is_taken(genes, taken):
            return genes
        genes = scatter(space, prior, rng, policy)
    return genes  # a small space may be used up


def place(result: Result) -> tuple[float, float, int]:
    """What sorts the best first: by the rung reached, then the value there; the earlier one of equals."""
    return -result.rung, -result.value, result.number


def weights(count: int) -> np.ndarray:
    """(count,) shares of 1 for ranks 1..count, log(count+1) - log(rank) as in CMA-ES: by rank and not by
    fitness, because values of different rungs do not compare and one lucky score must not take all."""
    raw = math.log(count + 1) - np.log(np.arange(1, count + 1))
    return np.asarray(raw / raw.sum())


def annealed(ends: tuple[float, float], count: int, halflife: float) -> float:
    """From ends[0] with no results to ends[1] with many, half of the way every `halflife` results."""
    return float(ends[1] + (ends[0] - ends[1]) * 0.5 ** (count / halflife))


def shrunken_covariance(elites: np.ndarray) -> np.ndarray:
    """(D, D) covariance of the elites' genes (M, D), best first, weighted by rank.

    Fewer elites than genes leave most directions empty, so it is drawn to its own diagonal (as Ledoit and
    Wolf do), by the share that the counts suggest.
    """
    count, width = elites.shape
    share = weights(count)
    centred = elites - share @ elites
    raw = (centred * share[:, None]).T @ centred
    shrink = width / (width + count)
    return np.asarray((1 - shrink) * raw + shrink * np.diag(np.diag(raw)))


def scatter(space: Space, centre: np.ndarray, rng: np.random.Generator, policy: Policy) -> np.ndarray:
    """A start: some genes of `centre` (D,), the defaults or others, moved; now and then anywhere."""
    chosen = _mask(len(centre), policy.mask[0], rng)
    anywhere = rng.random() < policy.start_uniform
    moved = rng.random(len(centre)) if anywhere else reflect(rng.normal(centre, policy.start_sigma))
    for gene in _choices(space):
        moved[gene] = rng.random()
    return _settle(space, np.where(chosen, moved, centre), centre, chosen)


def breed(space: Space, ranked: Sequence[Result], rng: np.random.Generator, policy: Policy) -> np.ndarray:
    """A child of the best."""
    best = ranked[: policy.parents]
    share = weights(len(best))
    pool = np.stack([result.genes for result in best])
    parent = pool[rng.choice(len(best), p=share)]
    if rng.random() < policy.mean:
        mean = share @ pool
        for gene in _choices(space):  # which have no mean
            mean[gene] = parent[gene]
        parent = to_units(space, from_units(space, mean))
    chosen = _mask(len(parent), annealed(policy.mask, len(ranked), policy.halflife), rng)
    moved = _moved(space, parent, ranked, rng, policy)
    for gene, parameter in _choices(space).items():
        moved[gene] = _drawn_choice(parameter, pool[:, gene], share, rng)
    return _settle(space, np.where(chosen, moved, parent), parent, chosen)


def _moved(
    space: Space, parent: np.ndarray, ranked: Sequence[Result], rng: np.random.Generator, policy: Policy
) -> np.ndarray:
    """All genes of `parent` after one step."""
    count, width = len(ranked), len(parent)
    if rng.random() < policy.uniform:
        return rng.random(width)
    sigma = annealed(policy.sigma, count, policy.halflife)
    step = rng.normal(0, sigma, width)
    if count >= policy.covariance_from:
        number = min(max(math.ceil(policy.elites * count), policy.parents), policy.most_elites)
        covariance = shrunken_covariance(np.stack([result.genes for result in ranked[:number]]))
        # sigma keeps those genes moving on which all elites agree.
        covariance = policy.covariance**2 * covariance + sigma**2 * np.eye(width)
        step = rng.multivariate_normal(np.zeros(width), covariance, method="cholesky")
    moved = reflect(parent + step)
    prior = to_units(space, space.defaults())
    return np.where(rng.random(width) < policy.reset, prior, moved)


def _mask(width: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """(D,) bool: which genes change; at least one."""
    chosen = rng.random(width) < probability
    chosen[rng.integers(width)] = True
    return chosen


def _choices(space: Space) -> dict[int, Parameter]:
    return {gene: p for gene, p in enumerate(space.parameters) if p.kind == "choice"}


def _drawn_choice(
    parameter: Parameter, pool: np.ndarray, share: np.ndarray, rng: np.random.Generator
) -> float:
    """A choice's gene: half of the time as often as the best have it, else any, lest one that had bad luck
    at the start never comes back."""
    options = len(parameter.choices)
    frequency = np.bincount((pool * options).astype(int), weights=share, minlength=options)
    return float((rng.choice(options, p=0.5 * frequency + 0.5 / options) + 0.5) / options)


def _settle(space: Space, genes: np.ndarray, parent: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Genes of values that exist; a whole number that was to change moves by one at the least."""
    settled = genes.copy()
    for gene, parameter in enumerate(space.parameters):
        if not chosen[gene]:
            continue
        value = parameter.from_unit(float(genes[gene]))
        old = parameter.from_unit(float(parent[gene]))
        if parameter.kind == "int" and value == old:
            step = 1 if genes[gene] > parent[gene] else -1
            inside = parameter.low <= int(old) + step <= parameter.high
            value = int(old) + (step if inside else -step)
        settled[gene] = parameter.to_unit(value)
    return without_idle(space, settled)
