"""Evolution that a model advises, as an Optuna sampler: a study's trials in, the next trial's parameters out.

The defaults are trial 0. Without results there is nothing to learn from: what trainings mostly hang on is
moved first (`opening.py`), and slots that are still free try what lies around these settings and the
defaults. From the fourth result on many candidates are bred of the best, and the one is tried that is
expected to gain most over the best known setting, as a Gaussian process sees it (`gaussian.py`). Each part is
there for what the others cannot do:
  - The opening asks about the learning rate and the strength of augmentation, which chance rarely moves
    without moving much else.
  - Evolution (`genetic.py`) proposes: children of the best stay near what is known to work, in 26 dimensions
    the only place where a model of a few dozen results can be trusted; around the best of the children it is
    looked for better, in steps small and large. Wrong defaults have no children once others are better.
  - The model chooses: it learns from every trial which genes matter, where one child of evolution in a
    hundred would have to be lucky. Stopped and running trials count as what their curves foretell, with the
    doubt that is left (`ends.py`).
  - What the best is, the model says, not the highest score: that one is also the luckiest. And so it is asked
    who may be a parent.
  - Trials in flight count as if they had come to what is expected of them, so that slots side by side try
    different things.
There is no state but the study; each proposal's randomness comes from (seed, trial number). Knows nothing of
Ray, of YOLO, or why a trial was stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial
from scipy.special import log_ndtr
from threadpoolctl import threadpool_limits

from tunekit.search import genetic
from tunekit.search.ends import ends
from tunekit.search.gaussian import GaussianProcess, Rows, fit
from tunekit.search.genes import from_units, is_taken, to_units, without_idle
from tunekit.search.genetic import History, Result, breed, scatter
from tunekit.search.opening import opening
from tunekit.search.space import Space
from tunekit.search.whole import WholeSampler

THINNED = 150  # rows to fit the model's lengths to, which takes most of the time


@dataclass(frozen=True)
class Policy:
    """The constants."""

    start: int = 4  # results before the model is asked
    opens: bool = True
    candidates: int = 128
    rounds: int = 4  # in which the best candidates' neighbours are looked at, too
    climbers: int = 8
    neighbours: int = 64  # a round
    rows: int = 400  # that the model knows at most: its cost grows with their third power


class AutoSampler(WholeSampler):
    """Proposes through `asking.ask`; maximises or minimises."""

    def __init__(self, space: Space, seed: int, policy: Policy | None = None) -> None:
        super().__init__(space, seed)
        self._policy = policy or Policy()
        self._choices = np.array([parameter.kind == "choice" for parameter in space.parameters])
        self._prior = to_units(space, space.defaults())
        self._opening = opening(space) if self._policy.opens else []
        self._history: History | None = None

    def propose(self, study: Study, number: int) -> dict[str, Any]:
        if self._history is None or self._history.study is not study:
            self._history = History(study, self._space)
        # Not on cores that train: a threaded product of small matrices waits there, ten times as long.
        with threadpool_limits(1):
            return from_units(self._space, self._proposal(study, number, self._history))

    def _proposal(self, study: Study, number: int, history: History) -> np.ndarray:
        taken = history.read(number)
        rng = np.random.default_rng((self._seed, number))
        candidates: Iterable[np.ndarray]
        if len(history.ranked) < self._policy.start or _all_alike(history.ranked):
            candidates = self._first(number, rng)
        else:
            model, ranked = self._learnt(study, number, history)
            candidates = self._best_first(model, ranked, rng)
        for genes in candidates:
            if not is_taken(genes, taken):
                break
        return genes  # a small space may be used up

    def _first(self, number: int, rng: np.random.Generator) -> Iterable[np.ndarray]:
        """Candidates where nothing is known."""
        if 1 <= number <= len(self._opening):
            yield self._opening[number - 1]
        centres = [self._prior, *self._opening]
        for _ in range(genetic.TRIES):
            yield scatter(self._space, centres[rng.integers(len(centres))], rng, genetic.Policy())

    def _learnt(self, study: Study, number: int, history: History) -> tuple[GaussianProcess, list[Result]]:
        """The model, and the results as it sees them: best first, each with its expected value."""
        running = history.running(number)
        results = _telling(history.ranked, self._policy.rows)
        trials = study.get_trials(deepcopy=False)
        known = [(trials[result.number], result.genes) for result in results]
        rows = self._rows([*known, *running], history.sign)
        model = GaussianProcess(rows, self._choices, fit(_thinned(rows), self._choices))
        expected, _ = model.whole(self._coded(np.stack([result.genes for result in results])))
        if running:
            model = model.with_pending(self._coded(np.stack([genes for _, genes in running])))
        seen = [replace(result, value=float(value)) for result, value in zip(results, expected, strict=True)]
        return model, sorted(seen, key=lambda result: -result.value)

    def _rows(self, known: Sequence[tuple[FrozenTrial, np.ndarray]], sign: float) -> Rows:
        values, doubt = ends([trial for trial, _ in known], sign)
        told = np.isfinite(values)
        levelled, unit = _levelled(values[told])
        genes = np.stack([genes for _, genes in known])
        return Rows(self._coded(genes[told]), levelled, doubt[told] / unit**2)

    def _coded(self, genes: np.ndarray) -> np.ndarray:
        """As the model takes them: of a choice the option's number."""
        coded = genes.copy()
        for gene in np.flatnonzero(self._choices):
            options = len(self._space.parameters[gene].choices)
            coded[:, gene] = np.minimum(genes[:, gene] * options, options - 1) // 1
        return coded

    def _best_first(
        self, model: GaussianProcess, ranked: Sequence[Result], rng: np.random.Generator
    ) -> np.ndarray:
        """(K, D) candidates, the most promising first."""
        policy = self._policy
        bred = [breed(self._space, ranked, rng, genetic.Policy()) for _ in range(policy.candidates)]
        genes = self._settled(bred)
        promise = self._promise(model, genes, ranked[0].value)
        for _ in range(policy.rounds):
            best = np.argsort(-promise)[: policy.climbers]
            near = self._settled([self._near(genes[rng.choice(best)], rng) for _ in range(policy.neighbours)])
            genes = np.concatenate([genes[best], near])
            promise = np.concatenate([promise[best], self._promise(model, near, ranked[0].value)])
        return genes[np.argsort(-promise)]

    def _near(self, genes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One gene moved or several, a little or far; to the very end of a range, too."""
        width = len(genes)
        chosen = rng.random(width) < math.exp(rng.uniform(-math.log(width), 0))
        chosen[rng.integers(width)] = True
        sigma = math.exp(rng.uniform(math.log(0.02), math.log(0.3)))
        moved = np.clip(genes + rng.normal(0, sigma, width), 0, 1)
        moved = np.where(self._choices, rng.random(width), moved)
        return np.where(chosen, moved, genes)

    def _settled(self, candidates: Sequence[np.ndarray]) -> np.ndarray:
        """(K, D) genes of values that exist, as far as the model could tell."""
        settled = np.stack(candidates)
        for gene, parameter in enumerate(self._space.parameters):
            if parameter.kind != "float":
                units = settled[:, gene].tolist()
                settled[:, gene] = [parameter.to_unit(parameter.from_unit(unit)) for unit in units]
        return np.stack([without_idle(self._space, genes) for genes in settled])

    def _promise(self, model: GaussianProcess, genes: np.ndarray, best: float) -> np.ndarray:
        """(K,) logarithms of the improvement over `best` that is expected of whole trainings."""
        return log_improvement(*model.whole(self._coded(genes)), best)


def log_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """log E[max(y - best, 0)] of normal y, also where that is next to nothing (Ament et al., arXiv
    2310.20708)."""
    z = (mean - best) / deviation
    log_density = -0.5 * np.square(z) - 0.5 * math.log(2 * math.pi)
    # E = density + z * distribution; far below, where the two cancel out, density / z².
    ratio = z * np.exp(np.minimum(log_ndtr(z) - log_density, 500.0))
    near = np.log(np.maximum(1 + ratio, 1e-300))
    far = -2 * np.log(np.maximum(-z, 1.0))
    return np.asarray(np.log(deviation) + log_density + np.where(z > -20, near, far))


def _all_alike(ranked: Sequence[Result]) -> bool:
    """Where nothing has learnt anything yet, a model would say: anywhere; the defaults are a better guess."""
    return all(result.value == ranked[0].value for result in ranked)


def _telling(ranked: Sequence[Result], most: int) -> list[Result]:
    """Where there are too many results, the best half of those that are taken and the latest."""
    best, others = ranked[: most // 2], ranked[most // 2 :]
    latest = sorted(others, key=lambda result: -result.number)[: most - len(best)]
    return [*best, *latest]


def _levelled(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Of mean 0 and deviation 1, the very bad ones drawn in: how bad they are tells nothing of the good. And
    what 1 stands for."""
    middle, top = np.median(values), values.max()
    values = np.maximum(values, middle - 2 * (top - middle))
    unit = max(float(values.std()), 1e-9)
    return (values - values.mean()) / unit, unit


def _thinned(rows: Rows) -> Rows:
    """At most THINNED rows to fit lengths to: every so many of them."""
    every = math.ceil(len(rows.values) / THINNED)
    return Rows(rows.genes[::every], rows.values[::every], rows.doubt[::every])
