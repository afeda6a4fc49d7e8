"""A Gaussian process over settings and epochs: rows of learning curves in, beliefs about whole trainings out.

A score y of a training with genes x (D,), after the share t of its epochs (1: all), is taken to be

    y = c0 + c1 (1 - t)  +  (1 + r (1 - t)) g(x)  +  (1 - t) h(x)  +  luck of the training  +  noise

with g what a whole training comes to, which is all that is asked about, r how much less (or more) of it
there is to see before the end, and h what there is to see then and will be gone. g and h are Gaussian
processes with one Matern-5/2 kernel with a length a gene; the luck is the seed's, the same in all rows of a
training, so that many rows of it do not pass for evidence (a linear basis over fidelity as in FABOLAS, arXiv
1605.07079). Lengths and variances are those most probable given the rows and priors. Pure: knows no study.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

SQRT5 = math.sqrt(5.0)
JITTER = 1e-8
STEPS = 60  # of the search for the most probable lengths


@dataclass(frozen=True, eq=False)
class Rows:
    """What is known, a row an observation. `values` are of mean about 0 and deviation about 1."""

    genes: np.ndarray  # (N, D) in [0, 1]; of a choice the number of the option, from 0
    progress: np.ndarray  # (N,) share of the epochs, in (0, 1]
    trainings: np.ndarray  # (N,) which training it is of
    values: np.ndarray  # (N,)


@dataclass(frozen=True)
class Lengths:
    """The logarithms of what is fitted."""

    weights: np.ndarray  # (D,) of the squared differences of genes: 1 / length²
    final: float  # variance of g
    early: float  # of h
    luck: float
    noise: float
    tilt: float  # r itself


class GaussianProcess:
    """What `rows` tell, with `lengths` as they are or, where left out, fitted. `choices`: (D,) bool, genes of
    which only 'the same or another' counts."""

    def __init__(self, rows: Rows, choices: np.ndarray, lengths: Lengths | None = None) -> None:
        self._rows, self._choices = rows, choices
        self.lengths = lengths or fit(rows, choices)
        covariance = _covariance(rows, _squares(rows.genes, rows.genes, choices), self.lengths)[0]
        self._lower = cholesky(covariance, lower=True)
        self._solved = cho_solve((self._lower, True), rows.values)

    def whole(self, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M,) mean and (M,) deviation of what whole trainings with `genes` (M, D) come to, luck apart."""
        cross = self._cross(genes)
        mean = cross @ self._solved
        half = solve_triangular(self._lower, cross.T, lower=True)
        variance = math.exp(self.lengths.final) + 1.0 - np.square(half).sum(axis=0)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def _cross(self, genes: np.ndarray) -> np.ndarray:
        """(M, N) covariances of whole trainings with the rows."""
        squares = _squares(genes, self._rows.genes, self._choices)
        kernel, _ = _matern(np.tensordot(np.exp(self.lengths.weights), squares, 1))
        tilt = 1 + self.lengths.tilt * (1 - self._rows.progress)
        return np.asarray(math.exp(self.lengths.final) * kernel * tilt + 1.0)

    def with_pending(self, genes: np.ndarray) -> GaussianProcess:
        """As if whole trainings with `genes` (M, D) had come to what is expected of them: they are no news,
        but what they will tell need not be asked again."""
        rows, count = self._rows, len(genes)
        first = int(rows.trainings.max()) + 1
        more = Rows(
            np.concatenate([rows.genes, genes]),
            np.concatenate([rows.progress, np.ones(count)]),
            np.concatenate([rows.trainings, np.arange(first, first + count)]),
            np.concatenate([rows.values, self.whole(genes)[0]]),
        )
        return GaussianProcess(more, self._choices, self.lengths)


def fit(rows: Rows, choices: np.ndarray) -> Lengths:
    """The most probable lengths and variances."""
    squares = _squares(rows.genes, rows.genes, choices)
    width = len(choices)
    prior = _Prior.of(width)
    found = minimize(
        _loss,
        prior.mean,
        (rows, squares, prior),
        method="L-BFGS-B",
        jac=True,
        bounds=prior.bounds,
        options={"maxiter": STEPS},
    )
    return _unpacked(found.x)


@dataclass(frozen=True, eq=False)
class _Prior:
    """Normal, of the logarithms; `bounds` keep the search from where nothing is learnt any more."""

    mean: np.ndarray
    deviation: np.ndarray
    bounds: list[tuple[float, float]]

    @staticmethod
    def of(width: int) -> _Prior:
        """Lengths grow with the square root of the number of genes, so that the distance of two settings
        means the same whatever their number (Hvarfner et al., arXiv 2402.02229)."""
        mean = np.array([3.0 - math.log(width)] * width + [0.0, -1.0, -4.0, -5.0, -0.5])
        deviation = np.array([1.75] * width + [1.0, 1.0, 1.5, 1.5, 0.5])
        bounds = [(-12.0, 5.0)] * width + [(-4.0, 3.0), (-6.0, 3.0), (-9.0, 1.0), (-9.0, 1.0), (-2.0, 2.0)]
        return _Prior(mean, deviation, bounds)


def _unpacked(packed: np.ndarray) -> Lengths:
    return Lengths(packed[:-5], *map(float, packed[-5:]))


def _loss(packed: np.ndarray, rows: Rows, squares: np.ndarray, prior: _Prior) -> tuple[float, np.ndarray]:
    """-log of the posterior density, up to a constant, and its gradient."""
    lengths = _unpacked(packed)
    covariance, (kernel, slope, late, early, same, slant) = _covariance(rows, squares, lengths)
    lower = cholesky(covariance, lower=True)
    solved = cho_solve((lower, True), rows.values)
    inverse = cho_solve((lower, True), np.eye(len(rows.values)))
    away = (packed - prior.mean) / prior.deviation
    loss = 0.5 * rows.values @ solved + np.log(np.diag(lower)).sum() + 0.5 * away @ away
    pull = 0.5 * (inverse - np.outer(solved, solved))  # d loss / d covariance
    by_distance = pull * slope * (math.exp(lengths.final) * late + math.exp(lengths.early) * early)
    gradient = np.concatenate(
        [
            np.exp(lengths.weights) * (squares.reshape(len(squares), -1) @ by_distance.ravel()),
            [
                math.exp(lengths.final) * (pull * kernel * late).sum(),
                math.exp(lengths.early) * (pull * kernel * early).sum(),
                math.exp(lengths.luck) * (pull * same).sum(),
                math.exp(lengths.noise) * np.trace(pull),
                math.exp(lengths.final) * (pull * kernel * slant).sum(),
            ],
        ]
    )
    return float(loss), gradient + away / prior.deviation


def _covariance(
    rows: Rows, squares: np.ndarray, lengths: Lengths
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """(N, N) of the rows, and what it is made of: Matern kernel and its slope, the bases of g, h and luck,
    and the slope of g's by r."""
    kernel, slope = _matern(np.tensordot(np.exp(lengths.weights), squares, 1))
    before = 1 - rows.progress
    seen = 1 + lengths.tilt * before
    early, late = np.outer(before, before), np.outer(seen, seen)
    slant = np.outer(before, seen) + np.outer(seen, before)
    same = (rows.trainings[:, None] == rows.trainings[None, :]).astype(float)
    covariance = kernel * (math.exp(lengths.final) * late + math.exp(lengths.early) * early)
    covariance += 1.0 + 100.0 * early  # c0 and c1: how much curves rise until the end, the rows alone say
    covariance += math.exp(lengths.luck) * same
    covariance[np.diag_indices_from(covariance)] += math.exp(lengths.noise) + JITTER
    return covariance, (kernel, slope, late, early, same, slant)


def _squares(one: np.ndarray, other: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """(D, M, N) squared differences by gene; of a choice 1 where they differ."""
    apart = one.T[:, :, None] - other.T[:, None, :]
    return np.where(choices[:, None, None], (apart != 0).astype(float), np.square(apart))


def _matern(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matern-5/2 of squared distances, and its derivative by them."""
    root = SQRT5 * np.sqrt(np.maximum(squared, 0.0))
    decay = np.exp(-root)
    return (1 + root + root**2 / 3) * decay, -5 / 6 * (1 + root) * decay
