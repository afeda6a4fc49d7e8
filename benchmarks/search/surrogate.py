"""Learning curves for settings that nobody trained, from those of the table: what to expect, and the noise.

A curve is written as what it comes to and a few shapes (principal components) of the way there. Each is
learnt from the settings by a Gaussian process whose lengths are the most probable ones given a weak prior.
Its paths are rough (Matern 3/2), those of auto's own model are smooth: no searcher shall be favoured for
thinking like the surrogate. A forest draws settings unlike those it knows to the middle, and so those that a
good search would find. Around what is expected lies the noise of seeds: whole residual curves of settings
that were trained several times, drawn at random among those of like fitness, because bad settings differ more
from seed to seed than good ones.

    python benchmarks/search/surrogate.py digits

prints how well it does on settings that it was not shown, and on searches of which it was not shown any.
"""

from __future__ import annotations

import argparse
import math
import pickle
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import common
import numpy as np
from boxes import Box, Training
from scipy.ndimage import median_filter
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sources import SEARCHES
from table import CPU, Table
from tasks import HERE, TASKS, plan_of

from tunekit.search.genes import to_units
from tunekit.search.space import Space

SHAPES = 4  # of ways to the end
LENGTH, LENGTH_SPREAD = 1.0, 1.5  # of the logarithms of lengths, where ranges are 1 long: the prior
ASKED = 700  # trainings are enough to tell the lengths, which takes their number to the third power
ALIKE = 12  # residual curves to draw from
FOLDS = 5
NEIGHBOURS = 21  # trainings at about the same time


@dataclass(frozen=True, eq=False)
class Curves:
    """Trainings: genes (N, D), fitness (N, E), seconds of an epoch against others at that time (N,), number
    of the setting (N,), who asked for it (N,)."""

    genes: np.ndarray
    fitness: np.ndarray
    seconds: np.ndarray
    settings: np.ndarray
    sources: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Curves:
        return Curves(*(getattr(self, field.name)[chosen] for field in fields(self)))


def curves_of(table: Table, epochs: int) -> Curves:
    """Those of trainings that came to their end; the best epoch so far counts, as for a search."""
    rows = [row for row in table.rows if row["failed"] is None]
    genes = np.array([to_units(table.space, table.params(row)) for row in rows])
    fitness = np.maximum.accumulate(np.array([row["fitness"] for row in rows]), axis=1)
    assert fitness.shape[1] == epochs
    seconds = np.array([np.median(row[CPU]) for row in rows])
    seconds /= median_filter(seconds, NEIGHBOURS, mode="nearest")  # the machine was not always alone
    _, settings = np.unique(genes, axis=0, return_inverse=True)  # several sources begin with the defaults
    return Curves(genes, fitness, seconds, settings, np.array([row["source"] for row in rows]))


class Surrogate:
    """Fitted to `known`."""

    def __init__(self, known: Curves) -> None:
        self._mean = known.fitness.mean(axis=0)
        apart = known.fitness - self._mean
        end = apart[:, -1]
        self._way = end @ apart / (end @ end)  # (E,): of what is gained in the end, how much is seen by then
        rest = apart - np.outer(end, self._way)
        self._shapes = np.linalg.svd(rest, full_matrices=False)[2][:SHAPES]  # nothing at the end
        self._models = [_process(known.genes, share) for share in (end, *(self._shapes @ rest.T))]
        self._cost = ExtraTreesRegressor(100, min_samples_leaf=5, random_state=0).fit(
            known.genes, known.seconds
        )
        self._known = known

    def expected(self, genes: np.ndarray) -> np.ndarray:
        """(M, E) fitness, the mean over seeds, of settings (M, D)."""
        end, *shares = [model.predict(genes) for model in self._models]
        curves = self._mean + np.outer(end, self._way) + np.stack(shares, axis=1) @ self._shapes
        return np.maximum.accumulate(np.clip(curves, 0, 1), axis=1)

    def seconds(self, genes: np.ndarray) -> np.ndarray:
        """(M,) of an epoch."""
        return _predicted(self._cost, genes)

    def drawn(self, genes: np.ndarray, rng: np.random.Generator, noise: float = 1.0) -> np.ndarray:
        """(E,) fitness of one training with genes (D,), with `noise` times the noise that there is."""
        curve, (residuals, at) = self.expected(genes[None])[0], self._noise
        alike = np.argsort(np.abs(at - curve[-1]))[:ALIKE]
        return np.clip(curve + noise * residuals[rng.choice(alike)], 0, 1)

    @cached_property
    def _noise(self) -> tuple[np.ndarray, np.ndarray]:
        """(K, E) residual curves, and the fitness (K,) that is expected of their settings."""
        residuals = _residuals(self._known)
        return residuals.fitness, self.expected(residuals.genes)[:, -1]


def _predicted(forest: ExtraTreesRegressor, genes: np.ndarray) -> np.ndarray:
    """As `forest.predict`, which takes ten times as long for a single setting."""
    told = [tree.tree_.predict(genes.astype(np.float32)) for tree in forest.estimators_]
    return np.asarray(np.mean(told, axis=0))[..., 0]


def _process(genes: np.ndarray, values: np.ndarray) -> GaussianProcessRegressor:
    matern = Matern([math.exp(LENGTH)] * genes.shape[1], (0.05, 200.0), nu=1.5)
    kernel = ConstantKernel(1.0, (1e-2, 1e3)) * matern + WhiteKernel(0.1, (1e-4, 2.0))
    model = GaussianProcessRegressor(kernel, optimizer=_most_probable, normalize_y=True)
    some = np.random.default_rng(0).permutation(len(genes))[:ASKED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of lengths at a bound
        model.fit(genes[some], values[some])
    return GaussianProcessRegressor(model.kernel_, optimizer=None, normalize_y=True).fit(genes, values)


def _most_probable(
    objective: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, bounds: np.ndarray
) -> tuple[np.ndarray, float]:
    """Of the logarithms of the variance, the lengths and the noise."""

    def with_prior(place: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = objective(place)
        apart = (place[1:-1] - LENGTH) / LENGTH_SPREAD
        slope[1:-1] += apart / LENGTH_SPREAD
        return value + np.square(apart).sum() / 2, slope

    found = minimize(with_prior, start, jac=True, bounds=bounds, options={"maxiter": 60})
    return found.x, found.fun


def _residuals(known: Curves) -> Curves:
    """How trainings of one setting differ from their mean, as much as single ones do from the truth."""
    found = []
    for setting in np.unique(known.settings):
        same = known[known.settings == setting]
        if len(same.genes) > 1:
            wider = np.sqrt(len(same.genes) / (len(same.genes) - 1))
            apart = (same.fitness - same.fitness.mean(axis=0)) * wider
            found.append(replace(same, fitness=apart))
    return Curves(*(np.concatenate([getattr(one, field.name) for one in found]) for field in fields(Curves)))


HOW = ("", "misled", "noisy", "failing")


@dataclass(frozen=True, eq=False)
class Learnt(Box):
    """Trainings of `task` as the surrogate has them. `how`: misled, a search begins at settings that are far
    worse than the defaults; noisy, with three times the noise; failing, one in five ends in a failure."""

    task: str
    how: str = ""

    @property
    def epochs(self) -> int:  # type: ignore[override]
        return TASKS[self.task].epochs

    @cached_property
    def space(self) -> Space:  # type: ignore[override]
        space = plan_of(self.task).space
        return misleading(space) if self.how == "misled" else space

    @cached_property
    def _surrogate(self) -> Surrogate:
        return surrogate_of(self.task)

    def truth(self, params: dict[str, Any]) -> float:
        return float(self._surrogate.expected(to_units(self.space, params)[None])[0, -1])

    def train(self, params: dict[str, Any], seed: int) -> Training:
        genes, rng = to_units(self.space, params), np.random.default_rng(seed)
        fitness = self._surrogate.drawn(genes, rng, noise=3.0 if self.how == "noisy" else 1.0)
        seconds = np.full(self.epochs, self._surrogate.seconds(genes[None])[0])
        if self.how == "failing" and rng.random() < 0.2:
            fitness = fitness[: rng.integers(self.epochs)]
        return Training(fitness, seconds)


def misleading(space: Space) -> Space:
    """Priors on the other side of every range's middle."""
    priors = {p.name: p.from_unit(1 - p.to_unit(p.prior)) for p in space.parameters if p.kind != "choice"}
    return space.with_priors(priors)


@cache
def surrogate_of(task: str) -> Surrogate:
    """Fitting takes minutes, so the fitted one is kept beside the table until that changes."""
    source = HERE / "data" / f"{task}.parquet"
    kept = HERE / "data" / f"{task}.surrogate"
    if not kept.exists() or kept.stat().st_mtime < source.stat().st_mtime:
        table = Table(source, plan_of(task).space)
        kept.write_bytes(pickle.dumps(Surrogate(curves_of(table, TASKS[task].epochs))))
    return cast(Surrogate, pickle.loads(kept.read_bytes()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    task, began = parser.parse_args().task, common.machine()
    known = curves_of(Table(HERE / "data" / f"{task}.parquet", plan_of(task).space), TASKS[task].epochs)
    told = held_out(known)
    good = known.fitness[:, -1] >= np.quantile(known.fitness[:, -1], 0.8)
    rows = []
    for epoch in range(known.fitness.shape[1]):
        truth, guess = known.fitness[:, epoch], told[:, epoch]
        left = np.square(truth - guess).sum() / np.square(truth - truth.mean()).sum()
        ranks = [spearmanr(truth[chosen], guess[chosen])[0] for chosen in (slice(None), good)]
        final = spearmanr(truth[good], known.fitness[good, -1])[0]
        error = float(np.abs(truth - guess).mean())
        rows.append([epoch + 1, 1 - left, float(ranks[0]), float(ranks[1]), error, float(final)])
    header = [
        "epoch",
        "R²",
        "rank correlation",
        "in the best fifth",
        "mean error",
        "best fifth: with the end",
    ]
    count = len(np.unique(known.settings))
    text = [f"{len(known.genes)} trainings of {count} settings, {FOLDS} folds by setting", ""]
    text += [*common.table(header, rows), "", "Without what a kind of search trained, what that came to:", ""]
    text += common.table(
        ["search", "trainings", "R²", "rank correlation", "above what is expected"], by_search(known)
    )
    common.report(f"Surrogate of {task}", began, text, Path("runs/bench/surrogate"))


def held_out(known: Curves) -> np.ndarray:
    """(N, E) what is expected of each training by a surrogate that knows nothing of its setting."""
    fold = np.random.default_rng(0).permutation(known.settings.max() + 1) % FOLDS
    told = np.empty_like(known.fitness)
    for number in range(FOLDS):
        hidden = fold[known.settings] == number
        told[hidden] = Surrogate(known[~hidden]).expected(known.genes[hidden])
    return told


def by_search(known: Curves) -> list[list[Any]]:
    """How well settings are known that a new kind of search would go to, where nobody has been."""
    rows: list[list[Any]] = []
    for name in dict.fromkeys(name for name, *_ in SEARCHES):
        asked = np.char.startswith(known.sources, f"{name}-")
        hidden = np.isin(known.settings, known.settings[asked])
        truth = known.fitness[hidden, -1]
        guess = Surrogate(known[~hidden]).expected(known.genes[hidden])[:, -1]
        left = np.square(truth - guess).sum() / np.square(truth - truth.mean()).sum()
        rank = float(spearmanr(truth, guess)[0])
        rows.append([name, int(hidden.sum()), 1 - left, rank, float((truth - guess).mean())])
    return rows


if __name__ == "__main__":
    main()
